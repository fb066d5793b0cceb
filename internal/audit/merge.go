// Package audit says what a stream's events amount to where nobody has written a fold for them, and what
// each of them has changed.
//
// The state is a JSON object. Each event's data is merged into it as a JSON Merge Patch (RFC 7396): members
// replace those of the same name, objects are merged member by member, and null removes. This is a reading
// that fits events which say what has become of a thing. Where data only tells what happened ("three more"),
// the state has what the last of them told.
package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"maps"
	"mime"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/evdemo/evdemo/event"
)

// State is a JSON object. Its numbers are json.Number, with the digits that they came with.
type State = map[string]any

// Op is what has become of a value.
type Op string

// What can become of a value.
const (
	Added   Op = "added"
	Changed Op = "changed"
	Removed Op = "removed"
)

// Change is what an event has done to one value. A member of an object is a value of its own, an array is one
// value as a whole: what is in it has no name by which it could be recognised.
type Change struct {
	Path string `json:"path"` // a JSON Pointer (RFC 6901): "/customer/name"
	Op   Op     `json:"op"`
	Old  any    `json:"old,omitempty"` // nil where it was added
	New  any    `json:"new,omitempty"` // nil where it was removed
}

// Merge merges an event's data into a state, which it changes and returns. A nil state is an empty one.
//
// Data that is no object cannot be merged: it becomes the member that has the event type's name. Text that is no
// JSON is a string there, and what is not even text a string of base64. No data, and null, change nothing.
//
// changed, if not nil, is called for every value that is not as it was, in the order of the members' names. What it gets
// is its own: no later Merge changes it.
func Merge(state State, e event.Event, changed func(Change)) State {
	if state == nil {
		state = State{}
	}
	patch := data(e)
	if patch == nil {
		return state
	}
	members, ok := patch.(map[string]any)
	if !ok {
		members = map[string]any{e.Type: patch}
	}
	m := merger{changed}
	m.merge(state, members, "")
	return state
}

type merger struct{ changed func(Change) }

func (m merger) merge(object, patch map[string]any, at string) {
	for _, name := range slices.Sorted(maps.Keys(patch)) {
		path, value := within(at, name), patch[name]
		old, there := object[name]
		inner, isObject := value.(map[string]any)
		target, wasObject := old.(map[string]any)
		switch {
		case value == nil:
			delete(object, name)
			if there {
				m.removed(path, old)
			}
		case isObject && wasObject:
			m.merge(target, inner, path)
		case isObject:
			made := map[string]any{}
			merger{}.merge(made, inner, path) // an object has no members that are null
			object[name] = made
			m.replaced(path, old, there, made)
		default:
			object[name] = value
			if !reflect.DeepEqual(old, value) {
				m.replaced(path, old, there, value)
			}
		}
	}
}

// within is the path of a member.
func within(path, name string) string {
	return path + "/" + strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}

func (m merger) replaced(path string, old any, there bool, value any) {
	switch {
	case m.changed == nil:
	case there:
		m.changed(Change{Path: path, Op: Changed, Old: old, New: clone(value)})
	default:
		m.leaves(path, value, func(path string, leaf any) { m.changed(Change{Path: path, Op: Added, New: leaf}) })
	}
}

func (m merger) removed(path string, old any) {
	if m.changed != nil {
		m.leaves(path, old, func(path string, leaf any) { m.changed(Change{Path: path, Op: Removed, Old: leaf}) })
	}
}

// leaves gives the values in a value that have no members.
func (m merger) leaves(path string, value any, leaf func(string, any)) {
	object, ok := value.(map[string]any)
	if !ok || len(object) == 0 {
		leaf(path, clone(value))
		return
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		m.leaves(within(path, name), object[name], leaf)
	}
}

// clone copies the objects of a value. Merge changes nothing else in place.
func clone(value any) any {
	object, ok := value.(map[string]any)
	if !ok {
		return value
	}
	copied := make(map[string]any, len(object))
	for name, member := range object {
		copied[name] = clone(member)
	}
	return copied
}

// data gives an event's data as a JSON value, nil where there is none.
func data(e event.Event) any {
	if len(e.Data) == 0 {
		return nil
	}
	if isJSON(e.DataContentType) {
		if value, err := decode(e.Data); err == nil {
			return value
		}
	}
	if utf8.Valid(e.Data) {
		return string(e.Data)
	}
	return base64.StdEncoding.EncodeToString(e.Data)
}

// isJSON tells whether data of a content type should be JSON. CloudEvents takes data without one for JSON.
func isJSON(contentType string) bool {
	mediaType, _, err := mime.ParseMediaType(contentType)
	return contentType == "" || err == nil && (mediaType == "application/json" || mediaType == "text/json" || strings.HasSuffix(mediaType, "+json"))
}

// decode reads one JSON value, and keeps the digits of its numbers.
func decode(b []byte) (value any, err error) {
	if !json.Valid(b) { // a Decoder reads no further than the first value
		return nil, json.Unmarshal(b, &value)
	}
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.UseNumber()
	err = decoder.Decode(&value)
	return value, err
}
