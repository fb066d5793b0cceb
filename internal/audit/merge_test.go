package audit_test

import (
	"encoding/json"
	"maps"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/audit"
)

func eventOf(data string) event.Event {
	return event.Event{ID: "1", Source: "s", Type: "thing.told", DataContentType: event.ContentTypeJSON, Data: []byte(data)}
}

func stateOf(t require.TestingT, text string) audit.State {
	state, err := audit.Fold().Decode([]byte(text))
	require.NoError(t, err)
	return state
}

func textOf(t require.TestingT, value any) string {
	b, err := json.Marshal(value)
	require.NoError(t, err)
	return string(b)
}

// The examples of RFC 7396, appendix A, whose target and patch are objects.
func TestMergeIsThatOfTheRFC(t *testing.T) {
	t.Parallel()
	for _, test := range [][3]string{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`{"e":null}`, `{"a":1}`, `{"a":1,"e":null}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
	} {
		state := audit.Merge(stateOf(t, test[0]), eventOf(test[1]), nil)
		assert.JSONEq(t, test[2], textOf(t, state), "%s and %s", test[0], test[1])
	}
}

func TestMergeOfWhatIsNoObject(t *testing.T) {
	t.Parallel()
	tests := []struct{ contentType, data, want string }{
		{"application/json", `5`, `{"a":1,"thing.told":5}`},
		{"", `[1,2]`, `{"a":1,"thing.told":[1,2]}`},
		{"application/json", `null`, `{"a":1}`},
		{"application/json", ``, `{"a":1}`},
		{"application/json", `{"b":`, `{"a":1,"thing.told":"{\"b\":"}`},
		{"application/json", `{"b":1} 2`, `{"a":1,"thing.told":"{\"b\":1} 2"}`},
		{"text/plain; charset=utf-8", `hello`, `{"a":1,"thing.told":"hello"}`},
		{"text/plain", `{"b":2}`, `{"a":1,"thing.told":"{\"b\":2}"}`},
		{"application/vnd.shop+json", `{"b":2}`, `{"a":1,"b":2}`},
		{"application/octet-stream", "\xff\x00", `{"a":1,"thing.told":"/wA="}`},
	}
	for _, test := range tests {
		e := eventOf(test.data)
		e.DataContentType = test.contentType
		assert.JSONEq(t, test.want, textOf(t, audit.Merge(stateOf(t, `{"a":1}`), e, nil)), "%s %q", test.contentType, test.data)
	}
}

func TestNumbersKeepTheirDigits(t *testing.T) {
	t.Parallel()
	const data = `{"amount":1.10,"big":123456789012345678901234567890,"small":1e-400}`
	assert.Equal(t, data, textOf(t, audit.Merge(nil, eventOf(data), nil)))
}

func TestChanges(t *testing.T) {
	t.Parallel()
	var state audit.State
	told := func(data string) (changes []string) {
		state = audit.Merge(state, eventOf(data), func(c audit.Change) { changes = append(changes, textOf(t, c)) })
		return changes
	}
	assert.Equal(t, []string{
		`{"path":"/customer/name","op":"added","new":"Ann"}`,
		`{"path":"/empty","op":"added","new":{}}`,
		`{"path":"/items","op":"added","new":[1,2]}`,
		`{"path":"/z~1odd~0","op":"added","new":false}`,
	}, told(`{"items":[1,2],"customer":{"name":"Ann","none":null},"empty":{},"z/odd~":false}`))
	assert.Empty(t, told(`{"items":[1,2],"customer":{"name":"Ann"},"nothing":null}`))
	assert.Equal(t, []string{
		`{"path":"/customer/mail","op":"added","new":""}`,
		`{"path":"/customer/name","op":"changed","old":"Ann","new":"Bob"}`,
		`{"path":"/items","op":"changed","old":[1,2],"new":[2]}`,
		`{"path":"/z~1odd~0","op":"removed","old":false}`,
	}, told(`{"items":[2],"customer":{"name":"Bob","mail":""},"z/odd~":null}`))
	assert.Equal(t, []string{
		`{"path":"/customer","op":"changed","old":{"mail":"","name":"Bob"},"new":7}`,
		`{"path":"/items","op":"changed","old":[2],"new":{"n":1}}`,
	}, told(`{"items":{"n":1},"customer":7}`))
	assert.Equal(t, []string{`{"path":"/items/n","op":"removed","old":1}`}, told(`{"items":null}`))
}

func objects() *rapid.Generator[map[string]any] {
	names := rapid.SampledFrom([]string{"a", "b", "c", "/", "~"})
	scalar := rapid.OneOf(rapid.Just(any(nil)), rapid.Just(any(true)), rapid.Just(any("x")), rapid.Just(any([]any{json.Number("1"), nil})),
		rapid.Map(rapid.IntRange(0, 2), func(n int) any { return json.Number(strconv.Itoa(n)) }))
	level := rapid.MapOfN(names, scalar, 0, 3)
	for range 2 {
		inner := rapid.Map(level, func(o map[string]any) any { return o })
		level = rapid.MapOfN(names, rapid.OneOf(scalar, inner), 0, 3)
	}
	return level
}

// reference is RFC 7396, section 2, to the letter.
func reference(target, patch any) any {
	members, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	old, _ := target.(map[string]any)
	object := map[string]any{}
	maps.Copy(object, old)
	for name, value := range members {
		if value == nil {
			delete(object, name)
		} else {
			object[name] = reference(object[name], value)
		}
	}
	return object
}

// leaves are the values of an object that have no members, by their paths.
func leaves(at string, value any, found map[string]string) {
	object, ok := value.(map[string]any)
	if !ok || len(object) == 0 && at != "" {
		b, _ := json.Marshal(value)
		found[at] = string(b)
		return
	}
	for name, member := range object {
		leaves(at+"/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(name), member, found)
	}
}

// A state is what the RFC says, and the changes are all that has changed and nothing else: with each of them made, the
// leaves of the state before are those of the state behind it.
func TestMergeProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var state audit.State
		var want any = map[string]any{}
		var all []audit.Change
		var said []string
		for _, patch := range rapid.SliceOfN(objects(), 1, 5).Draw(t, "patches") {
			before := map[string]string{}
			leaves("", want, before)
			want = reference(want, patch)
			state = audit.Merge(state, eventOf(textOf(t, patch)), func(c audit.Change) {
				replay(t, before, c)
				all, said = append(all, c), append(said, textOf(t, c))
			})
			require.Equal(t, textOf(t, want), textOf(t, state))
			after := map[string]string{}
			leaves("", want, after)
			for path, leaf := range before { // an object that has lost its members, or has got some, is no leaf or one
				if leaf == "{}" {
					delete(before, path)
				}
			}
			for path, leaf := range after {
				if leaf == "{}" {
					delete(after, path)
				}
			}
			require.Equal(t, after, before)
		}
		for i, c := range all {
			require.Equal(t, said[i], textOf(t, c), "a change is not changed later")
		}
	})
}

// replay makes a change to leaves, and looks whether it says what was there.
func replay(t *rapid.T, at map[string]string, c audit.Change) {
	switch c.Op {
	case audit.Added:
		require.Nil(t, c.Old)
		require.NotContains(t, at, c.Path)
	case audit.Removed:
		require.Nil(t, c.New)
	case audit.Changed:
		require.NotEqual(t, c.Old, c.New)
	}
	if c.Op != audit.Added {
		old := map[string]string{}
		leaves(c.Path, c.Old, old)
		for path, leaf := range old {
			require.True(t, leaf == "{}" || at[path] == leaf, "%s was %s, not %s", path, at[path], leaf)
			delete(at, path)
		}
	}
	if c.Op != audit.Removed {
		leaves(c.Path, c.New, at)
	}
}
