package bus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/bus"
	"github.com/evdemo/evdemo/bus/bustest"
	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	bustest.Run(t, func(t *testing.T, spec topology.Spec) bus.Bus {
		t.Helper()
		m := bus.NewMemory(bus.Config{Topology: &spec})
		t.Cleanup(m.Close)
		return m
	})
}

// only is a topology of one topic with one group.
func only() topology.Spec {
	return topology.Spec{Topics: map[string]topology.Topic{"orders": {Groups: []string{"email"}, Log: &topology.Log{}}}}
}

func made(t *testing.T, n int) publisher.Message {
	t.Helper()
	e, err := event.New("step", "test", n)
	require.NoError(t, err)
	return publisher.Message{Event: e, To: publisher.ToTopic("orders")}
}

// A group that is full makes publishers wait, and loses nothing; one that gives up waiting is told that it
// does not know.
func TestAFullGroupIsBackPressure(t *testing.T) {
	t.Parallel()
	spec := only()
	m := bus.NewMemory(bus.Config{Topology: &spec, History: 10})
	for n := range 10 {
		require.NoError(t, m.Publish(t.Context(), made(t, n)))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	var outcome *publisher.OutcomeError
	require.ErrorAs(t, m.Publish(ctx, made(t, 10)), &outcome)
	require.Equal(t, publisher.Unknown, outcome.Outcome)
	require.Equal(t, 10, m.Depth("orders.email"))

	published := make(chan error, 1)
	another := made(t, 11)
	go func() { published <- m.Publish(t.Context(), another) }()
	var got atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- m.Listen(ctx, "orders", bus.Options{Group: "email"}, func(context.Context, *worker.Delivery) error {
			got.Add(1)
			return nil
		})
	}()
	require.NoError(t, <-published)
	require.Eventually(t, func() bool { return got.Load() == 11 }, time.Minute, time.Millisecond)
	stop()
	require.NoError(t, <-done)
	m.Close()
	require.ErrorIs(t, m.Publish(t.Context(), made(t, 12)), publisher.ErrClosed)
}

func TestCloseFailsWhatWaits(t *testing.T) {
	t.Parallel()
	spec := only()
	m := bus.NewMemory(bus.Config{Topology: &spec, History: 1})
	require.NoError(t, m.Publish(t.Context(), made(t, 0)))
	published := make(chan error, 1)
	another := made(t, 1)
	go func() { published <- m.Publish(t.Context(), another) }()
	for len(published) == 0 {
		m.Close()
		runtime.Gosched()
	}
	require.ErrorIs(t, <-published, publisher.ErrClosed)
}

// A listener that is slower than its history misses the oldest, is told how many, and holds up nobody.
func TestASlowListenerMissesTheOldest(t *testing.T) {
	t.Parallel()
	spec := topology.Spec{Topics: map[string]topology.Topic{"orders": {}}}
	var text bytes.Buffer
	m := bus.NewMemory(bus.Config{Topology: &spec, History: 10, Logger: slog.New(slog.NewTextHandler(&text, nil))})
	ready, first, release := make(chan struct{}), make(chan struct{}), make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	var got []string
	go func() {
		done <- m.Listen(ctx, "orders", bus.Options{Ready: func() { close(ready) }}, func(_ context.Context, d *worker.Delivery) error {
			if got = append(got, string(d.Event.Data)); len(got) == 1 {
				close(first)
				<-release
			}
			if got[len(got)-1] == "99" {
				stop()
			}
			return nil
		})
	}()
	<-ready
	require.NoError(t, m.Publish(t.Context(), made(t, 0)))
	<-first
	for n := range 99 {
		require.NoError(t, m.Publish(t.Context(), made(t, n+1)))
	}
	close(release)
	require.NoError(t, <-done)
	require.Len(t, got, 11)
	require.Equal(t, "90", got[1])
	require.Contains(t, text.String(), "missed=89")
}

// The memory of a bus is bounded by its history, however much goes through it.
func TestMemoryIsBounded(t *testing.T) { //nolint:paralleltest // it measures memory
	spec := only()
	m := bus.NewMemory(bus.Config{Topology: &spec, History: 1000})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- m.Listen(ctx, "orders", bus.Options{Group: "email"}, func(context.Context, *worker.Delivery) error { return nil })
	}()
	e, err := event.New("step", "test", []byte(`"`+strings.Repeat("x", 1000)+`"`))
	require.NoError(t, err)
	publish := func(n int) {
		for range n {
			own := e
			own.Data = bytes.Clone(e.Data)
			require.NoError(t, m.Publish(ctx, publisher.Message{Event: own, To: publisher.ToTopic("orders")}))
		}
	}
	inUse := func() uint64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapInuse
	}
	publish(2000)
	before := inUse()
	publish(100_000)
	require.Less(t, inUse(), before+10<<20, "100 MB went through")
	stop()
	require.NoError(t, <-done)
}

