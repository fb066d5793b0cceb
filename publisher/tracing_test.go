package publisher_test

import (
	"context"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/telemetry/tracecontext"
	"github.com/evdemo/evdemo/publisher"
)

const foreignParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func tracing() (*tracetest.SpanRecorder, *sdktrace.TracerProvider) {
	recorder := tracetest.NewSpanRecorder()
	return recorder, sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
}

func attributesOf(s sdktrace.ReadOnlySpan) map[attribute.Key]string {
	values := make(map[attribute.Key]string)
	for _, a := range s.Attributes() {
		values[a.Key] = a.Value.String()
	}
	return values
}

// traceparent takes one message out of a queue and gives the span that it names.
func traceparent(t *testing.T, url, queue string) string {
	t.Helper()
	m, ok, err := channel(t, url).Get(queue, true)
	require.NoError(t, err)
	require.True(t, ok)
	text, _ := m.Headers["ce-traceparent"].(string)
	return text
}

func text(s trace.SpanContext) string {
	return "00-" + s.TraceID().String() + "-" + s.SpanID().String() + "-" + s.TraceFlags().String()
}

func TestTracingSpansASend(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q := queue(t, url, nil)
	recorder, provider := tracing()
	p := open(t, publisher.Config{URLs: []string{url}, TracerProvider: provider})
	e := newEvent(t, map[string]int{"n": 1}).WithExtension(event.ExtCorrelationID, "flow-1")
	ctx, outer := provider.Tracer("test").Start(t.Context(), "outer")
	require.NoError(t, p.Publish(ctx, publisher.Message{Event: e, To: publisher.ToQueue(q)}))

	require.Len(t, recorder.Ended(), 1)
	s := recorder.Ended()[0]
	assert.Equal(t, "send "+q, s.Name())
	assert.Equal(t, trace.SpanKindProducer, s.SpanKind())
	assert.Equal(t, outer.SpanContext().SpanID(), s.Parent().SpanID())
	assert.Equal(t, outer.SpanContext().TraceID(), s.SpanContext().TraceID())
	assert.Empty(t, s.Links())
	assert.Equal(t, codes.Unset, s.Status().Code)
	assert.Equal(t, map[attribute.Key]string{
		"messaging.system": "rabbitmq", "messaging.operation.name": "send", "messaging.operation.type": "send",
		"messaging.destination.name": q, "messaging.rabbitmq.destination.routing_key": q,
		"messaging.message.id": e.ID, "messaging.message.body.size": "7", "messaging.message.conversation_id": "flow-1",
		"cloudevents.event_id": e.ID, "cloudevents.event_source": "test", "cloudevents.event_type": "order.created",
		"evdemo.outcome": "confirmed", "evdemo.attempts": "1",
	}, attributesOf(s))
	assert.Equal(t, text(s.SpanContext()), traceparent(t, url, q))
}

// The event's own traceparent is the parent where the context has none; else it is linked.
func TestTracingOfAnEventThatNamesASpan(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q := queue(t, url, nil)
	recorder, provider := tracing()
	p := open(t, publisher.Config{URLs: []string{url}, TracerProvider: provider})
	e := newEvent(t, 1).WithExtension(event.ExtTraceParent, foreignParent).WithExtension("tracestate", "vendor=1")
	require.NoError(t, p.Publish(t.Context(), publisher.Message{Event: e, To: publisher.ToQueue(q)}))
	s := recorder.Ended()[0]
	assert.Equal(t, "00f067aa0ba902b7", s.Parent().SpanID().String())
	assert.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", s.SpanContext().TraceID().String())
	assert.Empty(t, s.Links())
	assert.Equal(t, text(s.SpanContext()), traceparent(t, url, q))

	ctx, outer := provider.Tracer("test").Start(t.Context(), "outer")
	require.NoError(t, p.Publish(ctx, publisher.Message{Event: e, To: publisher.ToQueue(q)}))
	s = recorder.Ended()[1]
	assert.Equal(t, outer.SpanContext().SpanID(), s.Parent().SpanID())
	require.Len(t, s.Links(), 1)
	assert.Equal(t, "00f067aa0ba902b7", s.Links()[0].SpanContext.SpanID().String())
	assert.Equal(t, text(s.SpanContext()), traceparent(t, url, q))
}

