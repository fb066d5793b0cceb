package feed_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/feed"
	"github.com/evdemo/evdemo/internal/link"
	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
)

// patience bounds what a test waits for.
const patience = 30 * time.Second

// pumpTo makes a pump to a queue of the test's own, which is there.
func pumpTo(t *testing.T, url string) *feed.Pump {
	t.Helper()
	queue := brokertest.Name(t, "feed")
	resources := topology.Spec{Queues: map[string]topology.Queue{queue: {Retry: []time.Duration{}}}}.QueueResources(queue)
	config := session.Config{URLs: session.SplitURLs(brokertest.URL(t)), Name: "evdemo test"}
	s, err := session.DialWithin(t.Context(), config, patience)
	require.NoError(t, err)
	require.NoError(t, resources.Apply(t.Context(), s))
	t.Cleanup(func() {
		require.NoError(t, resources.Delete(context.WithoutCancel(t.Context()), s))
		s.Close()
	})
	return &feed.Pump{Publisher: open(t, url, 1000), To: publisher.ToQueue(queue), DrainTimeout: patience}
}

func open(t *testing.T, url string, window int) *publisher.Publisher {
	t.Helper()
	p, err := publisher.Open(t.Context(), publisher.Config{URLs: session.SplitURLs(url), Window: window, ConnectTimeout: patience})
	require.NoError(t, err)
	return p
}

func numbered(count int) feed.Source {
	n := 0
	return feed.Func(count, func() (event.Event, error) { n++; return event.New("number", "test", n) })
}

// requireSum holds every report to what it promises.
func requireSum(t *testing.T, r feed.Report) {
	t.Helper()
	require.Equal(t, r.Sent, r.Confirmed+r.Returned+r.Nacked+r.Unknown, "%+v", r)
}

func TestPumpReportsEveryEvent(t *testing.T) {
	t.Parallel()
	pump := pumpTo(t, brokertest.URL(t))
	outcomes := map[string]int{} // by one goroutine at a time, so no lock
	pump.Outcome = func(r publisher.Result) {
		assert.Equal(t, publisher.Confirmed, r.Outcome)
		outcomes[r.Message.Event.ID]++
	}
	report, err := pump.Run(t.Context(), numbered(1500))
	require.NoError(t, err)
	requireSum(t, report)
	assert.True(t, report.Complete())
	assert.Equal(t, int64(1500), report.Confirmed)
	assert.Len(t, outcomes, 1500)
	assert.Positive(t, report.Seconds)
	assert.InDelta(t, float64(report.Confirmed)/report.Seconds, report.PerSecond, 1)
	require.ErrorIs(t, pump.Publisher.Send(t.Context(), publisher.Message{}, nil), publisher.ErrInvalid)
	e, err := event.New("late", "test", nil)
	require.NoError(t, err)
	require.ErrorIs(t, pump.Publisher.Publish(t.Context(), publisher.Message{Event: e, To: pump.To}), publisher.ErrClosed)
}

func TestPumpOfNothing(t *testing.T) {
	t.Parallel()
	pump := pumpTo(t, brokertest.URL(t))
	report, err := pump.Run(t.Context(), numbered(0))
	require.NoError(t, err)
	assert.True(t, report.Complete())
	assert.Zero(t, report.Sent)
}

func TestPumpReportsReturnedEvents(t *testing.T) {
	t.Parallel()
	pump := &feed.Pump{Publisher: open(t, brokertest.URL(t), 10), To: publisher.ToQueue(brokertest.Name(t, "nowhere"))}
	var returned atomic.Int64
	pump.Outcome = func(r publisher.Result) {
		if r.Outcome == publisher.Returned && r.Err != nil {
			returned.Add(1)
		}
	}
	report, err := pump.Run(t.Context(), numbered(50))
	require.NoError(t, err, "outcomes are no errors of the run")
	requireSum(t, report)
	assert.False(t, report.Complete())
	assert.Equal(t, int64(50), report.Returned)
	assert.Equal(t, int64(50), returned.Load())
}

func TestPumpKeepsToTheRate(t *testing.T) {
	t.Parallel()
	pump := pumpTo(t, brokertest.URL(t))
	pump.Rate = 100
	report, err := pump.Run(t.Context(), numbered(31))
	require.NoError(t, err)
	assert.Equal(t, int64(31), report.Confirmed)
	assert.GreaterOrEqual(t, report.Seconds, 0.29, "thirty hundredths of a second lie between 31 events")

	pump = pumpTo(t, brokertest.URL(t))
	pump.Rate = 1e300 // is no limit, and no number that an int could hold
	report, err = pump.Run(t.Context(), numbered(10))
	require.NoError(t, err)
	assert.Equal(t, int64(10), report.Confirmed)
}

