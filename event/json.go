package event

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// The SDK's JSON codec (v2.16.2) is not used beneath these, because it does not bring back what it
// was given: it rewrites source and dataschema through net/url ("a b" becomes "a%20b"), cuts the
// extension 1.5 to 1 and refuses 3000000000, takes the white space before data for part of it, takes
// +json for JSON only in the types it knows, refuses data with a number beyond a float64, writes data
// as JSON without a look whether it is any, and reads invalid UTF-8, two ids and an event with
// garbage behind it without a word. The tests see to it that the SDK reads what is written here
// alike, and the other way round.

// AppendJSON appends e in the CloudEvents JSON format to dst and returns the extended slice: one
// line, without a line break at its end, whatever e's data looks like. Appending to a buffer that
// is used again costs no allocation, unless e has more than eight extensions.
//
// The data is written so that it is read back byte for byte:
//
//   - JSON by its content type, and in fact: as it is in "data", with its white space, number
//     digits, escapes and repeated keys untouched. Data that begins or ends with white space, or
//     has a line break in it, cannot be told from the document around it and is written in
//     "data_base64"; [Event.CompactData] takes such white space out first.
//   - text/* and XML that is UTF-8: a JSON string in "data".
//   - everything else, and JSON that is none: base64 in "data_base64".
//
// Extensions are in the order of their names, and nothing depends on the order of the map: equal
// events give equal bytes. Bytes in attributes that are not UTF-8 are written as U+FFFD. The error
// is a *[ValidationError] for what the format cannot hold: a time beyond the year 9999, an
// extension named like a core attribute or with a value that is no attribute's. Otherwise e is
// not validated. On an error dst is returned as it was.
func (e Event) AppendJSON(dst []byte) ([]byte, error) {
	var f faults
	b := append(dst, `{"specversion":"`+SpecVersion+`"`...)
	b = appendText(b, "id", e.ID)
	b = appendText(b, "source", e.Source)
	b = appendText(b, "type", e.Type)
	b = appendText(b, "subject", e.Subject)
	if !e.Time.IsZero() {
		f.add("time", timeProblem(e.Time))
		b = appendTime(appendName(b, "time"), e.Time)
	}
	b = appendText(b, "datacontenttype", e.DataContentType)
	b = appendText(b, "dataschema", e.DataSchema)
	b = e.appendExtensions(b, &f)
	b = e.appendData(b)
	if err := f.err(); err != nil {
		return dst, err
	}
	return append(b, '}'), nil
}

// MarshalJSON returns what [Event.AppendJSON] appends. encoding/json does not leave it at that:
// json.Marshal takes the white space out of the data and escapes <, > and & in it, as it does to
// the output of every MarshalJSON. Where the bytes matter call AppendJSON.
func (e Event) MarshalJSON() ([]byte, error) {
	const envelope = 384 // what the attributes of most events need
	return e.AppendJSON(make([]byte, 0, envelope+len(e.Data)))
}

// UnmarshalJSON reads an event in the CloudEvents JSON format; b may be used again afterwards.
//
// It gives what b says and adds nothing but the content type application/json, which the format
// implies for "data" without one. It does not call Validate: an event may be read that lacks an id
// or has an extension with an illegal name. What is read:
//
//   - "data" of a JSON content type is kept byte for byte, from its first byte to its last: white
//     space within it, number digits of any length, keys that appear twice. null is data, four
//     bytes of it. For any other content type "data" must be a string, and the data is its text.
//   - "data_base64" is decoded; "" and null mean no data. Both it and "data" at once are a fault.
//   - null in any attribute means that it is absent.
//   - Every other member is an extension: a bool, a string, or a number. A number that is no 32-bit
//     integer becomes a string with the same digits. Objects and arrays are no attribute values.
//
// What is refused, with a *[SyntaxError]: what is not JSON; more than one value, or anything else
// after the first; invalid UTF-8; null and anything else that is no object. A byte order mark at
// the beginning and white space around the object are passed over. And with a *[ValidationError]
// that names every fault: a "specversion" that is missing or not "1.0"; an attribute of the wrong
// JSON type; a time that is not RFC 3339; base64 that is none; a member that is there twice, since
// readers disagree on which of the two counts. On an error e is left as it was.
func (e *Event) UnmarshalJSON(b []byte) error {
	doc, err := newDocument(b)
	if err != nil {
		return err
	}
	read, err := decodeEvent(doc)
	if err != nil {
		return err
	}
	*e = read
	return nil
}

