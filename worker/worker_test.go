package worker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
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

func TestWorkersShareAQueue(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q, _ := queue(t, url)
	done := newEffects()
	var workers []*running
	for range 3 {
		workers = append(workers, start(t, worker.Config{URLs: []string{url}, Queue: q, Concurrency: 2, Prefetch: 4}, done.handle))
	}
	ch := channel(t, url)
	eventually(t, func() bool {
		state, err := ch.QueueDeclarePassive(q, true, false, false, false, nil)
		return err == nil && state.Consumers == 3
	}, "three consumers")
	const n = 3000
	ids := fill(t, url, q, n)
	eventually(t, func() bool { return done.distinct() == n }, "all events handled")
	var handled int64
	for _, w := range workers {
		require.NoError(t, w.end())
		assert.Positive(t, w.Stats().Handled, "each has its share")
		handled += w.Stats().Handled
	}
	assert.Equal(t, int64(n), handled, "each event went to one worker")
	assert.Empty(t, done.missing(ids))
	assert.Zero(t, depth(t, ch, q), "everything was acknowledged")
}

func TestListenersAllGetEverything(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	topic := brokertest.Name(t, "topic")
	resources := topology.Default().TopicResources(topic)
	declare(t, url, resources)
	var seen []*effects
	var listeners []*running
	for range 3 {
		e := newEffects()
		seen = append(seen, e)
		listeners = append(listeners, start(t, worker.Config{URLs: []string{url}, Topic: topic, Declare: resources}, e.handle))
	}
	p, err := publisher.Open(t.Context(), publisher.Config{URLs: []string{url}})
	require.NoError(t, err)
	first, err := event.New("hello", "test", 1)
	require.NoError(t, err)
	eventually(t, func() bool { // until all three are there
		first.ID = event.NewID()
		_ = p.Publish(t.Context(), publisher.Message{Event: first, To: publisher.ToTopic(topic)})
		return seen[0].distinct() > 0 && seen[1].distinct() > 0 && seen[2].distinct() > 0
	}, "all listeners are there")
	const n = 500
	ids := make([]string, n)
	for i := range ids {
		e, err := event.New("order.created", "test", i)
		require.NoError(t, err)
		ids[i] = e.ID
		require.NoError(t, p.Send(t.Context(), publisher.Message{Event: e, To: publisher.ToTopic(topic)}, nil))
	}
	for i, e := range seen {
		eventually(t, func() bool { return len(e.missing(ids)) == 0 }, "listener %d got all", i)
	}
	for _, l := range listeners {
		require.NoError(t, l.end())
	}
	err = p.Publish(t.Context(), publisher.Message{Event: first, To: publisher.ToTopic(topic)})
	var outcome *publisher.OutcomeError
	require.ErrorAs(t, err, &outcome, "listeners leave nothing behind")
	assert.Equal(t, publisher.Returned, outcome.Outcome)
	require.NoError(t, p.Close(t.Context()))
}

func TestStopDrains(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q, _ := queue(t, url)
	ids := fill(t, url, q, 50)
	began, release := make(chan string, 50), make(chan struct{})
	var finished atomic.Int64
	w := start(t, worker.Config{URLs: []string{url}, Queue: q, Concurrency: 4, Prefetch: 20}, func(ctx context.Context, d *worker.Delivery) error {
		began <- d.Event.ID
		select {
		case <-release:
		case <-ctx.Done():
			return ctx.Err()
		}
		finished.Add(1)
		return nil
	})
	for range 4 {
		<-began
	}
	w.stop()
	ch := channel(t, url)
	eventually(t, func() bool { return depth(t, ch, q) == 46 }, "what no handler has begun is given back while the others run")
	close(release)
	require.NoError(t, w.wait())
	assert.Equal(t, int64(4), finished.Load())
	assert.Empty(t, began, "no handler was begun after the stop")
	assert.Equal(t, 46, depth(t, ch, q), "what was handled is acknowledged")
	assert.Len(t, ids, 50)
}

