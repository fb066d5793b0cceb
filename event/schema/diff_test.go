package schema_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/evdemo/evdemo/event/schema"
)

func TestDiff(t *testing.T) {
	t.Parallel()
	object := func(properties string, more string) string {
		return `{"type":"object","properties":{` + properties + `}` + more + `}`
	}
	for name, test := range map[string]struct {
		older, newer string
		want         schema.Compatibility
		changes      string
	}{
		"nothing":                     {`{"type":"string"}`, `{ "type": "string" }`, schema.Full, ""},
		"words only":                  {`{"title":"a"}`, `{"title":"b","description":"c"}`, schema.Full, ""},
		"an optional member added":    {object(`"a":{}`, ``), object(`"a":{},"b":{}`, ``), schema.Full, "/b: added"},
		"an optional member removed":  {object(`"a":{},"b":{}`, ``), object(`"a":{}`, ``), schema.Full, "/b: removed"},
		"added to a closed object":    {object(`"a":{}`, `,"additionalProperties":false`), object(`"a":{},"b":{}`, `,"additionalProperties":false`), schema.Backward, "/b: added, which readers that allow no more refuse"},
		"removed from a closed one":   {object(`"a":{},"b":{}`, `,"additionalProperties":false`), object(`"a":{}`, `,"additionalProperties":false`), schema.Forward, "/b: removed, and no more allowed"},
		"closed":                      {object(`"a":{}`, ``), object(`"a":{}`, `,"additionalProperties":false`), schema.Forward, "/*: is not allowed any more"},
		"a required member added":     {object(`"a":{}`, ``), object(`"a":{},"b":{}`, `,"required":["b"]`), schema.Forward, "/b: is required now; /b: added"},
		"no longer required":          {object(`"a":{}`, `,"required":["a"]`), object(`"a":{}`, ``), schema.Backward, "/a: is no longer required"},
		"a wider type":                {`{"type":"integer"}`, `{"type":"number"}`, schema.Backward, "the data: type integer -> number"},
		"a narrower type":             {`{"type":["string","null"]}`, `{"type":"string"}`, schema.Forward, "the data: type null|string -> string"},
		"another type":                {`{"type":"integer"}`, `{"type":"string"}`, schema.Breaking, "the data: type integer -> string"},
		"a value added":               {`{"enum":["a"]}`, `{"enum":["a","b"]}`, schema.Backward, `the data: value "b" added`},
		"a value removed":             {`{"enum":["a","b"]}`, `{"const":"b"}`, schema.Forward, `the data: value "a" removed`},
		"a higher minimum":            {`{"minimum":1}`, `{"minimum":2.5}`, schema.Forward, "the data: minimum 1 -> 2.5"},
		"a lower minimum":             {`{"minimum":1}`, `{"minimum":-1}`, schema.Backward, "the data: minimum 1 -> -1"},
		"no maximum any more":         {`{"maximum":1}`, `{}`, schema.Backward, "the data: maximum 1 -> none"},
		"longer":                      {`{"maxLength":1}`, `{"maxLength":2}`, schema.Backward, "the data: maxLength 1 -> 2"},
		"minLength 0 is none":         {`{"minLength":0}`, `{}`, schema.Full, ""},
		"a finer multiple":            {`{"multipleOf":4}`, `{"multipleOf":2}`, schema.Backward, "the data: multipleOf 4 -> 2"},
		"another multiple":            {`{"multipleOf":4}`, `{"multipleOf":6}`, schema.Breaking, "the data: multipleOf 4 -> 6"},
		"a pattern":                   {`{"pattern":"a"}`, `{"pattern":"b"}`, schema.Breaking, "the data: pattern a -> b"},
		"a format":                    {`{}`, `{"format":"uuid"}`, schema.Forward, "the data: format uuid added"},
		"unique":                      {`{}`, `{"uniqueItems":true}`, schema.Forward, "the data: uniqueItems added"},
		"within items":                {`{"items":{"type":"integer"}}`, `{"items":{"type":"string"}}`, schema.Breaking, "/*: type integer -> string"},
		"within a reference":          {`{"$defs":{"m":{"maximum":1}},"properties":{"a":{"$ref":"#/$defs/m"}}}`, `{"properties":{"a":{"maximum":2}}}`, schema.Backward, "/a: maximum 1 -> 2"},
		"within allOf":                {`{"allOf":[{"maximum":1}]}`, `{"allOf":[{"maximum":2}]}`, schema.Backward, "the data: maximum 1 -> 2"},
		"allOf":                       {`{"allOf":[{"maximum":1}]}`, `{}`, schema.Breaking, "the data: allOf has other parts; what that means cannot be told"},
		"within not":                  {`{"not":{"maximum":1}}`, `{"not":{"maximum":2}}`, schema.Breaking, "the data: not changed; what that means cannot be told"},
		"not, and no change within":   {`{"not":{"maximum":1}}`, `{"not":{"maximum":1},"title":"b"}`, schema.Full, ""},
		"oneOf":                       {`{"oneOf":[{"maximum":1}]}`, `{"oneOf":[{"maximum":1},{"type":"string"}]}`, schema.Breaking, "the data: oneOf changed; what that means cannot be told"},
		"patternProperties":           {`{"patternProperties":{"^a":{"maximum":1}}}`, `{"patternProperties":{"^a":{"maximum":2}}}`, schema.Backward, "/*: maximum 1 -> 2"},
		"what is not compared":        {`{"dependentSchemas":{"a":{}}}`, `{"dependentSchemas":{"a":{}},"title":"b"}`, schema.Breaking, "the data: there are keywords that are not compared: dependencies, dependentSchemas, $dynamicRef or those for content"},
		"additional members narrowed": {object(`"a":{"type":"string"}`, ``), object(``, `,"additionalProperties":{"type":"integer"}`), schema.Breaking, "/a: type string -> integer; /*: type any -> integer"},
		"nothing allowed":             {`true`, `false`, schema.Forward, "the data: is not allowed any more"},
		"a circle":                    {`{"properties":{"a":{"$ref":"#"}}}`, `{"properties":{"a":{"$ref":"#"}},"title":"b"}`, schema.Full, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry := of(t, test.older, test.newer)
			diff, err := registry.Diff("t", 1, 2)
			require.NoError(t, err)
			assert.Equal(t, test.changes, texts(diff))
			assert.Equal(t, test.want, diff.Compatibility)
			back, err := registry.Diff("t", 2, 1)
			require.NoError(t, err)
			assert.Equal(t, mirrored(test.want), back.Compatibility, "the other way round: %s", texts(back))
		})
	}
}