// What a worker has taken ahead goes back with what it has in hand, in order, whether its handler heeds the
// end or not, and also where the handler itself gives it back.
func TestWhatWasTakenGoesBackInOrder(t *testing.T) {
	t.Parallel()
	for name, hang := range map[string]func(ctx context.Context, release <-chan struct{}) error{
		"heeds the end": func(ctx context.Context, _ <-chan struct{}) error {
			<-ctx.Done()
			return ctx.Err()
		},
		"heeds nothing": func(_ context.Context, release <-chan struct{}) error {
			<-release
			return nil
		},
		"gives it back": func(ctx context.Context, _ <-chan struct{}) error {
			<-ctx.Done()
			return worker.ErrRequeue
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := topology.Spec{Queues: map[string]topology.Queue{"jobs": {}}}
			m := bus.NewMemory(bus.Config{Topology: &spec})
			for n := range 10 {
				message := made(t, n)
				message.To = publisher.ToQueue("jobs")
				require.NoError(t, m.Publish(t.Context(), message))
			}
			begun, release := make(chan struct{}, 1), make(chan struct{})
			defer close(release)
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				done <- m.Work(ctx, "jobs", bus.Options{DrainTimeout: time.Millisecond}, func(ctx context.Context, _ *worker.Delivery) error {
					begun <- struct{}{}
					return hang(ctx, release)
				})
			}()
			<-begun
			stop()
			if err := <-done; err != nil {
				require.ErrorIs(t, err, worker.ErrDrainTimeout)
			}
			require.Equal(t, 10, m.Depth("jobs"))
			ctx, stop = context.WithCancel(t.Context())
			var got []string
			require.NoError(t, m.Work(ctx, "jobs", bus.Options{}, func(_ context.Context, d *worker.Delivery) error {
				if got = append(got, string(d.Event.Data)); len(got) == 10 {
					stop()
				}
				return nil
			}))
			require.Equal(t, []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}, got)
		})
	}
}

// A dead-letter queue that is full loses nothing: what is given up stays, until there is room.
func TestAFullDeadLetterQueueLosesNothing(t *testing.T) {
	t.Parallel()
	spec := topology.Spec{Queues: map[string]topology.Queue{"jobs": {Retry: []time.Duration{}}}}
	m := bus.NewMemory(bus.Config{Topology: &spec, History: 2})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() {
		done <- m.Work(ctx, "jobs", bus.Options{}, func(context.Context, *worker.Delivery) error { return errors.New("on purpose") })
	}()
	for n := range 5 {
		message := made(t, n)
		message.To = publisher.ToQueue("jobs")
		require.NoError(t, m.Publish(ctx, message))
	}
	require.Eventually(t, func() bool { return m.Depth("jobs.dlq") == 2 && m.Depth("jobs") == 0 }, time.Minute, time.Millisecond)
	var mu sync.Mutex
	letters := map[string]int{}
	go func() {
		done <- m.Work(ctx, "jobs.dlq", bus.Options{}, func(_ context.Context, d *worker.Delivery) error {
			mu.Lock()
			defer mu.Unlock()
			letters[string(d.Event.Data)] = d.History.Attempts
			return nil
		})
	}()
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(letters) == 5
	}, time.Minute, time.Millisecond)
	stop()
	require.NoError(t, errors.Join(<-done, <-done))
	require.Equal(t, map[string]int{"0": 1, "1": 1, "2": 1, "3": 1, "4": 1}, letters)
}

func TestListenRefuses(t *testing.T) {
	t.Parallel()
	spec := topology.Spec{Topics: map[string]topology.Topic{"orders": {}}}
	m := bus.NewMemory(bus.Config{Topology: &spec})
	first := worker.LogFirst()
	nothing := func(context.Context, *worker.Delivery) error { return nil }
	require.ErrorIs(t, m.Listen(t.Context(), "orders", bus.Options{From: &first}, nothing), worker.ErrNoLog)
	require.ErrorContains(t, m.Listen(t.Context(), "orders", bus.Options{From: &first, Group: "g"}, nothing), "give one of Group and From")
	require.ErrorContains(t, m.Work(t.Context(), "q", bus.Options{Group: "g"}, nothing), "a listener's")
}

func Example() {
	b := bus.NewMemory(bus.Config{}) // the default topology: topic orders, groups email and analytics, queue payments
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- b.Work(ctx, "payments", bus.Options{}, func(_ context.Context, d *worker.Delivery) error {
			fmt.Println(d.Event.Type, string(d.Event.Data))
			stop()
			return nil
		})
	}()
	e, err := event.New("order.created", "shop", map[string]string{"order_id": "order-1"})
	if err == nil {
		err = b.Publish(context.Background(), publisher.Message{Event: e, To: publisher.ToTopic("orders")})
	}
	fmt.Println(errors.Join(err, <-ended))
	// Output:
	// order.created {"order_id":"order-1"}
	// <nil>
}
