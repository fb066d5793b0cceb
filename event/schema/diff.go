package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"reflect"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Compatibility says who can read whose data.
type Compatibility string

// The compatibilities.
const (
	// Full: readers of either version read data of the other.
	Full Compatibility = "full"
	// Backward: readers of the new version read data of the old one.
	Backward Compatibility = "backward"
	// Forward: readers of the old version read data of the new one.
	Forward Compatibility = "forward"
	// Breaking: neither.
	Breaking Compatibility = "breaking"
)

// Satisfies tells whether what is asked for holds: Full holds what Backward and Forward ask for.
func (c Compatibility) Satisfies(asked Compatibility) bool {
	return c == Full || c == asked || asked == Breaking
}

// Change is one difference between two versions of a schema.
type Change struct {
	// Pointer is the JSON Pointer to the place in the data, with * for every element of an array and
	// every member that has no name of its own.
	Pointer string `json:"pointer"`
	// What says what has changed.
	What string `json:"what"`
	// BreaksBackward says that the new version refuses data which the old one takes, BreaksForward that
	// the old version refuses data which the new one takes. A change of which that cannot be told has
	// both.
	BreaksBackward bool `json:"breaks_backward"`
	BreaksForward  bool `json:"breaks_forward"`
}

// Diff is what lies between two versions of a schema.
type Diff struct {
	Compatibility Compatibility `json:"compatibility"`
	Changes       []Change      `json:"changes"`
}

// Diff compares two versions of a type. The error wraps [ErrUnknownType], or is a *[VersionError].
//
// Data is taken to have the members that its schema names, and no others but what a schema for additional
// properties describes: so an optional member may be added to an object that is open, although somebody
// might have sent it before with another meaning. What is not understood, as a change within "not", is
// taken for breaking.
func (r *Registry) Diff(eventType string, older, newer int) (Diff, error) {
	before, err := r.version(eventType, older)
	if err != nil {
		return Diff{}, err
	}
	after, err := r.version(eventType, newer)
	if err != nil {
		return Diff{}, err
	}
	c := comparison{changes: []Change{}, seen: map[[2]*jsonschema.Schema]bool{}}
	if bytes.Equal(before.document, after.document) {
		return Diff{Full, c.changes}, nil
	}
	c.compare("", before.schema, after.schema)
	return Diff{c.verdict(), c.changes}, nil
}

// comparison gathers the changes from one schema to another.
type comparison struct {
	changes []Change
	seen    map[[2]*jsonschema.Schema]bool
}

func (c *comparison) verdict() Compatibility {
	breaks := func(how func(Change) bool) bool { return slices.ContainsFunc(c.changes, how) }
	backward := !breaks(func(c Change) bool { return c.BreaksBackward })
	forward := !breaks(func(c Change) bool { return c.BreaksForward })
	switch {
	case backward && forward:
		return Full
	case backward:
		return Backward
	case forward:
		return Forward
	default:
		return Breaking
	}
}

// narrower notes that the new schema takes less, wider that it takes more, and other that it takes something
// else.
func (c *comparison) narrower(at, format string, args ...any) {
	c.changes = append(c.changes, Change{at, fmt.Sprintf(format, args...), true, false})
}

func (c *comparison) wider(at, format string, args ...any) {
	c.changes = append(c.changes, Change{at, fmt.Sprintf(format, args...), false, true})
}

func (c *comparison) other(at, format string, args ...any) {
	c.changes = append(c.changes, Change{at, fmt.Sprintf(format, args...), true, true})
}

// harmless notes a change that breaks nothing.
func (c *comparison) harmless(at, format string, args ...any) {
	c.changes = append(c.changes, Change{Pointer: at, What: fmt.Sprintf(format, args...)})
}