func texts(diff schema.Diff) string {
	var all []string
	for _, change := range diff.Changes {
		pointer := change.Pointer
		if pointer == "" {
			pointer = "the data"
		}
		all = append(all, pointer+": "+change.What)
	}
	return strings.Join(all, "; ")
}

func mirrored(c schema.Compatibility) schema.Compatibility {
	switch c {
	case schema.Backward:
		return schema.Forward
	case schema.Forward:
		return schema.Backward
	default:
		return c
	}
}

func TestDiffOfTheExamples(t *testing.T) {
	t.Parallel()
	registry := exampleRegistry(t)
	for _, test := range []struct {
		older, newer int
		want         schema.Compatibility
	}{{1, 2, schema.Full}, {2, 3, schema.Breaking}, {1, 3, schema.Breaking}} {
		diff, err := registry.Diff("order.created", test.older, test.newer)
		require.NoError(t, err)
		assert.Equal(t, test.want, diff.Compatibility, texts(diff))
	}
	_, err := registry.Diff("order.created", 1, 4)
	require.ErrorContains(t, err, "there are 1, 2, 3")
	_, err = registry.Diff("order.shipped", 1, 2)
	require.ErrorIs(t, err, schema.ErrUnknownType)
}

// drawn is a schema of the part that is understood, as a document.
func drawn(t *rapid.T, depth int, name string) map[string]any {
	document := map[string]any{}
	choose := func(what string) bool { return rapid.Bool().Draw(t, name+what) }
	kinds := []string{"integer", "number", "string", "boolean", "null"}
	if depth > 0 {
		kinds = append(kinds, "object", "object", "array")
	}
	if choose(" typed") {
		document["type"] = rapid.SampledFrom(kinds).Draw(t, name+" type")
	}
	small := rapid.IntRange(0, 3)
	for _, keyword := range []string{"minimum", "maximum", "exclusiveMinimum", "minLength", "maxLength", "minItems", "maxItems", "minProperties"} {
		if rapid.IntRange(0, 5).Draw(t, name+keyword) == 0 {
			document[keyword] = small.Draw(t, name+keyword+" value")
		}
	}
	if rapid.IntRange(0, 5).Draw(t, name+" enum") == 0 {
		values := []any{0, 1, 2, "a", "bb", true, nil}
		document["enum"] = values[:rapid.IntRange(1, len(values)).Draw(t, name+" values")]
	}
	if rapid.IntRange(0, 7).Draw(t, name+" multiple") == 0 {
		document["multipleOf"] = rapid.IntRange(1, 4).Draw(t, name+" multipleOf")
	}
	if depth > 0 && choose(" members") {
		properties := map[string]any{}
		for _, member := range []string{"a", "b"} {
			if choose(member) {
				properties[member] = drawn(t, depth-1, name+"/"+member)
			}
		}
		document["properties"] = properties
		if choose(" required") {
			document["required"] = []string{rapid.SampledFrom([]string{"a", "b"}).Draw(t, name+" which")}
		}
		if choose(" closed") {
			document["additionalProperties"] = false
		}
	}
	if depth > 0 && choose(" items") {
		document["items"] = drawn(t, depth-1, name+"/*")
	}
	return document
}

