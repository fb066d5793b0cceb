package worker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
)

// logged declares a topic with a log and nothing else on it.
func logged(t *testing.T, url string) (topic string) {
	t.Helper()
	prefix := brokertest.Name(t, "log") + "."
	spec := topology.Spec{Topics: map[string]topology.Topic{"orders": {Log: &topology.Log{}}}}.WithPrefix(prefix)
	declare(t, url, spec.Resources())
	return prefix + "orders"
}

// appendTo publishes events to a topic, n of them, a second apart from a moment on.
func appendTo(t *testing.T, url, topic string, first, n int) {
	t.Helper()
	p, err := publisher.Open(t.Context(), publisher.Config{URLs: []string{url}})
	require.NoError(t, err)
	for i := range n {
		e, err := event.New("order.created", "test", map[string]int{"n": first + i})
		require.NoError(t, err)
		e.Time = logEpoch().Add(time.Duration(first+i) * time.Second)
		require.NoError(t, p.Send(t.Context(), publisher.Message{Event: e, To: publisher.ToTopic(topic)}, nil))
	}
	require.NoError(t, p.Close(t.Context()))
	require.Equal(t, int64(n), p.Stats().Confirmed)
}

// logEpoch is when the first event of a test's log happened. The broker notes the time of arrival, and
// is asked by that: so it is before every span that a test asks for.
func logEpoch() time.Time { return time.Now().Truncate(time.Hour).Add(24 * time.Hour).UTC() }

// readLog gives the numbers of the events that are read, and checks that offsets grow.
func readLog(t *testing.T, config worker.LogConfig) (numbers []int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	last := int64(-1)
	require.NoError(t, worker.ReadLog(ctx, config, func(_ context.Context, e *worker.Entry) error {
		assert.Greater(t, e.Offset, last)
		last = e.Offset
		numbers = append(numbers, numberOf(t, e.Event))
		return nil
	}))
	require.NoError(t, ctx.Err(), "reading did not come to its end")
	return numbers
}

func numberOf(t *testing.T, e event.Event) (n int) {
	t.Helper()
	_, err := fmt.Sscanf(string(e.Data), `{"n":%d}`, &n)
	assert.NoError(t, err)
	return n
}

func numbers(from, to int) (n []int) {
	for i := from; i < to; i++ {
		n = append(n, i)
	}
	return n
}

func TestReadLog(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	topic := logged(t, url)
	epoch := logEpoch()
	appendTo(t, url, topic, 0, 3000)
	config := worker.LogConfig{URLs: []string{url}, Topic: topic}
	for name, test := range map[string]struct {
		from, to worker.LogPosition
		want     []int
	}{
		"all of it":              {want: numbers(0, 3000)},
		"from an offset":         {from: worker.LogOffset(2990), want: numbers(2990, 3000)},
		"since the beginning":    {from: worker.LogTime(time.Unix(0, 0)), want: numbers(0, 3000)},
		"between offsets":        {from: worker.LogOffset(5), to: worker.LogOffset(7), want: numbers(5, 7)},
		"to an offset beyond":    {from: worker.LogOffset(2999), to: worker.LogOffset(1 << 40), want: numbers(2999, 3000)},
		"to the first":           {to: worker.LogOffset(0)},
		"the last":               {from: worker.LogLast(), want: numbers(2999, 3000)},
		"what is to come":        {from: worker.LogNext()},
		"an offset that is none": {from: worker.LogOffset(3000)},
		"to a moment":            {to: worker.LogTime(epoch.Add(10 * time.Second)), want: numbers(0, 10)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := config
			config.From, config.To = test.from, test.to
			got := readLog(t, config)
			assert.True(t, slices.Equal(test.want, got), "%d events", len(got))
		})
	}
}

