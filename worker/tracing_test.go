package worker_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/worker"
)

const publishedIn = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// tracing records the spans of a provider.
func tracing() (*tracetest.SpanRecorder, *sdktrace.TracerProvider) {
	recorder := tracetest.NewSpanRecorder()
	return recorder, sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
}

func tracedDelivery(t *testing.T) *worker.Delivery {
	t.Helper()
	e, err := event.New("order.created", "shop", map[string]int{"n": 1})
	require.NoError(t, err)
	e = e.WithExtension(event.ExtTraceParent, publishedIn).WithExtension(event.ExtCorrelationID, "flow-1")
	return &worker.Delivery{Event: e, Queue: "payments", Exchange: "orders", Attempt: 2}
}

func attributesOf(s sdktrace.ReadOnlySpan) map[attribute.Key]string {
	values := make(map[attribute.Key]string)
	for _, a := range s.Attributes() {
		values[a.Key] = a.Value.String()
	}
	return values
}

func TestTracingSpansAnAttempt(t *testing.T) {
	t.Parallel()
	recorder, provider := tracing()
	d := tracedDelivery(t)
	var inside trace.SpanContext
	handle := worker.Wrap(func(ctx context.Context, got *worker.Delivery) error {
		inside = trace.SpanContextFromContext(ctx)
		assert.Same(t, d, got)
		return nil
	}, worker.Tracing(provider))
	require.NoError(t, handle(t.Context(), d))

	ended := recorder.Ended()
	require.Len(t, ended, 1)
	s := ended[0]
	assert.Equal(t, "process payments", s.Name())
	assert.Equal(t, trace.SpanKindConsumer, s.SpanKind())
	assert.Equal(t, s.SpanContext(), inside)
	assert.False(t, s.Parent().IsValid(), "it begins a trace of its own")
	assert.NotEqual(t, "4bf92f3577b34da6a3ce929d0e0e4736", s.SpanContext().TraceID().String())
	require.Len(t, s.Links(), 1)
	assert.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", s.Links()[0].SpanContext.TraceID().String())
	assert.Equal(t, "00f067aa0ba902b7", s.Links()[0].SpanContext.SpanID().String())
	assert.Equal(t, codes.Unset, s.Status().Code)
	assert.Empty(t, s.Events())
	assert.Equal(t, map[attribute.Key]string{
		"messaging.system": "rabbitmq", "messaging.operation.name": "process", "messaging.operation.type": "process",
		"messaging.destination.name": "orders:payments", "messaging.message.id": d.Event.ID,
		"messaging.message.body.size": "7", "messaging.message.conversation_id": "flow-1",
		"cloudevents.event_id": d.Event.ID, "cloudevents.event_source": "shop", "cloudevents.event_type": "order.created",
		"evdemo.queue": "payments", "evdemo.attempt": "2", "evdemo.outcome": "handled",
	}, attributesOf(s))
}

func TestTracingUnderASpan(t *testing.T) {
	t.Parallel()
	recorder, provider := tracing()
	ctx, outer := provider.Tracer("test").Start(t.Context(), "outer")
	require.NoError(t, worker.Wrap(discard, worker.Tracing(provider))(ctx, tracedDelivery(t)))
	s := recorder.Ended()[0]
	assert.Equal(t, outer.SpanContext().SpanID(), s.Parent().SpanID())
	assert.Len(t, s.Links(), 1)
}

func discard(context.Context, *worker.Delivery) error { return nil }

func TestTracingOfAnEventThatNamesNoSpan(t *testing.T) {
	t.Parallel()
	for _, parent := range []any{nil, "", "nonsense", int32(1)} {
		recorder, provider := tracing()
		d := tracedDelivery(t)
		d.Event = d.Event.WithExtension(event.ExtTraceParent, parent)
		require.NoError(t, worker.Wrap(discard, worker.Tracing(provider))(t.Context(), d))
		require.Len(t, recorder.Ended(), 1)
		assert.Empty(t, recorder.Ended()[0].Links(), "traceparent %v", parent)
	}
}

