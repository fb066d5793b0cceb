package relay_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/eventstore/relay"
	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/postgrestest"
	"github.com/evdemo/evdemo/publisher"
)

// What is appended while the relay runs arrives once, in order, and carries the event as it is.
func TestEverythingArrivesOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db string) {
		t.Helper()
		url, store := brokertest.URL(t), open(t, eventstore.Config{DB: db})
		q := queue(t, url)
		l := consume(t, url, q)
		const n = 5000
		require.NoError(t, appendEvents(t.Context(), store, 0, n/2))
		r := run(t, relay.Config{Store: store, Publisher: publish(t, url), To: relay.ToQueue(q)})
		require.NoError(t, appendEvents(t.Context(), store, n/2, n))
		eventually(t, func() bool { return l.reached() == n }, "the last event")
		require.NoError(t, r.end())
		assert.Equal(t, account{}, l.of(n))
		assert.Equal(t, int64(n), r.Stats().Published)
		assert.Equal(t, int64(n), checkpoint(t, store))
	})
}

func TestMessageIsTheEvent(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db string) {
		t.Helper()
		url, store := brokertest.URL(t), open(t, eventstore.Config{DB: db})
		q := queue(t, url)
		e := event.Event{
			ID: "order-1-created", Source: "//shop/orders", Type: "order.created", Subject: "order-1", DataSchema: "https://shop.example/order.json",
			Time: time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC), DataContentType: "application/json", Data: []byte("{\"amount\":  100, \"ü\": \"\\u00e4\"}"),
			Extensions: map[string]any{"correlationid": "c-1", "retries": int32(3), "urgent": true},
		}
		_, err := store.Append(t.Context(), eventstore.StreamWrite{Stream: "order/1 ü", Events: []event.Event{numbered(0), e}})
		require.NoError(t, err)
		catchUp(t, relay.Config{Store: store, Publisher: publish(t, url), To: relay.ToQueue(q), From: 1})
		m, ok, err := channel(t, url).Get(q, true)
		require.NoError(t, err)
		require.True(t, ok)
		got, err := event.Decode(event.Message{
			Headers: m.Headers, ContentType: m.ContentType, MessageID: m.MessageId, Type: m.Type, CorrelationID: m.CorrelationId, Timestamp: m.Timestamp, Body: m.Body,
		})
		require.NoError(t, err)
		assert.Equal(t, e, got)
		assert.Equal(t, "order-1-created", m.MessageId)
		assert.Equal(t, "order/1 ü", m.Headers[relay.HeaderStream])
		assert.Equal(t, int64(2), m.Headers[relay.HeaderVersion])
		assert.Equal(t, int64(2), m.Headers[relay.HeaderPosition])
	})
}

// The connection is cut again and again. Nothing is missing, each stream's first arrivals are in order, and nothing is
// repeated but what the publisher had to send again.
func TestCutConnections(t *testing.T) {
	t.Parallel()
	url, store := brokertest.URL(t), openFile(t)
	q := queue(t, url)
	l := consume(t, url, q)
	link := brokertest.Proxy(t, url)
	p := publish(t, link.URL())
	r := run(t, relay.Config{Store: store, Publisher: p, To: relay.ToQueue(q), Window: 200})
	const rounds, each = 8, 500
	for round := range rounds {
		require.NoError(t, appendEvents(t.Context(), store, round*each, (round+1)*each))
		eventually(t, func() bool { return l.reached() > int64(round*each+each/4) }, "it is under way")
		link.Cut()
	}
	eventually(t, func() bool { return l.reached() == rounds*each }, "the last event")
	eventually(t, func() bool { return checkpoint(t, store) == rounds*each }, "the last checkpoint")
	require.NoError(t, r.end())
	got := l.of(rounds * each)
	assert.Zero(t, got.missing)
	assert.Empty(t, got.disorder)
	assert.LessOrEqual(t, int64(got.extra), p.Stats().Resent)
	assert.Positive(t, p.Stats().Reconnects)
	assert.Zero(t, r.Stats().Repeated)
}

