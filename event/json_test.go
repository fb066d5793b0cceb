package event_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
)

// head begins a CloudEvents document with what is required.
const head = `{"specversion":"1.0","id":"1","source":"s","type":"t"`

// assertBytes compares JSON as the bytes it is made of, which is what this package is about.
func assertBytes(t *testing.T, want string, got []byte) {
	t.Helper()
	assert.Equal(t, want, string(got))
}

func TestAppendJSON(t *testing.T) {
	t.Parallel()
	e := event.Event{
		ID: "1", Source: "s", Type: "t", Subject: "<a> & \"b\" \\ \u2028 \x01\n\r\t",
		Time:            time.Date(2025, 11, 11, 17, 54, 0, 1, time.FixedZone("CET", 3600)),
		DataContentType: "application/json", DataSchema: "https://example.com/a",
		Extensions: map[string]any{
			"zulu": "z", "alpha": true, "num": int32(-5), "bin": []byte("hi"), "int": 7, "huge": 1 << 40,
			"at": time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC),
		},
		Data: []byte(`{"html":"<b>&</b>", "n" : 1.00000000000000000001, "n":1e400}`),
	}
	line, err := e.AppendJSON([]byte("before "))
	require.NoError(t, err)
	assert.Equal(t, `before {"specversion":"1.0","id":"1","source":"s","type":"t",`+
		`"subject":"<a> & \"b\" \\ `+"\u2028"+` \u0001\n\r\t","time":"2025-11-11T16:54:00.000000001Z",`+
		`"datacontenttype":"application/json","dataschema":"https://example.com/a",`+
		`"alpha":true,"at":"2025-01-01T00:00:00Z","bin":"aGk=","huge":"1099511627776","int":7,"num":-5,"zulu":"z",`+
		`"data":{"html":"<b>&</b>", "n" : 1.00000000000000000001, "n":1e400}}`, string(line))

	same, err := e.MarshalJSON()
	require.NoError(t, err)
	assert.Equal(t, string(line), "before "+string(same))
}

func TestAppendJSONData(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		contentType, data, want string
	}{
		"none":                   {"", "", ``},
		"json":                   {"application/json", `{"a":1}`, `,"data":{"a":1}`},
		"json by suffix":         {"application/vnd.x+json; v=1", `[1]`, `,"data":[1]`},
		"json in capitals":       {"Application/JSON", `[1]`, `,"data":[1]`},
		"json by default":        {"", `true`, `,"data":true`},
		"json null":              {"", `null`, `,"data":null`},
		"blanks within":          {"", "[ 1,\t2 ]", ",\"data\":[ 1,\t2 ]"},
		"blank before":           {"", ` 1`, `,"data_base64":"IDE="`},
		"line break after":       {"", "1\n", `,"data_base64":"MQo="`},
		"line break within":      {"", "[1,\n2]", `,"data_base64":"WzEsCjJd"`},
		"carriage return within": {"", "[1,\r2]", `,"data_base64":"WzEsDTJd"`},
		"not json":               {"application/json", `{"a":`, `,"data_base64":"eyJhIjo="`},
		"json of bad utf-8":      {"application/json", "\"\xff\"", `,"data_base64":"Iv8i"`},
		"text":                   {"text/plain", "a <b>\n\"c\"", `,"data":"a <b>\n\"c\""`},
		"text of bad utf-8":      {"text/plain; charset=latin1", "\xe9", `,"data_base64":"6Q=="`},
		"xml":                    {"application/xml", "<a/>", `,"data":"<a/>"`},
		"svg":                    {"image/svg+xml", "<svg/>", `,"data":"<svg/>"`},
		"bytes":                  {"application/octet-stream", "ascii", `,"data_base64":"YXNjaWk="`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := minimal()
			e.DataContentType, e.Data = tc.contentType, []byte(tc.data)
			line, err := e.MarshalJSON()
			require.NoError(t, err)
			_, after, found := strings.Cut(string(line), `"type":"t"`)
			require.True(t, found)
			if tc.contentType != "" {
				_, after, _ = strings.Cut(after, `"datacontenttype":"`+tc.contentType+`"`)
			}
			assert.Equal(t, tc.want+"}", after)

			var back event.Event
			require.NoError(t, back.UnmarshalJSON(line))
			assert.Equal(t, tc.data, string(back.Data))
		})
	}
}