func (c *comparison) compare(at string, older, newer *jsonschema.Schema) {
	older, newer = follow(older), follow(newer)
	pair := [2]*jsonschema.Schema{older, newer}
	if older == newer || c.seen[pair] {
		return
	}
	c.seen[pair] = true
	if refuses(older) || refuses(newer) {
		c.refusal(at, refuses(older), refuses(newer))
		return
	}
	c.types(at, older, newer)
	c.values(at, older, newer)
	c.numbers(at, older, newer)
	c.texts(at, older, newer)
	c.arrays(at, older, newer)
	c.objects(at, older, newer)
	c.parts(at, older, newer)
}

// follow leads to what a schema that is only a reference refers to.
func follow(s *jsonschema.Schema) *jsonschema.Schema {
	for n := 0; s != nil && s.Ref != nil && n < 100; n++ {
		bare := *s
		bare.Ref = nil
		if !accepts(&bare) {
			break
		}
		s = s.Ref
	}
	return s
}

// accepts tells whether a schema says nothing about what it is for.
func accepts(s *jsonschema.Schema) bool {
	if s == nil || s.Bool != nil && *s.Bool {
		return true
	}
	said := reflect.ValueOf(*s)
	for i := range said.NumField() {
		switch name := said.Type().Field(i).Name; name {
		case "up", "resource", "dynamicAnchors", "allPropsEvaluated", "allItemsEvaluated", "numItemsEvaluated",
			"DraftVersion", "Location", "ID", "Anchor", "DynamicAnchor", "RecursiveAnchor",
			"Title", "Description", "Default", "Comment", "ReadOnly", "WriteOnly", "Examples", "Deprecated":
		default:
			f := said.Field(i)
			holdsNone := (f.Kind() == reflect.Map || f.Kind() == reflect.Slice) && f.Len() == 0
			if !f.IsZero() && !holdsNone {
				return false
			}
		}
	}
	return true
}

func refuses(s *jsonschema.Schema) bool { return s != nil && s.Bool != nil && !*s.Bool }

func (c *comparison) refusal(at string, before, after bool) {
	switch {
	case before && !after:
		c.wider(at, "is allowed now")
	case after && !before:
		c.narrower(at, "is not allowed any more")
	}
}

func (c *comparison) types(at string, older, newer *jsonschema.Schema) {
	before, after := allTypes(older.Types), allTypes(newer.Types)
	lost := missing(before, after)
	gained := missing(after, before)
	switch text := fmt.Sprintf("type %s -> %s", typeText(older.Types), typeText(newer.Types)); {
	case len(lost) > 0 && len(gained) > 0:
		c.other(at, "%s", text)
	case len(lost) > 0:
		c.narrower(at, "%s", text)
	case len(gained) > 0:
		c.wider(at, "%s", text)
	}
}

func typeText(types *jsonschema.Types) string {
	if names := typeNames(types); names != nil {
		return strings.Join(names, "|")
	}
	return "any"
}

