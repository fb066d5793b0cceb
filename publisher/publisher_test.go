package publisher_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
)

func TestPublishPutsTheEventOnTheWire(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q := queue(t, url, nil)
	p := open(t, publisher.Config{URLs: []string{url}})
	e := newEvent(t, map[string]any{"order_id": "order-1"})
	require.NoError(t, p.Publish(t.Context(), publisher.Message{
		Event: e, To: publisher.ToQueue(q), Headers: map[string]any{"tenant": "acme", "n": int32(7), "nested": map[string]any{"a": map[string]any{"b": []any{map[string]any{"c": true}}}}},
	}))
	m, ok, err := channel(t, url).Get(q, true)
	require.NoError(t, err)
	require.True(t, ok)
	assert.Equal(t, e.ID, m.MessageId)
	assert.Equal(t, e.ID, m.Headers["ce-id"])
	assert.Equal(t, "order.created", m.Type)
	assert.Equal(t, amqp.Persistent, m.DeliveryMode)
	assert.Equal(t, "application/json", m.ContentType)
	assert.JSONEq(t, `{"order_id":"order-1"}`, string(m.Body))
	assert.Equal(t, "acme", m.Headers["tenant"])
	assert.Equal(t, int32(7), m.Headers["n"])
	assert.Equal(t, amqp.Table{"a": amqp.Table{"b": []any{amqp.Table{"c": true}}}}, m.Headers["nested"])
}

func TestPublishWithoutAQueueIsReturned(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	p := open(t, publisher.Config{URLs: []string{url}})
	err := p.Publish(t.Context(), publisher.Message{Event: newEvent(t, 1), To: publisher.ToQueue(brokertest.Name(t, "missing"))})
	var outcome *publisher.OutcomeError
	require.ErrorAs(t, err, &outcome)
	assert.Equal(t, publisher.Returned, outcome.Outcome)
	assert.Contains(t, err.Error(), "NO_ROUTE")
}

// A return is paired with its own publish also where ids repeat and returned and routed events
// alternate within one window.
func TestReturnsArePairedWithTheirPublish(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	good, missing := queue(t, url, nil), brokertest.Name(t, "missing")
	p := open(t, publisher.Config{URLs: []string{url}})
	e := newEvent(t, "the same event each time")
	const n = 3000
	results := make(chan publisher.Result, n)
	for i := range n {
		to := publisher.ToQueue(good)
		if i%3 == 0 {
			to = publisher.ToQueue(missing)
		}
		require.NoError(t, p.Send(t.Context(), publisher.Message{Event: e, To: to}, func(r publisher.Result) { results <- r }))
	}
	require.NoError(t, p.Close(t.Context()))
	close(results)
	for r := range results {
		want := publisher.Confirmed
		if r.Message.To.RoutingKey == missing {
			want = publisher.Returned
		}
		require.Equal(t, want, r.Outcome)
	}
	assert.Equal(t, map[string]int{e.ID: n - n/3}, received(t, url, good))
	assert.Equal(t, publisher.Stats{Sent: n, Confirmed: n - n/3, Returned: n / 3}, p.Stats())
}

func TestFullQueueNacks(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q := queue(t, url, amqp.Table{"x-max-length": int32(1), "x-overflow": "reject-publish"})
	p := open(t, publisher.Config{URLs: []string{url}})
	require.NoError(t, p.Publish(t.Context(), publisher.Message{Event: newEvent(t, 1), To: publisher.ToQueue(q)}))
	err := p.Publish(t.Context(), publisher.Message{Event: newEvent(t, 2), To: publisher.ToQueue(q)})
	var outcome *publisher.OutcomeError
	require.ErrorAs(t, err, &outcome)
	assert.Equal(t, publisher.Nacked, outcome.Outcome)
}

// The broker closes the channel for a missing exchange. Its events are returned, and nobody
// else's is lost for it.
func TestMissingExchangeHarmsNobodyElse(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	good, missing := queue(t, url, nil), brokertest.Name(t, "missing")
	p := open(t, publisher.Config{URLs: []string{url}, Window: 50})
	const n = 1000
	o := newOutcomes(n)
	for i := range n {
		to := publisher.ToQueue(good)
		if i%10 == 3 {
			to = publisher.ToTopic(missing)
		}
		require.NoError(t, p.Send(t.Context(), publisher.Message{Event: newEvent(t, i), To: to}, o.done))
	}
	results := o.wait(t, n)
	there := received(t, url, good)
	for id, r := range results {
		if r.Message.To.Exchange == missing {
			require.Equal(t, publisher.Returned, r.Outcome)
			require.ErrorContains(t, r.Err, "no exchange")
			continue
		}
		require.Equal(t, publisher.Confirmed, r.Outcome, "%v", r.Err)
		require.Positive(t, there[id])
	}
}