func TestReadLogFromAMoment(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	topic := logged(t, url)
	appendAt := func(n int, at time.Time) {
		t.Helper()
		p, err := publisher.Open(t.Context(), publisher.Config{URLs: []string{url}})
		require.NoError(t, err)
		e, err := event.New("order.created", "test", map[string]int{"n": n})
		require.NoError(t, err)
		e.Time = at
		require.NoError(t, p.Publish(t.Context(), publisher.Message{Event: e, To: publisher.ToTopic(topic)}))
		require.NoError(t, p.Close(t.Context()))
	}
	now := time.Now()
	for n, ago := range []time.Duration{3 * time.Hour, 2 * time.Hour, 0, time.Hour} { // one of them late
		appendAt(n, now.Add(-ago))
	}
	config := worker.LogConfig{URLs: []string{url}, Topic: topic, From: worker.LogTime(now.Add(-time.Minute))}
	assert.Equal(t, []int{2}, readLog(t, config))
	config.From = worker.LogTime(now.Add(-90 * time.Minute))
	assert.Equal(t, []int{2, 3}, readLog(t, config))
	config.To = worker.LogTime(now.Add(-time.Minute))
	assert.Equal(t, []int{3}, readLog(t, config))
	config.From, config.To = worker.LogTime(now.Add(time.Hour)), worker.LogPosition{}
	assert.Empty(t, readLog(t, config), "a moment after everything")
}

func TestReadAnEmptyLog(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	config := worker.LogConfig{URLs: []string{url}, Topic: logged(t, url)}
	for _, from := range []worker.LogPosition{worker.LogFirst(), worker.LogLast(), worker.LogNext(), worker.LogOffset(0), worker.LogTime(time.Now())} {
		config.From = from
		assert.Empty(t, readLog(t, config), "from %s", from)
	}
}

// What is followed goes on after a lost connection where it was: each event once, in order. That
// holds from whatever place it began.
func TestAFollowedLogSurvivesLostConnections(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	for _, test := range []struct {
		from  worker.LogPosition
		first int
	}{
		{worker.LogFirst(), 0},
		{worker.LogOffset(40), 40},
		{worker.LogLast(), 99},
		{worker.LogNext(), 100},
	} {
		t.Run(test.from.String(), func(t *testing.T) {
			t.Parallel()
			topic := logged(t, url)
			appendTo(t, url, topic, 0, 100)
			link := brokertest.Proxy(t, url)
			ctx, stop := context.WithTimeout(t.Context(), patience)
			defer stop()
			var got []int
			reading := make(chan bool, 100)
			done := make(chan error, 1)
			go func() {
				done <- worker.ReadLog(ctx, worker.LogConfig{
					URLs: []string{link.URL()}, Topic: topic, From: test.from, Follow: true,
					Subscribed: func(on bool) { reading <- on },
				}, func(_ context.Context, e *worker.Entry) error {
					got = append(got, numberOf(t, e.Event))
					if len(got)%500 == 0 {
						link.Cut()
					}
					if got[len(got)-1] == 3099 {
						stop()
					}
					return nil
				})
			}()
			require.True(t, <-reading)
			link.Cut()
			require.False(t, <-reading)
			appendTo(t, url, topic, 100, 3000)
			require.NoError(t, <-done)
			require.ErrorIs(t, ctx.Err(), context.Canceled)
			assert.True(t, slices.Equal(numbers(test.first, 3100), got), "%d events, from %v to %v", len(got), got[0], got[len(got)-1])
		})
	}
}

func TestReadLogEndsWithItsHandler(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	topic := logged(t, url)
	appendTo(t, url, topic, 0, 10)
	calls := 0
	err := worker.ReadLog(t.Context(), worker.LogConfig{URLs: []string{url}, Topic: topic}, func(_ context.Context, e *worker.Entry) error {
		if calls++; e.Offset == 3 {
			return assert.AnError
		}
		return nil
	})
	assert.Equal(t, assert.AnError, err)
	assert.Equal(t, 4, calls)
}

