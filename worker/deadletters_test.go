package worker_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
)

// letters fills the dead-letter queue of a queue with n events, by a worker that fails them all.
func letters(t *testing.T, url string, n int) (config worker.Config, ids []string) {
	t.Helper()
	config = retried(t, url, time.Minute)
	config.Concurrency, config.Prefetch = 8, 500
	ids = fill(t, url, config.Queue, n)
	config.Concurrency = 1 // so that they arrive in order
	w := start(t, config, func(context.Context, *worker.Delivery) error { return worker.Permanent(errAlways) })
	eventually(t, func() bool { return w.Stats().DeadLettered == int64(n) }, "%d dead letters", n)
	require.NoError(t, w.end())
	return config, ids
}

func lettersOf(url string) worker.DeadLetters { return worker.DeadLetters{URLs: []string{url}} }

// order gives the ids of the dead letters, as a plain client gets them, and leaves them there.
func order(t *testing.T, url, dlq string, n int) []string {
	t.Helper()
	ch := channel(t, url)
	eventually(t, func() bool { return depth(t, ch, dlq) == n }, "%d dead letters are ready", n)
	require.NoError(t, ch.Qos(0, 0, false))
	deliveries, err := ch.Consume(dlq, "", false, false, false, false, nil)
	require.NoError(t, err)
	ids := make([]string, n)
	for i := range ids {
		m := <-deliveries
		ids[i] = m.MessageId
	}
	require.NoError(t, ch.Close())
	eventually(t, func() bool { return depth(t, channel(t, url), dlq) == n }, "all are back")
	return ids
}

// Looking takes nothing away and changes no order, over more letters than the broker sends ahead.
func TestAVisitThatKeepsChangesNothing(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	const n = 1700
	config, ids := letters(t, url, n)
	dlq := topology.DeadLetterQueue(config.Queue)
	for range 3 {
		var seen []string
		account, err := lettersOf(url).Visit(t.Context(), dlq, func(l *worker.Letter) (worker.Action, error) {
			seen = append(seen, l.Event.ID)
			return worker.Keep(), nil
		})
		require.NoError(t, err)
		assert.Equal(t, worker.Visited{Total: n, Seen: n, Kept: n}, account)
		require.True(t, assert.ObjectsAreEqual(ids, seen), "shown in order")
	}
	require.True(t, assert.ObjectsAreEqual(ids, order(t, url, dlq, n)), "and left in order")
}

// What is redriven goes back to the queue that it failed in with its attempts at zero and a count of
// redrives; what is not stays, in its order.
func TestRedrive(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	const n = 1300
	config, ids := letters(t, url, n)
	dlq := topology.DeadLetterQueue(config.Queue)
	var stay []string
	account, err := lettersOf(url).Visit(t.Context(), dlq, func(l *worker.Letter) (worker.Action, error) {
		if len(l.Event.ID) > 0 && l.Event.ID[len(l.Event.ID)-1]%2 == 0 {
			stay = append(stay, l.Event.ID)
			return worker.Keep(), nil
		}
		return worker.Redrive(l.Failure.OriginQueue(dlq)), nil
	})
	require.NoError(t, err)
	moved := n - len(stay)
	assert.Equal(t, worker.Visited{Total: n, Seen: n, Kept: len(stay), Redriven: moved}, account)
	require.True(t, assert.ObjectsAreEqual(stay, order(t, url, dlq, len(stay))), "what stays keeps its order")
	done := newEffects()
	config.Limit = moved
	w := start(t, config, func(ctx context.Context, d *worker.Delivery) error {
		assert.Equal(t, 1, d.Attempt)
		assert.Equal(t, config.Queue, d.RoutingKey)
		return done.handle(ctx, d)
	})
	require.NoError(t, w.wait())
	assert.Equal(t, moved, done.distinct())
	assert.Len(t, done.missing(ids), len(stay))
}

