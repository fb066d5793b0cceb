package event

import (
	"maps"
	"strconv"
	"strings"
)

// Names of the extension attributes that this suite reads and writes. Each is a string unless its
// comment says otherwise.
const (
	// ExtCorrelationID groups all events of one flow, however they were caused. It is the id of
	// the event that began the flow, or what a client outside chose. AMQP's correlation_id
	// mirrors it. Defined by the CloudEvents extension "correlation".
	ExtCorrelationID = "correlationid"

	// ExtCausationID says why: the id of the event that brought this one about. Following it
	// leads back to the beginning of the flow. Defined by the CloudEvents extension
	// "correlation".
	ExtCausationID = "causationid"

	// ExtParentID says after what: the id of the event that must be processed before this one.
	// Mostly the same as the causation. It differs where order and cause do: in a stream of
	// several events caused by one, each has the same cause and its predecessor for a parent.
	ExtParentID = "parentid"

	// ExtParentType is the type of the event that parentid names, so that who handles no events of
	// that type knows that there is nothing to wait for.
	ExtParentType = "parenttype"

	// ExtSchemaVersion is the version of the data's shape for this event type, an integer from 1
	// up. Absent means 1. [Event.SchemaVersion] reads it.
	ExtSchemaVersion = "schemaversion"

	// ExtPartitionKey names the sequence within which events must stay in order: events with the
	// same key are never handled at the same time. Defined by the CloudEvents extension
	// "partitioning".
	ExtPartitionKey = "partitionkey"

	// ExtTraceParent is the W3C trace context of the span that published the event. Defined by
	// the CloudEvents extension "distributed tracing".
	ExtTraceParent = "traceparent"
)

// Extension returns the extension name in its CloudEvents canonical text, whatever its type:
// "true", "-7", base64, RFC 3339. It is "" when the event has no such extension.
func (e Event) Extension(name string) string {
	value, ok := e.Extensions[name]
	if !ok {
		return ""
	}
	if text, ok := value.(string); ok {
		return text
	}
	text, _ := attributeText(value)
	return text
}

// CorrelationID returns the extension correlationid, "" when there is none.
func (e Event) CorrelationID() string { return e.Extension(ExtCorrelationID) }

// CausationID returns the extension causationid, "" when there is none.
func (e Event) CausationID() string { return e.Extension(ExtCausationID) }

// ParentID returns the extension parentid, "" when there is none.
func (e Event) ParentID() string { return e.Extension(ExtParentID) }

// SchemaVersion returns the version of the data's shape: 1 when the event names none. Text counts
// as a number, with or without a leading v, since people write "v2". ok is false when what is
// there is not a number from 1 up.
func (e Event) SchemaVersion() (version int, ok bool) {
	switch value := e.Extensions[ExtSchemaVersion].(type) {
	case nil:
		return 1, true
	case int32:
		version = int(value)
	case string:
		n, err := strconv.ParseInt(strings.TrimPrefix(value, "v"), 10, 32)
		if err != nil {
			return 0, false
		}
		version = int(n)
	}
	if version < 1 {
		return 0, false
	}
	return version, true
}

// WithExtension returns e with the extension name set to value, and leaves e as it is. A Go
// integer or float becomes an int32 where it is one, and its text otherwise; a URL becomes its
// text; nil removes the extension. A value of any other type is stored as it is, for
// [Event.Validate] to name.
func (e Event) WithExtension(name string, value any) Event {
	extensions := make(map[string]any, len(e.Extensions)+1)
	maps.Copy(extensions, e.Extensions)
	if normal, ok := attributeValue(value); ok {
		value = normal
	}
	if value == nil {
		delete(extensions, name)
	} else {
		extensions[name] = value
	}
	if len(extensions) == 0 {
		extensions = nil
	}
	e.Extensions = extensions
	return e
}

// reservedName reports whether name is a core attribute's or the data's, which no extension can be
// called.
func reservedName(name string) bool {
	switch name {
	case "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema",
		"data", "data_base64":
		return true
	default:
		return false
	}
}