func TestDrainTimeout(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q, _ := queue(t, url)
	fill(t, url, q, 1)
	began := make(chan struct{})
	w := start(t, worker.Config{URLs: []string{url}, Queue: q, DrainTimeout: 50 * time.Millisecond}, func(ctx context.Context, _ *worker.Delivery) error {
		close(began)
		<-ctx.Done() // what the drain timeout ends
		return ctx.Err()
	})
	<-began
	require.ErrorIs(t, w.end(), worker.ErrDrainTimeout)
	ch := channel(t, url)
	eventually(t, func() bool { return depth(t, ch, q) == 1 }, "the event is back")
}

func TestLimitIsExact(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q, _ := queue(t, url)
	fill(t, url, q, 100)
	var calls atomic.Int64
	w := start(t, worker.Config{URLs: []string{url}, Queue: q, Limit: 30, Concurrency: 8}, func(_ context.Context, _ *worker.Delivery) error {
		switch n := calls.Add(1); {
		case n%7 == 0:
			return errors.New("some fail")
		case n%11 == 0:
			return worker.ErrRequeue
		}
		return nil
	})
	require.NoError(t, w.wait())
	stats := w.Stats()
	assert.Equal(t, int64(30), stats.Handled)
	assert.Equal(t, stats.Delivered, stats.Handled+stats.Failed+stats.Requeued)
	ch := channel(t, url)
	eventually(t, func() bool { return depth(t, ch, q) == 70 }, "the rest is there")
}

func TestSkippedEventsAreAcknowledgedAndDoNotCount(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q, _ := queue(t, url)
	fill(t, url, q, 20)
	var calls atomic.Int64
	w := start(t, worker.Config{URLs: []string{url}, Queue: q, Limit: 5}, func(context.Context, *worker.Delivery) error {
		if calls.Add(1)%2 == 1 {
			return worker.ErrSkip
		}
		return nil
	})
	require.NoError(t, w.wait())
	assert.Equal(t, int64(5), w.Stats().Handled)
	assert.Equal(t, int64(5), w.Stats().Skipped)
	ch := channel(t, url)
	eventually(t, func() bool { return depth(t, ch, q) == 10 }, "skipped ones are gone")
}

// A worker that has its first event, and asks a slow broker to send more ahead, is not idle.
func TestIdleTimeoutWithASlowBroker(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q, _ := queue(t, url)
	ids := fill(t, url, q, 5)
	done := newEffects()
	link := brokertest.Proxy(t, url)
	link.Pause()
	w := start(t, worker.Config{URLs: []string{link.URL()}, Queue: q, IdleTimeout: time.Second}, done.handle)
	late := time.NewTicker(200 * time.Millisecond) // each answer is
	defer late.Stop()
	for {
		select {
		case <-late.C:
			link.Resume()
			link.Pause()
		case err := <-w.done:
			w.done <- err
			require.NoError(t, err)
			require.Empty(t, done.missing(ids))
			return
		}
	}
}

func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q, _ := queue(t, url)
	ids := fill(t, url, q, 5)
	done := newEffects()
	w := start(t, worker.Config{URLs: []string{url}, Queue: q, IdleTimeout: 300 * time.Millisecond}, func(ctx context.Context, d *worker.Delivery) error {
		if d.Event.ID == ids[0] {
			time.Sleep(500 * time.Millisecond) //nolint:forbidigo // a handler that takes longer than the idle timeout
		}
		return done.handle(ctx, d)
	})
	require.NoError(t, w.wait())
	assert.Empty(t, done.missing(ids), "a running handler is not idle")
}

