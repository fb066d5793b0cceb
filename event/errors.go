package event

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

var (
	// ErrNotCloudEvent is what [Decode] returns for a message that does not claim to be a
	// CloudEvent: it has neither the headers nor the content type of one. The event that comes
	// with it is usable. A message that claims to be one and breaks the rules gives a
	// *[ValidationError] or a *[SyntaxError] instead.
	ErrNotCloudEvent = errors.New("not a CloudEvent: no ce-specversion header, and no structured content type")

	// ErrNoType is what [Parse] returns for a document that does not say what happened, when
	// Defaults.Type does not either.
	ErrNoType = errors.New(`no "type" and no default type`)
)

// Fault is one broken rule.
type Fault struct {
	// Attribute is the CloudEvents name of what is wrong: "id", "datacontenttype", an
	// extension's name, or "data".
	Attribute string
	// Problem says what is wrong with it, and what would be right where that is not plain.
	Problem string
}

// ValidationError names every fault of an event: attributes in the order of the [Event] struct,
// then extensions by name.
type ValidationError struct {
	// Faults has at least one element.
	Faults []Fault
}

// Error returns all faults on one line.
func (e *ValidationError) Error() string {
	var b strings.Builder
	b.WriteString("invalid event: ")
	for i, f := range e.Faults {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(f.Attribute)
		b.WriteString(": ")
		b.WriteString(f.Problem)
	}
	return b.String()
}

// SyntaxError is the error for a document that is not JSON, or not the kind of JSON an event is.
type SyntaxError struct {
	// Offset is the number of bytes of the document before the fault.
	Offset int64
	// Reason says what is wrong there.
	Reason string
}

// Error returns the reason and the place.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("not an event in JSON, at byte %d: %s", e.Offset, e.Reason)
}

// faults gathers what is wrong with one event. Its zero value holds none and costs nothing.
type faults []Fault

// add notes one fault. An empty problem is none.
func (f *faults) add(attribute, problem string) {
	if problem != "" {
		*f = append(*f, Fault{Attribute: attribute, Problem: problem})
	}
}

// merge adds those of more whose attribute has no fault yet: what could not be read is not called
// missing as well.
func (f *faults) merge(more faults) {
	known := *f
	for _, m := range more {
		if !slices.ContainsFunc(known, func(k Fault) bool { return k.Attribute == m.Attribute }) {
			*f = append(*f, m)
		}
	}
}

// sortFrom puts the faults from index i on in the order of their attributes.
func (f faults) sortFrom(i int) {
	if len(f)-i < 2 {
		return
	}
	slices.SortStableFunc(f[i:], func(a, b Fault) int { return strings.Compare(a.Attribute, b.Attribute) })
}

// err returns what was gathered, or nil.
func (f faults) err() error {
	if len(f) == 0 {
		return nil
	}
	return &ValidationError{Faults: f}
}
