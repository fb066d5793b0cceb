package event

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Validate checks e against the rules of CloudEvents 1.0 and returns nil or a *[ValidationError]
// that names every fault:
//
//   - id, source and type are required and not blank;
//   - source is a URI reference, dataschema an absolute URI (RFC 3986);
//   - strings are UTF-8 without control characters and Unicode noncharacters;
//   - time has a year that RFC 3339 can write;
//   - datacontenttype is a media type (RFC 2046);
//   - an extension's name is made of lower-case letters a to z and digits, is not a core
//     attribute's, and fits an AMQP header (252 bytes; CloudEvents recommends 20), and its value
//     has one of the types that [Event] lists.
//
// Whether Data is what DataContentType and DataSchema say is not looked at. A valid event costs no
// allocation unless its source is a URL or its content type has parameters.
func (e Event) Validate() error {
	return e.faults().err()
}

// faults returns what Validate finds.
//
// The SDK's Validate is not used for this: it knows only the core attributes, takes any text that
// net/url makes something of for a source (with spaces in it, for one), does not look at the
// characters of strings, and allocates for every event. The tests see to it that the SDK accepts
// whatever this does.
func (e Event) faults() faults {
	f := e.coreFaults()
	core := len(f)
	for name, value := range e.Extensions {
		f.extension(name, value)
	}
	f.sortFrom(core)
	return f
}

// coreFaults returns what Validate finds in the core attributes.
func (e Event) coreFaults() faults {
	var f faults
	f.required("id", e.ID, textProblem)
	f.required("source", e.Source, uriReferenceProblem)
	f.required("type", e.Type, textProblem)
	f.optional("subject", e.Subject, textProblem)
	if !e.Time.IsZero() {
		f.add("time", timeProblem(e.Time))
	}
	f.optional("datacontenttype", e.DataContentType, mediaTypeProblem)
	f.optional("dataschema", e.DataSchema, absoluteURIProblem)
	return f
}

// extension checks one extension.
func (f *faults) extension(name string, value any) {
	f.add(name, nameProblem(name))
	f.add(name, valueProblem(value))
}

// required checks an attribute that must be there.
func (f *faults) required(name, value string, problem func(string) string) {
	switch {
	case value == "":
		f.add(name, "is missing")
	case (value[0] <= ' ' || value[0] >= utf8.RuneSelf) && strings.TrimSpace(value) == "":
		f.add(name, "is blank")
	default:
		f.add(name, problem(value))
	}
}

// optional checks an attribute that is absent when empty.
func (f *faults) optional(name, value string, problem func(string) string) {
	if value != "" {
		f.required(name, value, problem)
	}
}

// valueProblem checks the value of an extension.
func valueProblem(value any) string {
	switch value := value.(type) {
	case bool, int32, []byte:
		return ""
	case string:
		return textProblem(value)
	case time.Time:
		return timeProblem(value)
	default:
		return fmt.Sprintf("is a %T; an extension is a bool, int32, string, []byte or time.Time", value)
	}
}

// timeProblem checks that RFC 3339 can write t in UTC.
func timeProblem(t time.Time) string {
	if writableTime(t) {
		return ""
	}
	return fmt.Sprintf("is in the year %d, for which RFC 3339 has no digits", t.UTC().Year())
}