func TestTracingNamesTheDestination(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		exchange, key, queue string
		span, destination    string
		anonymous            bool
	}{
		{"orders", "", "payments", "process payments", "orders:payments", false},
		{"", "payments", "payments", "process payments", "payments", false},
		{"x", "payments", "payments", "process payments", "x:payments", false},
		{"x", "key", "payments", "process payments", "x:key:payments", false},
		{"orders", "", "amq.gen-1234", "process", "orders:amq.gen-1234", true},
	} {
		recorder, provider := tracing()
		d := tracedDelivery(t)
		d.Exchange, d.RoutingKey, d.Queue = c.exchange, c.key, c.queue
		require.NoError(t, worker.Wrap(discard, worker.Tracing(provider))(t.Context(), d))
		s := recorder.Ended()[0]
		got := attributesOf(s)
		assert.Equal(t, c.span, s.Name())
		assert.Equal(t, c.destination, got["messaging.destination.name"])
		assert.Equal(t, c.queue, got["evdemo.queue"])
		assert.Equal(t, c.key, got["messaging.rabbitmq.destination.routing_key"])
		_, anonymous := got["messaging.destination.anonymous"]
		assert.Equal(t, c.anonymous, anonymous)
	}
}

func TestTracingOfAForeignMessage(t *testing.T) {
	t.Parallel()
	recorder, provider := tracing()
	d := tracedDelivery(t)
	d.Foreign = errors.New("no CloudEvent")
	require.NoError(t, worker.Wrap(discard, worker.Tracing(provider))(t.Context(), d))
	for key := range attributesOf(recorder.Ended()[0]) {
		assert.NotContains(t, string(key), "cloudevents")
	}
}

func TestTracingOfFailures(t *testing.T) {
	t.Parallel()
	plain := errors.New("no stock")
	for want, err := range map[string]error{
		"*errors.errorString":  fmt.Errorf("charge: %w", plain),
		"*errors.errorString ": worker.RetryAfter(time.Second, plain),
		"permanent":            fmt.Errorf("charge: %w", worker.Permanent(plain)),
		"timeout":              worker.ErrTimeout,
		"timeout ":             context.DeadlineExceeded,
		"panic":                &worker.PanicError{Value: "index out of range", Stack: []byte("goroutine 1")},
		"*worker.CommandError": &worker.CommandError{ExitCode: 1, Err: plain},
	} {
		recorder, provider := tracing()
		got := worker.Wrap(func(context.Context, *worker.Delivery) error { return err }, worker.Tracing(provider))(t.Context(), tracedDelivery(t))
		require.Equal(t, err, got, "the error is passed on as it is")

		s := recorder.Ended()[0]
		assert.Equal(t, codes.Error, s.Status().Code)
		assert.Equal(t, err.Error(), s.Status().Description)
		attributes := attributesOf(s)
		assert.Equal(t, trimmed(want), attributes["error.type"])
		assert.Equal(t, "failed", attributes["evdemo.outcome"])
		require.Len(t, s.Events(), 1)
		assert.Equal(t, "exception", s.Events()[0].Name)
		assert.Contains(t, s.Events()[0].Attributes, attribute.String("exception.message", err.Error()))
		if want == "panic" {
			assert.Contains(t, s.Events()[0].Attributes, attribute.String("exception.stacktrace", "goroutine 1"))
		}
	}
}

func trimmed(s string) string {
	if s[len(s)-1] == ' ' {
		return s[:len(s)-1]
	}
	return s
}

