package relay

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/evdemo/evdemo/publisher"
)

// Collector exports Stats to Prometheus:
//
//   - evdemo_relay_events_total, by outcome: confirmed, skipped, returned, nacked, unknown;
//   - evdemo_relay_repeated_total, as Stats has it;
//   - evdemo_relay_active and evdemo_relay_stuck, gauges: 1 where that is so;
//   - evdemo_relay_lag_events, a gauge: how many events of the log are behind the checkpoint;
//   - evdemo_relay_lag_seconds, a gauge: how long ago the first of them was appended.
//
// The lag is that of the active relay, whichever process asks. Several relays in one process need a label to be told
// apart: see prometheus.WrapRegistererWith.
func (r *Relay) Collector() prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("evdemo_relay_"+name, help, labels, nil)
	}
	return &collector{
		stats:      r.Stats,
		events:     desc("events_total", "Events by what became of them.", "outcome"),
		repeated:   desc("repeated_total", "Events that were sent again because one before them had not got through."),
		active:     desc("active", "Whether this is the active relay of its name."),
		stuck:      desc("stuck", "Whether the relay stands still at an event that does not get through."),
		lagEvents:  desc("lag_events", "Events of the log that are behind the checkpoint."),
		lagSeconds: desc("lag_seconds", "How long ago the first event behind the checkpoint was appended."),
	}
}

// collector reads a relay's counts whenever it is asked.
type collector struct {
	stats                                                  func() Stats
	events, repeated, active, stuck, lagEvents, lagSeconds *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, to) }

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	s := c.stats()
	send := func(desc *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, kind, value, labels...)
	}
	send(c.events, prometheus.CounterValue, float64(s.Published), publisher.Confirmed.String())
	send(c.events, prometheus.CounterValue, float64(s.Skipped), "skipped")
	send(c.events, prometheus.CounterValue, float64(s.Returned), publisher.Returned.String())
	send(c.events, prometheus.CounterValue, float64(s.Nacked), publisher.Nacked.String())
	send(c.events, prometheus.CounterValue, float64(s.Unknown), publisher.Unknown.String())
	send(c.repeated, prometheus.CounterValue, float64(s.Repeated))
	send(c.active, prometheus.GaugeValue, flag(s.Active))
	send(c.stuck, prometheus.GaugeValue, flag(s.Stuck != nil))
	send(c.lagEvents, prometheus.GaugeValue, float64(s.Lag.Events()))
	var seconds float64
	if !s.Lag.Oldest.IsZero() {
		seconds = max(time.Since(s.Lag.Oldest).Seconds(), 0)
	}
	send(c.lagSeconds, prometheus.GaugeValue, seconds)
}

func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}