// The set is fixed when a redrive begins: what fails again at once and comes straight back is not taken
// a second time.
func TestRedriveDoesNotTakeWhatComesStraightBack(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	const n = 800
	config, ids := letters(t, url, n)
	dlq := topology.DeadLetterQueue(config.Queue)
	w := start(t, config, func(context.Context, *worker.Delivery) error { return worker.Permanent(errAlways) })
	account, err := lettersOf(url).Visit(t.Context(), dlq, func(l *worker.Letter) (worker.Action, error) {
		assert.Zero(t, l.Failure.Redrives)
		return worker.Redrive(config.Queue), nil
	})
	require.NoError(t, err)
	assert.Equal(t, worker.Visited{Total: n, Seen: n, Redriven: n}, account)
	eventually(t, func() bool { return w.Stats().DeadLettered == n }, "all are back")
	require.NoError(t, w.end())
	back := map[string]int{}
	_, err = lettersOf(url).Visit(t.Context(), dlq, func(l *worker.Letter) (worker.Action, error) {
		back[l.Event.ID] = l.Failure.Redrives
		assert.Equal(t, 1, l.Failure.Attempts)
		return worker.Discard(), nil
	})
	require.NoError(t, err)
	for _, id := range ids {
		require.Equal(t, 1, back[id], "redrives of %s", id)
	}
	assert.Zero(t, depth(t, channel(t, url), dlq))
}

// A letter that its queue does not take stays, and is named.
func TestRedriveToAQueueThatIsGone(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	const n = 1200 // more than may be out at a time
	config, ids := letters(t, url, n)
	dlq := topology.DeadLetterQueue(config.Queue)
	_, err := channel(t, url).QueueDelete(config.Queue, false, false, false)
	require.NoError(t, err)
	var failed []string
	visiting := lettersOf(url)
	visiting.Failed = func(l *worker.Letter, err error) {
		failed = append(failed, l.Event.ID)
		assert.ErrorContains(t, err, "NO_ROUTE")
	}
	account, err := visiting.Visit(t.Context(), dlq, func(l *worker.Letter) (worker.Action, error) {
		return worker.Redrive(l.Failure.OriginQueue(dlq)), nil
	})
	require.NoError(t, err)
	assert.Equal(t, worker.Visited{Total: n, Seen: n, Failed: n}, account)
	require.True(t, assert.ObjectsAreEqual(ids, failed), "each is named")
	require.True(t, assert.ObjectsAreEqual(ids, order(t, url, dlq, n)), "and stays in its place")
}

// Stopped in the middle, by an error or by the end of its context, a visit leaves the rest.
func TestAVisitThatIsStopped(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	const n = 600
	config, _ := letters(t, url, n)
	dlq := topology.DeadLetterQueue(config.Queue)
	account, err := lettersOf(url).Visit(t.Context(), dlq, func(l *worker.Letter) (worker.Action, error) {
		if l.Event.ID == "" || l.Failure.Attempts != 1 {
			return worker.Keep(), errors.New("not as expected")
		}
		return worker.Keep(), fmt.Errorf("stop: %w", errAlways)
	})
	require.ErrorIs(t, err, errAlways)
	assert.Equal(t, 1, account.Seen)
	ctx, cancel := context.WithCancel(t.Context())
	seen := 0
	account, err = lettersOf(url).Visit(ctx, dlq, func(*worker.Letter) (worker.Action, error) {
		if seen++; seen == 100 {
			cancel()
		}
		return worker.Redrive(config.Queue), nil
	})
	require.NoError(t, err)
	assert.Equal(t, account.Seen, account.Kept+account.Redriven, "what was sent has its outcome")
	assert.GreaterOrEqual(t, account.Redriven, 99)
	assert.Less(t, account.Redriven, n)
	ch := channel(t, url)
	eventually(t, func() bool {
		return depth(t, ch, config.Queue) == account.Redriven && depth(t, ch, dlq) == n-account.Redriven
	}, "each letter is in one of the queues")
}