// A broker that answers nothing for a while is waited for; it gets no more than the window meanwhile.
func TestSlowBroker(t *testing.T) {
	t.Parallel()
	url, store := brokertest.URL(t), openFile(t)
	q := queue(t, url)
	l := consume(t, url, q)
	link := brokertest.Proxy(t, url)
	p := publish(t, link.URL())
	b := &counting{Publisher: p}
	r := run(t, relay.Config{Store: store, Publisher: b, To: relay.ToQueue(q), Window: 100})
	require.NoError(t, appendEvents(t.Context(), store, 0, 1000))
	eventually(t, func() bool { return l.reached() == 1000 }, "the first thousand")
	eventually(t, func() bool { return checkpoint(t, store) == 1000 }, "their checkpoint")
	link.Pause()
	require.NoError(t, appendEvents(t.Context(), store, 1000, 3000))
	eventually(t, func() bool { return b.sent.Load() == 1100 }, "the window")
	<-time.After(200 * time.Millisecond)
	assert.Equal(t, int64(1100), b.sent.Load())
	assert.Nil(t, r.Stats().Stuck, "it waits, and nothing was refused")
	link.Resume()
	eventually(t, func() bool { return l.reached() == 3000 }, "the rest")
	require.NoError(t, r.end())
	got := l.of(3000)
	assert.Zero(t, got.missing)
	assert.Empty(t, got.disorder)
	assert.LessOrEqual(t, int64(got.extra), p.Stats().Resent, "none, unless the pause was too long for the connection")
}

// While no queue is bound to the topic the relay stands still; once one is, everything is in it, in order, and once.
func TestNoQueueIsBound(t *testing.T) {
	t.Parallel()
	url, store := brokertest.URL(t), openFile(t)
	topic := topic(t, url)
	require.NoError(t, appendEvents(t.Context(), store, 0, 1000))
	r := run(t, relay.Config{Store: store, Publisher: publish(t, url), To: relay.ToTopic(topic)})
	eventually(t, func() bool { return r.Stats().Returned >= 2 }, "it is returned, and tried again")
	assert.Equal(t, int64(1), r.Stats().Stuck.Position)
	q := queue(t, url)
	l := consume(t, url, q)
	require.NoError(t, channel(t, url).QueueBind(q, "", topic, false, nil))
	eventually(t, func() bool { return l.reached() == 1000 }, "all of them")
	eventually(t, func() bool { return r.Stats().Stuck == nil }, "it goes on")
	require.NoError(t, r.end())
	assert.Equal(t, account{}, l.of(1000))
	assert.Equal(t, int64(1000), checkpoint(t, store))
}

// A queue is unbound and bound again under way: nothing is missing. What was behind the first that was returned may have
// come before it, so order is not looked at here.
func TestQueueIsUnboundUnderWay(t *testing.T) {
	t.Parallel()
	url, store := brokertest.URL(t), openFile(t)
	topic, q := topic(t, url), queue(t, url)
	l, ch := consume(t, url, q), channel(t, url)
	require.NoError(t, ch.QueueBind(q, "", topic, false, nil))
	r := run(t, relay.Config{Store: store, Publisher: publish(t, url), To: relay.ToTopic(topic)})
	const rounds, each = 4, 500
	for round := range rounds {
		require.NoError(t, appendEvents(t.Context(), store, round*each, (round+1)*each))
		returned := r.Stats().Returned
		require.NoError(t, ch.QueueUnbind(q, "", topic, nil))
		require.NoError(t, appendEvents(t.Context(), store, rounds*each+round, rounds*each+round+1))
		eventually(t, func() bool { return r.Stats().Returned > returned }, "one is returned")
		require.NoError(t, ch.QueueBind(q, "", topic, false, nil))
	}
	const n = rounds*each + rounds
	eventually(t, func() bool { return checkpoint(t, store) == n }, "the last checkpoint")
	eventually(t, func() bool { return l.of(n).missing == 0 }, "all events")
	require.NoError(t, r.end())
	assert.LessOrEqual(t, int64(l.of(n).extra), r.Stats().Repeated)
}

// A window of 1 keeps the order also when events are returned under way.
func TestWindowOfOneKeepsOrder(t *testing.T) {
	t.Parallel()
	url, store := brokertest.URL(t), openFile(t)
	topic, q := topic(t, url), queue(t, url)
	l, ch := consume(t, url, q), channel(t, url)
	require.NoError(t, ch.QueueBind(q, "", topic, false, nil))
	const n = 100
	require.NoError(t, appendEvents(t.Context(), store, 0, n))
	r := run(t, relay.Config{Store: store, Publisher: publish(t, url), To: relay.ToTopic(topic), Window: 1})
	for range 3 {
		returned := r.Stats().Returned
		require.NoError(t, ch.QueueUnbind(q, "", topic, nil))
		eventually(t, func() bool { return r.Stats().Returned > returned || r.Stats().Published == n }, "one is returned")
		require.NoError(t, ch.QueueBind(q, "", topic, false, nil))
	}
	eventually(t, func() bool { return l.reached() == n }, "the last event")
	require.NoError(t, r.end())
	assert.Equal(t, account{}, l.of(n))
	assert.Positive(t, r.Stats().Returned)
}

