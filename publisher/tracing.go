package publisher

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/evdemo/evdemo/internal/telemetry/tracecontext"
)

// tracer is nil without a provider.
func (c Config) tracer() trace.Tracer {
	if c.TracerProvider == nil {
		return nil
	}
	return c.TracerProvider.Tracer("github.com/evdemo/evdemo/publisher", trace.WithSchemaURL(semconv.SchemaURL))
}

// sendTraced sends an event within a span of its own, which lasts until the outcome is known. The
// event that goes out names that span; the one in the result does not.
func (p *Publisher) sendTraced(ctx context.Context, m Message, done func(Result)) error {
	span := p.startSpan(ctx, m)
	traced := m
	traced.Event = tracecontext.With(m.Event, span.SpanContext()) //nolint:contextcheck // it is about this span
	err := p.send(ctx, traced, func(r Result) {
		endSpan(span, r)
		if done != nil {
			r.Message = m
			done(r)
		}
	})
	if err != nil {
		span.SetAttributes(semconv.ErrorTypeKey.String(refusalType(err)))
		span.SetStatus(codes.Error, err.Error())
		span.End()
	}
	return err
}

// startSpan begins a span under the one in ctx, or under the one that the event names. Where there
// are both it is linked to the latter: the event was passed on.
func (p *Publisher) startSpan(ctx context.Context, m Message) trace.Span {
	to := destinationName(m.To)
	options := []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(spanAttributes(m, to)...),
	}
	if before := tracecontext.Of(m.Event); before.IsValid() { //nolint:contextcheck // it is about the event
		if trace.SpanContextFromContext(ctx).IsValid() {
			options = append(options, trace.WithLinks(trace.Link{SpanContext: before}))
		} else {
			ctx = trace.ContextWithRemoteSpanContext(ctx, before)
		}
	}
	_, span := p.tracer.Start(ctx, "send "+to, options...)
	return span
}

// spanAttributes follow OpenTelemetry's semantic conventions for RabbitMQ and for CloudEvents.
func spanAttributes(m Message, to string) []attribute.KeyValue {
	e := m.Event
	attributes := []attribute.KeyValue{
		semconv.MessagingSystemRabbitMQ,
		semconv.MessagingOperationName("send"),
		semconv.MessagingOperationTypeSend,
		semconv.MessagingDestinationName(to),
		semconv.MessagingMessageID(e.ID),
		semconv.MessagingMessageBodySize(len(e.Data)),
		semconv.CloudEventsEventID(e.ID),
		semconv.CloudEventsEventSource(e.Source),
		semconv.CloudEventsEventType(e.Type),
	}
	if m.To.RoutingKey != "" {
		attributes = append(attributes, semconv.MessagingRabbitMQDestinationRoutingKey(m.To.RoutingKey))
	}
	if id := e.CorrelationID(); id != "" {
		attributes = append(attributes, semconv.MessagingMessageConversationID(id))
	}
	return attributes
}

// destinationName is what the conventions call a producer's destination.
func destinationName(to Destination) string {
	switch {
	case to.Exchange == "" && to.RoutingKey == "":
		return "amq.default"
	case to.Exchange == "":
		return to.RoutingKey
	case to.RoutingKey == "":
		return to.Exchange
	default:
		return to.Exchange + ":" + to.RoutingKey
	}
}

func endSpan(span trace.Span, r Result) {
	span.SetAttributes(
		attribute.String("evdemo.outcome", r.Outcome.String()),
		attribute.Int("evdemo.attempts", r.Attempts),
	)
	if r.Outcome != Confirmed {
		span.SetAttributes(semconv.ErrorTypeKey.String(r.Outcome.String()))
		reason := r.Outcome.String()
		if r.Err != nil {
			reason = r.Err.Error()
		}
		span.SetStatus(codes.Error, reason)
	}
	span.End()
}

// refusalType is the class of what Send returns.
func refusalType(err error) string {
	switch {
	case errors.Is(err, ErrInvalid):
		return "invalid"
	case errors.Is(err, ErrClosed):
		return "closed"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	default:
		return "cancelled"
	}
}