func TestReadLogFails(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	refuse := func(context.Context, *worker.Entry) error { return errors.New("nothing may come") }
	t.Run("a topic without a log", func(t *testing.T) {
		t.Parallel()
		err := worker.ReadLog(t.Context(), worker.LogConfig{URLs: []string{url}, Topic: brokertest.Name(t, "none")}, refuse)
		require.ErrorIs(t, err, worker.ErrNoLog)
		require.ErrorContains(t, err, "log: true")
	})
	t.Run("a queue that is no stream keeps what it has", func(t *testing.T) {
		t.Parallel()
		topic := brokertest.Name(t, "log")
		resources := topology.Spec{Queues: map[string]topology.Queue{topology.LogStream(topic): {}}}.Resources()
		declare(t, url, resources)
		fill(t, url, topology.LogStream(topic), 5)
		err := worker.ReadLog(t.Context(), worker.LogConfig{URLs: []string{url}, Topic: topic}, refuse)
		require.ErrorContains(t, err, "x-stream-offset")
		ch := channel(t, url)
		eventually(t, func() bool { return depth(t, ch, topology.LogStream(topic)) == 5 }, "the messages are not back")
	})
	t.Run("an offset beyond its end", func(t *testing.T) {
		t.Parallel()
		topic := logged(t, url)
		appendTo(t, url, topic, 0, 3)
		err := worker.ReadLog(t.Context(), worker.LogConfig{URLs: []string{url}, Topic: topic, From: worker.LogOffset(4)}, refuse)
		require.ErrorIs(t, err, worker.ErrBeyondLog)
		require.ErrorContains(t, err, "the next will be 3")
	})
	t.Run("no broker", func(t *testing.T) {
		t.Parallel()
		err := worker.ReadLog(t.Context(), worker.LogConfig{
			URLs: []string{"amqp://127.0.0.1:1"}, Topic: "orders", ConnectTimeout: 50 * time.Millisecond,
		}, refuse)
		require.ErrorIs(t, err, worker.ErrUnreachable)
	})
	t.Run("mistakes are told together", func(t *testing.T) {
		t.Parallel()
		err := worker.ReadLog(t.Context(), worker.LogConfig{To: worker.LogLast()}, refuse)
		require.ErrorContains(t, err, "give a topic")
		require.ErrorContains(t, err, `not to "last"`)
	})
}

// A log drops its oldest events. Who asks for them is told.
func TestAGapIsTold(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	topic := brokertest.Name(t, "log")
	ch := channel(t, url)
	stream := topology.LogStream(topic)
	_, err := ch.QueueDeclare(stream, true, false, false, false, amqp.Table{
		"x-queue-type": "stream", "x-max-length-bytes": int64(100_000), "x-stream-max-segment-size-bytes": int64(50_000),
	})
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = ch.QueueDelete(stream, false, false, false) })
	p, err := publisher.Open(t.Context(), publisher.Config{URLs: []string{url}, Window: 10})
	require.NoError(t, err)
	for n := range 200 {
		e, err := event.New("order.created", "test", map[string]any{"n": n, "padding": strings.Repeat("x", 5000)})
		require.NoError(t, err)
		require.NoError(t, p.Send(t.Context(), publisher.Message{Event: e, To: publisher.ToQueue(stream)}, nil))
	}
	require.NoError(t, p.Close(t.Context()))

	config := worker.LogConfig{URLs: []string{url}, Topic: topic}
	var first int64
	read := func(_ context.Context, e *worker.Entry) error {
		first = e.Offset
		return context.Canceled
	}
	require.ErrorIs(t, worker.ReadLog(t.Context(), config, read), context.Canceled)
	require.Positive(t, first, "the broker has dropped nothing yet")

	var gap [2]int64
	config.From = worker.LogOffset(0)
	config.Gap = func(from, to int64) { gap = [2]int64{from, to} }
	require.ErrorIs(t, worker.ReadLog(t.Context(), config, read), context.Canceled)
	assert.Equal(t, [2]int64{0, first - 1}, gap)
}

func TestALogThatIsMadeAnewIsReadFromItsBeginning(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	prefix := brokertest.Name(t, "log") + "."
	spec := topology.Spec{Topics: map[string]topology.Topic{"orders": {Log: &topology.Log{}}}}.WithPrefix(prefix)
	topic := prefix + "orders"
	declare(t, url, spec.Resources())
	appendTo(t, url, topic, 0, 50)
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	seen := make(chan int, 100)
	reading := make(chan bool, 10)
	done := make(chan error, 1)
	go func() {
		done <- worker.ReadLog(ctx, worker.LogConfig{URLs: []string{url}, Topic: topic, Follow: true, Declare: spec.Resources(), Subscribed: func(on bool) { reading <- on }},
			func(_ context.Context, e *worker.Entry) error {
				seen <- numberOf(t, e.Event)
				return nil
			})
	}()
	for n := range 50 {
		require.Equal(t, n, <-seen)
	}
	ch := channel(t, url)
	_, err := ch.QueueDelete(topology.LogStream(topic), false, false, false)
	require.NoError(t, err)
	_, err = ch.QueueDeclare(topology.LogStream(topic), true, false, false, false, amqp.Table(spec.Resources().Queues[0].Arguments))
	require.NoError(t, err)
	require.NoError(t, ch.QueueBind(topology.LogStream(topic), "", topic, false, nil))
	appendTo(t, url, topic, 50, 60) // it has come further than it was read, when the reader is back
	for _, want := range []bool{true, false, true} {
		require.Equal(t, want, <-reading)
	}
	for n := range 60 {
		require.Equal(t, 50+n, <-seen)
	}
	stop()
	require.NoError(t, <-done)
}