func TestPumpNamesWhatIsNoEvent(t *testing.T) {
	t.Parallel()
	content := goodLine + badLine + goodLine + "{}\n" + goodLine
	pump := pumpTo(t, brokertest.URL(t))
	var invalid []string
	pump.Invalid = func(err error) { invalid = append(invalid, err.Error()) }
	report, err := pump.Run(t.Context(), lines(content, event.Defaults{}))
	require.NoError(t, err)
	requireSum(t, report)
	assert.Equal(t, int64(3), report.Confirmed)
	assert.Equal(t, int64(2), report.Invalid)
	assert.False(t, report.Complete())
	require.Len(t, invalid, 2)
	assert.Contains(t, invalid[0], "in:2: not an event in JSON")
	assert.Contains(t, invalid[1], `in:4: no "type"`)

	pump = pumpTo(t, brokertest.URL(t))
	report, err = pump.Run(t.Context(), lines(content, event.Defaults{}))
	require.ErrorContains(t, err, "publish: in:2: not an event in JSON", "nobody is told, so it ends")
	requireSum(t, report)
	assert.Equal(t, int64(1), report.Confirmed, "what was sent before has its outcome")
}

func TestPumpNamesWhatCannotBePublished(t *testing.T) {
	t.Parallel()
	pump := pumpTo(t, brokertest.URL(t))
	bad := 0
	pump.Invalid = func(err error) {
		bad++
		assert.ErrorIs(t, err, publisher.ErrInvalid)
	}
	n := 0
	report, err := pump.Run(t.Context(), feed.Func(4, func() (event.Event, error) {
		e, err := event.New("t", "s", n)
		if n++; n%2 == 0 {
			e.Type = ""
		}
		return e, err
	}))
	require.NoError(t, err)
	requireSum(t, report)
	assert.Equal(t, []int64{2, 2}, []int64{report.Confirmed, report.Invalid})
	assert.Equal(t, 2, bad)
}

func TestPumpReportsABrokenSource(t *testing.T) {
	t.Parallel()
	pump := pumpTo(t, brokertest.URL(t))
	pump.Invalid = func(err error) { assert.NoError(t, err, "a broken source is no bad line") }
	n := 0
	report, err := pump.Run(t.Context(), feed.Func(-1, func() (event.Event, error) {
		if n++; n > 3 {
			return event.Event{}, errors.New("disk on fire")
		}
		return event.New("t", "s", n)
	}))
	require.EqualError(t, err, "publish: disk on fire")
	requireSum(t, report)
	assert.Equal(t, int64(3), report.Confirmed)
}

func TestPumpDrainsWhenToldToStop(t *testing.T) {
	t.Parallel()
	for name, rate := range map[string]float64{"at full speed": 0, "at a rate": 200} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pump := pumpTo(t, brokertest.URL(t))
			pump.Rate = rate
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var seen int64
			pump.Outcome = func(r publisher.Result) {
				assert.Equal(t, publisher.Confirmed, r.Outcome)
				if seen++; seen == 20 {
					stop()
				}
			}
			report, err := pump.Run(ctx, numbered(-1))
			require.NoError(t, err)
			requireSum(t, report)
			assert.Equal(t, seen, report.Sent)
			assert.GreaterOrEqual(t, report.Confirmed, int64(20))
			assert.True(t, report.Complete(), "what was sent has its outcome")
		})
	}
}

func TestPumpStopsWhileTheSourceWaits(t *testing.T) {
	t.Parallel()
	pump := pumpTo(t, brokertest.URL(t))
	pump.Invalid = func(err error) { assert.NoError(t, err, "half a line is no bad line") }
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	pump.Outcome = func(publisher.Result) { stop() }
	silent := make(chan struct{})
	defer close(silent) // which ends the read that is left behind
	in := feed.UntilDone(ctx, &thenSilence{Reader: strings.NewReader(goodLine + `{"type":"half`), silent: silent})
	report, err := pump.Run(ctx, feed.NewLines("in", in, event.Defaults{}))
	require.NoError(t, err)
	requireSum(t, report)
	assert.Equal(t, int64(1), report.Confirmed)
	assert.Zero(t, report.Invalid)
}

// thenSilence reads what there is and then waits.
type thenSilence struct {
	*strings.Reader

	silent <-chan struct{}
}

func (s *thenSilence) Read(p []byte) (int, error) {
	if s.Len() == 0 {
		<-s.silent
	}
	return s.Reader.Read(p)
}

// When the broker says nothing more, the drain has an end. What has no outcome then is unknown.
func TestPumpGivesUpDraining(t *testing.T) {
	t.Parallel()
	link := brokertest.Proxy(t, brokertest.URL(t))
	pump := pumpTo(t, link.URL())
	pump.DrainTimeout = 300 * time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var unknown int64
	pump.Outcome = func(r publisher.Result) {
		if r.Outcome == publisher.Unknown {
			unknown++
			assert.ErrorIs(t, r.Err, publisher.ErrUnconfirmed)
		}
	}
	n := 0
	source := feed.Func(-1, func() (event.Event, error) {
		if n++; n == 50 {
			link.Pause()
		}
		if n == 80 { // within the window
			stop()
		}
		return event.New("t", "s", n)
	})
	began := time.Now()
	report, err := pump.Run(ctx, source)
	require.NoError(t, err)
	assert.Less(t, time.Since(began), patience)
	requireSum(t, report)
	assert.Equal(t, unknown, report.Unknown)
	assert.Positive(t, report.Unknown)
	assert.False(t, report.Complete())
}

