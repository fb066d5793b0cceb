package feed

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/publisher"
)

// Record is a whole message as a line of JSONL, to be sent again as it is. A record is an object:
//
//	{"event":{"specversion":"1.0",...},"headers":{"tenant":"acme"},"exchange":"","routing_key":"payments"}
//	{"raw":{"content_type":"text/plain","message_id":"7","body":"hello"},"exchange":"logs","routing_key":"eu.warn"}
//
// It has either "event", which is an event in CloudEvents JSON, or "raw", which is a message as the
// broker has it, and beside that nothing but
//
//   - "headers": of an event those beside its own, of a raw message all of them. See below;
//   - "exchange" and "routing_key": where it goes. Without either, wherever the reader sends it;
//   - "at": when the message came, in RFC 3339, so that it can be sent again at the same pace;
//   - "failure": anything, for people. It is not read.
//
// The members of "raw" are the strings content_type, content_encoding, message_id, type,
// correlation_id, app_id, reply_to; priority, 0 to 255; expiration, a duration such as "1m30s";
// timestamp, as "@time" below; and the body, as text in "body" or as base64 in "body_base64".
//
// A header's string, boolean, null, array and object are what they are; a number is an int64, or a
// float64 where it is written with a point or an exponent: 2.0. For what JSON cannot tell apart an
// object with one member whose name begins with @ stands:
//
//	{"@int32":5}   also int8, int16, int64, uint8, uint16, uint32, float32, float64
//	{"@decimal":{"scale":2,"value":314}}   3.14
//	{"@time":"2025-11-11T16:54:00Z"}   or seconds since 1970, where RFC 3339 has no digits for the year
//	{"@bytes":"base64"}
//	{"@string":"base64"}   a string that is not UTF-8; a property, an exchange or a key may be one, too
//	{"@table":{"@x":1}}   an object that itself has one such name
//	{"@table":[["base64",1]]}   an object with names that are not UTF-8
//
// Nothing is filled in for a record but what CloudEvents requires of an event: id, source and type.
type Record struct {
	Message publisher.Message
	// At is when the message came; zero where nobody knows.
	At time.Time
	// Failure, if not nil, is marshalled into "failure".
	Failure any
}

const (
	// maxShortString is the limit of AMQP 0-9-1 for names, routing keys and properties.
	maxShortString = 255
	// maxDepth is how deep tables and arrays may lie within a message's headers. The client reads no
	// deeper ones: whoever gets such a message loses the connection.
	maxDepth = 32
)

// AppendRecord appends r to dst as one line, without a line break at its end, and returns the extended
// slice. Equal records give equal bytes. Reading the line gives the same message, with these liberties,
// none of which make a difference on the wire:
//
//   - an event that JSON does not hold exactly, since it has bytes in an extension or data without a
//     content type, becomes the raw message that it is on the wire;
//   - a raw message's Message.Headers are added to the headers of its own;
//   - tables are map[string]any, times are UTC, an int is an int32 or, where it is too large for that,
//     an int64, and what is empty is nil.
//
// The error is for what no message can be: an event that is not valid; a header with a name that is
// taken, or a value that AMQP has no type for or RabbitMQ does not take; a property, a name or a key of
// more than 255 bytes. It is also for a failure that cannot be marshalled. On an error dst is returned
// as it was.
func AppendRecord(dst []byte, r Record) ([]byte, error) {
	m := r.Message
	if m.Raw == nil {
		if err := m.Event.Validate(); err != nil {
			return dst, fmt.Errorf("write event %s as a record: %w", m.ID(), err)
		}
		if !exact(m.Event) {
			m.Raw = &publisher.Raw{Message: m.Event.Encode()}
		}
	}
	w := newRecordWriter(dst)
	headers := m.Headers
	if m.Raw == nil {
		w.event(m)
	} else {
		w.raw(m.Raw)
		headers = merge(m.Raw.Headers, m.Headers)
	}
	if len(headers) > 0 {
		w.b = append(w.b, `,"headers":`...)
		w.table("headers", headers, 0)
	}
	w.destination(m.To)
	if !r.At.IsZero() {
		w.name("at")
		w.time(r.At)
	}
	if r.Failure != nil {
		w.b = append(w.b, `,"failure":`...)
		w.json("failure", r.Failure)
	}
	if w.err != nil {
		return dst, fmt.Errorf("write event %s as a record: %w", m.ID(), w.err)
	}
	return append(w.b, '}'), nil
}