// Whatever somebody else's program has put into a queue reaches the handler with its raw body.
func TestForeignMessages(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q, _ := queue(t, url)
	ch := channel(t, url)
	messages := []amqp.Publishing{
		{Body: []byte("just text"), MessageId: "m-1", Type: "mail.sent", Headers: amqp.Table{"tenant": "acme"}},
		{Body: []byte{0xff, 0xfe, 0x00}, ContentType: "application/x-bytes"},
		{Headers: amqp.Table{
			"int8": int8(1), "float": 1.5, "time": time.Unix(1700000000, 0), "decimal": amqp.Decimal{Scale: 2, Value: 314},
			"table": amqp.Table{"deep": []any{int64(1), "x", nil, amqp.Table{"deeper": true}}}, "bytes": []byte{0, 1}, "void": nil,
		}},
		{Body: []byte("{not json"), ContentType: "application/cloudevents+json"},
		{Headers: amqp.Table{"ce-specversion": "1.0", "ce-id": int32(5), "ce-type": "\xff\xfe", "ce-time": "yesterday"}, Body: []byte("x")},
	}
	for _, m := range messages {
		require.NoError(t, ch.Publish("", q, false, false, m))
	}
	var got []*worker.Delivery
	w := start(t, worker.Config{URLs: []string{url}, Queue: q, Limit: len(messages), AcceptRaw: true}, func(_ context.Context, d *worker.Delivery) error {
		got = append(got, d)
		return nil
	})
	require.NoError(t, w.wait())
	require.Len(t, got, len(messages))
	for i, d := range got {
		require.Error(t, d.Foreign, "message %d", i)
		assert.Equal(t, string(messages[i].Body), string(d.Event.Data), "message %d", i)
		assert.NotEmpty(t, d.Event.ID)
		assert.NotEmpty(t, d.Event.Type)
	}
	assert.Equal(t, "m-1", got[0].Event.ID)
	assert.Equal(t, "mail.sent", got[0].Event.Type)
	assert.Equal(t, map[string]any{"tenant": "acme"}, got[0].Headers)
	assert.Len(t, got[2].Headers, 7)
	assert.Equal(t, int64(len(messages)), w.Stats().Foreign)
}

func TestRunFails(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	nothing := func(context.Context, *worker.Delivery) error { return nil }
	classic := brokertest.Name(t, "classic")
	ch := channel(t, url)
	_, err := ch.QueueDeclare(classic, true, false, false, false, nil)
	require.NoError(t, err)
	defer func() { _, _ = ch.QueueDelete(classic, false, false, false) }()
	owner := channel(t, url)
	exclusive, err := owner.QueueDeclare(brokertest.Name(t, "exclusive"), false, true, true, false, nil)
	require.NoError(t, err)
	for name, test := range map[string]struct {
		config worker.Config
		want   error
	}{
		"nobody there":  {worker.Config{URLs: []string{"amqp://127.0.0.1:1"}, Queue: "q", ConnectTimeout: 300 * time.Millisecond}, worker.ErrUnreachable},
		"no login":      {worker.Config{URLs: []string{strings.Replace(url, "guest:guest", "guest:hunter2", 1)}, Queue: "q"}, worker.ErrLogin},
		"no queue":      {worker.Config{URLs: []string{url}, Queue: brokertest.Name(t, "missing")}, worker.ErrQueueGone},
		"not our queue": {worker.Config{URLs: []string{url}, Queue: exclusive.Name}, worker.ErrRefused},
		"no topic":      {worker.Config{URLs: []string{url}, Topic: brokertest.Name(t, "missing")}, worker.ErrQueueGone},
	} {
		err := start(t, test.config, nothing).wait()
		require.ErrorIs(t, err, test.want, name)
		assert.NotContains(t, err.Error(), "hunter2")
	}
	err = start(t, worker.Config{URLs: []string{url}, Queue: classic, Declare: topology.Default().QueueResources(classic)}, nothing).wait()
	var conflict *topology.ConflictError
	require.ErrorAs(t, err, &conflict)
	assert.Contains(t, err.Error(), "x-queue-type")
	_, err = ch.QueueDelete(topology.DeadLetterQueue(classic), false, false, false)
	require.NoError(t, err)
}

func TestNewReportsAllMistakes(t *testing.T) {
	t.Parallel()
	_, err := worker.New(worker.Config{Concurrency: -1, Prefetch: 70_000, Limit: -1, IdleTimeout: -1}, nil)
	for _, text := range []string{"Queue or Topic", "concurrency", "prefetch", "limit", "duration", "handler", "URL"} {
		require.ErrorContains(t, err, text)
	}
	require.ErrorIs(t, err, worker.ErrURL)
}

