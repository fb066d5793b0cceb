package worker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/worker"
)

const (
	durations = "evdemo_worker_handler_duration_seconds"
	inFlight  = "evdemo_worker_handlers_in_flight"
)

func metrics(t *testing.T) (*prometheus.Registry, worker.Middleware) {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	middleware, err := worker.Metrics(registry)
	require.NoError(t, err)
	return registry, middleware
}

// gathered gives the metrics of a name by the values of their labels, in the order of the labels'
// names.
func gathered(t *testing.T, from prometheus.Gatherer, name string) map[string]*dto.Metric {
	t.Helper()
	families, err := from.Gather()
	require.NoError(t, err)
	found := map[string]*dto.Metric{}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.Metric {
			var values []string
			for _, label := range m.Label {
				values = append(values, label.GetName()+"="+label.GetValue())
			}
			found[strings.Join(values, ",")] = m
		}
	}
	return found
}

func requireLint(t *testing.T, from prometheus.Gatherer) {
	t.Helper()
	problems, err := testutil.GatherAndLint(from)
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestMetricsCountByOutcome(t *testing.T) {
	t.Parallel()
	registry, middleware := metrics(t)
	ended, end := context.WithCancel(t.Context())
	end()
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	for i, c := range []struct {
		ctx context.Context
		err error
	}{
		{t.Context(), nil},
		{t.Context(), worker.ErrSkip},
		{t.Context(), fmt.Errorf("seen: %w", worker.ErrDuplicate)},
		{t.Context(), worker.ErrRequeue},
		{ended, errors.New("interrupted")}, // the drain timeout has passed
		{t.Context(), errors.New("no stock")},
		{t.Context(), worker.Permanent(errors.New("no such order"))},
		{late, errors.New("too slow")}, // a limit around it is no drain
	} {
		d := tracedDelivery(t)
		d.Event.ID = fmt.Sprint("unbounded-", i)
		got := worker.Wrap(func(context.Context, *worker.Delivery) error { return c.err }, middleware)(c.ctx, d)
		require.Equal(t, c.err, got, "the error is passed on as it is")
	}

	counts := map[string]uint64{}
	for labels, m := range gathered(t, registry, durations) {
		counts[labels] = m.Histogram.GetSampleCount()
	}
	assert.Equal(t, map[string]uint64{
		"outcome=handled,queue=payments": 1, "outcome=skipped,queue=payments": 1, "outcome=duplicate,queue=payments": 1,
		"outcome=requeued,queue=payments": 2, "outcome=failed,queue=payments": 3,
	}, counts)
	requireLint(t, registry)
}

func TestMetricsMeasure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		registry, middleware := metrics(t)
		running, finish := make(chan struct{}), make(chan struct{})
		handle := worker.Wrap(func(context.Context, *worker.Delivery) error {
			running <- struct{}{}
			<-finish
			<-time.After(3 * time.Second)
			return nil
		}, middleware)
		results, d := make(chan error, 2), tracedDelivery(t)
		for range cap(results) {
			go func() { results <- handle(t.Context(), d) }()
			<-running
		}
		assert.InDelta(t, 2, gathered(t, registry, inFlight)["queue=payments"].Gauge.GetValue(), 0)
		close(finish)
		for range cap(results) {
			require.NoError(t, <-results)
		}
		assert.Zero(t, gathered(t, registry, inFlight)["queue=payments"].Gauge.GetValue())
		h := gathered(t, registry, durations)["outcome=handled,queue=payments"].Histogram
		assert.Equal(t, uint64(2), h.GetSampleCount())
		assert.InDelta(t, 6, h.GetSampleSum(), 0.001)
		checkBuckets(t, h)
	})
}

// checkBuckets checks a histogram of two samples of 3 s.
func checkBuckets(t *testing.T, h *dto.Histogram) {
	t.Helper()
	require.InDelta(t, 0.001, h.Bucket[0].GetUpperBound(), 1e-9)
	last := h.Bucket[len(h.Bucket)-1].GetUpperBound()
	assert.True(t, last > 120 && last < 150, "up to about two minutes: %v", last)
	for _, b := range h.Bucket {
		want := uint64(0)
		if b.GetUpperBound() >= 3 {
			want = 2
		}
		assert.Equal(t, want, b.GetCumulativeCount(), "up to %v", b.GetUpperBound())
	}
}

func TestMetricsOfAPanic(t *testing.T) {
	t.Parallel()
	registry, middleware := metrics(t)
	handle := worker.Wrap(func(context.Context, *worker.Delivery) error { panic("no such shelf") }, middleware)
	assert.PanicsWithValue(t, "no such shelf", func() { _ = handle(t.Context(), tracedDelivery(t)) })
	assert.Equal(t, uint64(1), gathered(t, registry, durations)["outcome=failed,queue=payments"].Histogram.GetSampleCount())
	assert.Zero(t, gathered(t, registry, inFlight)["queue=payments"].Gauge.GetValue())
}