func TestAppendJSONRefuses(t *testing.T) {
	t.Parallel()
	e := minimal()
	e.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	e.Extensions = map[string]any{
		"id": "2", "data": "x", "odd": struct{}{}, "fine": "x",
		"early": time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	line, err := e.AppendJSON([]byte("kept"))
	assert.Equal(t, []string{"time", "data", "early", "id", "odd"}, faultsOf(t, err))
	assert.Equal(t, "kept", string(line))
}

func TestAppendJSONReplacesBadUTF8(t *testing.T) {
	t.Parallel()
	e := event.Event{ID: "caf\xe9", Source: "\xff\xfe", Type: "\xf0\x9f", Extensions: map[string]any{"x": "é\xe9é"}}
	line, err := e.MarshalJSON()
	require.NoError(t, err)
	assertBytes(t, `{"specversion":"1.0","id":"caf\ufffd","source":"\ufffd\ufffd","type":"\ufffd\ufffd","x":"é\ufffdé"}`, line)
}

// encoding/json compacts and escapes what MarshalJSON returns; nothing else changes.
func TestJSONMarshal(t *testing.T) {
	t.Parallel()
	e := minimal()
	e.Data = []byte(`{"a": "<"}`)
	viaPackage, err := json.Marshal(map[string]any{"e": e})
	require.NoError(t, err)
	assertBytes(t, `{"e":`+head+`,"data":{"a":"\u003c"}}}`, viaPackage)

	var back struct{ E *event.Event }
	require.NoError(t, json.Unmarshal(viaPackage, &back))
	assertBytes(t, `{"a":"\u003c"}`, back.E.Data)
}

func TestUnmarshalJSON(t *testing.T) {
	t.Parallel()
	doc := "\ufeff \t\r\n" + `{ "datacontenttype" : "application/vnd.x+json" ,
		"data" : { "b": 1.10, "a": [ 1, "}]\"" ], "b" : 1e999 } , "specversion":"1.0",
		"i\u0064":"\u00e9\n", "source":"s","type":"t","subject":null,"time":"2025-11-11t17:54:00.123456789+01:00",
		"dataschema":"https://example.com/a","flag":false,"gone":null,
		"num":-2147483648,"toolong":2147483648,"huge":123456789012345678901234567890,"frac":1.50,"exp":1e3,
		"at":"2025-01-01T00:00:00Z","Upper_case":"kept"}` + " \n"
	var e event.Event
	require.NoError(t, e.UnmarshalJSON([]byte(doc)))
	assert.Equal(t, event.Event{
		ID: "é\n", Source: "s", Type: "t",
		Time:            time.Date(2025, 11, 11, 16, 54, 0, 123456789, time.UTC),
		DataContentType: "application/vnd.x+json",
		DataSchema:      "https://example.com/a",
		Extensions: map[string]any{
			"flag": false, "num": int32(-2147483648), "toolong": "2147483648",
			"huge": "123456789012345678901234567890", "frac": "1.50", "exp": "1e3",
			"at": "2025-01-01T00:00:00Z", "Upper_case": "kept",
		},
		Data: []byte(`{ "b": 1.10, "a": [ 1, "}]\"" ], "b" : 1e999 }`),
	}, e)
}

func TestUnmarshalJSONData(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		members, contentType string
		data                 []byte
	}{
		"none":              {``, "", nil},
		"null":              {`,"data":null`, event.ContentTypeJSON, []byte("null")},
		"number":            {`,"data":1.0`, event.ContentTypeJSON, []byte("1.0")},
		"string":            {`,"data":"\u0041"`, event.ContentTypeJSON, []byte(`"\u0041"`)},
		"empty string":      {`,"data":""`, event.ContentTypeJSON, []byte(`""`)},
		"base64":            {`,"data_base64":"AP8="`, "", []byte{0, 255}},
		"base64 escaped":    {`,"data_base64":"Pz8\/"`, "", []byte("???")},
		"base64 empty":      {`,"data_base64":""`, "", nil},
		"base64 null":       {`,"data_base64":null,"data":1`, event.ContentTypeJSON, []byte("1")},
		"base64 of json":    {`,"datacontenttype":"application/json","data_base64":"MQ=="`, event.ContentTypeJSON, []byte("1")},
		"text":              {`,"datacontenttype":"text/plain","data":"a\n\u00e9"`, "text/plain", []byte("a\né")},
		"text before type":  {`,"data":"a","datacontenttype":"text/plain"`, "text/plain", []byte("a")},
		"text empty":        {`,"datacontenttype":"text/plain","data":""`, "text/plain", nil},
		"text null":         {`,"datacontenttype":"text/plain","data":null`, "text/plain", nil},
		"half a surrogate":  {`,"datacontenttype":"text/plain","data":"\ud800"`, "text/plain", []byte("\ufffd")},
		"content type null": {`,"datacontenttype":null,"data":1`, event.ContentTypeJSON, []byte("1")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var e event.Event
			require.NoError(t, e.UnmarshalJSON([]byte(head+tc.members+"}")))
			assert.Equal(t, tc.data, e.Data)
			assert.Equal(t, tc.contentType, e.DataContentType)
		})
	}
}

