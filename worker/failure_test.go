package worker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/localbroker"
	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
)

var errAlways = errors.New("always fails")

// retried declares a queue with the given retry schedule and gives a worker's configuration for it.
func retried(t *testing.T, url string, schedule ...time.Duration) worker.Config {
	t.Helper()
	name := brokertest.Name(t, "retry")
	spec := topology.Spec{Queues: map[string]topology.Queue{name: {Retry: schedule}}}
	declare(t, url, spec.QueueResources(name))
	return worker.Config{URLs: []string{url}, Queue: name, Retry: schedule, Name: "alice"}
}

// deadLetters waits for so many dead letters of a queue and takes them.
func deadLetters(t *testing.T, ch *amqp.Channel, queue string, n int) []amqp.Delivery {
	t.Helper()
	dlq := topology.DeadLetterQueue(queue)
	eventually(t, func() bool { return depth(t, ch, dlq) >= n }, "%d dead letters", n)
	var letters []amqp.Delivery
	for {
		m, ok, err := ch.Get(dlq, true)
		require.NoError(t, err)
		if !ok {
			require.Equal(t, n, len(letters), "dead letters") //nolint:testifylint // Len would print them all
			return letters
		}
		letters = append(letters, m)
	}
}

// rabbitmq-cli-consumer has no dead-lettering after so many tries (ricbra#19), and amqpx makes a storm of
// what fails (#50).
func TestAFailedEventWaitsInTheTiersAndIsThenDeadLettered(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	config := retried(t, url, 100*time.Millisecond, 400*time.Millisecond)
	config.MaxAttempts = 4
	ids := fill(t, url, config.Queue, 5)
	done := newEffects()
	var mu sync.Mutex
	var attempts []int
	var at []time.Time
	w := start(t, config, func(ctx context.Context, d *worker.Delivery) error {
		if d.Event.ID != ids[2] {
			return done.handle(ctx, d)
		}
		mu.Lock()
		defer mu.Unlock()
		attempts, at = append(attempts, d.Attempt), append(at, time.Now())
		assert.Equal(t, config.Queue, d.RoutingKey, "where it was published to at first")
		assert.Empty(t, d.Exchange)
		assert.Nil(t, d.Headers, "what it carries of its history is nobody else's business")
		return fmt.Errorf("attempt %d: %w", d.Attempt, errAlways)
	})
	ch := channel(t, url)
	letter := deadLetters(t, ch, config.Queue, 1)[0]
	require.NoError(t, w.end())
	assert.Equal(t, 4, done.distinct())
	assert.Equal(t, []int{1, 2, 3, 4}, attempts)
	for i, least := range []time.Duration{50 * time.Millisecond, 200 * time.Millisecond, 200 * time.Millisecond} { // half of each delay
		assert.GreaterOrEqual(t, at[i+1].Sub(at[i]), least, "before attempt %d", i+2)
	}
	assert.Equal(t, ids[2], letter.MessageId)
	assert.JSONEq(t, `{"n":2}`, string(letter.Body))
	assert.Empty(t, letter.Expiration, "a dead letter stays")
	f := worker.ReadFailure(letter.Headers)
	assert.Equal(t, worker.ReasonAttempts, f.Reason)
	assert.Equal(t, "attempt 4: always fails", f.Error)
	assert.Equal(t, 4, f.Attempts)
	assert.Equal(t, config.Queue, f.Queue)
	assert.Equal(t, config.Queue, f.RoutingKey)
	assert.Equal(t, "alice", f.Worker)
	assert.WithinDuration(t, at[0], f.First, 50*time.Millisecond)
	assert.WithinDuration(t, at[3], f.Last, 50*time.Millisecond)
	assert.NotContains(t, letter.Headers, "x-death", "a fresh publish: the broker sees no cycle in it")
	stats := w.Stats()
	assert.Equal(t, worker.Stats{Delivered: 8, Handled: 4, Failed: 4, Retried: 3, DeadLettered: 1}, stats)
	for _, name := range []string{config.Queue, topology.RetryTier(config.Queue, config.Retry[0]), topology.RetryTier(config.Queue, config.Retry[1])} {
		assert.Zero(t, depth(t, ch, name), name)
	}
}

