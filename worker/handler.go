package worker

import (
	"context"
	"runtime/debug"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/evdemo/evdemo/event"
)

// Handler handles one event. Its result decides what becomes of it: nil acknowledges it,
// anything else (a panic included) gives it back to the queue; see [ErrRequeue] and [ErrSkip].
//
// A handler is called from up to Config.Concurrency goroutines at a time. Its context is not
// ended when the worker is told to stop, so that it can finish what it has in hand; it ends
// when Config.DrainTimeout has passed after that. A handler whose connection is lost meanwhile
// runs on, and its event is delivered again.
type Handler func(ctx context.Context, d *Delivery) error

// Delivery is one event as it arrived.
type Delivery struct {
	// Event is the event; for a message that is no CloudEvent, what is known of it.
	Event event.Event
	// Foreign says why the message is no CloudEvent; nil for one that is. Its body, unchanged,
	// is the event's data.
	Foreign error
	// Headers are the message's own headers: neither the event's attributes nor evdemo's nor
	// the broker's. Nil where there are none.
	Headers map[string]any
	// Queue is where it was consumed from, Exchange and RoutingKey where it was published to.
	Queue, Exchange, RoutingKey string
	// Redelivered is set by the broker where the event may have been delivered before. It may
	// be set for an event that no handler has seen.
	Redelivered bool
	// Attempt is 1 for the first delivery. Only quorum queues count; elsewhere it is 2 for
	// every redelivery.
	Attempt int
}

// decode reads a message. It never fails: what cannot be read is a foreign message.
func decode(queue string, m *amqp.Delivery) *Delivery {
	d := &Delivery{
		Queue: queue, Exchange: m.Exchange, RoutingKey: m.RoutingKey,
		Redelivered: m.Redelivered, Attempt: attempt(m), Headers: own(m.Headers),
	}
	d.Event, d.Foreign = event.Decode(event.Message{
		Headers:         m.Headers,
		Body:            m.Body,
		MessageID:       m.MessageId,
		Type:            m.Type,
		CorrelationID:   m.CorrelationId,
		ContentType:     m.ContentType,
		ContentEncoding: m.ContentEncoding,
		AppID:           m.AppId,
		Timestamp:       m.Timestamp,
	})
	return d
}

// own picks the headers that are neither the event's nor evdemo's nor the broker's.
func own(headers amqp.Table) map[string]any {
	var kept map[string]any
	for name, value := range headers {
		if taken(name) {
			continue
		}
		if kept == nil {
			kept = make(map[string]any)
		}
		kept[name] = value
	}
	return kept
}

func taken(name string) bool {
	return strings.HasPrefix(name, "ce-") || strings.HasPrefix(name, "evdemo-") || strings.HasPrefix(name, "x-") ||
		strings.HasPrefix(name, "ce_") || strings.HasPrefix(name, "cloudEvents:") || strings.HasPrefix(name, "cloudEvents_")
}

// attempt is the number of this delivery. Quorum queues count earlier ones in a header, from the
// first redelivery on.
func attempt(m *amqp.Delivery) int {
	switch n := m.Headers["x-delivery-count"].(type) {
	case int64:
		return int(n) + 1
	case int32:
		return int(n) + 1
	}
	if m.Redelivered {
		return 2
	}
	return 1
}

// call runs the handler and turns a panic into an error.
func call(ctx context.Context, handle Handler, d *Delivery) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return handle(ctx, d)
}