func TestTracingLeavesTheCallersEventAlone(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q := queue(t, url, nil)
	_, provider := tracing()
	p := open(t, publisher.Config{URLs: []string{url}, TracerProvider: provider})
	for _, e := range []event.Event{newEvent(t, 1), newEvent(t, 1).WithExtension(event.ExtTraceParent, foreignParent)} {
		before := e.WithExtension("unrelated", nil) // a copy with a map of its own
		got := newOutcomes(1)
		m := publisher.Message{Event: e, To: publisher.ToQueue(q), Headers: map[string]any{"tenant": "acme"}}
		require.NoError(t, p.Send(t.Context(), m, got.done))
		r := got.wait(t, 1)[e.ID]
		assert.Equal(t, m, r.Message, "the result tells what was given")
		assert.Equal(t, before, e)
	}
}

func TestTracingWithoutACallback(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q := queue(t, url, nil)
	recorder, provider := tracing()
	p := open(t, publisher.Config{URLs: []string{url}, TracerProvider: provider})
	require.NoError(t, p.Send(t.Context(), publisher.Message{Event: newEvent(t, 1), To: publisher.ToQueue(q)}, nil))
	require.NoError(t, p.Close(t.Context()))
	assert.Len(t, recorder.Ended(), 1)
}

func TestTracingOfOutcomes(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	full := queue(t, url, amqp.Table{
		amqp.QueueTypeArg: amqp.QueueTypeClassic, amqp.QueueMaxLenArg: 1, amqp.QueueOverflowArg: amqp.QueueOverflowRejectPublish,
	})
	recorder, provider := tracing()
	p := open(t, publisher.Config{URLs: []string{url}, TracerProvider: provider})
	for range 2 {
		_ = p.Publish(t.Context(), publisher.Message{Event: newEvent(t, 1), To: publisher.ToQueue(full)})
	}
	_ = p.Publish(t.Context(), publisher.Message{Event: newEvent(t, 1), To: publisher.ToQueue(brokertest.Name(t, "missing"))})

	ended := recorder.Ended()
	require.Len(t, ended, 3)
	for i, want := range []string{"confirmed", "nacked", "returned"} {
		attributes := attributesOf(ended[i])
		assert.Equal(t, want, attributes["evdemo.outcome"])
		if want == "confirmed" {
			assert.NotContains(t, attributes, attribute.Key("error.type"))
			continue
		}
		assert.Equal(t, codes.Error, ended[i].Status().Code)
		assert.NotEmpty(t, ended[i].Status().Description)
		assert.Equal(t, want, attributes["error.type"])
	}
	assert.Contains(t, ended[2].Status().Description, "NO_ROUTE")
}

func TestTracingOfTheUnknown(t *testing.T) {
	t.Parallel()
	link := brokertest.Proxy(t, brokertest.URL(t))
	recorder, provider := tracing()
	p := open(t, publisher.Config{URLs: []string{link.URL()}, TracerProvider: provider})
	link.Pause()
	require.NoError(t, p.Send(t.Context(), publisher.Message{Event: newEvent(t, 1), To: publisher.ToTopic("orders")}, nil))
	assert.Empty(t, recorder.Ended(), "a span lasts until the outcome is known")
	now, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, p.Close(now))
	require.Len(t, recorder.Ended(), 1)
	assert.Equal(t, "unknown", attributesOf(recorder.Ended()[0])["error.type"])
}

// What Send refuses ends its span too.
func TestTracingOfWhatIsNotAccepted(t *testing.T) {
	t.Parallel()
	link := brokertest.Proxy(t, brokertest.URL(t))
	recorder, provider := tracing()
	p := open(t, publisher.Config{URLs: []string{link.URL()}, TracerProvider: provider, Window: 1})
	done := func(publisher.Result) {}
	m := publisher.Message{Event: newEvent(t, 1), To: publisher.ToTopic("orders")}

	invalid := m
	invalid.Event.Type = ""
	require.ErrorIs(t, p.Send(t.Context(), invalid, done), publisher.ErrInvalid)

	link.Pause()
	require.NoError(t, p.Send(t.Context(), m, done)) // fills the window
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, p.Send(ended, m, done), context.Canceled)
	late, cancel := context.WithTimeout(t.Context(), 1)
	defer cancel()
	require.ErrorIs(t, p.Send(late, m, done), context.DeadlineExceeded)

	require.Error(t, p.Close(ended))
	require.ErrorIs(t, p.Send(t.Context(), m, done), publisher.ErrClosed)

	var types []string
	for _, s := range recorder.Ended() {
		assert.Equal(t, codes.Error, s.Status().Code)
		types = append(types, attributesOf(s)["error.type"])
	}
	assert.Equal(t, []string{"invalid", "cancelled", "timeout", "unknown", "closed"}, types)
	assert.Len(t, recorder.Ended(), len(recorder.Started()))
}