// Every way to fail has its reason, and the reasons that call for no second attempt get none.
func TestReasonsOfDeadLetters(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	tests := []struct {
		reason   worker.Reason
		attempts int
		text     string
		handle   worker.Handler
	}{
		{worker.ReasonPermanent, 1, "no such customer", func(context.Context, *worker.Delivery) error {
			return fmt.Errorf("charge: %w", worker.Permanent(errors.New("no such customer")))
		}},
		{worker.ReasonAttempts, 2, "always fails", func(context.Context, *worker.Delivery) error { return errAlways }},
		{worker.ReasonPanic, 2, "handler panicked: boom", func(context.Context, *worker.Delivery) error { panic("boom") }},
		{worker.ReasonTimeout, 2, "handler exceeded its time limit of 20ms", worker.Timeout(20 * time.Millisecond)(
			func(ctx context.Context, _ *worker.Delivery) error { <-ctx.Done(); return ctx.Err() })},
		{worker.ReasonAttempts, 2, "card declined", func(context.Context, *worker.Delivery) error {
			return &worker.CommandError{ExitCode: 7, Stderr: append(bytes.Repeat([]byte("x\xff"), 5000), "\ncard declined\n"...), Err: errors.New("exit status 7")}
		}},
	}
	for _, test := range tests {
		t.Run(string(test.reason), func(t *testing.T) {
			t.Parallel()
			config := retried(t, url, 10*time.Millisecond)
			config.MaxAttempts = 2
			fill(t, url, config.Queue, 1)
			var attempts atomic.Int64
			w := start(t, config, func(ctx context.Context, d *worker.Delivery) error {
				attempts.Add(1)
				return test.handle(ctx, d)
			})
			letter := deadLetters(t, channel(t, url), config.Queue, 1)[0]
			require.NoError(t, w.end())
			f := worker.ReadFailure(letter.Headers)
			assert.Equal(t, test.reason, f.Reason)
			assert.Contains(t, f.Error, test.text)
			assert.Equal(t, test.attempts, f.Attempts)
			assert.Equal(t, int64(test.attempts), attempts.Load())
			if test.text == "card declined" {
				require.NotNil(t, f.ExitCode)
				assert.Equal(t, 7, *f.ExitCode)
				assert.LessOrEqual(t, len(f.Stderr), 3*4096, "the end of it, and no more")
				assert.True(t, bytes.HasSuffix([]byte(f.Stderr), []byte("\ncard declined\n")))
			}
		})
	}
}

// What cannot be read as an event does not reach the handler, and stays byte for byte what it was.
func TestAMessageThatIsNoEventIsDeadLetteredAtOnce(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	config := retried(t, url, time.Minute)
	ch := channel(t, url)
	sent := amqp.Publishing{
		Body: []byte{0xff, 0, 0xfe}, MessageId: "m-1", Type: "mail", ContentType: "application/x-bytes", ContentEncoding: "zip",
		CorrelationId: "c-1", ReplyTo: "answers", AppId: "legacy", Priority: 3, UserId: "guest", Expiration: "3600000",
		Timestamp: time.Unix(1_700_000_000, 0).UTC(),
		Headers:   amqp.Table{"tenant": "acme", "n": int32(5), "x-custom": true, "deep": amqp.Table{"list": []any{int64(1), nil}}},
	}
	require.NoError(t, ch.Publish("", config.Queue, false, false, sent))
	w := start(t, config, func(context.Context, *worker.Delivery) error {
		assert.Fail(t, "the handler got it")
		return nil
	})
	letter := deadLetters(t, ch, config.Queue, 1)[0]
	require.NoError(t, w.end())
	f := worker.ReadFailure(letter.Headers)
	assert.Equal(t, worker.ReasonInvalid, f.Reason)
	assert.Equal(t, 1, f.Attempts)
	assert.Contains(t, f.Error, "not a CloudEvent")
	got := amqp.Publishing{
		Body: letter.Body, MessageId: letter.MessageId, Type: letter.Type, ContentType: letter.ContentType, ContentEncoding: letter.ContentEncoding,
		CorrelationId: letter.CorrelationId, ReplyTo: letter.ReplyTo, AppId: letter.AppId, Priority: letter.Priority,
		Timestamp: letter.Timestamp.UTC(), Headers: amqp.Table{},
	}
	for name := range sent.Headers {
		got.Headers[name] = letter.Headers[name]
	}
	sent.UserId, sent.Expiration = "", "" // the broker takes nobody else's, and a dead letter stays
	assert.Equal(t, sent, got)
	assert.Equal(t, amqp.Persistent, letter.DeliveryMode)
}

// RetryAfter is a lower bound, also where it is longer than every tier: then the event goes through
// the longest again, which counts as no attempt.
func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	for _, delay := range []time.Duration{0, 40 * time.Millisecond, 300 * time.Millisecond, 1300 * time.Millisecond} {
		t.Run(delay.String(), func(t *testing.T) {
			t.Parallel()
			config := retried(t, url, 100*time.Millisecond, 500*time.Millisecond)
			config.Limit = 1
			ids := fill(t, url, config.Queue, 1)
			done := newEffects()
			var failed time.Time
			w := start(t, config, func(ctx context.Context, d *worker.Delivery) error {
				if d.Attempt == 1 {
					failed = time.Now()
					return worker.RetryAfter(delay, errAlways)
				}
				assert.Equal(t, 2, d.Attempt)
				assert.GreaterOrEqual(t, time.Since(failed), delay)
				return done.handle(ctx, d)
			})
			require.NoError(t, w.wait())
			assert.Empty(t, done.missing(ids))
			assert.Equal(t, worker.Stats{Delivered: 2, Handled: 1, Failed: 1, Retried: 1}, w.Stats())
		})
	}
}

