package schema

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/evdemo/evdemo/event"
)

// maxViolations bounds how many violations an error names. They are all of one event.
const maxViolations = 20

// Check tells whether an event's data adheres to the schema of its type and version. The error wraps
// [ErrUnknownType] for a type that the registry does not know, which callers may take for nothing to
// check; it is a *[VersionError] for a version that it does not have, and a *[ViolationError] for data
// that does not adhere to it. An event without data is checked as one whose data is null.
func (r *Registry) Check(e event.Event) error {
	if len(r.types[e.Type]) == 0 {
		_, err := r.version(e.Type, 0)
		return err
	}
	number, ok := e.SchemaVersion()
	if !ok {
		return &VersionError{e.Type, e.Extension(event.ExtSchemaVersion), "want an integer from 1 up"}
	}
	v, err := r.version(e.Type, number)
	if err != nil {
		return err
	}
	data, fault := decode(e)
	if fault == nil {
		if v.quick.Validate(data) == nil {
			return nil
		}
		err := v.schema.Validate(data) // which says what is wrong
		if err == nil {
			return nil
		}
		violation, ok := errors.AsType[*jsonschema.ValidationError](err)
		if !ok {
			return err
		}
		return &ViolationError{e.Type, number, violations(violation)}
	}
	return &ViolationError{e.Type, number, []Violation{*fault}}
}

// decode gives the data as the validator takes it. Numbers keep all their digits.
func decode(e event.Event) (any, *Violation) {
	if len(e.Data) == 0 {
		return nil, nil
	}
	if !isJSON(e.DataContentType) {
		return nil, &Violation{"", "datacontenttype", "is " + e.DataContentType + ", and the schema is for JSON"}
	}
	decoder := json.NewDecoder(bytes.NewReader(e.Data))
	decoder.UseNumber()
	var data any
	err := decoder.Decode(&data)
	if err == nil {
		if _, more := decoder.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something stands behind the value")
		}
	}
	if err != nil {
		return nil, &Violation{"", "json", "is no JSON: " + err.Error()}
	}
	return data, nil
}

// isJSON tells whether a content type is JSON's, or none, which stands for it.
func isJSON(contentType string) bool {
	if contentType == "" || contentType == event.ContentTypeJSON {
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == event.ContentTypeJSON || media == "text/json" || strings.HasSuffix(media, "+json"))
}

// violations are the innermost errors, by pointer and rule.
func violations(err *jsonschema.ValidationError) []Violation {
	var found []Violation
	printer := message.NewPrinter(language.English)
	var walk func(*jsonschema.ValidationError)
	walk = func(err *jsonschema.ValidationError) {
		for _, cause := range err.Causes {
			walk(cause)
		}
		if len(err.Causes) > 0 {
			return
		}
		rule := strings.Join(err.ErrorKind.KeywordPath(), "/")
		found = append(found, Violation{pointer(err.InstanceLocation), cmp.Or(rule, "false"), why(err.ErrorKind, printer)})
	}
	walk(err)
	slices.SortFunc(found, func(a, b Violation) int {
		return cmp.Or(strings.Compare(a.Pointer, b.Pointer), strings.Compare(a.Rule, b.Rule), strings.Compare(a.Why, b.Why))
	})
	found = slices.Compact(found)
	return found[:min(len(found), maxViolations)]
}

// why says how a rule is broken. The library rounds numbers.
func why(broken jsonschema.ErrorKind, printer *message.Printer) string {
	bound := func(got, want *big.Rat, relation string) string {
		return fmt.Sprintf("got %s, want %s %s", ratText(got), relation, ratText(want))
	}
	switch k := broken.(type) {
	case *kind.Minimum:
		return bound(k.Got, k.Want, "at least")
	case *kind.Maximum:
		return bound(k.Got, k.Want, "at most")
	case *kind.ExclusiveMinimum:
		return bound(k.Got, k.Want, "more than")
	case *kind.ExclusiveMaximum:
		return bound(k.Got, k.Want, "less than")
	case *kind.MultipleOf:
		return bound(k.Got, k.Want, "a multiple of")
	default:
		return broken.LocalizedString(printer)
	}
}

// pointer is a JSON Pointer.
func pointer(tokens []string) string {
	var b strings.Builder
	for _, token := range tokens {
		b.WriteByte('/')
		b.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(token))
	}
	return b.String()
}
