package schema

import (
	"errors"
	"fmt"
	"strings"
)

// ErrUnknownType is wrapped by errors about an event type of which the registry has no version.
var ErrUnknownType = errors.New("no schema is known for this event type")

// VersionError says that an event's data has a version that is not understood.
type VersionError struct {
	// Type is the event's, Version what its schemaversion says.
	Type, Version string
	// Why says what is wrong with that.
	Why string
}

// Error names type and version, and says why.
func (e *VersionError) Error() string {
	return fmt.Sprintf("%s version %s: %s", e.Type, e.Version, e.Why)
}

// ViolationError says where an event's data does not adhere to its schema.
type ViolationError struct {
	Type    string
	Version int
	// Violations has at least one element.
	Violations []Violation
}

// Violation is one place that breaks one rule.
type Violation struct {
	// Pointer is the JSON Pointer (RFC 6901) to the value in the data; "" is the data itself.
	Pointer string `json:"pointer"`
	// Rule is the keyword of the schema that is broken, and Why says how.
	Rule string `json:"rule"`
	Why  string `json:"why"`
}

func (v Violation) String() string {
	pointer := v.Pointer
	if pointer == "" {
		pointer = "the data"
	}
	return fmt.Sprintf("%s: %s (%s)", pointer, v.Why, v.Rule)
}

// Error names every violation, on one line.
func (e *ViolationError) Error() string {
	texts := make([]string, len(e.Violations))
	for i, v := range e.Violations {
		texts[i] = v.String()
	}
	return fmt.Sprintf("data is no %s version %d: %s", e.Type, e.Version, strings.Join(texts, "; "))
}