// A burst of failures comes back spread over half of the delay. Without that it would come back in
// the time that it took to fail.
func TestRetriesAreSpread(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	const n, delay = 200, 4 * time.Second
	config := retried(t, url, delay)
	config.Limit, config.Prefetch, config.Concurrency = n, n, 8
	fill(t, url, config.Queue, n)
	var mu sync.Mutex
	var failed, back []time.Time
	w := start(t, config, func(_ context.Context, d *worker.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		if d.Attempt == 1 {
			failed = append(failed, time.Now())
			return errAlways
		}
		back = append(back, time.Now())
		return nil
	})
	require.NoError(t, w.wait())
	slices.SortFunc(back, time.Time.Compare)
	burst := failed[n-1].Sub(failed[0])
	// The middle half of them, so that one that is late for another reason proves nothing.
	spread := back[n*3/4].Sub(back[n/4])
	t.Logf("failed within %v, the middle half came back within %v", burst, spread)
	assert.Greater(t, spread, delay/16)
	assert.GreaterOrEqual(t, back[0].Sub(failed[0]), delay/2)
	assert.Less(t, back[n/2].Sub(failed[n-1]), delay+delay/2)
}

// A queue that somebody else has declared, without tiers and without a dead-letter queue: a failed
// event is never acknowledged before it is somewhere else, so it stays in its queue, at its end.
func TestWithoutTiersAFailedEventStaysInItsQueue(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	ch := channel(t, url)
	name := brokertest.Name(t, "bare")
	_, err := ch.QueueDeclare(name, true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = channel(t, url).QueueDelete(name, false, false, false) })
	ids := fill(t, url, name, 3)
	done := newEffects()
	var attempts []int
	w := start(t, worker.Config{
		URLs: []string{url}, Queue: name, Limit: 3, MaxAttempts: 2, Retry: []time.Duration{10 * time.Millisecond},
	}, func(ctx context.Context, d *worker.Delivery) error {
		if d.Event.ID == ids[0] && len(attempts) < 3 {
			attempts = append(attempts, d.Attempt)
			return errAlways
		}
		return done.handle(ctx, d)
	})
	require.NoError(t, w.wait())
	assert.Empty(t, done.missing(ids))
	assert.Equal(t, []int{1, 2, 3}, attempts, "dead-lettering it was not possible either")
	assert.Equal(t, int64(3), w.Stats().Retried)
}

// An event that kills its worker every time ends in the dead-letter queue through the broker's
// delivery limit, and takes none of those along that were sent ahead with it.
func TestAnEventThatKillsItsWorkerIsDeadLetteredAlone(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	config := retried(t, url, time.Minute)
	config.Prefetch, config.Concurrency = 50, 2
	const n = 60
	ids := fill(t, url, config.Queue, n)
	poison := ids[5]
	done := newEffects()
	ch := channel(t, url)
	dlq := topology.DeadLetterQueue(config.Queue)
	killed := 0
	for ; killed < 2*topology.DeliveryLimit && depth(t, ch, dlq) == 0; killed++ {
		link := brokertest.Proxy(t, url)
		config.URLs = []string{link.URL()}
		met := make(chan struct{}, 1)
		w := start(t, config, func(ctx context.Context, d *worker.Delivery) error {
			if d.Event.ID == poison {
				link.Pause() // from here on the broker hears nothing of this worker
				met <- struct{}{}
				return nil
			}
			return done.handle(ctx, d)
		})
		eventually(t, func() bool { return len(met) > 0 || depth(t, ch, dlq) > 0 }, "the poison is met")
		w.stop() // the worker cannot answer: it ends like one that is killed
		link.Cut()
		link.Resume()
		require.NoError(t, w.wait())
	}
	t.Logf("%d workers killed", killed)
	assert.LessOrEqual(t, killed, topology.DeliveryLimit+2)
	config.URLs = []string{url}
	w := start(t, config, done.handle)
	eventually(t, func() bool { return done.distinct() == n-1 && depth(t, ch, config.Queue) == 0 }, "all others are handled")
	require.NoError(t, w.end())
	letter := deadLetters(t, ch, config.Queue, 1)[0]
	assert.Equal(t, poison, letter.MessageId)
	f := worker.ReadFailure(letter.Headers)
	assert.Equal(t, worker.ReasonDeliveryLimit, f.Reason)
	assert.Equal(t, config.Queue, f.Queue)
	assert.NotEmpty(t, f.Error)
	assert.WithinDuration(t, time.Now(), f.Last, time.Minute)
}

