package schema_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/event/schema"
)

// dir is a directory with files of this content.
func dir(files map[string]string) fstest.MapFS {
	fs := fstest.MapFS{}
	for name, content := range files {
		fs[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return fs
}

// of is a registry of the type t, with a schema for each version from 1 up.
func of(tb testing.TB, documents ...string) *schema.Registry {
	tb.Helper()
	files := map[string]string{}
	for i, document := range documents {
		files[fmt.Sprintf("t.v%d.json", i+1)] = document
	}
	registry, err := schema.Load(dir(files))
	require.NoError(tb, err)
	return registry
}

// with is an event of the type t in a version; 0 is none.
func with(data string, version int) event.Event {
	e := event.Event{ID: "1", Source: "s", Type: "t", Data: []byte(data), DataContentType: event.ContentTypeJSON}
	if version > 0 {
		e = e.WithExtension(event.ExtSchemaVersion, version)
	}
	return e
}

func TestLoad(t *testing.T) {
	t.Parallel()
	registry := exampleRegistry(t)
	assert.Equal(t, []string{"order.created"}, registry.Types())
	assert.Equal(t, []int{1, 2, 3}, registry.Versions("order.created"))
	assert.Empty(t, registry.Versions("order.shipped"))
	document, err := registry.Document("order.created", 2)
	require.NoError(t, err)
	assert.Contains(t, string(document), "voucher")
	_, err = registry.Document("order.shipped", 1)
	require.ErrorIs(t, err, schema.ErrUnknownType)
	_, err = registry.Document("order.created", 4)
	require.EqualError(t, err, "order.created version 4: no schema has this version; there are 1, 2, 3")
}

func TestLoadNamesEveryFault(t *testing.T) {
	t.Parallel()
	_, err := schema.Load(dir(map[string]string{
		"a.v1.json": `{`,
		"b.v1.json": `{"type":"strnig"}`,
		"c.v1.json": `{"$ref":"missing.json"}`,
		"d.v1.json": `{"$ref":"https://example.com/schema.json"}`,
		"e.v1.json": `{"$ref":"../secret.json"}`,
		"f.v1.json": `{"pattern":"("}`,
		"g.v1.json": `{"type":"object"}`,
	}))
	require.Error(t, err)
	lines := strings.Split(err.Error(), "\n")
	require.Len(t, lines, 6, "%v", lines)
	for i, want := range []string{
		"a.v1.json: is no JSON: ", "b.v1.json: is no JSON Schema: ", "c.v1.json: open missing.json: ",
		"d.v1.json: $ref leads to https://example.com/schema.json, which is not in the directory",
		"e.v1.json: $ref leads to ", "f.v1.json: is no JSON Schema: ",
	} {
		assert.True(t, strings.HasPrefix(lines[i], want) || strings.HasPrefix(want, "e.") && strings.HasPrefix(lines[i], "e.v1.json: "), lines[i])
	}
	_, err = schema.Load(dir(map[string]string{"order.v0.json": "{}", "order.v1.json": "{}", "order.v9999999999.json": "{}"}))
	require.EqualError(t, err, "order.v0.json: want TYPE.vN.json with a version from 1 up\norder.v9999999999.json: want TYPE.vN.json with a version from 1 up")
	_, err = schema.Load(dir(map[string]string{"order.v1.json": strings.Repeat(" ", 5<<20)}))
	require.ErrorContains(t, err, "order.v1.json: has 5242880 bytes")
	for _, files := range []map[string]string{{}, {"order.json": "{}", "readme.md": ""}} {
		_, err = schema.Load(dir(files))
		require.ErrorContains(t, err, "want files named TYPE.vN.json")
	}
}

func TestReferencesWithinTheDirectory(t *testing.T) {
	t.Parallel()
	registry, err := schema.Load(dir(map[string]string{
		"t.v1.json":      `{"properties":{"price":{"$ref":"money.json"}}}`,
		"money.json":     `{"type":"integer","minimum":0}`,
		"user a.v1.json": `{"type":"object"}`,
	}))
	require.NoError(t, err)
	require.NoError(t, registry.Check(with(`{"price":1}`, 0)))
	require.ErrorContains(t, registry.Check(with(`{"price":-1}`, 0)), "/price: ")
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, e := range exampleOrders(t) {
		require.NoError(t, exampleRegistry(t).Check(e))
		break
	}
	registry := of(t, `{"type":"object","required":["id","items"],"properties":{
		"id":{"type":"integer","minimum":1,"maximum":100},
		"big":{"type":"integer","maximum":9007199254740993},
		"at":{"format":"date-time"},
		"items":{"type":"array","items":{"type":"object","properties":{"a/b~c":{"enum":["x","y"]}}}}}}`)
	for data, want := range map[string]string{
		`{"id":1,"items":[]}`:                        "",
		`{"id":1.0,"items":[]}`:                      "", // an integer, in another notation
		`{"id":1e1,"items":[]}`:                      "",
		`{"id":1,"items":[],"big":9007199254740993}`: "",
		`{"id":1,"items":[],"big":9007199254740994}`: "/big: got 9007199254740994, want at most 9007199254740993 (maximum)",
		`{"id":0,"items":[]}`:                        "/id: got 0, want at least 1 (minimum)",
		`{"id":1.5,"items":[]}`:                      "/id: got number, want integer (type)",
		`{"id":"1","items":[{"a/b~c":"z"}]}`:         "/id: got string, want integer (type); /items/0/a~1b~0c: value must be one of 'x', 'y' (enum)",
		`{"items":{}}`:                               "the data: missing property 'id' (required); /items: got object, want array (type)",
		`{"id":1,"items":[],"at":"yesterday"}`:       "/at: 'yesterday' is not valid date-time: ",
		`{"id":1,"items":[]`:                         "the data: is no JSON: unexpected EOF (json)",
		`{"id":1,"items":[]} {}`:                     "the data: is no JSON: something stands behind the value (json)",
		``:                                           "the data: got null, want object (type)",
		`[` + strings.Repeat(`1,`, 3) + `1]`:         "the data: got array, want object (type)",
	} {
		err := registry.Check(with(data, 0))
		if want == "" {
			require.NoError(t, err, data)
			continue
		}
		require.ErrorContains(t, err, "data is no t version 1: "+want, data)
	}
	e := with(`<order/>`, 0)
	e.DataContentType = "text/xml"
	require.ErrorContains(t, registry.Check(e), "is text/xml, and the schema is for JSON")
	e = with(`{"id":1,"items":[]}`, 0)
	e.DataContentType = "application/vnd.shop+json; charset=utf-8"
	require.NoError(t, registry.Check(e))
	e.Type = "unknown"
	require.ErrorIs(t, registry.Check(e), schema.ErrUnknownType)
	require.EqualError(t, registry.Check(with(`{}`, 2)), "t version 2: no schema has this version; there are 1")
	require.EqualError(t, registry.Check(with(`{}`, 0).WithExtension(event.ExtSchemaVersion, "new")), "t version new: want an integer from 1 up")
}

// What makes checking quick must not make it lax where to accept less is to accept more.
func TestNotIsChecked(t *testing.T) {
	t.Parallel()
	for _, document := range []string{
		`{"not":{"type":"integer","minimum":5}}`,
		`{"not":{"properties":{"n":{"type":"integer","minimum":5}},"required":["n"]}}`,
		`{"$defs":{"n":{"type":"integer","minimum":5}},"properties":{"n":{"not":{"$ref":"#/$defs/n"}},"m":{"$ref":"#/$defs/n"}}}`,
	} {
		registry := of(t, document)
		for _, data := range []string{`5.0`, `{"n":5.0}`, `1e2`, `{"n":1e2}`} {
			isObject := strings.HasPrefix(data, "{")
			if isObject == strings.Contains(document, "properties") {
				require.Error(t, registry.Check(with(data, 0)), "%s is a %s", data, document)
			}
		}
	}
}

func TestReader(t *testing.T) {
	t.Parallel()
	registry := of(t, `{"required":["a"]}`, `{"required":["b"]}`, `{"required":["c"]}`, `{"required":["c","d"]}`, `{"required":["e"]}`)
	rename := func(from int, before, after string) schema.Upcaster {
		return schema.Upcaster{Type: "t", From: from, Upcast: func(data []byte) ([]byte, error) {
			if strings.Contains(string(data), "refuse") {
				return nil, assert.AnError
			}
			return []byte(strings.Replace(string(data), `"`+before+`"`, `"`+after+`"`, 1)), nil
		}}
	}
	up1, up2 := rename(1, "a", "b"), rename(2, "b", "c")
	reader, err := registry.Reader(map[string]int{"t": 3}, up2, up1)
	require.NoError(t, err)
	for _, test := range []struct {
		data    string
		version int
		want    string
		err     string
	}{
		{`{"c":1}`, 3, `{"c":1}`, ""},
		{`{"b":1}`, 2, `{"c":1}`, ""},
		{`{"a":1}`, 1, `{"c":1}`, ""},
		{`{"a":1}`, 0, `{"c":1}`, ""},
		{`{"c":1,"d":2}`, 4, `{"c":1,"d":2}`, ""}, // a reader of version 3 reads it
		{`{"e":1}`, 5, "", "t version 5: readers of version 3 cannot read it"},
		{`{"e":1}`, 6, "", "t version 6: no schema has this version"},
		{`{"c":1}`, 1, "", "data is no t version 1: "},
		{`{"a":"refuse"}`, 1, "", "bring t from version 1 to 2: "},
	} {
		before := with(test.data, test.version)
		after, err := reader.Read(before)
		require.JSONEq(t, test.data, string(before.Data), "what was given has changed")
		if test.err != "" {
			require.ErrorContains(t, err, test.err)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, test.want, string(after.Data))
		version, _ := after.SchemaVersion()
		require.Equal(t, max(test.version, 3), version)
	}
	other := with(`{}`, 0)
	other.Type = "other"
	after, err := reader.Read(other)
	require.NoError(t, err)
	assert.Equal(t, other, after)
}

func TestAnUpcasterThatMakesNonsenseIsFound(t *testing.T) {
	t.Parallel()
	registry := of(t, `{"required":["a"]}`, `{"required":["b"]}`)
	reader, err := registry.Reader(map[string]int{"t": 2}, schema.Upcaster{Type: "t", From: 1, Upcast: func(data []byte) ([]byte, error) { return data, nil }})
	require.NoError(t, err)
	_, err = reader.Read(with(`{"a":1}`, 1))
	require.EqualError(t, err, "brought to version 2: data is no t version 2: the data: missing property 'b' (required)")
}

func TestReaderNamesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	same := func(data []byte) ([]byte, error) { return data, nil }
	registry := of(t, `{}`, `{}`, `{}`, `{}`)
	_, err := registry.Reader(map[string]int{"t": 4, "unknown": 1},
		schema.Upcaster{Type: "t", From: 2, Upcast: same}, schema.Upcaster{Type: "t", From: 2, Upcast: same},
		schema.Upcaster{Type: "t", From: 0, Upcast: same}, schema.Upcaster{Type: "t", From: 1})
	require.EqualError(t, err, `two upcasters of t from version 2
upcaster of t from version 0: want a version from 1 up and a function
upcaster of t from version 1: want a version from 1 up and a function
no upcaster of t from version 1 to 2, and version 4 is wanted
no upcaster of t from version 3 to 4, and version 4 is wanted
unknown: no schema is known for this event type`)
	_, err = registry.Reader(map[string]int{"t": 5})
	require.EqualError(t, err, "t version 5: no schema has this version; there are 1, 2, 3, 4")
}

// An event that has the wanted version costs nothing.
func TestUpcastOfTheWantedVersionAllocatesNothing(t *testing.T) { //nolint:paralleltest // it counts allocations
	reader, err := of(t, `{}`, `{}`).Reader(map[string]int{"t": 1})
	require.NoError(t, err)
	e := with(`{"a":1}`, 1)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if _, err := reader.Upcast(e); err != nil {
			panic(err)
		}
	}))
}

func ExampleRegistry_Reader() {
	registry, err := schema.Load(dir(map[string]string{
		"user.created.v1.json": `{"type":"object","required":["name"]}`,
		"user.created.v2.json": `{"type":"object","required":["full_name"]}`,
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	reader, err := registry.Reader(map[string]int{"user.created": 2}, schema.Upcaster{
		Type: "user.created", From: 1,
		Upcast: func(data []byte) ([]byte, error) {
			var old struct {
				Name string `json:"name"`
			}
			if err := json.Unmarshal(data, &old); err != nil {
				return nil, err
			}
			return json.Marshal(map[string]string{"full_name": old.Name})
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	e, err := event.New("user.created", "users", map[string]string{"name": "Ada"})
	if err == nil {
		e, err = reader.Read(e)
	}
	fmt.Println(string(e.Data), err)
	// Output: {"full_name":"Ada"} <nil>
}
