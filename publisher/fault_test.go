package publisher_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/localbroker"
	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
)

func exampleURL() string {
	if url := os.Getenv("AMQP_URL"); url != "" {
		return url
	}
	return "amqp://guest:guest@localhost:5672/"
}

func exampleEvent() event.Event {
	e, err := event.New("order.created", "shop", map[string]any{"order_id": "order-1", "amount": 100})
	if err != nil {
		panic(err)
	}
	return e
}

// The connection is cut again and again while events are published. Each is confirmed in the
// end, each is in the queue, and there are no more duplicates than publishes that were repeated.
func TestCutConnectionsLoseNothing(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q := queue(t, url, nil)
	proxy := brokertest.Proxy(t, url)
	p := open(t, publisher.Config{URLs: []string{proxy.URL()}, Window: 200})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	const n = 3000
	o := newOutcomes(n)
	next := 100 + random.IntN(500)
	for i := range n {
		if i == next {
			proxy.Cut()
			next += 500 + random.IntN(500)
		}
		require.NoError(t, p.Send(t.Context(), publisher.Message{Event: newEvent(t, i), To: publisher.ToQueue(q)}, o.done))
	}
	results := o.wait(t, n)
	require.NoError(t, p.Close(t.Context()))
	stats := p.Stats()
	require.Equal(t, int64(n), stats.Confirmed, count(results))
	require.Positive(t, stats.Reconnects)
	there := received(t, url, q)
	extra := 0
	for id := range results {
		require.Positive(t, there[id], "event %s was confirmed and is not there", id)
		extra += there[id] - 1
	}
	assert.LessOrEqual(t, int64(extra), stats.Resent)
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
		{"it refuses an exchange", noPermissionToWrite},
		{"memory alarm", memoryAlarm},
		{"close under a memory alarm", closeUnderAMemoryAlarm},
		{"it is killed", killedBrokerLosesNoConfirmedEvent},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, node) })
	}
}

func brokerClosesTheConnection(t *testing.T, node *localbroker.Node) {
	t.Helper()
	q := queue(t, node.URL(), nil)
	p := open(t, publisher.Config{URLs: []string{node.URL()}, Window: 100})
	const n = 3000
	o := newOutcomes(n)
	for i := range n {
		if i == n/2 {
			_, err := node.CloseConnections(t.Context(), "test")
			require.NoError(t, err)
		}
		require.NoError(t, p.Send(t.Context(), publisher.Message{Event: newEvent(t, i), To: publisher.ToQueue(q)}, o.done))
	}
	results := o.wait(t, n)
	require.Equal(t, int64(n), p.Stats().Confirmed, count(results))
	require.Positive(t, p.Stats().Reconnects)
	there := received(t, node.URL(), q)
	for id := range results {
		require.Positive(t, there[id])
	}
}

// The broker is killed with SIGKILL while events are published, and started again. What was
// confirmed is there, and what was not is confirmed in the end.
func killedBrokerLosesNoConfirmedEvent(t *testing.T, node *localbroker.Node) {
	t.Helper()
	q := queue(t, node.URL(), nil)
	brokertest.AwaitDurable(t, node, q)
	p := open(t, publisher.Config{URLs: []string{node.URL()}, Window: 100})
	const n = 2000
	o := newOutcomes(n)
	restarted := make(chan error, 1)
	for i := range n {
		if i == n/2 {
			require.NoError(t, node.Kill())
			go func() { restarted <- node.Restart(context.WithoutCancel(t.Context())) }()
		}
		require.NoError(t, p.Send(t.Context(), publisher.Message{Event: newEvent(t, i), To: publisher.ToQueue(q)}, o.done))
	}
	require.NoError(t, <-restarted)
	results := o.wait(t, n)
	require.Equal(t, int64(n), p.Stats().Confirmed, count(results))
	there := received(t, node.URL(), q)
	for id := range results {
		require.Positive(t, there[id], "event %s was confirmed and is not there", id)
	}
}

// With the broker gone for good, Close gives up in time, and every event still has an outcome.
func TestCloseWithoutABroker(t *testing.T) {
	t.Parallel()
	proxy := brokertest.Proxy(t, brokertest.URL(t))
	q := queue(t, brokertest.URL(t), nil)
	p := open(t, publisher.Config{URLs: []string{proxy.URL()}, Window: 50})
	proxy.Pause()
	const n = 20
	o := newOutcomes(n)
	for i := range n {
		require.NoError(t, p.Send(t.Context(), publisher.Message{Event: newEvent(t, i), To: publisher.ToQueue(q)}, o.done))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, p.Close(ctx), context.DeadlineExceeded)
	for _, r := range o.wait(t, n) {
		require.Equal(t, publisher.Unknown, r.Outcome)
		require.ErrorIs(t, r.Err, publisher.ErrUnconfirmed)
	}
	assert.Equal(t, int64(n), p.Stats().Unknown)
}

func TestFullWindowHeedsTheContext(t *testing.T) {
	t.Parallel()
	proxy := brokertest.Proxy(t, brokertest.URL(t))
	p := open(t, publisher.Config{URLs: []string{proxy.URL()}, Window: 2})
	proxy.Pause()
	m := publisher.Message{Event: newEvent(t, 1), To: publisher.ToQueue("nowhere")}
	require.NoError(t, p.Send(t.Context(), m, nil))
	require.NoError(t, p.Send(t.Context(), m, nil))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, p.Send(ctx, m, nil), context.DeadlineExceeded)
	var outcome *publisher.OutcomeError
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := p.Publish(short, m)
	require.Error(t, err)
	require.NotErrorAs(t, err, &outcome, "it was never accepted")
	proxy.Resume()
	require.NoError(t, p.Close(t.Context()))
	assert.Equal(t, int64(2), p.Stats().Returned)
}

