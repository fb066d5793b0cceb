package worker

import (
	"context"
	"errors"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/evdemo/evdemo/internal/telemetry/tracecontext"
)

// The outcomes of an attempt at an event, as metrics and traces name them.
const (
	outcomeHandled   = "handled"
	outcomeSkipped   = "skipped"
	outcomeDuplicate = "duplicate"
	outcomeRequeued  = "requeued"
	outcomeFailed    = "failed"
	outcomeHeld      = "held"
)

// outcomeOf gives what a worker makes of a handler's result, short of whether a failed event is
// retried or dead-lettered. A context that was cancelled, and did not run out of time, means that
// the drain timeout has passed.
func outcomeOf(ctx context.Context, err error) string {
	switch {
	case err == nil:
		return outcomeHandled
	case errors.Is(err, ErrSkip):
		return outcomeSkipped
	case errors.Is(err, ErrDuplicate):
		return outcomeDuplicate
	case errors.Is(err, ErrRequeue), errors.Is(ctx.Err(), context.Canceled):
		return outcomeRequeued
	default:
		return outcomeFailed
	}
}

// serverNamed begins the names that the broker makes up for queues.
const serverNamed = "amq.gen"

// queueLabel is the queue's name. A queue that the broker has named is left without: a listener gets
// a new one with every connection, and each would be a series of its own for ever.
func queueLabel(d *Delivery) string {
	if strings.HasPrefix(d.Queue, serverNamed) {
		return ""
	}
	return d.Queue
}

// Tracing puts a consumer span "process QUEUE" around each attempt at an event, under the semantic
// conventions of OpenTelemetry for messaging on RabbitMQ. The span begins a trace of its own, unless
// the context has a span, and is linked to the span that published the event, as the event's
// extension traceparent names it: all attempts at an event, and all its consumers, lead back to one
// publish. The handler's context has the span, so that what the handler publishes in it belongs to
// the same trace.
//
// A span has the attribute evdemo.outcome: handled, skipped, duplicate, requeued or failed. Only
// the last is an error: its error.type is permanent, timeout, panic, or the type of the error, and
// the error itself is an event of the span.
//
// Without a provider it does nothing, and costs nothing per event.
func Tracing(provider trace.TracerProvider) Middleware {
	if provider == nil {
		return func(next Handler) Handler { return next }
	}
	tracer := provider.Tracer("github.com/evdemo/evdemo/worker", trace.WithSchemaURL(semconv.SchemaURL))
	return func(next Handler) Handler {
		return func(ctx context.Context, d *Delivery) error {
			ctx, span := startSpan(ctx, tracer, d)
			defer span.End(trace.WithStackTrace(true)) // called like this it records a panic, with its stack
			returned := false
			defer func() {
				if !returned {
					fail(span, "panic", "handler panicked")
				}
			}()
			err := next(ctx, d)
			returned = true
			noteResult(ctx, span, err)
			return err
		}
	}
}

func startSpan(ctx context.Context, tracer trace.Tracer, d *Delivery) (context.Context, trace.Span) {
	options := []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(spanAttributes(d)...),
	}
	if published := tracecontext.Of(d.Event); published.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: published}))
	}
	name := "process"
	if queue := queueLabel(d); queue != "" {
		name += " " + queue
	}
	return tracer.Start(ctx, name, options...)
}

func spanAttributes(d *Delivery) []attribute.KeyValue {
	attributes := []attribute.KeyValue{
		semconv.MessagingSystemRabbitMQ,
		semconv.MessagingOperationName("process"),
		semconv.MessagingOperationTypeProcess,
		semconv.MessagingDestinationName(destinationName(d)),
		semconv.MessagingMessageID(d.Event.ID),
		semconv.MessagingMessageBodySize(bodySize(d)),
		attribute.String("evdemo.queue", d.Queue),
		attribute.Int("evdemo.attempt", d.Attempt),
	}
	if strings.HasPrefix(d.Queue, serverNamed) {
		attributes = append(attributes, semconv.MessagingDestinationAnonymous(true))
	}
	if d.RoutingKey != "" {
		attributes = append(attributes, semconv.MessagingRabbitMQDestinationRoutingKey(d.RoutingKey))
	}
	if d.message != nil {
		attributes = append(attributes, semconv.MessagingRabbitMQMessageDeliveryTag(int(d.message.DeliveryTag)))
	}
	if id := d.Event.CorrelationID(); id != "" {
		attributes = append(attributes, semconv.MessagingMessageConversationID(id))
	}
	if d.Foreign == nil {
		attributes = append(attributes, semconv.CloudEventsEventID(d.Event.ID),
			semconv.CloudEventsEventSource(d.Event.Source), semconv.CloudEventsEventType(d.Event.Type))
	}
	return attributes
}

// destinationName is what the conventions call a consumer's destination: exchange, routing key and
// queue, without those that are empty or say the same again.
func destinationName(d *Delivery) string {
	var parts []string
	for _, part := range []string{d.Exchange, d.RoutingKey} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if d.Queue != "" && d.Queue != d.RoutingKey {
		parts = append(parts, d.Queue)
	}
	return strings.Join(parts, ":")
}

// bodySize is that of the message where there is one: it may hold the whole event, not its data
// alone.
func bodySize(d *Delivery) int {
	if d.message != nil {
		return len(d.message.Body)
	}
	return len(d.Event.Data)
}

func noteResult(ctx context.Context, span trace.Span, err error) {
	outcome := outcomeOf(ctx, err)
	if outcome != outcomeFailed {
		span.SetAttributes(attribute.String("evdemo.outcome", outcome))
		return
	}
	if panicked, ok := errors.AsType[*PanicError](err); ok {
		span.RecordError(err, trace.WithAttributes(semconv.ExceptionStacktrace(string(panicked.Stack))))
	} else {
		span.RecordError(err)
	}
	fail(span, errorType(err), err.Error())
}

func fail(span trace.Span, errorType, reason string) {
	span.SetAttributes(attribute.String("evdemo.outcome", outcomeFailed), semconv.ErrorTypeKey.String(errorType))
	span.SetStatus(codes.Error, reason)
}

// errorType is the class of a failure. Its values are few where the handler's error types are.
func errorType(err error) string {
	if permanent, ok := errors.AsType[*permanentError](err); ok {
		return string(permanent.reason)
	}
	if reason := exhausted(err); reason != ReasonAttempts {
		return string(reason)
	}
	if after, ok := errors.AsType[*retryAfterError](err); ok {
		err = after.err
	}
	return semconv.ErrorType(err).Value.AsString()
}