// value is any small value.
func value(t *rapid.T, depth int, members []string) any {
	kinds := 7
	if depth == 0 {
		kinds = 5
	}
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		return rapid.IntRange(-1, 4).Draw(t, "n")
	case 1:
		return rapid.SampledFrom([]any{0.5, 1.5, 2.5}).Draw(t, "x")
	case 2:
		return rapid.SampledFrom([]any{"", "a", "bb", "ccc"}).Draw(t, "s")
	case 3:
		return rapid.Bool().Draw(t, "b")
	case 4:
		return nil
	case 5:
		list := []any{}
		for range rapid.IntRange(0, 3).Draw(t, "length") {
			list = append(list, value(t, depth-1, members))
		}
		return list
	default:
		object := map[string]any{}
		for _, member := range members {
			if rapid.Bool().Draw(t, member) {
				object[member] = value(t, depth-1, members)
			}
		}
		return object
	}
}

// What is said of two versions holds for data: whatever the one takes, the other takes.
func TestDiffIsTrue(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		older := drawn(rt, 2, "")
		newer := drawn(rt, 2, "")
		if rapid.Bool().Draw(rt, "near") { // a small change is more telling than two strangers
			newer = cloned(rt, older)
			mutate(rt, newer)
		}
		registry := of(t, text(rt, older), text(rt, newer))
		diff, err := registry.Diff("t", 1, 2)
		require.NoError(rt, err)
		for range 30 {
			data := text(rt, value(rt, 2, []string{"a", "b"}))
			before, after := registry.Check(with(data, 1)), registry.Check(with(data, 2))
			if namesAll(older, data) && diff.Compatibility.Satisfies(schema.Backward) && before == nil {
				require.NoError(rt, after, "%s was taken\nolder %s\nnewer %s\n%s", data, text(rt, older), text(rt, newer), texts(diff))
			}
			if namesAll(newer, data) && diff.Compatibility.Satisfies(schema.Forward) && after == nil {
				require.NoError(rt, before, "%s is taken\nolder %s\nnewer %s\n%s", data, text(rt, older), text(rt, newer), texts(diff))
			}
		}
	})
}

// mutate changes one keyword.
func mutate(t *rapid.T, document map[string]any) {
	other := drawn(t, 1, "mutation")
	keywords := []string{"type", "minimum", "maximum", "enum", "properties", "required", "additionalProperties", "items", "maxLength", "multipleOf"}
	keyword := rapid.SampledFrom(keywords).Draw(t, "keyword")
	if change, ok := other[keyword]; ok {
		document[keyword] = change
	} else {
		delete(document, keyword)
	}
}

func cloned(t *rapid.T, document map[string]any) (clone map[string]any) {
	require.NoError(t, json.Unmarshal([]byte(text(t, document)), &clone))
	return clone
}

func text(t *rapid.T, v any) string {
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}

// namesAll tells whether data has only members that the schema names at their place: others nobody sends.
func namesAll(document any, data string) bool {
	var v any
	if err := json.Unmarshal([]byte(data), &v); err != nil {
		panic(err)
	}
	return named(document, v)
}

func named(document, v any) bool {
	s, _ := document.(map[string]any)
	switch v := v.(type) {
	case map[string]any:
		properties, _ := s["properties"].(map[string]any)
		for member, inner := range v {
			if _, ok := properties[member]; !ok || !named(properties[member], inner) {
				return false
			}
		}
	case []any:
		return !slices.ContainsFunc(v, func(inner any) bool { return !named(s["items"], inner) })
	}
	return true
}

func ExampleRegistry_Diff() {
	registry, err := schema.Load(dir(map[string]string{
		"user.created.v1.json": `{"type":"object","required":["name"],"properties":{"name":{"type":"string"}}}`,
		"user.created.v2.json": `{"type":"object","required":["name","email"],"properties":{"name":{"type":"string"},"email":{"type":"string"}}}`,
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	diff, err := registry.Diff("user.created", 1, 2)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(diff.Compatibility)
	for _, change := range diff.Changes {
		fmt.Println(change.Pointer, change.What)
	}
	// Output:
	// forward
	// /email is required now
	// /email added
}