// Under a memory alarm the broker reads nothing from a publisher: it waits, heeds its contexts,
// and goes on when the alarm is lifted.
func memoryAlarm(t *testing.T, node *localbroker.Node) {
	t.Helper()
	q := queue(t, node.URL(), nil)
	p := open(t, publisher.Config{URLs: []string{node.URL()}, Window: 10})
	require.NoError(t, p.Publish(t.Context(), publisher.Message{Event: newEvent(t, 0), To: publisher.ToQueue(q)}))
	require.NoError(t, node.SetMemoryAlarm(t.Context(), true))
	const n = 10
	o := newOutcomes(n)
	for i := range n {
		e := newEvent(t, fmt.Sprintf("%d", i))
		require.NoError(t, p.Send(t.Context(), publisher.Message{Event: e, To: publisher.ToQueue(q)}, o.done))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, p.Send(ctx, publisher.Message{Event: newEvent(t, n), To: publisher.ToQueue(q)}, nil), context.DeadlineExceeded)
	require.NoError(t, node.SetMemoryAlarm(t.Context(), false))
	for _, r := range o.wait(t, n) {
		require.Equal(t, publisher.Confirmed, r.Outcome)
	}
	assert.Zero(t, p.Stats().Reconnects, "a block is no reason to connect again")
	assert.Len(t, received(t, node.URL(), q), n+1)
}

// While the broker blocks it, a publisher can still be closed in time.
func closeUnderAMemoryAlarm(t *testing.T, node *localbroker.Node) {
	t.Helper()
	q := queue(t, node.URL(), nil)
	p := open(t, publisher.Config{URLs: []string{node.URL()}, Window: 1000})
	require.NoError(t, node.SetMemoryAlarm(t.Context(), true))
	defer func() { assert.NoError(t, node.SetMemoryAlarm(context.WithoutCancel(t.Context()), false)) }()
	big := newEvent(t, make([]byte, 0))
	big.Data, big.DataContentType = make([]byte, 1<<20), "application/octet-stream"
	o := newOutcomes(20)
	for range 20 { // more than any buffer on the way takes
		e := big
		e.ID = event.NewID()
		require.NoError(t, p.Send(t.Context(), publisher.Message{Event: e, To: publisher.ToQueue(q)}, o.done))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	began := time.Now()
	require.ErrorIs(t, p.Close(ctx), context.DeadlineExceeded)
	assert.Less(t, time.Since(began), 10*time.Second)
	for _, r := range o.wait(t, 20) {
		require.Equal(t, publisher.Unknown, r.Outcome)
	}
}

func noPermissionToWrite(t *testing.T, node *localbroker.Node) {
	t.Helper()
	for _, args := range [][]string{
		{"add_user", "reader", "reader"},
		{"set_permissions", "-p", "/", "reader", ".*", "^allowed$", ".*"},
	} {
		_, err := node.Ctl(t.Context(), args...)
		require.NoError(t, err)
	}
	ch := channel(t, node.URL())
	for _, name := range []string{"allowed", "forbidden"} {
		require.NoError(t, ch.ExchangeDeclare(name, "fanout", true, false, false, false, nil))
		q, err := ch.QueueDeclare("", false, true, true, false, nil)
		require.NoError(t, err)
		require.NoError(t, ch.QueueBind(q.Name, "", name, false, nil))
	}
	p := open(t, publisher.Config{URLs: []string{strings.Replace(node.URL(), "guest:guest", "reader:reader", 1)}})
	const n = 100
	o := newOutcomes(n)
	for i := range n {
		to := publisher.ToTopic([]string{"allowed", "forbidden"}[i%2])
		require.NoError(t, p.Send(t.Context(), publisher.Message{Event: newEvent(t, i), To: to}, o.done))
	}
	for _, r := range o.wait(t, n) {
		if r.Message.To.Exchange == "allowed" {
			require.Equal(t, publisher.Confirmed, r.Outcome, "%v", r.Err)
			continue
		}
		require.Equal(t, publisher.Nacked, r.Outcome)
		require.ErrorContains(t, r.Err, "refused")
	}
}

// A connection that is lost while everything is declared on it is not the end of Open: there is another one.
func TestOpenDeclaresAgainOnANewConnection(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	proxy := brokertest.Proxy(t, url)
	spec := topology.Spec{Topics: map[string]topology.Topic{}}
	prefix := brokertest.Name(t, "open") + "."
	for i := range 30 {
		spec.Topics[fmt.Sprintf("topic-%02d", i)] = topology.Topic{Groups: []string{"a"}}
	}
	resources := spec.WithPrefix(prefix).Resources()
	other, err := session.Dial(t.Context(), session.Config{URLs: []string{url}})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, resources.Delete(context.Background(), other, topology.EvenShared()))
		other.Close()
	})
	cut := make(chan struct{})
	go func() { // once it has begun to declare, and long before it is done with that
		defer close(cut)
		for t.Context().Err() == nil {
			ch, err := other.Channel()
			if err != nil {
				return
			}
			if _, err := ch.QueueDeclarePassive(resources.Queues[0].Name, true, false, false, false, nil); err == nil {
				_ = ch.Close()
				proxy.Cut()
				return
			}
		}
	}()
	p := open(t, publisher.Config{URLs: []string{proxy.URL()}, Declare: resources, ConnectTimeout: 30 * time.Second})
	<-cut
	require.NoError(t, p.Publish(t.Context(), publisher.Message{Event: newEvent(t, 1), To: publisher.ToTopic(prefix + "topic-29")}))
}