func TestExchangeThatAppearsLaterIsFound(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	topic := brokertest.Name(t, "late")
	p := open(t, publisher.Config{URLs: []string{url}})
	publish := func() error {
		return p.Publish(t.Context(), publisher.Message{Event: newEvent(t, 1), To: publisher.ToTopic(topic)})
	}
	require.Error(t, publish())
	ch := channel(t, url)
	require.NoError(t, ch.ExchangeDeclare(topic, "fanout", false, true, false, false, nil))
	q, err := ch.QueueDeclare("", false, true, true, false, nil)
	require.NoError(t, err)
	require.NoError(t, ch.QueueBind(q.Name, "", topic, false, nil))
	require.Eventually(t, func() bool { return publish() == nil }, patience, 50*time.Millisecond)
}

func TestDeletedTopicIsDeclaredAgain(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q := brokertest.Name(t, "again")
	resources := topology.Default().QueueResources(q)
	conn, err := amqp.Dial(url)
	require.NoError(t, err)
	defer conn.Close()
	defer func() { assert.NoError(t, resources.Delete(context.WithoutCancel(t.Context()), conn)) }()
	topic := brokertest.Name(t, "topic")
	resources.Exchanges = append(resources.Exchanges, topology.Exchange{Name: topic, Type: "fanout"})
	resources.Bindings = append(resources.Bindings, topology.Binding{Source: topic, Destination: q, To: topology.KindQueue})
	p := open(t, publisher.Config{URLs: []string{url}, Declare: resources})
	require.NoError(t, p.Publish(t.Context(), publisher.Message{Event: newEvent(t, 1), To: publisher.ToTopic(topic)}))
	require.NoError(t, channel(t, url).ExchangeDelete(topic, false, false))
	require.NoError(t, p.Publish(t.Context(), publisher.Message{Event: newEvent(t, 2), To: publisher.ToTopic(topic)}))
}

// An event that the broker cannot take ends the channel or the connection; the ones around it get
// through, and it gets an outcome of its own.
func TestOneBadEventAmongMany(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]func(*publisher.Message){
		"headers larger than a frame": func(m *publisher.Message) {
			m.Headers = map[string]any{"huge": strings.Repeat("x", 200<<10)}
		},
		"body larger than the broker takes": func(m *publisher.Message) {
			m.Event.Data = bytes.Repeat([]byte("x"), 129<<20)
			m.Event.DataContentType = "text/plain"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := brokertest.URL(t)
			q := queue(t, url, nil)
			p := open(t, publisher.Config{URLs: []string{url}, Window: 100})
			const n = 200
			o := newOutcomes(n)
			var badID string
			for i := range n {
				m := publisher.Message{Event: newEvent(t, i), To: publisher.ToQueue(q)}
				if i == n/2 {
					bad(&m)
					badID = m.Event.ID
				}
				require.NoError(t, p.Send(t.Context(), m, o.done))
			}
			results := o.wait(t, n)
			there := received(t, url, q)
			for id, r := range results {
				if id == badID {
					assert.Equal(t, publisher.Nacked, r.Outcome)
					require.Error(t, r.Err)
					assert.Zero(t, there[id])
					continue
				}
				require.Equal(t, publisher.Confirmed, r.Outcome, "%v", r.Err)
				require.Positive(t, there[id])
			}
		})
	}
}

func TestSixteenMegabytes(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q := queue(t, url, nil)
	p := open(t, publisher.Config{URLs: []string{url}})
	e := newEvent(t, 1)
	e.Data = bytes.Repeat([]byte("1"), 16<<20)
	require.NoError(t, p.Publish(t.Context(), publisher.Message{Event: e, To: publisher.ToQueue(q)}))
	m, ok, err := channel(t, url).Get(q, true)
	require.NoError(t, err)
	require.True(t, ok)
	assert.True(t, bytes.Equal(e.Data, m.Body))
}

func TestInvalidEventsAreRefusedBeforeTheWire(t *testing.T) {
	t.Parallel()
	p := open(t, publisher.Config{URLs: []string{brokertest.URL(t)}})
	long := strings.Repeat("x", 300)
	for name, spoil := range map[string]func(*publisher.Message){
		"no type":          func(m *publisher.Message) { m.Event.Type = "" },
		"no id":            func(m *publisher.Message) { m.Event.ID = "" },
		"long queue":       func(m *publisher.Message) { m.To.RoutingKey = long },
		"long exchange":    func(m *publisher.Message) { m.To.Exchange = long },
		"long header name": func(m *publisher.Message) { m.Headers = map[string]any{long: 1} },
		"taken header":     func(m *publisher.Message) { m.Headers = map[string]any{"ce-id": "mine"} },
		"broker's header":  func(m *publisher.Message) { m.Headers = map[string]any{"x-death": "mine"} },
		"odd header value": func(m *publisher.Message) { m.Headers = map[string]any{"odd": struct{}{}} },
		"no number":        func(m *publisher.Message) { m.Headers = map[string]any{"deep": map[string]any{"n": []any{math.NaN()}}} },
		"raw, infinite": func(m *publisher.Message) {
			m.Raw = &publisher.Raw{Message: event.Message{Headers: map[string]any{"n": float32(math.Inf(-1))}}}
		},
		"raw, long type": func(m *publisher.Message) { m.Raw = &publisher.Raw{Message: event.Message{Type: long}} },
	} {
		m := publisher.Message{Event: newEvent(t, 1), To: publisher.ToQueue("q")}
		spoil(&m)
		err := p.Publish(t.Context(), m)
		require.ErrorIs(t, err, publisher.ErrInvalid, name)
	}
	assert.Zero(t, p.Stats().Sent, "nothing was sent")
}

