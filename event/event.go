// Package event is the event itself: its attributes, their rules, and how it is written and read.
//
// An [Event] is a CloudEvents 1.0 event (https://github.com/cloudevents/spec). The package knows
// no broker. It writes and reads an event in three forms, and all are exact: what was written is
// read back with every attribute and with its data byte for byte.
//
//   - JSON, the CloudEvents JSON format: [Event.AppendJSON], [Event.MarshalJSON] and
//     [Event.UnmarshalJSON]. Always one line, so a stream of events is JSON Lines.
//   - Message, the AMQP binary content mode: [Event.Encode] and [Decode]. Attributes are headers
//     and the body is the data, untouched.
//   - HTTP, the HTTP binding: [Event.EncodeHTTP] and [DecodeHTTP]. Extensions come back as text.
//
// [Parse] is one more way in, for documents written by people and by programs that never heard
// of CloudEvents. It is lenient about names and strict about loss: it refuses what it would have
// to drop.
//
// Every function may be called from several goroutines. An Event is a value: copying it is cheap,
// and the copies share Data and Extensions, so neither may be changed once the event has been
// handed on. [Event.WithExtension] copies what it changes.
package event

import (
	"encoding/json"
	"fmt"
	"time"
)

// SpecVersion is the version of CloudEvents that this package writes, and the only one it reads.
const SpecVersion = "1.0"

// ContentTypeJSON is the content type of data made by [New], and the one CloudEvents implies
// where an event in JSON names none.
const ContentTypeJSON = "application/json"

// Event is one CloudEvents 1.0 event. Its zero value is no valid event: ID, Source and Type are
// required, everything else is optional and absent when empty. [Event.Validate] tells.
type Event struct {
	// ID and Source together identify the event: two events with both the same are one event
	// delivered twice. [New] and [Parse] make a UUID version 7.
	ID string
	// Source says where the event happened, as a URI reference: "orders" and
	// "https://example.com/orders" both are one.
	Source string
	// Type says what happened: "order.created".
	Type string
	// Subject says what it happened to, within Source: an order's number.
	Subject string
	// Time is when it happened. Its zero value means unknown and is not written. It is written
	// in UTC with nanoseconds and is UTC whenever it was read.
	Time time.Time
	// DataContentType is the media type of Data. An event with JSON data and no content type is
	// read back from JSON with "application/json", which CloudEvents defines to be the same.
	DataContentType string
	// DataSchema is the absolute URI of the schema that Data adheres to.
	DataSchema string
	// Extensions are the event's further attributes by name; nil when there are none. A value is
	// a bool, int32, string, []byte or time.Time; a URI is a string. JSON writes []byte and
	// time.Time, and a Message time.Time, as the CloudEvents canonical string (base64, RFC 3339),
	// and reads a string back: neither form says which of the types a string once was.
	Extensions map[string]any
	// Data is the payload, byte for byte. Empty and absent are the same: neither form can be
	// relied upon to tell them apart, so both are read back as nil.
	Data []byte
}

// New returns an event that happens now, with a fresh id and the content type application/json.
//
// data becomes the payload: []byte and json.RawMessage as they are, without a copy and without a
// check that they hold JSON (set DataContentType if they do not); nil is no payload and no content
// type; anything else as encoding/json marshals it. The time is cut to microseconds, which is what
// PostgreSQL's timestamps hold, so that an event equals itself after it was stored.
//
// The event is valid, or the error is the marshalling's or a *[ValidationError] that names every
// fault of eventType and source.
func New(eventType, source string, data any) (Event, error) {
	e := Event{
		ID:     NewID(),
		Source: source,
		Type:   eventType,
		Time:   time.Now().UTC().Truncate(time.Microsecond),
	}
	if data != nil {
		payload, err := payloadOf(data)
		if err != nil {
			return Event{}, fmt.Errorf("marshal the data of %q: %w", eventType, err)
		}
		e.Data = payload
		e.DataContentType = ContentTypeJSON
	}
	if err := e.Validate(); err != nil {
		return Event{}, err
	}
	return e, nil
}

// Caused returns an event that by brought about, as [New] makes it and linked to by:
//
//   - causationid and parentid are by's id: it happened because of by, and after it. A caller that
//     knows another predecessor in the same stream sets parentid and parenttype to that one's.
//   - parenttype is by's type.
//   - correlationid is by's, or by's id where by has none, so that every event of one flow bears
//     the id of the event that began it.
//   - the subject is by's.
//
// Nothing else is inherited: traceparent belongs to the span that publishes, partitionkey to
// whoever orders the new stream.
func Caused(by Event, eventType, source string, data any) (Event, error) {
	if by.ID == "" {
		return Event{}, &ValidationError{Faults: []Fault{{ExtCausationID, "the causing event has no id"}}}
	}
	e, err := New(eventType, source, data)
	if err != nil {
		return Event{}, err
	}
	correlation := by.CorrelationID()
	if correlation == "" {
		correlation = by.ID
	}
	e.Subject = by.Subject
	e.Extensions = map[string]any{
		ExtCausationID:   by.ID,
		ExtParentID:      by.ID,
		ExtCorrelationID: correlation,
	}
	if by.Type != "" {
		e.Extensions[ExtParentType] = by.Type
	}
	if err := e.Validate(); err != nil {
		return Event{}, err
	}
	return e, nil
}

// payloadOf returns data as bytes of JSON.
func payloadOf(data any) ([]byte, error) {
	switch data := data.(type) {
	case []byte:
		return data, nil
	case json.RawMessage:
		return data, nil
	default:
		return json.Marshal(data)
	}
}
