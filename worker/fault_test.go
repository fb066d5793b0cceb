package worker_test

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/localbroker"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
)

// The connection is cut again and again while events are handled: none is lost, and the bound on
// running handlers holds across connections.
func TestCutConnectionsLoseNothing(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q, resources := queue(t, url)
	const n, concurrency = 2000, 4
	ids := fill(t, url, q, n)
	proxy := brokertest.Proxy(t, url)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	var next atomic.Int64
	next.Store(int64(100 + random.IntN(300)))
	done := newEffects()
	var now atomic.Int64
	w := start(t, worker.Config{URLs: []string{proxy.URL()}, Queue: q, Declare: resources, Concurrency: concurrency, Prefetch: 50}, func(_ context.Context, d *worker.Delivery) error {
		assert.LessOrEqual(t, now.Add(1), int64(concurrency))
		defer now.Add(-1)
		if int64(done.add(d.Event.ID)) == next.Load() {
			next.Add(int64(200 + random.IntN(300)))
			proxy.Cut()
		}
		return nil
	})
	ch := channel(t, url)
	eventually(t, func() bool { return done.distinct() == n && depth(t, ch, q) == 0 }, "all handled")
	require.NoError(t, w.end())
	assert.Empty(t, done.missing(ids))
	assert.Positive(t, w.Stats().Reconnects)
	assert.Zero(t, depth(t, ch, topology.DeadLetterQueue(q)))
}

func TestDeletedQueueIsDeclaredAgain(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q, resources := queue(t, url)
	done := newEffects()
	w := start(t, worker.Config{URLs: []string{url}, Queue: q, Declare: resources}, done.handle)
	fill(t, url, q, 10)
	eventually(t, func() bool { return done.distinct() == 10 }, "consuming")
	_, err := channel(t, url).QueueDelete(q, false, false, false)
	require.NoError(t, err)
	ch := channel(t, url)
	eventually(t, func() bool { return w.Stats().Reconnects > 0 }, "subscribed again")
	fill(t, url, q, 10)
	eventually(t, func() bool { return done.distinct() == 20 && depth(t, ch, q) == 0 }, "goes on")
	require.NoError(t, w.end())
}

func TestDeletedQueueEndsAWorkerThatDeclaresNothing(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q, _ := queue(t, url)
	done := newEffects()
	w := start(t, worker.Config{URLs: []string{url}, Queue: q}, done.handle)
	fill(t, url, q, 1)
	eventually(t, func() bool { return done.distinct() == 1 }, "consuming")
	_, err := channel(t, url).QueueDelete(q, false, false, false)
	require.NoError(t, err)
	require.ErrorIs(t, w.wait(), worker.ErrQueueGone)
}

// What takes a broker down is tried on a node of its own, one after the other: a node takes
// seconds to start.
func TestFaultsOfTheBroker(t *testing.T) {
	t.Parallel()
	node := brokertest.Node(t)
	for _, test := range []struct { //nolint:paralleltest // they share the node, one after the other
		name string
		run  func(*testing.T, *localbroker.Node)
	}{
		{"it closes the connection", brokerClosesTheConnection},
		{"memory alarm", memoryAlarm},
		{"failures under a memory alarm", failsUnderAnAlarm},
		{"it is killed and stays away for a while", brokerIsAway},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, node) })
	}
}

func brokerClosesTheConnection(t *testing.T, node *localbroker.Node) {
	t.Helper()
	q, resources := queue(t, node.URL())
	ids := fill(t, node.URL(), q, 500)
	done := newEffects()
	closed := make(chan error, 1)
	w := start(t, worker.Config{URLs: []string{node.URL()}, Queue: q, Declare: resources, Prefetch: 20}, func(_ context.Context, d *worker.Delivery) error {
		if done.add(d.Event.ID) == 200 {
			_, err := node.CloseConnections(t.Context(), "test")
			closed <- err
		}
		return nil
	})
	require.NoError(t, <-closed)
	eventually(t, func() bool { return done.distinct() == 500 }, "all handled")
	require.NoError(t, w.end())
	assert.Empty(t, done.missing(ids))
	assert.Positive(t, w.Stats().Reconnects)
}

// An alarm blocks publishers; workers go on draining.
func memoryAlarm(t *testing.T, node *localbroker.Node) {
	t.Helper()
	q, _ := queue(t, node.URL())
	ids := fill(t, node.URL(), q, 500)
	require.NoError(t, node.SetMemoryAlarm(t.Context(), true))
	done := newEffects()
	w := start(t, worker.Config{URLs: []string{node.URL()}, Queue: q}, done.handle)
	eventually(t, func() bool { return done.distinct() == 500 }, "drained under the alarm")
	require.NoError(t, node.SetMemoryAlarm(t.Context(), false))
	require.NoError(t, w.end())
	assert.Empty(t, done.missing(ids))
}

// The broker is killed while one program publishes and another works, stays away, and comes back:
// every event is handled, and both have gone on by themselves.
func brokerIsAway(t *testing.T, node *localbroker.Node) {
	t.Helper()
	q, resources := queue(t, node.URL())
	brokertest.AwaitDurable(t, node, q)
	done := newEffects()
	w := start(t, worker.Config{URLs: []string{node.URL()}, Queue: q, Declare: resources, Concurrency: 2, Prefetch: 10}, done.handle)
	p, err := publisher.Open(t.Context(), publisher.Config{URLs: []string{node.URL()}, Window: 50, Declare: resources})
	require.NoError(t, err)
	const n = 600
	ids := make([]string, n)
	back := make(chan error, 1)
	for i := range ids {
		if i == n/2 {
			require.NoError(t, node.Kill())
			go func() {
				time.Sleep(awayFor) //nolint:forbidigo // the broker is to be away for so long
				back <- node.Restart(context.WithoutCancel(t.Context()))
			}()
		}
		e, err := event.New("order.created", "test", i)
		require.NoError(t, err)
		ids[i] = e.ID
		require.NoError(t, p.Send(t.Context(), publisher.Message{Event: e, To: publisher.ToQueue(q)}, nil))
	}
	require.NoError(t, <-back)
	require.NoError(t, p.Close(t.Context()))
	assert.Equal(t, int64(n), p.Stats().Confirmed)
	eventually(t, func() bool { return done.distinct() == n }, "all handled")
	require.NoError(t, w.end())
	assert.Empty(t, done.missing(ids))
}

// awayFor is how long the broker is away, beside the seconds that it takes to start.
const awayFor = 10 * time.Second