// Attributes longer than AMQP's short strings get through in the headers.
func TestLongAttributesGetThrough(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q := queue(t, url, nil)
	p := open(t, publisher.Config{URLs: []string{url}})
	e := newEvent(t, 1)
	e.Type = strings.Repeat("t", 300)
	e.ID = strings.Repeat("i", 300)
	require.NoError(t, p.Publish(t.Context(), publisher.Message{Event: e, To: publisher.ToQueue(q)}))
	m, _, err := channel(t, url).Get(q, true)
	require.NoError(t, err)
	assert.Equal(t, e.Type, m.Headers["ce-type"])
	assert.Equal(t, e.ID, m.Headers["ce-id"])
}

func TestManySenders(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q := queue(t, url, nil)
	p := open(t, publisher.Config{URLs: []string{url}, Window: 16})
	const senders, each = 20, 50
	var wait sync.WaitGroup
	for range senders {
		wait.Go(func() {
			for i := range each {
				assert.NoError(t, p.Publish(t.Context(), publisher.Message{Event: newEvent(t, i), To: publisher.ToQueue(q)}))
			}
		})
	}
	wait.Wait()
	assert.Equal(t, publisher.Stats{Sent: senders * each, Confirmed: senders * each}, p.Stats())
	assert.Len(t, received(t, url, q), senders*each)
}

func TestOutcomesComeInOrder(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q := queue(t, url, nil)
	p := open(t, publisher.Config{URLs: []string{url}})
	var got, want []string
	for i := range 2000 {
		e := newEvent(t, i)
		want = append(want, e.ID)
		require.NoError(t, p.Send(t.Context(), publisher.Message{Event: e, To: publisher.ToQueue(q)}, func(r publisher.Result) {
			got = append(got, r.Message.Event.ID)
		}))
	}
	require.NoError(t, p.Close(t.Context()))
	assert.Equal(t, want, got)
}

func TestClosedPublisher(t *testing.T) {
	t.Parallel()
	p := open(t, publisher.Config{URLs: []string{brokertest.URL(t)}})
	var wait sync.WaitGroup
	for range 3 {
		wait.Go(func() { assert.NoError(t, p.Close(t.Context())) })
	}
	wait.Wait()
	m := publisher.Message{Event: newEvent(t, 1), To: publisher.ToQueue("q")}
	require.ErrorIs(t, p.Publish(t.Context(), m), publisher.ErrClosed)
	require.ErrorIs(t, p.Send(t.Context(), m, nil), publisher.ErrClosed)
}

func TestOpenFails(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q := queue(t, url, amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeClassic})
	for name, test := range map[string]struct {
		config publisher.Config
		want   error
	}{
		"no URL":       {publisher.Config{}, publisher.ErrURL},
		"bad URL":      {publisher.Config{URLs: []string{"http://x"}}, publisher.ErrURL},
		"nobody there": {publisher.Config{URLs: []string{"amqp://127.0.0.1:1"}, ConnectTimeout: 300 * time.Millisecond}, publisher.ErrUnreachable},
		"no login":     {publisher.Config{URLs: []string{strings.Replace(url, "guest:guest", "guest:hunter2", 1)}}, publisher.ErrLogin},
		"no vhost":     {publisher.Config{URLs: []string{strings.TrimSuffix(url, "/") + "/no-such-vhost"}}, publisher.ErrLogin},
	} {
		_, err := publisher.Open(t.Context(), test.config)
		require.ErrorIs(t, err, test.want, name)
		assert.NotContains(t, err.Error(), "hunter2")
	}
	_, err := publisher.Open(t.Context(), publisher.Config{URLs: []string{url}, Window: -1, ConnectTimeout: -1})
	require.ErrorContains(t, err, "window")
	require.ErrorContains(t, err, "connect timeout", "all mistakes are reported together")
	_, err = publisher.Open(t.Context(), publisher.Config{URLs: []string{url}, Declare: topology.Default().QueueResources(q)})
	var conflict *topology.ConflictError
	require.ErrorAs(t, err, &conflict)
	assert.Equal(t, q, conflict.Name)
}

func TestOpenTakesTheNodeThatAnswers(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	p := open(t, publisher.Config{URLs: []string{"amqp://127.0.0.1:1/", url}})
	require.NoError(t, p.Publish(t.Context(), publisher.Message{Event: newEvent(t, 1), To: publisher.ToQueue(queue(t, url, nil))}))
}

func Example() {
	ctx := context.Background()
	p, err := publisher.Open(ctx, publisher.Config{
		URLs:    []string{exampleURL()},
		Declare: topology.Default().TopicResources("orders"),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close(ctx)
	err = p.Publish(ctx, publisher.Message{Event: exampleEvent(), To: publisher.ToTopic("orders")})
	fmt.Println("published:", err == nil)
	// Output: published: true
}