// What cannot be undone stops at once, also where the letters have been sent ahead.
func TestADiscardThatIsStopped(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	const n = 1500
	config, ids := letters(t, url, n)
	dlq := topology.DeadLetterQueue(config.Queue)
	ctx, cancel := context.WithCancel(t.Context())
	seen := 0
	account, err := lettersOf(url).Visit(ctx, dlq, func(*worker.Letter) (worker.Action, error) {
		if seen++; seen == 100 {
			cancel()
		}
		return worker.Discard(), nil
	})
	require.NoError(t, err)
	assert.Equal(t, worker.Visited{Total: n, Seen: 100, Discarded: 100}, account)
	require.True(t, assert.ObjectsAreEqual(ids[100:], order(t, url, dlq, n-100)), "the rest stays in its place")
}

// The broker routes by a header CC too, wherever a message is published to. A retry must not follow it: it
// would be confirmed for the copy's sake, and be nowhere else.
func TestAHeaderCCIsNotFollowed(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	config := retried(t, url, 20*time.Millisecond)
	config.MaxAttempts = 2
	other := brokertest.Name(t, "audit")
	ch := channel(t, url)
	_, err := ch.QueueDeclare(other, true, false, false, false, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = channel(t, url).QueueDelete(other, false, false, false) })
	require.NoError(t, ch.Publish("", config.Queue, false, false, amqp.Publishing{
		Headers: amqp.Table{
			"CC": []any{other}, "ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "t",
			"evdemo-attempts": int64(math.MaxInt64), // nor does nonsense in a header of ours hurt a worker
		},
	}))
	eventually(t, func() bool { return depth(t, ch, other) == 1 }, "the broker follows it at first")
	w := start(t, config, func(context.Context, *worker.Delivery) error { return errAlways })
	letter := deadLetters(t, ch, config.Queue, 1)[0]
	require.NoError(t, w.end())
	assert.NotContains(t, letter.Headers, "CC")
	assert.Equal(t, 1, depth(t, ch, other))
}

// Cut off in the middle of a redrive, every letter is in one of the two queues, or in both.
func TestARedriveThatIsCutOffLosesNothing(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	const n = 2000
	config, ids := letters(t, url, n)
	dlq := topology.DeadLetterQueue(config.Queue)
	link := brokertest.Proxy(t, url)
	seen := 0
	account, err := lettersOf(link.URL()).Visit(t.Context(), dlq, func(*worker.Letter) (worker.Action, error) {
		if seen++; seen == 700 {
			link.Cut()
		}
		return worker.Redrive(config.Queue), nil
	})
	require.ErrorIs(t, err, worker.ErrConnectionLost)
	assert.Less(t, account.Seen, n)
	done := newEffects()
	w := start(t, config, done.handle)
	config.Queue = dlq
	w2 := start(t, config, done.handle)
	eventually(t, func() bool { return done.distinct() == n }, "every letter is somewhere")
	require.NoError(t, w.end())
	require.NoError(t, w2.end())
	assert.Empty(t, done.missing(ids))
}

func TestVisitingNoQueue(t *testing.T) {
	t.Parallel()
	_, err := lettersOf(brokertest.URL(t)).Visit(t.Context(), brokertest.Name(t, "none"), nil)
	require.ErrorIs(t, err, worker.ErrQueueGone)
}

// What the broker has dead-lettered by itself is told by its own notes.
func TestReadFailureOfTheBroker(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_700_000_000, 0).UTC()
	f := worker.ReadFailure(map[string]any{
		"x-death": []any{
			amqp.Table{"reason": "delivery_limit", "queue": "payments", "exchange": "orders", "routing-keys": []any{"key"}, "time": at, "count": int64(1)},
			amqp.Table{"reason": "expired", "queue": "payments.retry.1s"},
		},
		"evdemo-attempts": int64(2),
	})
	assert.Equal(t, worker.ReasonDeliveryLimit, f.Reason)
	assert.Equal(t, "payments", f.OriginQueue("other.dlq"))
	assert.Equal(t, "orders", f.Exchange)
	assert.Equal(t, "key", f.RoutingKey)
	assert.Equal(t, 2, f.Attempts)
	assert.Equal(t, at, f.Last)
	assert.Equal(t, "payments", worker.ReadFailure(nil).OriginQueue("payments.dlq"))
}