func TestTracingLeavesRawMessagesAlone(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q := queue(t, url, nil)
	recorder, provider := tracing()
	p := open(t, publisher.Config{URLs: []string{url}, TracerProvider: provider})
	raw := &publisher.Raw{Message: event.Message{
		Headers: map[string]any{"ce-traceparent": foreignParent, "mine": "yes"}, Body: []byte("x"), MessageID: "m1",
	}}
	require.NoError(t, p.Publish(t.Context(), publisher.Message{Raw: raw, To: publisher.ToQueue(q)}))
	assert.Empty(t, recorder.Started())
	assert.Equal(t, foreignParent, traceparent(t, url, q))
}

// A provider that traces nothing leaves no trace on the event, and passes on that of the context.
func TestTracingByANoopProvider(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q := queue(t, url, nil)
	p := open(t, publisher.Config{URLs: []string{url}, TracerProvider: noop.NewTracerProvider()})
	require.NoError(t, p.Publish(t.Context(), publisher.Message{Event: newEvent(t, 1), To: publisher.ToQueue(q)}))
	assert.Empty(t, traceparent(t, url, q))

	parent := tracecontext.Of(newEvent(t, 1).WithExtension(event.ExtTraceParent, foreignParent))
	ctx := trace.ContextWithRemoteSpanContext(t.Context(), parent)
	require.NoError(t, p.Publish(ctx, publisher.Message{Event: newEvent(t, 1), To: publisher.ToQueue(q)}))
	assert.Equal(t, foreignParent, traceparent(t, url, q))
}

// What the sampler leaves out is named on the event all the same, as not sampled, so that consumers
// decide likewise.
func TestTracingOfWhatIsNotSampled(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q := queue(t, url, nil)
	provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
	p := open(t, publisher.Config{URLs: []string{url}, TracerProvider: provider})
	require.NoError(t, p.Publish(t.Context(), publisher.Message{Event: newEvent(t, 1), To: publisher.ToQueue(q)}))
	assert.Regexp(t, `^00-[0-9a-f]{32}-[0-9a-f]{16}-00$`, traceparent(t, url, q))
}

func TestTracingNamesTheDestination(t *testing.T) {
	t.Parallel()
	recorder, provider := tracing()
	p := open(t, publisher.Config{URLs: []string{brokertest.URL(t)}, TracerProvider: provider})
	missing := brokertest.Name(t, "missing")
	for _, c := range []struct {
		to   publisher.Destination
		want string
	}{
		{publisher.Destination{}, "amq.default"},
		{publisher.Destination{Exchange: missing}, missing},
		{publisher.Destination{RoutingKey: missing}, missing},
		{publisher.Destination{Exchange: "amq.direct", RoutingKey: missing}, "amq.direct:" + missing},
	} {
		var outcome *publisher.OutcomeError
		require.ErrorAs(t, p.Publish(t.Context(), publisher.Message{Event: newEvent(t, 1), To: c.to}), &outcome)
		ended := recorder.Ended()
		s := ended[len(ended)-1]
		assert.Equal(t, "send "+c.want, s.Name())
		assert.Equal(t, c.want, attributesOf(s)["messaging.destination.name"])
	}
}

// BenchmarkSend sends to a topic that does not exist: each event goes all the way through the
// publisher, and is returned without the broker's doing.
func BenchmarkSend(b *testing.B) {
	_, provider := tracing()
	for name, provider := range map[string]trace.TracerProvider{
		"untraced": nil, "noop": noop.NewTracerProvider(), "traced": provider,
	} {
		b.Run(name, func(b *testing.B) {
			p, err := publisher.Open(b.Context(), publisher.Config{URLs: []string{brokertest.URL(b)}, TracerProvider: provider})
			require.NoError(b, err)
			m := publisher.Message{Event: newEvent(b, map[string]int{"n": 1}), To: publisher.ToTopic(brokertest.Name(b, "missing"))}
			_ = p.Publish(b.Context(), m) // finds that out
			b.ReportAllocs()
			for b.Loop() {
				if err := p.Send(b.Context(), m, nil); err != nil {
					b.Fatal(err)
				}
			}
			require.NoError(b, p.Close(b.Context()))
		})
	}
}
