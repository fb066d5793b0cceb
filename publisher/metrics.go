package publisher

import "github.com/prometheus/client_golang/prometheus"

// Collector exports Stats to Prometheus:
//
//   - evdemo_publisher_events_total, by outcome: confirmed, returned, nacked, unknown;
//   - evdemo_publisher_unconfirmed, a gauge: accepted events that have no outcome yet;
//   - evdemo_publisher_resent_total and evdemo_publisher_reconnects_total, as Stats has them.
//
// Several publishers in one process need a label to be told apart: see
// prometheus.WrapRegistererWith.
func (p *Publisher) Collector() prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("evdemo_publisher_"+name, help, labels, nil)
	}
	return &collector{
		stats:       p.Stats,
		events:      desc("events_total", "Events by what became of them.", "outcome"),
		unconfirmed: desc("unconfirmed", "Accepted events that have no outcome yet."),
		resent:      desc("resent_total", "Publishes that repeated an earlier one."),
		reconnects:  desc("reconnects_total", "Connections after the first."),
	}
}

// collector reads a publisher's counts whenever it is asked.
type collector struct {
	stats                                   func() Stats
	events, unconfirmed, resent, reconnects *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, to) }

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	s := c.stats()
	send := func(desc *prometheus.Desc, kind prometheus.ValueType, n int64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, kind, float64(n), labels...)
	}
	send(c.events, prometheus.CounterValue, s.Confirmed, Confirmed.String())
	send(c.events, prometheus.CounterValue, s.Returned, Returned.String())
	send(c.events, prometheus.CounterValue, s.Nacked, Nacked.String())
	send(c.events, prometheus.CounterValue, s.Unknown, Unknown.String())
	// The counts are taken one after the other, and an event may get its outcome in between.
	unconfirmed := max(s.Sent-s.Confirmed-s.Returned-s.Nacked-s.Unknown, 0)
	send(c.unconfirmed, prometheus.GaugeValue, unconfirmed)
	send(c.resent, prometheus.CounterValue, s.Resent)
	send(c.reconnects, prometheus.CounterValue, s.Reconnects)
}
