package event

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"time"
)

// envelope is an event that is being read from the members of a JSON object.
type envelope struct {
	event  Event
	data   []byte // the value of "data" as it is written; nil when there is none
	base64 []byte // the same of "data_base64"
	seen   seen
	faults faults

	// lenient is for documents written by people: numbers will do for ids and the subject, and a
	// time without a zone is UTC.
	lenient bool
}

// seen is the set of core members that the object has had.
type seen uint16

const (
	seenSpecVersion seen = 1 << iota
	seenID
	seenSource
	seenType
	seenSubject
	seenTime
	seenDataContentType
	seenDataSchema
	seenData
	seenDataBase64
)

// decodeEvent reads the CloudEvents JSON format. See [Event.UnmarshalJSON].
func decodeEvent(doc document) (Event, error) {
	if !doc.isObject() {
		return Event{}, doc.notObject()
	}
	var v envelope
	for name, value := range doc.members() {
		v.put(attributeName(name), value)
	}
	if v.seen&seenSpecVersion == 0 {
		v.faults.add("specversion", "is missing")
	}
	return v.finish().result()
}

// put takes one member by its CloudEvents name.
func (v *envelope) put(name string, raw []byte) {
	switch name {
	case "specversion":
		if v.once(seenSpecVersion, name) && string(raw) != `"`+SpecVersion+`"` {
			v.faults.add(name, fmt.Sprintf("is %s; only %q is supported", abbreviate(raw), SpecVersion))
		}
	case "id":
		v.text(seenID, name, raw, &v.event.ID)
	case "source":
		v.text(seenSource, name, raw, &v.event.Source)
	case "type":
		v.text(seenType, name, raw, &v.event.Type)
	case "subject":
		v.text(seenSubject, name, raw, &v.event.Subject)
	case "time":
		v.time(raw)
	case "datacontenttype":
		v.text(seenDataContentType, name, raw, &v.event.DataContentType)
	case "dataschema":
		v.text(seenDataSchema, name, raw, &v.event.DataSchema)
	case "data":
		if v.once(seenData, name) {
			v.data = raw
		}
	case "data_base64":
		if v.once(seenDataBase64, name) && !isNull(raw) {
			v.base64 = raw
		}
	default:
		v.extension(name, raw)
	}
}

// once notes that the member is there, and reports whether it was not before.
func (v *envelope) once(bit seen, name string) bool {
	if v.seen&bit != 0 {
		v.faults.add(name, "is there twice")
		return false
	}
	v.seen |= bit
	return true
}

// text reads a string into dst.
func (v *envelope) text(bit seen, name string, raw []byte, dst *string) {
	if !v.once(bit, name) || isNull(raw) {
		return
	}
	if string(raw) == `"`+ContentTypeJSON+`"` { // by far the most frequent value there is
		*dst = ContentTypeJSON
		return
	}
	text, ok := unquote(raw)
	switch {
	case ok:
		*dst = text
	case v.lenient && bit&(seenID|seenSubject) != 0 && isNumber(raw):
		*dst = string(raw)
	default:
		v.faults.add(name, fmt.Sprintf("is %s; it must be a string", jsonKind(raw)))
	}
}

// time reads the time attribute.
func (v *envelope) time(raw []byte) {
	if !v.once(seenTime, "time") || isNull(raw) {
		return
	}
	var ok bool
	if raw[0] == '"' {
		v.event.Time, ok = parseTime(raw[1 : len(raw)-1])
		if !ok && v.lenient {
			v.event.Time, ok = parseLocalTime(string(raw[1 : len(raw)-1]))
		}
	}
	if !ok {
		v.faults.add("time", fmt.Sprintf("is %s; it must be RFC 3339, such as \"2025-11-11T16:54:00Z\"", abbreviate(raw)))
	}
}