// exact tells whether an event in JSON is read back with everything that it has on the wire.
func exact(e event.Event) bool {
	if len(e.Data) > 0 && e.DataContentType == "" {
		return false
	}
	for _, value := range e.Extensions {
		if _, bytes := value.([]byte); bytes {
			return false
		}
	}
	return true
}

// recordWriter appends to b. What was written is good while err is nil.
type recordWriter struct {
	b    []byte
	text *json.Encoder // writes to b
	err  error
}

func newRecordWriter(dst []byte) *recordWriter {
	w := &recordWriter{b: dst}
	w.text = json.NewEncoder(w)
	w.text.SetEscapeHTML(false)
	return w
}

// Write appends what the encoder encodes.
func (w *recordWriter) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

// fail notes the first fault.
func (w *recordWriter) fail(path, format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf("%s: %w", path, fmt.Errorf(format, args...))
	}
}

// json writes a value as encoding/json does, in one line.
func (w *recordWriter) json(path string, v any) {
	if err := w.text.Encode(v); err != nil {
		w.fail(path, "%w", err)
		return
	}
	w.b = bytes.TrimSuffix(w.b, []byte{'\n'})
}

func (w *recordWriter) event(m publisher.Message) {
	for name := range m.Headers {
		if err := publisher.CheckHeaderName(name); err != nil {
			w.fail("headers", "%w", err)
		}
	}
	var err error
	if w.b, err = m.Event.AppendJSON(append(w.b, `{"event":`...)); err != nil {
		w.fail("event", "%w", err)
	}
}

func (w *recordWriter) raw(r *publisher.Raw) {
	w.b = append(w.b, `{"raw":{`...)
	for _, p := range properties(r) {
		if *p.text != "" {
			w.name(p.name)
			w.short("raw."+p.name, *p.text)
		}
	}
	if r.Priority != 0 {
		w.name("priority")
		w.b = fmt.Append(w.b, r.Priority)
	}
	if r.Expiration > 0 {
		w.name("expiration")
		w.string(r.Expiration.String())
	}
	if !r.Timestamp.IsZero() {
		w.name("timestamp")
		w.time(r.Timestamp)
	}
	switch {
	case len(r.Body) == 0:
	case utf8.Valid(r.Body):
		w.name("body")
		w.json("raw.body", string(r.Body))
	default:
		w.name("body_base64")
		w.base64(r.Body)
	}
	w.b = append(w.b, '}')
}

// name writes what leads to the value of a member.
func (w *recordWriter) name(name string) {
	if w.b[len(w.b)-1] != '{' {
		w.b = append(w.b, ',')
	}
	w.json(name, name)
	w.b = append(w.b, ':')
}

func (w *recordWriter) destination(to publisher.Destination) {
	if to == (publisher.Destination{}) {
		return
	}
	w.b = append(w.b, `,"exchange":`...)
	w.short("exchange", to.Exchange)
	w.b = append(w.b, `,"routing_key":`...)
	w.short("routing_key", to.RoutingKey)
}

// short writes what AMQP calls a short string.
func (w *recordWriter) short(path, text string) {
	if len(text) > maxShortString {
		w.fail(path, "has %d bytes; AMQP holds %d", len(text), maxShortString)
	}
	w.string(text)
}

// string writes any string. JSON has no place for those that are not UTF-8.
func (w *recordWriter) string(text string) {
	if utf8.ValidString(text) {
		w.json("string", text)
		return
	}
	w.b = append(w.b, `{"@string":`...)
	w.base64([]byte(text))
	w.b = append(w.b, '}')
}

func (w *recordWriter) base64(b []byte) {
	w.b = base64.StdEncoding.AppendEncode(append(w.b, '"'), b)
	w.b = append(w.b, '"')
}

// time writes RFC 3339, or whole seconds where that does not hold the time: some clients send
// milliseconds where AMQP wants seconds.
func (w *recordWriter) time(t time.Time) {
	text := t.UTC().Format(time.RFC3339Nano)
	if back, err := time.Parse(time.RFC3339Nano, text); err != nil || !back.Equal(t) {
		w.b = fmt.Append(w.b, t.Unix())
		return
	}
	w.string(text)
}

// property is a member of "raw" that is a string.
type property struct {
	name string
	text *string
}

// properties are the properties of a raw message that are strings.
func properties(r *publisher.Raw) []property {
	return []property{
		{"content_type", &r.ContentType},
		{"content_encoding", &r.ContentEncoding},
		{"message_id", &r.MessageID},
		{"type", &r.Type},
		{"correlation_id", &r.CorrelationID},
		{"app_id", &r.AppID},
		{"reply_to", &r.ReplyTo},
	}
}