// A full queue refuses; what it refused is there in the end.
func TestFullQueue(t *testing.T) {
	t.Parallel()
	url, store := brokertest.URL(t), openFile(t)
	q := brokertest.Name(t, "relay")
	declare(t, url, q, map[string]any{"x-max-length": int32(20), "x-overflow": "reject-publish"})
	const n = 300
	require.NoError(t, appendEvents(t.Context(), store, 0, n))
	r := run(t, relay.Config{Store: store, Publisher: publish(t, url), To: relay.ToQueue(q)})
	eventually(t, func() bool { return r.Stats().Nacked >= 2 && r.Stats().Stuck != nil }, "it is full")
	l := consume(t, url, q)
	eventually(t, func() bool { return checkpoint(t, store) == n }, "the last checkpoint")
	eventually(t, func() bool { return l.of(n).missing == 0 }, "all events")
	require.NoError(t, r.end())
}

// What takes a broker down is tried on a node of its own: it is killed and started again, and then stopped for good.
func TestBrokerIsKilled(t *testing.T) {
	t.Parallel()
	node, store := brokertest.Node(t), openFile(t)
	q := brokertest.Name(t, "relay")
	declare(t, node.URL(), q, quorum())
	brokertest.AwaitDurable(t, node, q)
	p := publish(t, node.URL())
	r := run(t, relay.Config{Store: store, Publisher: p, To: relay.ToQueue(q), Window: 200, DrainTimeout: 100 * time.Millisecond})
	const n = 6000
	require.NoError(t, appendEvents(t.Context(), store, 0, n))
	eventually(t, func() bool { return r.Stats().Published > 300 }, "it is under way")
	require.NoError(t, node.Kill())
	assert.Less(t, r.Stats().Published, int64(n), "it is under way still")
	require.NoError(t, node.Restart(context.WithoutCancel(t.Context())))
	eventually(t, func() bool { return checkpoint(t, store) == n }, "the last checkpoint")
	l := consume(t, node.URL(), q)
	eventually(t, func() bool { return l.reached() == n }, "the last event")
	got := l.of(n)
	assert.Zero(t, got.missing)
	assert.Empty(t, got.disorder)
	assert.LessOrEqual(t, int64(got.extra), p.Stats().Resent)

	require.NoError(t, node.Kill())
	require.NoError(t, appendEvents(t.Context(), store, n, n+10))
	eventually(t, func() bool { return p.Stats().Sent-p.Stats().Confirmed == 10 }, "the next events")
	require.ErrorIs(t, r.end(), relay.ErrDrainTimeout)
	assert.Equal(t, int64(n), checkpoint(t, store))
}

// The database goes away and comes back: the relay waits, and goes on.
func TestDatabaseIsRestarted(t *testing.T) {
	t.Parallel()
	server, url := postgrestest.Server(t), brokertest.URL(t)
	store := open(t, eventstore.Config{DB: server.URL("postgres"), RetryFor: patience})
	q := queue(t, url)
	l := consume(t, url, q)
	r := run(t, relay.Config{Store: store, Publisher: publish(t, url), To: relay.ToQueue(q), Lease: shortLease})
	const n = 3000
	require.NoError(t, appendEvents(t.Context(), store, 0, n))
	eventually(t, func() bool { return l.reached() > 200 }, "it is under way")
	require.NoError(t, server.Kill())
	require.NoError(t, server.Restart(context.WithoutCancel(t.Context())))
	require.NoError(t, appendEvents(t.Context(), store, n, n+10))
	eventually(t, func() bool { return l.reached() == n+10 }, "the last event")
	eventually(t, func() bool { return checkpoint(t, store) == n+10 }, "the last checkpoint")
	require.NoError(t, r.end())
	got := l.of(n + 10)
	assert.Zero(t, got.missing)
	assert.Empty(t, got.disorder)
}

// counting counts what is sent.
type counting struct {
	relay.Publisher
	sent atomic.Int64
}

func (c *counting) Send(ctx context.Context, m publisher.Message, done func(publisher.Result)) error {
	err := c.Publisher.Send(ctx, m, done)
	if err == nil {
		c.sent.Add(1)
	}
	return err
}
