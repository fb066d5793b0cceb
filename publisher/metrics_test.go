package publisher_test

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/publisher"
)

// values gives all series of a publisher by name and outcome.
func values(t *testing.T, p *publisher.Publisher) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(p.Collector()))
	problems, err := testutil.GatherAndLint(registry)
	require.NoError(t, err)
	require.Empty(t, problems)
	families, err := registry.Gather()
	require.NoError(t, err)
	found := map[string]float64{}
	for _, family := range families {
		for _, m := range family.Metric {
			name := family.GetName()
			for _, label := range m.Label {
				name += " " + label.GetValue()
			}
			found[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return found
}

func TestCollectorTellsStats(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	good := queue(t, url, nil)
	full := queue(t, url, amqp.Table{
		amqp.QueueTypeArg: amqp.QueueTypeClassic, amqp.QueueMaxLenArg: 1, amqp.QueueOverflowArg: amqp.QueueOverflowRejectPublish,
	})
	p := open(t, publisher.Config{URLs: []string{url}})
	send := func(to string, n int) {
		for range n {
			_ = p.Publish(t.Context(), publisher.Message{Event: newEvent(t, 1), To: publisher.ToQueue(to)})
		}
	}
	send(good, 3)
	send(brokertest.Name(t, "missing"), 2)
	send(full, 5)
	assert.Equal(t, map[string]float64{
		"evdemo_publisher_events_total confirmed": 4, "evdemo_publisher_events_total returned": 2,
		"evdemo_publisher_events_total nacked": 4, "evdemo_publisher_events_total unknown": 0,
		"evdemo_publisher_unconfirmed": 0, "evdemo_publisher_resent_total": 0, "evdemo_publisher_reconnects_total": 0,
	}, values(t, p))
}

// While the broker is silent what has been accepted is unconfirmed, and after that unknown.
func TestCollectorTellsTheUnconfirmed(t *testing.T) {
	t.Parallel()
	link := brokertest.Proxy(t, brokertest.URL(t))
	q := queue(t, brokertest.URL(t), nil)
	p := open(t, publisher.Config{URLs: []string{link.URL()}})
	require.NoError(t, p.Publish(t.Context(), publisher.Message{Event: newEvent(t, 1), To: publisher.ToQueue(q)}))
	link.Pause()
	for range 3 {
		require.NoError(t, p.Send(t.Context(), publisher.Message{Event: newEvent(t, 1), To: publisher.ToQueue(q)}, nil))
	}
	assert.InDelta(t, 3, values(t, p)["evdemo_publisher_unconfirmed"], 0)

	now, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, p.Close(now))
	after := values(t, p)
	assert.InDelta(t, 0, after["evdemo_publisher_unconfirmed"], 0)
	assert.InDelta(t, 3, after["evdemo_publisher_events_total unknown"], 0)
	assert.InDelta(t, 1, after["evdemo_publisher_events_total confirmed"], 0)
}