// A listener's queue has another name with each connection; there must not be a series for each.
func TestMetricsOfListenersAreBounded(t *testing.T) {
	t.Parallel()
	registry, middleware := metrics(t)
	handle := worker.Wrap(discard, middleware)
	for i := range 100 {
		d := tracedDelivery(t)
		d.Queue = fmt.Sprintf("amq.gen-%d", i)
		require.NoError(t, handle(t.Context(), d))
	}
	series := gathered(t, registry, durations)
	require.Len(t, series, 1)
	assert.Equal(t, uint64(100), series["outcome=handled,queue="].Histogram.GetSampleCount())
}

func TestMetricsForSeveralWorkers(t *testing.T) {
	t.Parallel()
	registry, one := metrics(t)
	other, err := worker.Metrics(registry)
	require.NoError(t, err)
	require.NoError(t, worker.Wrap(discard, one)(t.Context(), tracedDelivery(t)))
	require.NoError(t, worker.Wrap(discard, other)(t.Context(), tracedDelivery(t)))
	assert.Equal(t, uint64(2), gathered(t, registry, durations)["outcome=handled,queue=payments"].Histogram.GetSampleCount())
}

func TestMetricsWhereTheNameIsTaken(t *testing.T) {
	t.Parallel()
	for _, name := range []string{durations, inFlight} {
		registry := prometheus.NewRegistry()
		registry.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: "Somebody else's."}))
		_, err := worker.Metrics(registry)
		assert.ErrorContains(t, err, name)
	}
}

func TestCollectorNames(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	for _, config := range []worker.Config{{Queue: "payments"}, {Queue: "mails"}, {Topic: "orders"}} {
		config.URLs = []string{"amqp://localhost"}
		w, err := worker.New(config, discard)
		require.NoError(t, err)
		require.NoError(t, registry.Register(w.Collector()))
	}
	requireLint(t, registry)
	for _, name := range []string{
		"deliveries", "retried", "dead_lettered", "redelivered", "foreign", "late", "reconnects",
	} {
		series := gathered(t, registry, "evdemo_worker_"+name+"_total")
		assert.Len(t, series, 3, name)
		assert.Contains(t, series, "queue=payments,topic=", name)
		assert.Contains(t, series, "queue=,topic=orders", name)
	}
	assert.Len(t, gathered(t, registry, "evdemo_worker_events_total"), 3*5)
}

// The collector tells what Stats tells, and its events add up to the deliveries.
func TestCollectorTellsStats(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	queue, resources := queue(t, url)
	fill(t, url, queue, 12)
	n := 0
	w := start(t, worker.Config{
		URLs: []string{url}, Queue: queue, Declare: resources, Prefetch: 1, Retry: []time.Duration{30 * time.Second},
	}, func(_ context.Context, d *worker.Delivery) error {
		if d.Redelivered {
			return nil
		}
		switch n++; {
		case n <= 1:
			return worker.ErrRequeue
		case n <= 3:
			return worker.ErrSkip
		case n <= 6:
			return worker.ErrDuplicate
		case n <= 10:
			return worker.Permanent(errors.New("no such order"))
		default:
			return errors.New("not now")
		}
	})
	eventually(t, func() bool {
		s := w.Stats()
		return s.Handled == 1 && s.Retried+s.DeadLettered == 6
	}, "not all are done")
	require.NoError(t, w.end())

	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(w.Collector())
	labels := "queue=" + queue + ",topic="
	value := func(name string) float64 {
		m := gathered(t, registry, "evdemo_worker_"+name+"_total")[labels]
		require.NotNil(t, m, name)
		return m.Counter.GetValue()
	}
	events := map[string]float64{}
	sum := 0.0
	for by, m := range gathered(t, registry, "evdemo_worker_events_total") {
		events[strings.TrimSuffix(by, ","+labels)] = m.Counter.GetValue()
		sum += m.Counter.GetValue()
	}
	assert.Equal(t, map[string]float64{
		"outcome=handled": 1, "outcome=skipped": 2, "outcome=duplicate": 3, "outcome=requeued": 1, "outcome=failed": 6,
	}, events)
	assert.InDelta(t, 13, value("deliveries"), 0)
	assert.InDelta(t, value("deliveries"), sum, 0)
	assert.InDelta(t, 4, value("dead_lettered"), 0)
	assert.InDelta(t, 2, value("retried"), 0)
	assert.InDelta(t, 1, value("redelivered"), 0)
	assert.Zero(t, value("late")+value("reconnects")+value("foreign"))
}
