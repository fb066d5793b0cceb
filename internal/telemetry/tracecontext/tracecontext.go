// Package tracecontext carries the context of a span in an event: the extensions traceparent and
// tracestate, as W3C Trace Context and the CloudEvents extension "distributed tracing" have them.
package tracecontext

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/evdemo/evdemo/event"
)

// extTraceState goes with traceparent; it holds what tracing systems add for themselves.
const extTraceState = "tracestate"

// Of gives the context of the span that published an event. It is not valid where the event names
// none, or one that cannot be read.
func Of(e event.Event) trace.SpanContext {
	if len(e.Extensions) == 0 {
		return trace.SpanContext{}
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), &carrier{e})
	return trace.SpanContextFromContext(ctx)
}

// With gives a copy of an event that names a span as the one that published it. The state that
// another span has left in the event goes with that span's context. Where the context is not valid
// the event stays as it is.
func With(e event.Event, span trace.SpanContext) event.Event {
	if !span.IsValid() {
		return e
	}
	c := &carrier{e}
	if _, old := e.Extensions[extTraceState]; old {
		c.event = e.WithExtension(extTraceState, nil)
	}
	propagation.TraceContext{}.Inject(trace.ContextWithSpanContext(context.Background(), span), c)
	return c.event
}

// carrier lets a propagator read and write extensions.
type carrier struct{ event event.Event }

// Get gives an extension's text.
func (c *carrier) Get(name string) string { return c.event.Extension(name) }

// Set sets an extension, and leaves the event alone that the carrier was made from.
func (c *carrier) Set(name, value string) { c.event = c.event.WithExtension(name, value) }

// Keys names the extensions.
func (c *carrier) Keys() []string {
	names := make([]string, 0, len(c.event.Extensions))
	for name := range c.event.Extensions {
		names = append(names, name)
	}
	return names
}