func TestTracingOfWhatIsNoFailure(t *testing.T) {
	t.Parallel()
	ended, end := context.WithCancel(t.Context())
	end()
	for _, c := range []struct {
		ctx     context.Context
		err     error
		outcome string
	}{
		{t.Context(), worker.ErrSkip, "skipped"},
		{t.Context(), fmt.Errorf("seen: %w", worker.ErrDuplicate), "duplicate"},
		{t.Context(), worker.ErrRequeue, "requeued"},
		{ended, errors.New("interrupted"), "requeued"}, // the drain timeout has passed
		{ended, nil, "handled"},
	} {
		recorder, provider := tracing()
		got := worker.Wrap(func(context.Context, *worker.Delivery) error { return c.err }, worker.Tracing(provider))(c.ctx, tracedDelivery(t))
		require.Equal(t, c.err, got)
		s := recorder.Ended()[0]
		assert.Equal(t, codes.Unset, s.Status().Code, "%v", c.err)
		assert.Empty(t, s.Events())
		assert.Equal(t, c.outcome, attributesOf(s)["evdemo.outcome"])
		assert.NotContains(t, attributesOf(s), attribute.Key("error.type"))
	}
}

func TestTracingOfAPanic(t *testing.T) {
	t.Parallel()
	recorder, provider := tracing()
	handle := worker.Wrap(func(context.Context, *worker.Delivery) error { panic("no such shelf") }, worker.Tracing(provider))
	assert.PanicsWithValue(t, "no such shelf", func() { _ = handle(t.Context(), tracedDelivery(t)) })

	require.Len(t, recorder.Ended(), 1)
	s := recorder.Ended()[0]
	assert.Equal(t, codes.Error, s.Status().Code)
	assert.Equal(t, "panic", attributesOf(s)["error.type"])
	require.Len(t, s.Events(), 1)
	assert.Contains(t, s.Events()[0].Attributes, attribute.String("exception.message", "no such shelf"))
	assert.Equal(t, 1, countKey(s.Events()[0].Attributes, "exception.stacktrace"))
}

func countKey(attributes []attribute.KeyValue, key attribute.Key) (n int) {
	for _, a := range attributes {
		if a.Key == key {
			n++
		}
	}
	return n
}

func TestTracingWithoutAProvider(t *testing.T) {
	t.Parallel()
	same := worker.Tracing(nil)(discard)
	assert.Equal(t, reflect.ValueOf(discard).Pointer(), reflect.ValueOf(same).Pointer(), "there is nothing around the handler")
}

// Publisher and worker together, over a broker: each attempt is linked to the span of the one publish,
// and what the handler publishes belongs to its attempt.
func TestTracesLeadFromPublishToEachAttempt(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	queue, resources := queue(t, url)
	recorder, provider := tracing()
	p, err := publisher.Open(t.Context(), publisher.Config{URLs: []string{url}, TracerProvider: provider})
	require.NoError(t, err)
	e, err := event.New("order.created", "test", nil)
	require.NoError(t, err)
	require.NoError(t, p.Publish(t.Context(), publisher.Message{Event: e, To: publisher.ToQueue(queue)}))

	attempts := make(chan int, 10)
	handle := worker.Wrap(func(_ context.Context, d *worker.Delivery) error {
		if attempts <- d.Attempt; d.Attempt < 3 {
			return errors.New("not yet")
		}
		return nil
	}, worker.Tracing(provider))
	w := start(t, worker.Config{
		URLs: []string{url}, Queue: queue, Declare: resources, Retry: []time.Duration{time.Second}, Limit: 1,
	}, handle)
	require.NoError(t, w.wait())
	require.NoError(t, p.Close(t.Context()))
	require.Len(t, attempts, 3)

	ended := recorder.Ended()
	require.Len(t, ended, 4, "one publish and three attempts")
	publish := ended[0]
	assert.Equal(t, "send "+queue, publish.Name())
	for i, s := range ended[1:] {
		assert.Equal(t, "process "+queue, s.Name())
		assert.Equal(t, fmt.Sprint(i+1), attributesOf(s)["evdemo.attempt"])
		require.Len(t, s.Links(), 1)
		assert.Equal(t, publish.SpanContext().SpanID(), s.Links()[0].SpanContext.SpanID())
		assert.Equal(t, publish.SpanContext().TraceID(), s.Links()[0].SpanContext.TraceID())
	}
}