func TestUnmarshalJSONCopies(t *testing.T) {
	t.Parallel()
	doc := []byte(head + `,"subject":"abc","x":"def","data":{"a":1}}`)
	var e event.Event
	require.NoError(t, e.UnmarshalJSON(doc))
	for i := range doc {
		doc[i] = '!'
	}
	assert.Equal(t, "abc", e.Subject)
	assert.Equal(t, map[string]any{"x": "def"}, e.Extensions)
	assert.Equal(t, `{"a":1}`, string(e.Data))
}

func TestUnmarshalJSONSyntax(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		doc    string
		offset int64
		reason string
	}{
		"empty":              {"", 0, "empty"},
		"white space":        {" \n", 2, "empty"},
		"byte order mark":    {"\ufeff", 3, "empty"},
		"cut short":          {`{"specversion":`, 14, "unexpected end"},
		"trailing garbage":   {head + "} x", int64(len(head)) + 2, "after top-level value"},
		"two documents":      {head + "}{}", int64(len(head)) + 1, "after top-level value"},
		"trailing comma":     {head + ",}", int64(len(head)) + 1, "invalid character '}'"},
		"bad utf-8":          {"\ufeff {\"a\":\"\xff\"}", 10, "not UTF-8"},
		"utf-16":             {"\xff\xfe{\x00}\x00", 0, "not UTF-8"},
		"line break in it":   {"{\"a\":\"\n\"}", 6, "in string literal"},
		"null":               {"null", 0, "this is null"},
		"array":              {"[" + head + "}]", 0, "this is an array"},
		"string":             {`"x"`, 0, "this is a string"},
		"number":             {`-1`, 0, "this is a number"},
		"boolean":            {`true`, 0, "this is a boolean"},
		"no-break space":     {"\u00a0{}", 0, "invalid character"},
		"a bare word":        {`nonsense`, 1, "invalid character"},
		"nested without end": {head + `,"data":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + "}", int64(len(head)) + 8 + 9999, "max depth"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := event.Event{ID: "kept"}
			err := e.UnmarshalJSON([]byte(tc.doc))
			var syntax *event.SyntaxError
			require.ErrorAs(t, err, &syntax)
			assert.Contains(t, syntax.Reason, tc.reason)
			assert.Equal(t, tc.offset, syntax.Offset)
			require.ErrorContains(t, err, "not an event in JSON, at byte")
			assert.Equal(t, event.Event{ID: "kept"}, e)
		})
	}
}

func TestUnmarshalJSONFaults(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		doc    string
		faults []string
	}{
		"no specversion":    {`{"id":"1","source":"s","type":"t"}`, []string{"specversion"}},
		"other specversion": {`{"specversion":"0.3"}`, []string{"specversion"}},
		"a long one":        {`{"specversion":"` + strings.Repeat("1", 100) + `"}`, []string{"specversion"}},
		"number for it":     {`{"specversion":1.0}`, []string{"specversion"}},
		"all of them": {
			`{"specversion":"1.0","id":1,"source":[],"type":true,"subject":{},"time":"yesterday","datacontenttype":"text/plain",` +
				`"dataschema":5,"x":{},"y":[],"data":{}}`,
			[]string{"id", "source", "type", "subject", "time", "dataschema", "x", "y", "data"},
		},
		"attributes twice": {
			`{"specversion":"1.0","specversion":"1.0","id":"1","id":"1","time":null,"time":null,"x":1,"x":1,"data":1,"data":1}`,
			[]string{"specversion", "id", "time", "x", "data"},
		},
		"twice, once escaped": {`{"specversion":"1.0","id":"1","\u0069d":"2"}`, []string{"id"}},
		"both data":           {head + `,"data":1,"data_base64":"MQ=="}`, []string{"data"}},
		"bad base64":          {head + `,"data_base64":"?"}`, []string{"data_base64"}},
		"base64 no string":    {head + `,"data_base64":1}`, []string{"data_base64"}},
		"text no string":      {head + `,"datacontenttype":"text/plain","data":1}`, []string{"data"}},
		"time no string":      {head + `,"time":1731344040}`, []string{"time"}},
		"time without a zone": {head + `,"time":"2025-11-11T16:54:00"}`, []string{"time"}},
		"year before zero":    {head + `,"time":"0000-01-01T00:00:00+01:00"}`, []string{"time"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := event.Event{ID: "kept"}
			assert.Equal(t, tc.faults, faultsOf(t, e.UnmarshalJSON([]byte(tc.doc))))
			assert.Equal(t, event.Event{ID: "kept"}, e)
		})
	}
}

// Unmarshalling does not ask whether the event is valid.
func TestUnmarshalJSONTakesTheInvalid(t *testing.T) {
	t.Parallel()
	var e event.Event
	require.NoError(t, e.UnmarshalJSON([]byte(`{"specversion":"1.0","type":"","my_ext":"x","":1}`)))
	assert.Equal(t, event.Event{Extensions: map[string]any{"my_ext": "x", "": int32(1)}}, e)
	assert.Equal(t, []string{"id", "source", "type", "", "my_ext"}, faultsOf(t, e.Validate()))
}

// Repeated names in a hostile document must not cost more than their number.
func TestUnmarshalJSONManyMembers(t *testing.T) {
	t.Parallel()
	var doc bytes.Buffer
	doc.WriteString(head)
	for range 50_000 {
		doc.WriteString(`,"x":null,"id":"1"`)
	}
	doc.WriteString("}")
	var e event.Event
	require.Error(t, e.UnmarshalJSON(doc.Bytes()))
}

func TestCompactData(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		contentType, data, want string
	}{
		"pretty":      {"application/json", "{\n  \"a\": \"b c\"\n}\n", `{"a":"b c"}`},
		"html":        {"", ` "<&>" `, `"<&>"`},
		"compact":     {"", `{"a":1}`, `{"a":1}`},
		"not json":    {"application/json", "{ ", "{ "},
		"text":        {"text/plain", "1 \n", "1 \n"},
		"none":        {"", "", ""},
		"white space": {"", "\n", "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := minimal()
			e.DataContentType, e.Data = tc.contentType, []byte(tc.data)
			assert.Equal(t, tc.want, string(e.CompactData().Data))
			assert.Equal(t, tc.data, string(e.Data))
		})
	}
}
