package publisher

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/evdemo/evdemo/event"
)

const (
	// headerSequence is ours alone on every publish: it pairs a returned event with its
	// publish, which message ids cannot do since they may repeat.
	headerSequence = "evdemo-seq"
	// reservedPrefix begins the headers that this project sets itself.
	reservedPrefix = "evdemo-"
	// maxShortString is the limit of AMQP 0-9-1 for names, routing keys and properties.
	maxShortString = 255
)

// Message is one event and where it goes.
type Message struct {
	Event event.Event
	// Raw is a message that goes out as it is, instead of Event: one that was consumed and is
	// passed on, or one that is no event at all.
	Raw *Raw
	// To is the exchange and the routing key.
	To Destination
	// Headers go out beside the event's own. Their names must not begin with "ce-", "evdemo-"
	// or "x-", which belong to CloudEvents, to this project and to the broker. Values are what
	// AMQP 0-9-1 knows: bool, integers, floats, string, []byte, time.Time, nil, []any and
	// map[string]any of those.
	Headers map[string]any
}

// Raw is a message as the broker has it. It may be no event, and none of its headers are reserved. It
// is published persistent; the user id of whoever published it first is not passed on, since the
// broker takes no other user's.
type Raw struct {
	event.Message
	ReplyTo  string
	Priority uint8
	// Expiration is how long the message may wait in a queue, 0 for ever. The broker counts whole
	// milliseconds, and takes a message out only once it is at the queue's head.
	Expiration time.Duration
}

// Destination is an exchange and a routing key.
type Destination struct{ Exchange, RoutingKey string }

// ToTopic sends to every group, queue and listener of a topic, which is a fanout exchange.
func ToTopic(topic string) Destination { return Destination{Exchange: topic} }

// ToQueue sends straight to one queue, through the default exchange.
func ToQueue(queue string) Destination { return Destination{RoutingKey: queue} }

// String is "exchange X" or "queue Q", with the routing key where it matters.
func (d Destination) String() string {
	switch {
	case d.Exchange == "":
		return fmt.Sprintf("queue %s", d.RoutingKey)
	case d.RoutingKey == "":
		return fmt.Sprintf("exchange %s", d.Exchange)
	default:
		return fmt.Sprintf("exchange %s with routing key %s", d.Exchange, d.RoutingKey)
	}
}

// encode puts a message into the client's form and finds what the wire would choke on: the
// client closes the whole connection when it meets a string that is too long.
func encode(m Message, sequence int64) (amqp.Publishing, error) {
	wire, err := m.wire()
	if err == nil {
		err = addHeaders(wire.Headers, m.Headers)
	}
	if err == nil && (len(m.To.Exchange) > maxShortString || len(m.To.RoutingKey) > maxShortString) {
		err = fmt.Errorf("exchange and routing key hold at most %d bytes each", maxShortString)
	}
	if err != nil {
		return amqp.Publishing{}, fmt.Errorf("%w: event %s: %w", ErrInvalid, m.ID(), err)
	}
	wire.Headers[headerSequence] = sequence
	return wire, nil
}

// ID is the event's id, or the message id of a raw message.
func (m Message) ID() string {
	if m.Raw != nil {
		return m.Raw.MessageID
	}
	return m.Event.ID
}

// wire is the message without headers beside its own, in a table that is the caller's.
func (m Message) wire() (amqp.Publishing, error) {
	if m.Raw != nil {
		return m.Raw.wire()
	}
	if err := m.Event.Validate(); err != nil {
		return amqp.Publishing{}, err
	}
	return publishing(m.Event.Encode()), nil
}

func (r *Raw) wire() (amqp.Publishing, error) {
	m := r.Message
	m.Headers = make(map[string]any, len(r.Headers)+1)
	for name, value := range r.Headers {
		m.Headers[name] = wireValue(value)
	}
	wire := publishing(m)
	wire.ReplyTo, wire.Priority = r.ReplyTo, r.Priority
	if r.Expiration > 0 {
		wire.Expiration = strconv.FormatInt(max(r.Expiration.Milliseconds(), 1), 10)
	}
	for _, text := range []string{wire.ContentType, wire.ContentEncoding, wire.CorrelationId, wire.MessageId, wire.Type, wire.AppId, wire.ReplyTo} {
		if len(text) > maxShortString {
			return wire, fmt.Errorf("property %.40q... has more than %d bytes", text, maxShortString)
		}
	}
	return wire, checkTable(wire.Headers)
}

func publishing(encoded event.Message) amqp.Publishing {
	return amqp.Publishing{
		Headers:         encoded.Headers,
		ContentType:     encoded.ContentType,
		ContentEncoding: encoded.ContentEncoding,
		DeliveryMode:    amqp.Persistent,
		CorrelationId:   encoded.CorrelationID,
		MessageId:       encoded.MessageID,
		Timestamp:       encoded.Timestamp,
		Type:            encoded.Type,
		AppId:           encoded.AppID,
		Body:            encoded.Body,
	}
}

// CheckHeaderName tells whether a message may carry a header of this name; see Message.Headers.
func CheckHeaderName(name string) error {
	switch {
	case name == "" || len(name) > maxShortString:
		return fmt.Errorf("header name %.40q must have 1 to %d bytes", name, maxShortString)
	case strings.HasPrefix(name, "ce-"), strings.HasPrefix(name, reservedPrefix), strings.HasPrefix(name, "x-"):
		return fmt.Errorf("header name %q: the prefixes ce-, %s and x- are taken", name, reservedPrefix)
	default:
		return nil
	}
}

func addHeaders(to amqp.Table, extra map[string]any) error {
	if len(extra) == 0 {
		return nil
	}
	var errs []error
	for name, value := range extra {
		if err := CheckHeaderName(name); err != nil {
			errs = append(errs, err)
			continue
		}
		to[name] = wireValue(value)
	}
	errs = append(errs, checkTable(to))
	return errors.Join(errs...)
}

// checkTable finds header values that the client or the broker chokes on. RabbitMQ cannot read a float
// that is no number: it ends the connection for one, and for the next one too.
func checkTable(headers amqp.Table) error {
	for name, value := range headers {
		if !finite(value) {
			return fmt.Errorf("header %q: a float that is no finite number", name)
		}
	}
	return headers.Validate()
}

func finite(value any) bool {
	switch v := value.(type) {
	case float64:
		return !math.IsNaN(v) && !math.IsInf(v, 0)
	case float32:
		return finite(float64(v))
	case amqp.Table:
		for _, nested := range v {
			if !finite(nested) {
				return false
			}
		}
	case []any:
		for _, nested := range v {
			if !finite(nested) {
				return false
			}
		}
	}
	return true
}

// wireValue gives a header's value in the client's types, all the way down.
func wireValue(value any) any {
	switch v := value.(type) {
	case map[string]any:
		table := make(amqp.Table, len(v))
		for name, nested := range v {
			table[name] = wireValue(nested)
		}
		return table
	case []any:
		list := make([]any, len(v))
		for i, nested := range v {
			list[i] = wireValue(nested)
		}
		return list
	default:
		return value
	}
}
