package event

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// Names of the HTTP headers that most events have, as net/http writes them.
const (
	httpContentType = "Content-Type"
	httpPrefix      = "Ce-"
	httpSpecVersion = httpPrefix + "Specversion"
	httpID          = httpPrefix + "Id"
	httpSource      = httpPrefix + "Source"
	httpType        = httpPrefix + "Type"
	httpSubject     = httpPrefix + "Subject"
	httpTime        = httpPrefix + "Time"
	httpDataSchema  = httpPrefix + "Dataschema"
)

// httpStructuredType announces an event that is wholly in the body, in JSON.
const httpStructuredType = "application/cloudevents+json"

// EncodeHTTP returns e in the binary content mode of the CloudEvents HTTP protocol binding 1.0.2.
// [DecodeHTTP] gives e back, every attribute and the data byte for byte; extensions come back as
// text, since a header does not say which type it has.
//
// The headers are ce-specversion, ce-id, ce-source, ce-type, ce-subject, ce-time (RFC 3339 in UTC
// with nanoseconds) and ce-dataschema, without those that e lacks, and one ce-<name> for each
// extension, holding its canonical text: "true", "-7", base64, RFC 3339. In their values blanks,
// double quotes, percent signs and all that is not printable ASCII are percent-encoded, as UTF-8.
// Content-Type is datacontenttype as it is, without blanks around it; there is none where e has
// none. Names are spelled as net/http does, so that header may be used as an http.Header.
//
// An event whose data is itself a CloudEvent, by its content type, is written in the structured
// content mode: the one header is Content-Type, and the body is e in JSON. In the binary mode the
// receiver would take the data for the event.
//
// body is e.Data itself, not a copy, except in the structured mode. header is a fresh map that the
// caller may add to. EncodeHTTP does not validate: what HTTP cannot hold, such as a content type
// with a line break or an extension with a nested value or with an upper-case letter in its name,
// is left out, and bytes that are not UTF-8 are written as U+FFFD. [Event.Validate] names such
// faults.
func (e Event) EncodeHTTP() (header map[string][]string, body []byte) {
	contentType := trimBlanks(e.DataContentType)
	if isCloudEventsType(contentType) {
		if doc, err := e.AppendJSON(nil); err == nil {
			return map[string][]string{httpContentType: {httpStructuredType}}, doc
		}
		contentType = ""
	}
	w := newHeaderWriter(e.headers() + 2)
	w.text(httpSpecVersion, SpecVersion)
	w.text(httpID, e.ID)
	w.text(httpSource, e.Source)
	w.text(httpType, e.Type)
	w.text(httpSubject, e.Subject)
	w.text(httpDataSchema, e.DataSchema)
	if text, ok := formatTime(e.Time); ok && !e.Time.IsZero() {
		w.set(httpTime, text)
	}
	for name, value := range e.Extensions {
		w.extension(name, value)
	}
	if contentType != "" && isFieldValue(contentType) {
		w.set(httpContentType, contentType)
	}
	return w.header, e.Data
}

// DecodeHTTP returns the event in an HTTP request or response. It reads the two content modes of the
// CloudEvents HTTP protocol binding 1.0.2 that hold one event:
//
//   - binary: headers whose names begin with ce-, in upper or lower case. The data is the body, and
//     Content-Type its content type; ce-datacontenttype, which the binding forbids, counts where
//     there is no Content-Type. A value is taken out of the double quotes that it has, and
//     percent-decoded once. A percent sign that no two hexadecimal digits follow stands for itself,
//     since there are senders that encode nothing. Extensions are text, all of them.
//   - structured: the content type application/cloudevents+json, and the body as
//     [Event.UnmarshalJSON] reads it. Headers that say the same once more are not looked at.
//
// Other headers stay out of the event. An attribute that is there twice, in whatever spelling, is a
// fault, since readers disagree on which of the two counts.
//
// err is [ErrNotCloudEvent] for what does not claim to be an event, and otherwise a
// *[ValidationError] that names every fault, or a *[SyntaxError]. With an error comes the zero
// Event; without one the event is valid. In the binary mode Data is body itself, not a copy.
func DecodeHTTP(header map[string][]string, body []byte) (Event, error) {
	r := httpReader{attributes: make(map[string]any, len(header))}
	m := Message{Headers: r.attributes, ContentType: r.contentType(header), Body: body}
	if isCloudEventsType(m.ContentType) {
		return wholeEvent(decodeStructured(m))
	}
	for name, values := range header {
		if len(values) > 0 && hasPrefixFold(name, headerPrefix) {
			r.attribute(strings.ToLower(name), values)
		}
	}
	if attributePrefix(r.attributes) == "" {
		return Event{}, ErrNotCloudEvent
	}
	e, err := decodeBinary(m, headerPrefix)
	return wholeEvent(e, r.faultsWith(err))
}