// CompactData returns e with the white space that means nothing taken out of its JSON data, so that
// AppendJSON can write the data as JSON rather than base64. It is meant for showing an event: what
// signs or hashes the data sees other bytes. Data that is not JSON, by its content type or in fact,
// is left as it is, and e's own bytes always are.
func (e Event) CompactData() Event {
	if !isJSONType(e.DataContentType) || !bytes.ContainsAny(e.Data, " \t\r\n") {
		return e
	}
	var compact bytes.Buffer
	if json.Compact(&compact, e.Data) == nil {
		e.Data = compact.Bytes()
	}
	return e
}

// appendExtensions appends one member per extension, and notes what cannot be one.
func (e Event) appendExtensions(b []byte, f *faults) []byte {
	if len(e.Extensions) == 0 {
		return b
	}
	var few [8]string
	names := few[:0]
	for name := range e.Extensions {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if reservedName(name) {
			f.add(name, nameProblem(name))
			continue
		}
		b = f.appendValue(b, name, e.Extensions[name])
	}
	return b
}

// appendData appends the member that holds the data, if there is any.
func (e Event) appendData(b []byte) []byte {
	switch {
	case len(e.Data) == 0:
		return b
	case isJSONType(e.DataContentType):
		if inlineJSON(e.Data) {
			return append(appendName(b, "data"), e.Data...)
		}
	case isTextType(e.DataContentType):
		if utf8.Valid(e.Data) {
			return appendString(appendName(b, "data"), e.Data)
		}
	}
	return appendBase64(appendName(b, "data_base64"), e.Data)
}

// inlineJSON reports whether data can stand in a line of JSON and be cut out of it again as it was.
func inlineJSON(data []byte) bool {
	if isSpace(data[0]) || isSpace(data[len(data)-1]) ||
		bytes.IndexByte(data, '\n') >= 0 || bytes.IndexByte(data, '\r') >= 0 {
		return false
	}
	return utf8.Valid(data) && json.Valid(data)
}

// appendName appends what leads to the value of the member name.
func appendName(b []byte, name string) []byte {
	return append(appendString(append(b, ','), name), ':')
}

// appendText appends a member that is absent when empty.
func appendText(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendString(appendName(b, name), value)
}

// appendValue appends an extension, or notes why it cannot be one.
func (f *faults) appendValue(b []byte, name string, value any) []byte {
	normal, ok := attributeValue(value)
	if !ok {
		f.add(name, valueProblem(value))
		return b
	}
	b = appendName(b, name)
	switch v := normal.(type) {
	case bool:
		return strconv.AppendBool(b, v)
	case int32:
		return strconv.AppendInt(b, int64(v), 10)
	case []byte:
		return appendBase64(b, v)
	case time.Time:
		f.add(name, timeProblem(v))
		return appendTime(b, v)
	default:
		text, _ := v.(string)
		return appendString(b, text)
	}
}

// appendTime appends t in UTC as a string.
func appendTime(b []byte, t time.Time) []byte {
	b = t.UTC().AppendFormat(append(b, '"'), time.RFC3339Nano)
	return append(b, '"')
}

// appendBase64 appends data as a string of base64.
func appendBase64(b, data []byte) []byte {
	b = base64.StdEncoding.AppendEncode(append(b, '"'), data)
	return append(b, '"')
}

// appendString appends s as a JSON string, escaping what JSON demands and nothing else: <, > and &
// stay as they are. What is not UTF-8 becomes U+FFFD.
func appendString[T string | []byte](b []byte, s T) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	done := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
			if r == utf8.RuneError && size == 1 {
				b = append(append(b, s[done:i]...), `\ufffd`...)
				done = i + 1
			}
			i += size
			continue
		}
		i++
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[done:i-1]...)
		done = i
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		}
	}
	return append(append(b, s[done:]...), '"')
}