// extension reads any member that is no core attribute.
func (v *envelope) extension(name string, raw []byte) {
	if _, twice := v.event.Extensions[name]; twice {
		v.faults.add(name, "is there twice")
		return
	}
	var value any
	switch raw[0] {
	case 'n':
		return
	case '"':
		value, _ = unquote(raw)
	case 't', 'f':
		value = raw[0] == 't'
	case '{', '[':
		v.faults.add(name, fmt.Sprintf("is %s; an extension is a boolean, an integer or a string", jsonKind(raw)))
		return
	default:
		value = v.number(name, raw)
	}
	if v.event.Extensions == nil {
		v.event.Extensions = make(map[string]any)
	}
	v.event.Extensions[name] = value
}

// number returns the int32 that raw is, or its digits as text.
func (v *envelope) number(name string, raw []byte) any {
	digits := string(raw)
	if v.lenient && (name == ExtCorrelationID || name == ExtCausationID || name == ExtParentID) {
		return digits // an id that happens to be made of digits
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < math.MinInt32 || n > math.MaxInt32 {
		return digits
	}
	return int32(n)
}

// finish reads the data, which it could not before it knew the content type.
func (v *envelope) finish() *envelope {
	switch {
	case v.data != nil && v.base64 != nil:
		v.faults.add("data", `and "data_base64" are both there; only one can be`)
	case v.base64 != nil:
		v.base64Data()
	case v.data != nil:
		v.plainData()
	}
	return v
}

// result returns the event, or every fault there was.
func (v *envelope) result() (Event, error) {
	if err := v.faults.err(); err != nil {
		return Event{}, err
	}
	return v.event, nil
}

// base64Data reads "data_base64".
func (v *envelope) base64Data() {
	text, ok := unquote(v.base64)
	if !ok {
		v.faults.add("data_base64", fmt.Sprintf("is %s; it must be a string", jsonKind(v.base64)))
		return
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		v.faults.add("data_base64", err.Error())
		return
	}
	if len(data) > 0 {
		v.event.Data = data
	}
}

// plainData reads "data".
func (v *envelope) plainData() {
	if isJSONType(v.event.DataContentType) {
		v.event.Data = bytes.Clone(v.data)
		if v.event.DataContentType == "" {
			v.event.DataContentType = ContentTypeJSON
		}
		return
	}
	if isNull(v.data) {
		return
	}
	text, ok := unquote(v.data)
	if !ok {
		v.faults.add("data", fmt.Sprintf("is %s; with the content type %q it must be a string",
			jsonKind(v.data), v.event.DataContentType))
		return
	}
	if text != "" {
		v.event.Data = []byte(text)
	}
}

// attributeName returns the name in a member's quoted name. Names that are known cost nothing.
func attributeName(quoted []byte) string {
	switch string(quoted) {
	case `"specversion"`:
		return "specversion"
	case `"id"`:
		return "id"
	case `"source"`:
		return "source"
	case `"type"`:
		return "type"
	case `"subject"`:
		return "subject"
	case `"time"`:
		return "time"
	case `"datacontenttype"`:
		return "datacontenttype"
	case `"dataschema"`:
		return "dataschema"
	case `"data"`:
		return "data"
	case `"` + ExtCorrelationID + `"`:
		return ExtCorrelationID
	case `"` + ExtCausationID + `"`:
		return ExtCausationID
	case `"` + ExtParentID + `"`:
		return ExtParentID
	}
	name, _ := unquote(quoted)
	return name
}

// parseLocalTime reads what programs write that leave out the zone, such as Python's
// datetime.utcnow().isoformat(), and takes it for UTC. The date and the time may be parted by a
// blank, and then a zone may follow as well.
func parseLocalTime(s string) (time.Time, bool) {
	for _, layout := range [...]string{"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04:05Z07:00"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), writableTime(t)
		}
	}
	return time.Time{}, false
}

// abbreviate returns raw for an error message.
func abbreviate(raw []byte) string {
	const most = 60
	if len(raw) <= most {
		return string(raw)
	}
	return string(bytes.ToValidUTF8(raw[:most], nil)) + "..."
}

func isNull(raw []byte) bool { return raw[0] == 'n' }

func isNumber(raw []byte) bool { return raw[0] == '-' || '0' <= raw[0] && raw[0] <= '9' }