func TestPumpCountsWhatIsSentAgain(t *testing.T) {
	t.Parallel()
	link := brokertest.Proxy(t, brokertest.URL(t))
	pump := pumpTo(t, link.URL())
	outcomes := map[string]int{}
	pump.Outcome = func(r publisher.Result) { outcomes[r.Message.Event.ID]++ }
	pump.Rate = 3000
	resent := make(chan struct{})
	go func() {
		defer close(resent)
		cutUntilResent(link, pump.Publisher)
	}()
	report, err := pump.Run(t.Context(), feed.Func(-1, func() (event.Event, error) {
		select {
		case <-resent:
			return event.Event{}, io.EOF
		default:
			return event.New("t", "s", nil)
		}
	}))
	require.NoError(t, err)
	requireSum(t, report)
	assert.True(t, report.Complete(), "%+v", report)
	assert.Positive(t, report.Resent)
	assert.Len(t, outcomes, int(report.Sent))
	for id, times := range outcomes {
		assert.Equal(t, 1, times, id)
	}
}

// cutUntilResent cuts the link while events are on their way, until one had to be sent again.
func cutUntilResent(link *link.Link, p *publisher.Publisher) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for p.Stats().Resent == 0 {
		confirmed := p.Stats().Confirmed
		for p.Stats().Confirmed == confirmed { // it is connected
			<-ticker.C
		}
		link.Pause()
		<-ticker.C
		link.Cut()
		link.Resume()
	}
}

// A message goes where it says, unless it says nothing or the pump redirects it; the pump's headers go
// before its own.
func TestPumpPrepares(t *testing.T) {
	t.Parallel()
	own, to := publisher.ToQueue("own"), publisher.ToTopic("all")
	shared := map[string]any{"a": "record", "b": int32(1)}
	tests := []struct {
		pump      feed.Pump
		in, wants publisher.Message
	}{
		{feed.Pump{To: to}, publisher.Message{}, publisher.Message{To: to}},
		{feed.Pump{To: to}, publisher.Message{To: own}, publisher.Message{To: own}},
		{feed.Pump{To: to}, publisher.Message{To: publisher.ToTopic("own")}, publisher.Message{To: publisher.ToTopic("own")}},
		{feed.Pump{To: to, Redirect: true}, publisher.Message{To: own}, publisher.Message{To: to}},
		{feed.Pump{To: to, Headers: map[string]any{"a": "flag"}}, publisher.Message{}, publisher.Message{To: to, Headers: map[string]any{"a": "flag"}}},
		{feed.Pump{To: to}, publisher.Message{Headers: shared}, publisher.Message{To: to, Headers: shared}},
		{
			feed.Pump{To: to, Headers: map[string]any{"a": "flag"}},
			publisher.Message{Headers: shared},
			publisher.Message{To: to, Headers: map[string]any{"a": "flag", "b": int32(1)}},
		},
	}
	for _, test := range tests {
		assert.Equal(t, test.wants, test.pump.Prepare(test.in))
	}
	assert.Equal(t, map[string]any{"a": "record", "b": int32(1)}, shared, "what is the message's own does not change")
}

// Records go to several places in one run, and what goes nowhere is named by its id.
func TestPumpSendsRecords(t *testing.T) {
	t.Parallel()
	pump := pumpTo(t, brokertest.URL(t))
	queue := pump.To.RoutingKey
	pump.To = publisher.ToTopic("amq.fanout") // which nothing is bound to
	pump.Headers = map[string]any{"added": "x"}
	outcomes := map[string]publisher.Outcome{}
	pump.Outcome = func(r publisher.Result) {
		outcomes[r.Message.ID()] = r.Outcome
		assert.Equal(t, "x", r.Message.Headers["added"])
	}
	report, err := pump.Run(t.Context(), lines(strings.Join([]string{
		`{"raw":{"message_id":"raw","body_base64":"AP8="},"headers":{"x-any":1,"ce-id":2},"routing_key":"` + queue + `"}`,
		`{"event":{"specversion":"1.0","id":"event","source":"s","type":"t"},"headers":{"h":1},"routing_key":"` + queue + `"}`,
		`{"specversion":"1.0","id":"plain","source":"s","type":"t"}`,
		`{"raw":{"message_id":"nowhere"},"routing_key":"` + queue + `.missing"}`,
		`{"raw":{"message_id":"no-exchange"},"exchange":"` + queue + `.missing"}`,
		`{"raw":{"message_id":"after"},"routing_key":"` + queue + `"}`,
	}, "\n"), event.Defaults{}))
	require.NoError(t, err)
	requireSum(t, report)
	assert.Equal(t, map[string]publisher.Outcome{
		"raw": publisher.Confirmed, "event": publisher.Confirmed, "after": publisher.Confirmed,
		"plain": publisher.Returned, "nowhere": publisher.Returned, "no-exchange": publisher.Returned,
	}, outcomes)
}
