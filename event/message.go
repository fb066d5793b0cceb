package event

import (
	"time"
)

// maxShortString is how many bytes an AMQP 0-9-1 short string holds: a property's text, a header's
// name.
const maxShortString = 255

// headerPrefix begins the name of every header that holds an attribute. AMQP 0-9-1 has no binding
// in the CloudEvents specification; this is the one in use on RabbitMQ
// (https://github.com/knative-extensions/eventing-rabbitmq, cloudevents-protocol-spec).
const headerPrefix = "ce-"

// Names of the headers that most events have. A name that is put together costs an allocation.
const (
	headerSpecVersion     = headerPrefix + "specversion"
	headerID              = headerPrefix + "id"
	headerSource          = headerPrefix + "source"
	headerType            = headerPrefix + "type"
	headerSubject         = headerPrefix + "subject"
	headerTime            = headerPrefix + "time"
	headerDataContentType = headerPrefix + "datacontenttype"
	headerDataSchema      = headerPrefix + "dataschema"
)

// Message is what an AMQP 0-9-1 message has of an event, without naming a library: headers, body,
// and the properties that mirror attributes. An absent property is empty.
type Message struct {
	// Headers are the ce-* headers and whatever else the message carried. A value may be of any
	// type that an AMQP table holds, nested tables, arrays and nil included.
	Headers map[string]any
	// Body is the event's data in the binary content mode, or the whole event in the structured.
	Body []byte

	MessageID     string // message_id: the event's id
	Type          string // type: the event's type
	CorrelationID string // correlation_id: the extension correlationid
	ContentType   string // content_type: the event's datacontenttype
	// ContentEncoding is content_encoding. A body that it says is compressed is handed through
	// as it is, in both directions: an event has no attribute for it.
	ContentEncoding string
	AppID           string    // app_id: not written; the source of a message that names none
	Timestamp       time.Time // timestamp: the event's time, of which AMQP keeps whole seconds
}

// Encode returns e in the AMQP binary content mode. [Decode] gives e back, every attribute and the
// data byte for byte; only an extension that is a time.Time comes back as RFC 3339 text, since
// AMQP's own timestamps are whole seconds.
//
// The headers are ce-specversion, ce-id, ce-source, ce-type, ce-time (RFC 3339 in UTC with
// nanoseconds), ce-subject and ce-dataschema, without those that e lacks, and one ce-<name> for
// each extension, holding a bool, int32, string or []byte. message_id, type, correlation_id,
// content_type and timestamp mirror attributes. What does not fit a property (255 bytes) is left
// out of it, and the header has it. datacontenttype has no header of its own unless it does not fit
// its property, or would make the message look like one in the structured mode.
//
// Body is e.Data itself, not a copy. Headers is a fresh map that the caller may add to. Encode does
// not validate: what AMQP or RFC 3339 cannot hold, such as an extension with a name beyond 252
// bytes or with a nested value, is left out. [Event.Validate] names such faults.
func (e Event) Encode() Message {
	headers := make(map[string]any, e.headers())
	headers[headerSpecVersion] = SpecVersion
	setText(headers, headerID, e.ID)
	setText(headers, headerSource, e.Source)
	setText(headers, headerType, e.Type)
	setText(headers, headerSubject, e.Subject)
	setText(headers, headerDataSchema, e.DataSchema)
	m := Message{
		Headers:       headers,
		Body:          e.Data,
		MessageID:     property(e.ID),
		Type:          property(e.Type),
		ContentType:   property(e.DataContentType),
		CorrelationID: property(e.CorrelationID()),
	}
	if isCloudEventsType(m.ContentType) {
		m.ContentType = ""
	}
	if m.ContentType == "" {
		setText(headers, headerDataContentType, e.DataContentType)
	}
	if text, ok := formatTime(e.Time); ok && !e.Time.IsZero() {
		headers[headerTime] = text
		m.Timestamp = e.Time
	}
	for name, value := range e.Extensions {
		setExtension(headers, name, value)
	}
	return m
}

// headers returns how many headers e needs at most, short of one that is rare.
func (e Event) headers() int {
	n := 5 + len(e.Extensions)
	if e.Subject != "" {
		n++
	}
	if e.DataSchema != "" {
		n++
	}
	return n
}

// setText sets a header unless it would be empty.
func setText(headers map[string]any, name, value string) {
	if value != "" {
		headers[name] = value
	}
}

// setExtension sets the header for an extension, if AMQP can hold it and no attribute has it.
func setExtension(headers map[string]any, name string, value any) {
	if name == "" || len(name) > maxShortString-len(headerPrefix) || reservedName(name) {
		return
	}
	value, ok := attributeValue(value)
	if !ok {
		return
	}
	if t, isTime := value.(time.Time); isTime {
		if value, ok = formatTime(t); !ok {
			return
		}
	}
	headers[extensionHeader(name)] = value
}

// extensionHeader returns the name of an extension's header.
func extensionHeader(name string) string {
	switch name {
	case ExtCorrelationID:
		return headerPrefix + ExtCorrelationID
	case ExtCausationID:
		return headerPrefix + ExtCausationID
	case ExtParentID:
		return headerPrefix + ExtParentID
	case ExtSchemaVersion:
		return headerPrefix + ExtSchemaVersion
	case ExtPartitionKey:
		return headerPrefix + ExtPartitionKey
	case ExtTraceParent:
		return headerPrefix + ExtTraceParent
	default:
		return headerPrefix + name
	}
}

// property returns s if it fits an AMQP property, and nothing otherwise.
func property(s string) string {
	if len(s) > maxShortString {
		return ""
	}
	return s
}
