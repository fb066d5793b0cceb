package event

import (
	"fmt"
	"time"
)

// DefaultSource is the source of a parsed event when neither its document nor [Defaults] has one.
const DefaultSource = "evdemo"

// Defaults fill what the document given to [Parse] leaves out.
type Defaults struct {
	// Type is the type of an event whose document has none. When it is set, a document that is
	// no envelope is taken for bare data.
	Type string
	// Source is the source of an event whose document has none. Default: [DefaultSource].
	Source string
	// Subject is the subject of an event whose document has none. Default: no subject.
	Subject string
}

// Parse reads one JSON document as people and other programs write events. What the document does
// not say comes from d; a missing id is made, and a missing time is now. The document is one of
//
//   - CloudEvents JSON, known by "specversion", with the rules of [Event.UnmarshalJSON];
//   - an envelope: an object with "data" and with "type" or "event_id", or with "data" and no
//     member that is not an envelope's. Its members are CloudEvents names and these:
//     event_id (id), timestamp (time), version (schemaversion), cause (causationid), parent
//     (parentid), correlation_id (correlationid). Ids and the subject may be numbers. A time
//     without a zone is UTC. Other members become extensions;
//   - a flat event: an object with "event_id" but without "data", or, unless d.Type is set, with
//     "type" but without "data". The names above, type and source, and the extensions that this
//     package knows make the envelope; all other members are, as they stand, the data;
//   - bare data, when d.Type is set: any other JSON value, byte for byte.
//
// So an object that happens to have both "type" and "data" can only be sent as data within
// {"data": ...}.
//
// The event is valid. The error is a *[SyntaxError] for what is not JSON (see UnmarshalJSON for
// byte order marks, invalid UTF-8 and what follows the document); [ErrNoType]; or a
// *[ValidationError] that names every fault. Nothing is dropped to make an event: a member that
// can be no extension, because of its name or value, is a fault. doc may be used again afterwards.
func Parse(doc []byte, d Defaults) (Event, error) {
	value, err := newDocument(doc)
	if err != nil {
		return Event{}, err
	}
	var v *envelope
	switch shape := shapeOf(value, d); shape {
	case shapeCloudEvent:
		e, err := decodeEvent(value)
		if err != nil {
			return Event{}, err
		}
		v = &envelope{event: e}
	case shapeEnvelope:
		v = parseEnvelope(value)
	case shapeFlat:
		v = parseFlat(value)
	case shapeData:
		v = (&envelope{data: value}).finish()
	}
	d.fill(&v.event)
	if v.event.Type == "" && len(v.faults) == 0 {
		if !value.isObject() {
			return Event{}, fmt.Errorf("the document is %s, not an object: %w", jsonKind(value), ErrNoType)
		}
		return Event{}, ErrNoType
	}
	v.faults.merge(v.event.faults())
	return v.result()
}

// fill sets what e lacks. Only the type may be missing afterwards.
func (d Defaults) fill(e *Event) {
	if e.ID == "" {
		e.ID = NewID()
	}
	if e.Time.IsZero() {
		e.Time = time.Now().UTC().Truncate(time.Microsecond)
	}
	if e.Type == "" {
		e.Type = d.Type
	}
	if e.Source == "" {
		e.Source = d.Source
	}
	if e.Source == "" {
		e.Source = DefaultSource
	}
	if e.Subject == "" {
		e.Subject = d.Subject
	}
}

// shape is one of the ways to write an event that Parse knows.
type shape int

const (
	shapeData shape = iota
	shapeCloudEvent
	shapeEnvelope
	shapeFlat
)

// shapeOf tells which way doc is written. Parse's comment has the rules.
func shapeOf(doc document, d Defaults) shape {
	if !doc.isObject() {
		return shapeData
	}
	var hasID, hasType, hasData, hasOther bool
	for quoted := range doc.members() {
		switch name := attributeName(quoted); name {
		case "specversion":
			return shapeCloudEvent
		case "event_id":
			hasID = true
		case "type":
			hasType = true
		case "data", "data_base64":
			hasData = true
		default:
			_, ours := envelopeName(name)
			hasOther = hasOther || !ours && !reservedName(name)
		}
	}
	switch {
	case hasData && (hasID || hasType || !hasOther):
		return shapeEnvelope
	case hasID, hasType && d.Type == "":
		return shapeFlat
	default:
		return shapeData
	}
}

// parseEnvelope reads an object that has the event's data in a member of its own.
func parseEnvelope(doc document) *envelope {
	v := envelope{lenient: true}
	for quoted, raw := range doc.members() {
		name := attributeName(quoted)
		if canonical, ok := envelopeName(name); ok {
			name = canonical
		}
		v.put(name, raw)
	}
	return v.finish()
}

// parseFlat reads an object that has the data's members beside the event's own.
func parseFlat(doc document) *envelope {
	v := envelope{lenient: true}
	data := []byte{'{'}
	for quoted, raw := range doc.members() {
		if canonical, ok := envelopeName(attributeName(quoted)); ok {
			v.put(canonical, raw)
			continue
		}
		if len(data) > 1 {
			data = append(data, ',')
		}
		data = append(append(append(data, quoted...), ':'), raw...)
	}
	if len(data) > 1 {
		v.data = append(data, '}')
	}
	return v.finish()
}

// envelopeName returns the CloudEvents name for a member's name that is an envelope's wherever it
// stands. Names such as "id" and "subject" are not among them: in a flat event they are more
// likely the data's.
func envelopeName(name string) (canonical string, ok bool) {
	switch name {
	case "type", "source":
		return name, true
	case "event_id":
		return "id", true
	case "timestamp":
		return "time", true
	case "version":
		return ExtSchemaVersion, true
	case "cause":
		return ExtCausationID, true
	case "parent":
		return ExtParentID, true
	case "correlation_id":
		return ExtCorrelationID, true
	case ExtCorrelationID, ExtCausationID, ExtParentID, ExtParentType, ExtSchemaVersion, ExtPartitionKey, ExtTraceParent:
		return name, true
	default:
		return "", false
	}
}
