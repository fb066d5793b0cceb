package event

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// What a message that does not say becomes.
const (
	foreignType   = "amqp.message"
	foreignSource = "amqp"
)

// Decode returns the event in m, and never less than an event: err tells why m is no CloudEvent,
// and is nil if it is one. It reads
//
//   - the binary content mode: headers that begin with ce-, ce_, cloudEvents: or cloudEvents_. One
//     prefix counts, the first of these that has a specversion; attributes under another are other
//     headers. The data is the body. A header's value may have its attribute's own type or be its
//     canonical text; nil means absent;
//   - the structured content mode: the content type application/cloudevents+json, and the body as
//     [Event.UnmarshalJSON] reads it. If that fails and m has the headers of the binary mode as
//     well, m is read as that.
//
// In the event that comes with an error ID, Type and Source are never empty. What is known is used:
// each attribute that could be read, then message_id, type, app_id, timestamp, and the content
// type; a foreign message's correlation_id becomes the extension correlationid. What is still
// missing is made: a fresh id, the type "amqp.message", the source "amqp". The data is then the
// body as it is, whatever it looks like: a body that resembles an event is not taken for one. A
// message without an id gets another one each time it is decoded, so it cannot be recognized when
// it is delivered again.
//
// err is [ErrNotCloudEvent] for a message that does not claim to be one, and otherwise a
// *[ValidationError] or a *[SyntaxError]. When it is nil, the event is valid.
//
// Headers that are no attributes stay out of Extensions; so do attributes whose value is of a type
// that no attribute has, which err names. Decode allocates no copy of the data: in the binary mode
// Data is m.Body itself.
func Decode(m Message) (Event, error) {
	prefix := attributePrefix(m.Headers)
	var e Event
	var err error
	switch structured := isCloudEventsType(m.ContentType); {
	case structured:
		e, err = decodeStructured(m)
		if err != nil && prefix != "" {
			e, err = decodeBinary(m, prefix)
		}
	case prefix != "":
		e, err = decodeBinary(m, prefix)
	default:
		e, err = foreign(m), ErrNotCloudEvent
	}
	complete(&e, m)
	return e, err
}

// decodeStructured reads an event that is wholly in the body.
func decodeStructured(m Message) (Event, error) {
	mediaType := baseMediaType(m.ContentType)
	if !strings.EqualFold(mediaType, "application/cloudevents+json") {
		var f faults
		f.add("datacontenttype", fmt.Sprintf(
			"%q is a form of CloudEvents that is not read; application/cloudevents+json is", mediaType))
		return foreign(m), f.err()
	}
	var e Event
	if err := e.UnmarshalJSON(m.Body); err != nil {
		return foreign(m), err
	}
	return e, e.Validate()
}

// decodeBinary reads an event whose attributes are the headers that begin with prefix.
func decodeBinary(m Message, prefix string) (Event, error) {
	var r headerReader
	for key, value := range m.Headers {
		if name, ok := strings.CutPrefix(key, prefix); ok && value != nil {
			r.header(name, value)
		}
	}
	e := r.event
	if m.ContentType != "" && (e.DataContentType == "" || !isCloudEventsType(m.ContentType)) {
		e.DataContentType = m.ContentType
	}
	if len(m.Body) > 0 {
		e.Data = m.Body
	}
	r.faults.sortFrom(0)
	switch r.version {
	case SpecVersion:
	case "":
		r.faults.add("specversion", "is missing")
	default:
		r.faults.add("specversion", fmt.Sprintf("is %s; only %q is supported", quoteValue(r.version), SpecVersion))
	}
	r.faults.merge(e.coreFaults())
	return e, r.faults.err()
}

// foreign returns the event that a message without attributes is.
func foreign(m Message) Event {
	e := Event{DataContentType: m.ContentType}
	if len(m.Body) > 0 {
		e.Data = m.Body
	}
	if m.CorrelationID != "" {
		e.Extensions = map[string]any{ExtCorrelationID: m.CorrelationID}
	}
	return e
}

