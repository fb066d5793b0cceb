package worker

import (
	"context"
	"math"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/evdemo/evdemo/event"
)

// Handler handles one event. Its result, and nothing else, decides what becomes of the event:
//
//   - nil: it is acknowledged.
//   - [Permanent]: it is dead-lettered.
//   - [RetryAfter]: it is tried again no sooner than after the delay given.
//   - any other error, a panic included: it is tried again after the delay that Config.Retry has for
//     it, and dead-lettered once it has failed Config.MaxAttempts times.
//   - [ErrSkip], [ErrDuplicate]: it is acknowledged, and counted apart.
//   - [ErrRequeue], and any error once the drain timeout has passed: it is given back to the queue,
//     and no attempt is counted.
//
// An event is retried, or dead-lettered, by a confirmed publish to another queue followed by its
// acknowledgement: a crash in between makes a duplicate, never a loss. A broadcast listener has
// neither: its failed events are logged and counted.
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
	// Queue is where it was consumed from, Exchange and RoutingKey where it was published to at
	// first, also where it has been retried or redriven since.
	Queue, Exchange, RoutingKey string
	// Redelivered is set by the broker where the event may have been delivered before. It may
	// be set for an event that no handler has seen.
	Redelivered bool
	// History tells of the failures that lie behind the event, also of those for which it was
	// dead-lettered; nil for one that has not failed.
	History *Failure
	// Replayed is when the event was sent again by a replay; zero where it comes first hand.
	Replayed time.Time
	// Attempt is 1 for an event that has not failed, and one more for each time that it has.
	// Deliveries that ended without an answer, as when a worker was killed, do not count.
	Attempt int
	// Deliveries counts earlier deliveries of this message that ended without an answer. Only
	// quorum queues count them.
	Deliveries int

	message   *amqp.Delivery
	first     time.Time // when it failed for the first time
	notBefore time.Time // it is not to be handled earlier
	inPlace   bool      // it has been tried before, and did not leave its place
}

// decode reads a message. It never fails: what cannot be read is a foreign message.
func decode(queue string, m *amqp.Delivery) *Delivery {
	d := &Delivery{
		Queue: queue, Exchange: m.Exchange, RoutingKey: m.RoutingKey,
		Redelivered: m.Redelivered, Attempt: 1, Deliveries: number(m.Headers, "x-delivery-count"),
		message: m,
	}
	if ours := d.readHeaders(m.Headers); ours {
		d.readHistory(m.Headers)
	}
	if _, died := m.Headers["x-death"]; died || d.Attempt > 1 {
		history := ReadFailure(m.Headers)
		d.History = &history
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

// readHeaders picks the headers that are neither the event's nor evdemo's nor the broker's, and
// tells whether there are any that speak of an earlier journey of this event.
func (d *Delivery) readHeaders(headers amqp.Table) (history bool) {
	for name, value := range headers {
		if taken(name) {
			history = history || strings.HasPrefix(name, reservedPrefix) && name != headerSequence
			continue
		}
		if d.Headers == nil {
			d.Headers = make(map[string]any)
		}
		d.Headers[name] = value
	}
	return history
}

// readHistory reads what the headers say of earlier attempts.
func (d *Delivery) readHistory(headers map[string]any) {
	d.Attempt = min(max(number(headers, headerAttempts), 0), math.MaxInt32-1) + 1
	d.first = moment(headers, headerFirstFailure)
	d.notBefore = moment(headers, headerNotBefore)
	d.Replayed = moment(headers, headerReplayed)
	if _, ok := headers[headerRoutingKey]; ok {
		d.Exchange, d.RoutingKey = text(headers, headerExchange), text(headers, headerRoutingKey)
	}
}

// reservedPrefix begins the headers that this project sets itself.
const reservedPrefix = "evdemo-"

func taken(name string) bool {
	return strings.HasPrefix(name, "ce-") || strings.HasPrefix(name, reservedPrefix) || strings.HasPrefix(name, "x-") ||
		strings.HasPrefix(name, "ce_") || strings.HasPrefix(name, "cloudEvents:") || strings.HasPrefix(name, "cloudEvents_")
}