// A place that is known by its entry is found again, and is not mistaken in another log.
func TestReadLogAfterAnEntry(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	topic, other := logged(t, url), ""
	t.Run("x", func(t *testing.T) {
		other = logged(t, url)
		appendTo(t, url, other, 0, 20)
		appendTo(t, url, topic, 0, 10)
		config := worker.LogConfig{URLs: []string{url}, Topic: topic, To: worker.LogOffset(5)}
		var last *worker.Entry
		require.NoError(t, worker.ReadLog(t.Context(), config, func(_ context.Context, e *worker.Entry) error {
			last = e
			return nil
		}))
		config.From, config.To = worker.LogAfter(last.Offset, last.Fingerprint()), worker.LogPosition{}
		assert.Equal(t, numbers(5, 10), readLog(t, config))
		config.From = worker.LogAfter(last.Offset, "another entry")
		config.To = worker.LogOffset(last.Offset + 1) // its end is there before anything is read
		require.ErrorIs(t, worker.ReadLog(t.Context(), config, func(context.Context, *worker.Entry) error { return assert.AnError }), worker.ErrBeyondLog)
		config.From, config.To = worker.LogAfter(last.Offset, last.Fingerprint()), worker.LogPosition{}
		config.Topic = other
		err := worker.ReadLog(t.Context(), config, func(context.Context, *worker.Entry) error { return assert.AnError })
		require.ErrorIs(t, err, worker.ErrBeyondLog)
		require.ErrorContains(t, err, "made anew")
	})
}

// What is published live with an old time of its own is not left out.
func TestAFollowedLogKeepsWhatIsOldAndLate(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	topic := logged(t, url)
	appendTo(t, url, topic, 0, 5) // in the future
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	reading, done := make(chan bool, 10), make(chan error, 1)
	var got []int
	go func() {
		done <- worker.ReadLog(ctx, worker.LogConfig{
			URLs: []string{url}, Topic: topic, From: worker.LogTime(time.Now().Add(-time.Minute)), Follow: true,
			Subscribed: func(on bool) { reading <- on },
		}, func(_ context.Context, e *worker.Entry) error {
			if got = append(got, numberOf(t, e.Event)); len(got) == 6 {
				stop()
			}
			return nil
		})
	}()
	require.True(t, <-reading)
	p, err := publisher.Open(t.Context(), publisher.Config{URLs: []string{url}})
	require.NoError(t, err)
	e, err := event.New("order.created", "test", map[string]int{"n": 77})
	require.NoError(t, err)
	e.Time = time.Now().Add(-time.Hour)
	require.NoError(t, p.Publish(t.Context(), publisher.Message{Event: e, To: publisher.ToTopic(topic)}))
	require.NoError(t, p.Close(t.Context()))
	require.NoError(t, <-done)
	assert.Equal(t, append(numbers(0, 5), 77), got)
}

// An entry as a message is what was published, with nothing of the log in it.
func TestEntryMessage(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	topic := logged(t, url)
	e, err := event.New("order.created", "test", map[string]int{"n": 1})
	require.NoError(t, err)
	sent := []publisher.Message{
		{Event: e, To: publisher.ToTopic(topic), Headers: map[string]any{"tenant": "acme"}},
		{Raw: &publisher.Raw{Message: event.Message{Body: []byte("hello"), MessageID: "7", Headers: map[string]any{"a": int32(1)}}}, To: publisher.ToTopic(topic)},
	}
	p, err := publisher.Open(t.Context(), publisher.Config{URLs: []string{url}})
	require.NoError(t, err)
	for _, m := range sent {
		require.NoError(t, p.Publish(t.Context(), m))
	}
	require.NoError(t, p.Close(t.Context()))
	var got []publisher.Message
	require.NoError(t, worker.ReadLog(t.Context(), worker.LogConfig{URLs: []string{url}, Topic: topic},
		func(_ context.Context, e *worker.Entry) error {
			got = append(got, e.Message())
			return nil
		}))
	assert.Equal(t, sent, got)
}