// Killing workers over one backlog, more often than the broker delivers an event, dead-letters nothing.
func TestRestartsOverABacklogDeadLetterNothing(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	config := retried(t, url, time.Minute)
	config.Prefetch, config.Concurrency = 20, 4
	const n, restarts = 200, topology.DeliveryLimit + 5
	ids := fill(t, url, config.Queue, n)
	done := newEffects()
	for range restarts {
		link := brokertest.Proxy(t, url)
		config.URLs = []string{link.URL()}
		gone := make(chan struct{})
		var began atomic.Int64
		w := start(t, config, func(ctx context.Context, d *worker.Delivery) error {
			if began.Add(1) > 1 { // none of these is answered
				<-gone
			}
			return done.handle(ctx, d)
		})
		eventually(t, func() bool { return began.Load() > 1 }, "one is handled, and more are begun")
		w.stop()
		link.Cut()
		close(gone)
		require.NoError(t, w.wait())
	}
	require.Less(t, done.distinct(), n, "there is a backlog all the while")
	config.URLs = []string{url}
	w := start(t, config, done.handle)
	ch := channel(t, url)
	eventually(t, func() bool { return done.distinct() == n && depth(t, ch, config.Queue) == 0 }, "all are handled")
	require.NoError(t, w.end())
	assert.Empty(t, done.missing(ids))
	assert.Zero(t, depth(t, ch, topology.DeadLetterQueue(config.Queue)))
}

// While the broker takes no publishing, a failed event is neither acknowledged nor lost; the others
// are handled.
func failsUnderAnAlarm(t *testing.T, node *localbroker.Node) {
	t.Helper()
	url := node.URL()
	config := retried(t, url, 10*time.Millisecond)
	config.MaxAttempts, config.Prefetch = 1, 10
	warm := fill(t, url, config.Queue, 1) // its failure opens the connection that publishes
	ch := channel(t, url)
	done := newEffects()
	var bad sync.Map
	bad.Store(warm[0], true)
	w := start(t, config, func(ctx context.Context, d *worker.Delivery) error {
		if _, fails := bad.Load(d.Event.ID); fails {
			return errAlways
		}
		return done.handle(ctx, d)
	})
	eventually(t, func() bool { return w.Stats().DeadLettered == 1 }, "the first dead letter")
	w2 := fillLater(t, url, config.Queue, 100)
	bad.Store(w2.ids[0], true)
	bad.Store(w2.ids[50], true)
	require.NoError(t, w.end())
	w2.send(t)
	require.NoError(t, node.SetMemoryAlarm(t.Context(), true))
	w = start(t, config, func(ctx context.Context, d *worker.Delivery) error {
		if _, fails := bad.Load(d.Event.ID); fails {
			return errAlways
		}
		return done.handle(ctx, d)
	})
	eventually(t, func() bool { return done.distinct() == 98 }, "the others are handled under the alarm")
	assert.Zero(t, w.Stats().DeadLettered)
	assert.Equal(t, 1, depth(t, ch, topology.DeadLetterQueue(config.Queue)))
	require.NoError(t, node.SetMemoryAlarm(t.Context(), false))
	deadLetters(t, ch, config.Queue, 3)
	require.NoError(t, w.end())
	assert.Equal(t, int64(2), w.Stats().DeadLettered)
}

// Stopped with handlers running, a worker finishes them and gives the rest back; nothing of that
// counts as an attempt.
func TestDrainWithManyHandlersCountsNoAttempt(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	config := retried(t, url, time.Minute)
	const n, running = 200, 64
	config.Concurrency, config.Prefetch = running, n
	ids := fill(t, url, config.Queue, n)
	done := newEffects()
	release := make(chan struct{})
	var now atomic.Int64
	w := start(t, config, func(ctx context.Context, d *worker.Delivery) error {
		now.Add(1)
		<-release
		return done.handle(ctx, d)
	})
	eventually(t, func() bool { return now.Load() == running }, "64 handlers are running")
	w.stop()
	ch := channel(t, url)
	eventually(t, func() bool { return depth(t, ch, config.Queue) == n-running }, "the rest is given back")
	close(release)
	require.NoError(t, w.wait())
	assert.Equal(t, running, done.distinct())
	assert.Equal(t, worker.Stats{Delivered: running, Handled: running}, w.Stats())
	config.Limit = n - running
	w = start(t, config, func(ctx context.Context, d *worker.Delivery) error {
		assert.Equal(t, 1, d.Attempt)
		return done.handle(ctx, d)
	})
	require.NoError(t, w.wait())
	assert.Empty(t, done.missing(ids))
}
