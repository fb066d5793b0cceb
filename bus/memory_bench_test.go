package bus_test

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/bus"
	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
)

// BenchmarkMemoryFanOut publishes to a topic with a history and four groups, until each of them has had
// everything.
func BenchmarkMemoryFanOut(b *testing.B) {
	spec := topology.Spec{Topics: map[string]topology.Topic{"orders": {Log: &topology.Log{}, Groups: []string{"a", "b", "c", "d"}}}}
	m := bus.NewMemory(bus.Config{Topology: &spec, History: 10_000})
	ctx, stop := context.WithCancel(b.Context())
	var counts [4]atomic.Int64
	done, ready := make(chan error, 4), make(chan struct{}, 4)
	for i, group := range []string{"a", "b", "c", "d"} {
		options := bus.Options{Group: group, Ready: func() { ready <- struct{}{} }}
		go func() {
			done <- m.Listen(ctx, "orders", options, func(context.Context, *worker.Delivery) error {
				counts[i].Add(1)
				return nil
			})
		}()
		<-ready
	}
	e, err := event.New("order.created", "shop", []byte(`{"order_id":"order-1"}`))
	require.NoError(b, err)
	message := publisher.Message{Event: e, To: publisher.ToTopic("orders")}
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Publish(ctx, message); err != nil {
			b.Fatal(err)
		}
	}
	for i := range counts {
		for counts[i].Load() < int64(b.N) {
			runtime.Gosched()
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	stop()
	for range 4 {
		require.NoError(b, <-done)
	}
}