// wholeEvent returns e, or the error alone.
func wholeEvent(e Event, err error) (Event, error) {
	if err != nil {
		return Event{}, err
	}
	return e, nil
}

// headerWriter is a set of HTTP headers that is being written. All values share one array.
type headerWriter struct {
	header map[string][]string
	values []string
}

// newHeaderWriter makes a set with room for n headers.
func newHeaderWriter(n int) headerWriter {
	return headerWriter{header: make(map[string][]string, n), values: make([]string, 0, n)}
}

// set writes a value as it is.
func (w *headerWriter) set(name, value string) {
	w.values = append(w.values, value)
	n := len(w.values)
	w.header[name] = w.values[n-1 : n : n]
}

// text writes an attribute that is absent when empty.
func (w *headerWriter) text(name, value string) {
	if value != "" {
		w.set(name, percentEncode(value))
	}
}

// extension writes an extension, if a header can hold it and no attribute has it.
func (w *headerWriter) extension(name string, value any) {
	if reservedName(name) || !isFieldName(name) {
		return
	}
	if text, ok := attributeText(value); ok {
		w.set(httpName(name), percentEncode(text))
	}
}

// httpName returns the name of an extension's header.
func httpName(name string) string {
	b := append(make([]byte, 0, len(httpPrefix)+len(name)), httpPrefix...)
	for i := range len(name) {
		c := name[i]
		if b[len(b)-1] == '-' && 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		b = append(b, c)
	}
	return string(b)
}

// percentEncode returns s as section 3.1.3.2 of the binding has it. What is not UTF-8 becomes U+FFFD.
func percentEncode(s string) string {
	const hex = "0123456789ABCDEF"
	i := 0
	for i < len(s) && isPlain(s[i]) {
		i++
	}
	if i == len(s) {
		return s
	}
	b := append(make([]byte, 0, len(s)+len(s)/2), s[:i]...)
	for _, c := range []byte(strings.ToValidUTF8(s[i:], string(utf8.RuneError))) {
		if isPlain(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', hex[c>>4], hex[c&0xf])
		}
	}
	return string(b)
}

// isPlain reports whether c may stand in a header's value as it is.
func isPlain(c byte) bool { return c > ' ' && c <= '~' && c != '"' && c != '%' }

// httpReader gathers attributes from headers, in the form in which a Message has them.
type httpReader struct {
	attributes map[string]any
	faults     faults
}

// contentType returns the content type.
func (r *httpReader) contentType(header map[string][]string) string {
	var all []string
	for name, values := range header {
		if strings.EqualFold(name, httpContentType) {
			all = append(all, values...)
		}
	}
	switch len(all) {
	case 0:
		return ""
	case 1:
		return trimBlanks(all[0])
	default:
		r.faults.add("datacontenttype", "is there twice")
		return ""
	}
}

// attribute takes the values of one ce- header, whose name is in lower case.
func (r *httpReader) attribute(name string, values []string) {
	if _, twice := r.attributes[name]; twice || len(values) > 1 {
		r.faults.add(name[len(headerPrefix):], "is there twice")
	}
	text, problem := fieldText(trimBlanks(values[0]))
	r.faults.add(name[len(headerPrefix):], problem)
	r.attributes[name] = text
}

// faultsWith returns all that is wrong: with the headers, and what err says of the rest.
func (r *httpReader) faultsWith(err error) error {
	if len(r.faults) == 0 {
		return err
	}
	r.faults.sortFrom(0)
	if invalid, ok := errors.AsType[*ValidationError](err); ok {
		r.faults.merge(invalid.Faults)
	}
	return r.faults.err()
}

// fieldText returns the text in a header's value, or what is wrong with it.
func fieldText(s string) (text, problem string) {
	if strings.IndexByte(s, '"') >= 0 {
		var ok bool
		if s, ok = unquoteField(s); !ok {
			return "", "begins a quoted string that does not end"
		}
	}
	if strings.IndexByte(s, '%') < 0 {
		return s, ""
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]) {
			b = append(b, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
			continue
		}
		b = append(b, s[i])
	}
	return string(b), ""
}

// unquoteField takes the double-quoted strings of RFC 9110, section 5.6.4, out of their quotes.
func unquoteField(s string) (text string, ok bool) {
	b := make([]byte, 0, len(s))
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			quoted = !quoted
			continue
		case quoted && s[i] == '\\' && i+1 < len(s):
			i++
		}
		b = append(b, s[i])
	}
	return string(b), !quoted
}

// unhex returns the value of a hexadecimal digit.
func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&0xf + 9
}

// trimBlanks returns s without what HTTP takes for no part of a value.
func trimBlanks(s string) string { return strings.Trim(s, " \t") }

// isFieldValue reports whether s can be a header's value as it is.
func isFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// isFieldName reports whether s can be a header's name, and is the same after a header's way, which
// does not tell upper case from lower.
func isFieldName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}