// allTypes are the types with what they have within them: a number may be an integer or a fraction.
func allTypes(types *jsonschema.Types) []string {
	names := typeNames(types)
	if names == nil {
		names = []string{"null", "boolean", "number", "string", "array", "object"}
	}
	var all []string
	for _, name := range names {
		if name == "number" {
			all = append(all, "integer", "fraction")
		} else {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// missing are those of a that are not in b.
func missing[T comparable](a, b []T) (out []T) {
	for _, v := range a {
		if !slices.Contains(b, v) {
			out = append(out, v)
		}
	}
	return out
}

// values compares enum and const, which is an enum of one.
func (c *comparison) values(at string, older, newer *jsonschema.Schema) {
	before, limitedBefore := valuesOf(older)
	after, limitedAfter := valuesOf(newer)
	switch {
	case !limitedBefore && !limitedAfter:
	case !limitedBefore:
		c.narrower(at, "only %s allowed now", strings.Join(after, ", "))
	case !limitedAfter:
		c.wider(at, "any value allowed, no longer only %s", strings.Join(before, ", "))
	default:
		if lost := missing(before, after); len(lost) > 0 {
			c.narrower(at, "value %s removed", strings.Join(lost, ", "))
		}
		if gained := missing(after, before); len(gained) > 0 {
			c.wider(at, "value %s added", strings.Join(gained, ", "))
		}
	}
}

func valuesOf(s *jsonschema.Schema) (texts []string, limited bool) {
	switch {
	case s.Const != nil:
		return []string{valueText(*s.Const)}, true
	case s.Enum != nil:
		for _, v := range s.Enum.Values {
			texts = append(texts, valueText(v))
		}
		return texts, true
	default:
		return nil, false
	}
}

// bound compares two bounds of which less means that fewer values are taken: it is 1 where the newer takes
// less, -1 where it takes more.
func (c *comparison) bound(at, name string, older, newer *big.Rat, upper bool) {
	if older == nil && newer == nil {
		return
	}
	text := fmt.Sprintf("%s %s -> %s", name, ratText(older), ratText(newer))
	var less bool
	switch {
	case older == nil:
		less = true
	case newer == nil:
		less = false
	case older.Cmp(newer) == 0:
		return
	default:
		less = newer.Cmp(older) < 0 == upper
	}
	if less {
		c.narrower(at, "%s", text)
	} else {
		c.wider(at, "%s", text)
	}
}

func ratText(r *big.Rat) string {
	if r == nil {
		return "none"
	}
	text := strings.TrimRight(r.FloatString(20), "0")
	return strings.TrimSuffix(text, ".")
}

func (c *comparison) count(at, name string, older, newer *int, upper bool) {
	rat := func(n *int) *big.Rat {
		if n == nil || !upper && *n == 0 {
			return nil
		}
		return big.NewRat(int64(*n), 1)
	}
	c.bound(at, name, rat(older), rat(newer), upper)
}

func (c *comparison) numbers(at string, older, newer *jsonschema.Schema) {
	c.bound(at, "minimum", older.Minimum, newer.Minimum, false)
	c.bound(at, "exclusiveMinimum", older.ExclusiveMinimum, newer.ExclusiveMinimum, false)
	c.bound(at, "maximum", older.Maximum, newer.Maximum, true)
	c.bound(at, "exclusiveMaximum", older.ExclusiveMaximum, newer.ExclusiveMaximum, true)
	switch before, after := older.MultipleOf, newer.MultipleOf; {
	case before == nil && after == nil, before != nil && after != nil && before.Cmp(after) == 0:
	case before == nil, after != nil && new(big.Rat).Quo(after, before).IsInt():
		c.narrower(at, "multipleOf %s -> %s", ratText(before), ratText(after))
	case after == nil, new(big.Rat).Quo(before, after).IsInt():
		c.wider(at, "multipleOf %s -> %s", ratText(before), ratText(after))
	default:
		c.other(at, "multipleOf %s -> %s", ratText(before), ratText(after))
	}
}

func (c *comparison) texts(at string, older, newer *jsonschema.Schema) {
	c.count(at, "minLength", older.MinLength, newer.MinLength, false)
	c.count(at, "maxLength", older.MaxLength, newer.MaxLength, true)
	c.rule(at, "pattern", stringer(older.Pattern), stringer(newer.Pattern))
	format := func(s *jsonschema.Schema) string {
		if s.Format == nil {
			return ""
		}
		return s.Format.Name
	}
	c.rule(at, "format", format(older), format(newer))
}

func stringer(s fmt.Stringer) string {
	if s == nil {
		return ""
	}
	return s.String()
}

// rule compares what cannot be told wider or narrower, only there or not.
func (c *comparison) rule(at, name, older, newer string) {
	switch {
	case older == newer:
	case older == "":
		c.narrower(at, "%s %s added", name, newer)
	case newer == "":
		c.wider(at, "%s %s removed", name, older)
	default:
		c.other(at, "%s %s -> %s", name, older, newer)
	}
}

func (c *comparison) arrays(at string, older, newer *jsonschema.Schema) {
	c.count(at, "minItems", older.MinItems, newer.MinItems, false)
	c.count(at, "maxItems", older.MaxItems, newer.MaxItems, true)
	if !older.UniqueItems && newer.UniqueItems {
		c.narrower(at, "uniqueItems added")
	} else if older.UniqueItems && !newer.UniqueItems {
		c.wider(at, "uniqueItems removed")
	}
	before, okBefore := itemsOf(older)
	after, okAfter := itemsOf(newer)
	if !okBefore || !okAfter || len(older.PrefixItems) != len(newer.PrefixItems) {
		c.other(at, "items by their places, which are not compared")
		return
	}
	for i := range older.PrefixItems {
		c.compare(fmt.Sprintf("%s/%d", at, i), older.PrefixItems[i], newer.PrefixItems[i])
	}
	c.within(at+"/*", before, after)
}

// itemsOf is the schema of an array's elements; false where each place has one of its own, as older drafts
// write it.
func itemsOf(s *jsonschema.Schema) (*jsonschema.Schema, bool) {
	switch items := s.Items.(type) {
	case nil:
		return s.Items2020, true
	case *jsonschema.Schema:
		return items, true
	default:
		return nil, false
	}
}

// within compares schemas of which nil takes everything.
func (c *comparison) within(at string, older, newer *jsonschema.Schema) {
	everything := func(s *jsonschema.Schema) *jsonschema.Schema {
		if s == nil {
			return &jsonschema.Schema{}
		}
		return s
	}
	if older != nil || newer != nil {
		c.compare(at, everything(older), everything(newer))
	}
}

func (c *comparison) objects(at string, older, newer *jsonschema.Schema) {
	c.count(at, "minProperties", older.MinProperties, newer.MinProperties, false)
	c.count(at, "maxProperties", older.MaxProperties, newer.MaxProperties, true)
	for _, name := range missing(newer.Required, older.Required) {
		c.narrower(at+pointer([]string{name}), "is required now")
	}
	for _, name := range missing(older.Required, newer.Required) {
		c.wider(at+pointer([]string{name}), "is no longer required")
	}
	names := slices.Collect(maps.Keys(older.Properties))
	names = append(names, slices.Collect(maps.Keys(newer.Properties))...)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		c.property(at+pointer([]string{name}), name, older, newer)
	}
	c.within(at+"/*", additional(older), additional(newer))
}

// property compares one member. Where a schema does not name it, its additional properties speak for it,
// and where they are open nobody sends it.
func (c *comparison) property(at, name string, older, newer *jsonschema.Schema) {
	before, namedBefore := older.Properties[name]
	after, namedAfter := newer.Properties[name]
	switch {
	case namedBefore && namedAfter:
		c.compare(at, before, after)
	case namedAfter && additional(older) == nil:
		c.harmless(at, "added")
	case namedAfter && refuses(additional(older)):
		c.wider(at, "added, which readers that allow no more refuse")
	case namedAfter:
		c.compare(at, additional(older), after)
	case additional(newer) == nil:
		c.harmless(at, "removed")
	case refuses(additional(newer)):
		c.narrower(at, "removed, and no more allowed")
	default:
		c.compare(at, before, additional(newer))
	}
}

// additional is the schema of members that have no name of their own; nil takes everything.
func additional(s *jsonschema.Schema) *jsonschema.Schema {
	switch a := s.AdditionalProperties.(type) {
	case bool:
		if !a {
			return &jsonschema.Schema{Bool: new(bool)}
		}
	case *jsonschema.Schema:
		if !accepts(a) {
			return a
		}
	}
	return nil
}

// parts compares what schemas are put together from.
func (c *comparison) parts(at string, older, newer *jsonschema.Schema) {
	c.pairs(at, "allOf", older.AllOf, newer.AllOf)
	c.pairs(at, "anyOf", older.AnyOf, newer.AnyOf)
	if (older.Ref == nil) != (newer.Ref == nil) {
		c.other(at, "$ref added or removed; what that means cannot be told")
	} else if older.Ref != nil {
		c.compare(at, older.Ref, newer.Ref)
	}
	for _, part := range []struct {
		name         string
		older, newer []*jsonschema.Schema
	}{
		{"oneOf", older.OneOf, newer.OneOf},
		{"not", one(older.Not), one(newer.Not)},
		{"if", one(older.If), one(newer.If)},
		{"then", one(older.Then), one(newer.Then)},
		{"else", one(older.Else), one(newer.Else)},
		{"contains", one(older.Contains), one(newer.Contains)},
		{"propertyNames", one(older.PropertyNames), one(newer.PropertyNames)},
		{"unevaluatedProperties", one(older.UnevaluatedProperties), one(newer.UnevaluatedProperties)},
		{"unevaluatedItems", one(older.UnevaluatedItems), one(newer.UnevaluatedItems)},
	} {
		if !c.same(part.older, part.newer) {
			c.other(at, "%s changed; what that means cannot be told", part.name)
		}
	}
	c.rare(at, older, newer)
}

func one(s *jsonschema.Schema) []*jsonschema.Schema {
	if s == nil {
		return nil
	}
	return []*jsonschema.Schema{s}
}

// pairs compares parts of which to take less of one is to take less of the whole.
func (c *comparison) pairs(at, name string, older, newer []*jsonschema.Schema) {
	if len(older) != len(newer) {
		if !c.same(older, newer) {
			c.other(at, "%s has other parts; what that means cannot be told", name)
		}
		return
	}
	for i := range older {
		c.compare(at, older[i], newer[i])
	}
}

// same tells whether nothing lies between two lists of schemas.
func (c *comparison) same(older, newer []*jsonschema.Schema) bool {
	if len(older) != len(newer) {
		return false
	}
	for i := range older {
		inner := comparison{seen: maps.Clone(c.seen)}
		if inner.compare("", older[i], newer[i]); len(inner.changes) > 0 {
			return false
		}
	}
	return true
}

// rare compares keywords that few schemas have: where they are the same nothing has changed, and what a
// change of them means is not told.
func (c *comparison) rare(at string, older, newer *jsonschema.Schema) {
	before, after := byPattern(older), byPattern(newer)
	patterns := slices.Sorted(maps.Keys(before))
	if slices.Equal(patterns, slices.Sorted(maps.Keys(after))) {
		for _, pattern := range patterns {
			c.compare(at+"/*", before[pattern], after[pattern])
		}
	} else {
		c.other(at, "patternProperties changed; what that means cannot be told")
	}
	if !reflect.DeepEqual(older.DependentRequired, newer.DependentRequired) {
		c.other(at, "dependentRequired changed; what that means cannot be told")
	}
	if !reflect.DeepEqual(older.MinContains, newer.MinContains) || !reflect.DeepEqual(older.MaxContains, newer.MaxContains) {
		c.other(at, "minContains or maxContains changed; what that means cannot be told")
	}
	if rarest(older) || rarest(newer) {
		c.other(at, "there are keywords that are not compared: dependencies, dependentSchemas, $dynamicRef or those for content")
	}
}

func byPattern(s *jsonschema.Schema) map[string]*jsonschema.Schema {
	patterns := make(map[string]*jsonschema.Schema, len(s.PatternProperties))
	for pattern, inner := range s.PatternProperties {
		patterns[pattern.String()] = inner
	}
	return patterns
}

func rarest(s *jsonschema.Schema) bool {
	return len(s.Dependencies) > 0 || len(s.DependentSchemas) > 0 || s.DynamicRef != nil ||
		s.ContentEncoding != nil || s.ContentMediaType != nil || s.ContentSchema != nil
}

func valueText(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}