func TestRunOnce(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q, _ := queue(t, url)
	w := start(t, worker.Config{URLs: []string{url}, Queue: q}, newEffects().handle)
	require.NoError(t, w.end())
	require.ErrorIs(t, w.Run(t.Context()), worker.ErrRunning)
}

func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w, err := worker.New(worker.Config{
		URLs:        []string{exampleURL()},
		Queue:       "example-payments",
		Declare:     topology.Default().QueueResources("example-payments"),
		Concurrency: 4,
		IdleTimeout: 100 * time.Millisecond, // stop when the queue is empty
	}, func(_ context.Context, d *worker.Delivery) error {
		fmt.Println(d.Event.Type, d.Event.ID)
		return nil // acknowledge
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := w.Run(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
}

// A worker that stops has its last acknowledgements through, also with much sent ahead: what was
// handled does not come again. Nor does stopping move anything to the dead-letter queue.
func TestStoppedWorkersLeaveNothingHandledBehind(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q, _ := queue(t, url)
	const n, runs = 60, 15
	fill(t, url, q, n)
	done := newEffects()
	for range runs {
		w := start(t, worker.Config{URLs: []string{url}, Queue: q, Limit: 1, Prefetch: 1000}, done.handle)
		require.NoError(t, w.wait())
	}
	ch := channel(t, url)
	eventually(t, func() bool { return depth(t, ch, q) == n-runs }, "the queue has the rest")
	assert.Equal(t, runs, done.distinct())

	left := n - runs
	for left > 0 {
		want := min(done.distinct()+6, n) // few rounds: each costs the rest one of its deliveries
		w := start(t, worker.Config{URLs: []string{url}, Queue: q, Prefetch: 1000}, func(ctx context.Context, d *worker.Delivery) error {
			defer func() { <-time.After(time.Millisecond) }()
			return done.handle(ctx, d)
		})
		eventually(t, func() bool { return done.distinct() >= want }, "it works")
		require.NoError(t, w.end())
		left = n - done.distinct()
		eventually(t, func() bool { return depth(t, ch, q) == left }, "the queue has the rest: %d", left)
	}
	assert.Equal(t, n, done.distinct())
	assert.Zero(t, depth(t, ch, topology.DeadLetterQueue(q)))
}

// While one handler takes its time, a deleted queue is declared and consumed again by the others.
func TestSlowHandlerDoesNotHoldUpASubscription(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q, resources := queue(t, url)
	done := newEffects()
	began, release := make(chan struct{}), make(chan struct{})
	slow := fill(t, url, q, 1)[0]
	w := start(t, worker.Config{URLs: []string{url}, Queue: q, Declare: resources, Concurrency: 2}, func(ctx context.Context, d *worker.Delivery) error {
		if d.Event.ID == slow {
			close(began)
			<-release
		}
		return done.handle(ctx, d)
	})
	<-began
	_, err := channel(t, url).QueueDelete(q, false, false, false)
	require.NoError(t, err)
	eventually(t, func() bool { return w.Stats().Reconnects > 0 }, "subscribed again")
	ids := fill(t, url, q, 5)
	eventually(t, func() bool { return len(done.missing(ids)) == 0 }, "the others go on")
	close(release)
	require.NoError(t, w.end())
	assert.Empty(t, done.missing([]string{slow}))
}

// A stop does not wait for a broker that is silent.
func TestStopOnASilentConnection(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q, _ := queue(t, url)
	link := brokertest.Proxy(t, url)
	done := newEffects()
	w := start(t, worker.Config{URLs: []string{link.URL()}, Queue: q, DrainTimeout: time.Second}, done.handle)
	fill(t, url, q, 1)
	eventually(t, func() bool { return done.distinct() == 1 }, "it works")
	link.Pause()
	stopped := time.Now()
	require.NoError(t, w.end())
	assert.Less(t, time.Since(stopped), 8*time.Second)
}
