package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics measures handlers, for Prometheus:
//
//   - evdemo_worker_handler_duration_seconds, a histogram from 1 ms to 131 s: how long attempts
//     took, by queue and outcome, which is handled, skipped, duplicate, requeued or failed;
//   - evdemo_worker_handlers_in_flight, a gauge: how many handlers are running, by queue.
//
// The queue is empty for a listener. What is inside of it is measured: put it around [Timeout],
// [Retry] and [Dedup], so that it counts what the worker counts. A panic counts as failed.
//
// The metrics are registered with the registerer. Middleware for several workers in one process may
// be made with the same one: they share the metrics. It returns an error where others have taken
// the names.
func Metrics(registerer prometheus.Registerer) (Middleware, error) {
	durations, err := register(registerer, prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "evdemo_worker_handler_duration_seconds", Help: "How long attempts at events took.",
		Buckets: prometheus.ExponentialBuckets(0.001, 2, 18),
	}, []string{"queue", "outcome"}))
	if err != nil {
		return nil, err
	}
	running, err := register(registerer, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "evdemo_worker_handlers_in_flight", Help: "How many handlers are running.",
	}, []string{"queue"}))
	if err != nil {
		return nil, err
	}
	return func(next Handler) Handler {
		return func(ctx context.Context, d *Delivery) error {
			queue, outcome, began := queueLabel(d), outcomeFailed, time.Now()
			inFlight := running.WithLabelValues(queue)
			inFlight.Inc()
			defer func() { // after a panic, too
				inFlight.Dec()
				durations.WithLabelValues(queue, outcome).Observe(time.Since(began).Seconds())
			}()
			err := next(ctx, d)
			outcome = outcomeOf(ctx, err)
			return err
		}
	}, nil
}

// register registers a collector, or gives the one that is registered as the same already.
func register[C prometheus.Collector](registerer prometheus.Registerer, c C) (C, error) {
	err := registerer.Register(c)
	if taken, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if same, ok := taken.ExistingCollector.(C); ok {
			return same, nil
		}
	}
	if err != nil {
		return c, fmt.Errorf("register metrics of the worker: %w", err)
	}
	return c, nil
}

// Collector exports Stats to Prometheus:
//
//   - evdemo_worker_deliveries_total: events that arrived;
//   - evdemo_worker_events_total, by outcome: handled, skipped, duplicate, requeued, failed, held. All of
//     them together are the deliveries but for those running;
//   - evdemo_worker_retried_total and evdemo_worker_dead_lettered_total: what became of those that
//     failed;
//   - evdemo_worker_redelivered_total, evdemo_worker_foreign_total, evdemo_worker_late_total and
//     evdemo_worker_reconnects_total, as Stats has them.
//   - with a gate, evdemo_worker_released_total and evdemo_worker_orphaned_total: what became of those
//     that were held; and evdemo_worker_holding, a gauge: how many its store holds for the group.
//
// Each has the labels queue and topic, one of which is empty. Two workers on the same queue in one
// process need a label more to be told apart: see prometheus.WrapRegistererWith.
func (w *Worker) Collector() prometheus.Collector {
	from := prometheus.Labels{"queue": w.config.Queue, "topic": w.config.Topic}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("evdemo_worker_"+name+"_total", help, labels, from)
	}
	return &collector{
		stats:        w.Stats,
		gate:         w.config.Gate,
		released:     desc("released", "Held events that were sent on, since their parent had been handled."),
		orphaned:     desc("orphaned", "Held events that were dead-lettered, since their parent had not come."),
		holding:      prometheus.NewDesc("evdemo_worker_holding", "Events that the gate's store holds for the group.", nil, from),
		events:       desc("events", "Events by what their handler made of them.", "outcome"),
		deliveries:   desc("deliveries", "Events that arrived."),
		retried:      desc("retried", "Failed events that were sent to a retry tier."),
		deadLettered: desc("dead_lettered", "Failed events that were dead-lettered."),
		redelivered:  desc("redelivered", "Events that had been delivered before."),
		foreign:      desc("foreign", "Messages that were no CloudEvents."),
		late:         desc("late", "Handled events whose acknowledgement came too late; each is delivered again."),
		reconnects:   desc("reconnects", "Connections after the first."),
	}
}

// collector reads a worker's counts whenever it is asked.
type collector struct {
	stats                                                                             func() Stats
	gate                                                                              *Gate
	released, orphaned, holding                                                       *prometheus.Desc
	events, deliveries, retried, deadLettered, redelivered, foreign, late, reconnects *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, to) }

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	s := c.stats()
	count := func(desc *prometheus.Desc, n int64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), labels...)
	}
	count(c.events, s.Handled, outcomeHandled)
	count(c.events, s.Skipped, outcomeSkipped)
	count(c.events, s.Duplicates, outcomeDuplicate)
	count(c.events, s.Requeued, outcomeRequeued)
	count(c.events, s.Failed, outcomeFailed)
	count(c.deliveries, s.Delivered)
	count(c.retried, s.Retried)
	count(c.deadLettered, s.DeadLettered)
	count(c.redelivered, s.Redelivered)
	count(c.foreign, s.Foreign)
	count(c.late, s.Late)
	count(c.reconnects, s.Reconnects)
	if c.gate == nil {
		return
	}
	count(c.events, s.Held, outcomeHeld)
	count(c.released, s.Released)
	count(c.orphaned, s.Orphaned)
	ctx, cancel := context.WithTimeout(context.Background(), holdingLimit)
	defer cancel()
	if n, err := c.gate.Store.Holding(ctx, c.gate.Group); err == nil {
		to <- prometheus.MustNewConstMetric(c.holding, prometheus.GaugeValue, float64(n))
	}
}

// holdingLimit bounds the wait for a gate's store.
const holdingLimit = time.Second