// complete fills in what e lacks.
func complete(e *Event, m Message) {
	if e.ID == "" {
		if e.ID = m.MessageID; e.ID == "" {
			e.ID = NewID()
		}
	}
	if e.Type == "" {
		if e.Type = m.Type; e.Type == "" {
			e.Type = foreignType
		}
	}
	if e.Source == "" {
		if e.Source = m.AppID; e.Source == "" {
			e.Source = foreignSource
		}
	}
	if e.Time.IsZero() && !m.Timestamp.IsZero() && writableTime(m.Timestamp) {
		e.Time = m.Timestamp.UTC()
	}
}

// attributePrefix returns what the names of the headers that hold attributes begin with, or "".
func attributePrefix(headers map[string]any) string {
	if len(headers) == 0 {
		return ""
	}
	if _, ok := headers[headerSpecVersion]; ok {
		return headerPrefix
	}
	// The CloudEvents binding for AMQP 1.0 has the last two; ce_ is Kafka's, and some use it here.
	prefixes := [...]string{headerPrefix, "ce_", "cloudEvents:", "cloudEvents_"}
	for _, prefix := range prefixes {
		if _, ok := headers[prefix+"specversion"]; ok {
			return prefix
		}
	}
	for _, prefix := range prefixes {
		for _, name := range [...]string{"id", "source", "type"} {
			if _, ok := headers[prefix+name]; ok {
				return prefix
			}
		}
	}
	return ""
}

// isCloudEventsType reports whether a content type announces the structured content mode.
func isCloudEventsType(contentType string) bool {
	return hasPrefixFold(contentType, "application/cloudevents")
}

// headerReader is an event that is being read from headers.
type headerReader struct {
	event   Event
	version string
	faults  faults
}

// header takes one attribute.
func (r *headerReader) header(name string, value any) {
	switch name {
	case "specversion":
		r.text(name, value, &r.version)
	case "id":
		r.text(name, value, &r.event.ID)
	case "source":
		r.text(name, value, &r.event.Source)
	case "type":
		r.text(name, value, &r.event.Type)
	case "subject":
		r.text(name, value, &r.event.Subject)
	case "datacontenttype":
		r.text(name, value, &r.event.DataContentType)
	case "dataschema":
		r.text(name, value, &r.event.DataSchema)
	case "time":
		r.time(name, value)
	case "", "data", "data_base64":
		r.faults.add(name, nameProblem(name))
	default:
		r.extension(name, value)
	}
}

// text reads an attribute that is a string.
func (r *headerReader) text(name string, value any, dst *string) {
	text, ok := headerText(value)
	if !ok {
		r.faults.add(name, fmt.Sprintf("is a %T; it must be a string", value))
	}
	*dst = text
}

// time reads the time attribute.
func (r *headerReader) time(name string, value any) {
	t, ok := value.(time.Time)
	if !ok {
		var text string
		if text, ok = headerText(value); ok {
			t, ok = parseTime([]byte(text))
		}
	}
	if !ok || !writableTime(t) {
		r.faults.add(name, fmt.Sprintf("is %s; it must be RFC 3339, such as \"2025-11-11T16:54:00Z\"", quoteValue(value)))
		return
	}
	r.event.Time = t.UTC()
}

// headerText returns the text in a header. Some clients write text as bytes.
func headerText(value any) (text string, ok bool) {
	switch value := value.(type) {
	case string:
		return value, true
	case []byte:
		return string(value), true
	default:
		return attributeText(value)
	}
}

// quoteValue returns a header's value for an error message, or its type where that says more.
func quoteValue(value any) string {
	if text, ok := headerText(value); ok {
		return abbreviate(strconv.AppendQuote(nil, text))
	}
	return fmt.Sprintf("a %T", value)
}

// extension reads any other attribute, and checks it as Validate does.
func (r *headerReader) extension(name string, value any) {
	normal, ok := attributeValue(value)
	if t, isTime := normal.(time.Time); isTime {
		ok = writableTime(t)
	}
	if !ok {
		r.faults.add(name, valueProblem(value))
		return
	}
	r.faults.extension(name, normal)
	if r.event.Extensions == nil {
		r.event.Extensions = make(map[string]any)
	}
	r.event.Extensions[name] = normal
}
