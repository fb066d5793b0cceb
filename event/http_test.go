package event_test

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/evdemo/evdemo/event"
)

func TestEncodeHTTP(t *testing.T) {
	t.Parallel()
	at := time.Date(2025, 11, 11, 17, 54, 0, 123456789, time.FixedZone("CET", 3600))
	e := event.Event{
		ID: "1", Source: "/s?a=b%20c", Type: "t", Subject: `say "hi"`, Time: at,
		DataContentType: `text/plain; charset="utf-8"`, DataSchema: "https://example.com/a",
		Extensions: map[string]any{
			event.ExtCorrelationID: "Euro € 😀", "flag": true, "num": int32(-7), "bin": []byte("hi"), "at": at, "none": "",
			"tab": "a\tb\x7f",
		},
		Data: []byte(`{ "a": 1 }`),
	}
	header, body := e.EncodeHTTP()
	assert.Equal(t, map[string][]string{
		"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"/s?a=b%2520c"}, "Ce-Type": {"t"},
		"Ce-Subject": {"say%20%22hi%22"}, "Ce-Time": {"2025-11-11T16:54:00.123456789Z"},
		"Ce-Dataschema": {"https://example.com/a"}, "Content-Type": {`text/plain; charset="utf-8"`},
		"Ce-Correlationid": {"Euro%20%E2%82%AC%20%F0%9F%98%80"}, "Ce-Flag": {"true"}, "Ce-Num": {"-7"},
		"Ce-Bin": {"aGk="}, "Ce-At": {"2025-11-11T16:54:00.123456789Z"}, "Ce-None": {""}, "Ce-Tab": {"a%09b%7F"},
	}, header)
	assert.Same(t, &e.Data[0], &body[0], "the body is not copied")
}

func TestEncodeHTTPMinimal(t *testing.T) {
	t.Parallel()
	header, body := minimal().EncodeHTTP()
	assert.Equal(t, map[string][]string{
		"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"s"}, "Ce-Type": {"t"},
	}, header)
	assert.Empty(t, body)
}

// A caller that adds to one header must not write into another, although they share an array.
func TestEncodeHTTPValuesAreApart(t *testing.T) {
	t.Parallel()
	header, _ := minimal().EncodeHTTP()
	want := maps.Clone(header)
	for name := range header {
		header[name] = append(header[name], "more")
	}
	for name, values := range want {
		assert.Equal(t, []string{values[0], "more"}, header[name])
	}
}

// Data that is itself a CloudEvent in JSON must not be taken for the request's own.
func TestEncodeHTTPCloudEventAsData(t *testing.T) {
	t.Parallel()
	inner, err := minimal().MarshalJSON()
	require.NoError(t, err)
	for _, contentType := range []string{"application/cloudevents+json", " Application/CloudEvents-batch+json", "application/cloudevents+avro"} {
		e := event.Event{ID: "2", Source: "audit", Type: "seen", DataContentType: contentType, Data: inner}
		header, body := e.EncodeHTTP()
		assert.Equal(t, map[string][]string{"Content-Type": {"application/cloudevents+json"}}, header)
		back, err := event.DecodeHTTP(header, body)
		require.NoError(t, err)
		assert.Equal(t, e, back)
	}

	e := event.Event{
		ID: "2", Source: "audit", Type: "seen", DataContentType: "application/cloudevents+json", Data: inner,
		Extensions: map[string]any{"nested": []any{}},
	}
	header, body := e.EncodeHTTP() // JSON cannot hold it
	assert.NotContains(t, header, "Content-Type")
	assert.Equal(t, []string{"2"}, header["Ce-Id"])
	assert.Equal(t, inner, body)
}

func TestEncodeHTTPLeavesOutWhatHTTPCannotHold(t *testing.T) {
	t.Parallel()
	e := minimal()
	e.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	e.DataContentType = "text/plain\r\nX-Injected: 1"
	e.Subject = "caf\xe9\r\nX-Injected: 1"
	e.Extensions = map[string]any{
		"": "no name", "id": "reserved", "data": "reserved", "Upper": "x", "a b": "x", "a:b": "x", "a{b": "x", "a\r\nb": "x", "é": "x",
		"nested": map[string]any{"a": 1}, "nil": nil, "late": e.Time, "fine": "x", "my_ext-x": "x",
	}
	require.Error(t, e.Validate())
	header, _ := e.EncodeHTTP()
	assert.Equal(t, []string{"Ce-Fine", "Ce-Id", "Ce-My_ext-X", "Ce-Source", "Ce-Specversion", "Ce-Subject", "Ce-Type"},
		slices.Sorted(maps.Keys(header)))
	assert.Equal(t, []string{"caf%EF%BF%BD%0D%0AX-Injected:%201"}, header["Ce-Subject"])
	for name := range header {
		assert.Equal(t, http.CanonicalHeaderKey(name), name)
	}
}

// httpHead has what an event requires, and more.
func httpHead(more map[string]string) map[string][]string {
	header := map[string][]string{"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"s"}, "Ce-Type": {"t"}}
	for name, value := range more {
		header[name] = []string{value}
	}
	return header
}

func TestDecodeHTTP(t *testing.T) {
	t.Parallel()
	body := []byte("hi")
	e, err := event.DecodeHTTP(map[string][]string{
		"ce-specversion": {"1.0"}, "CE-ID": {" 1\t"}, "Ce-Source": {"s"}, "ce-Type": {"t"}, "Ce-Subject": {"u"},
		"Ce-Time": {"2025-11-11T17:54:00.000000005+01:00"}, "Ce-Dataschema": {"https://example.com/a"},
		"content-type": {"text/plain"}, "Ce-Num": {"5"}, "Ce-None": {""}, "Ce-Gone": {}, "X-Other": {"1", "2"}, "Id": {"no"},
		"Cookie": {`"`},
	}, body)
	require.NoError(t, err)
	assert.Equal(t, event.Event{
		ID: "1", Source: "s", Type: "t", Subject: "u", Time: time.Date(2025, 11, 11, 16, 54, 0, 5, time.UTC),
		DataContentType: "text/plain", DataSchema: "https://example.com/a",
		Extensions: map[string]any{"num": "5", "none": ""}, Data: body,
	}, e)
	assert.Same(t, &body[0], &e.Data[0])

	e, err = event.DecodeHTTP(httpHead(nil), []byte{})
	require.NoError(t, err)
	assert.Equal(t, event.Event{ID: "1", Source: "s", Type: "t"}, e)
}

func TestDecodeHTTPValues(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"Euro%20%E2%82%AC%20%F0%9F%98%80": "Euro € 😀",
		"%e2%82%ac":                       "€",
		"%61%62":                          "ab",
		"%2525":                           "%25",
		"raw € 😀":                         "raw € 😀",
		"100%":                            "100%",
		"100% of %zz%4":                   "100% of %zz%4",
		`"Euro%20\"\\%E2%82%AC\x"`:        `Euro "\€x`,
		`a "b c" d`:                       `a b c d`,
		`""`:                              ``,
		`back\slash`:                      `back\slash`,
		"\t padded ":                      "padded",
		"%20padded%20":                    " padded ",
	} {
		e, err := event.DecodeHTTP(httpHead(map[string]string{"Ce-X": value}), nil)
		require.NoError(t, err, value)
		assert.Equal(t, map[string]any{"x": want}, e.Extensions, value)
	}
}

func TestDecodeHTTPFaults(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		header map[string][]string
		faults []string
	}{
		"all of them": {map[string][]string{
			"Ce-Specversion": {"0.3"}, "Ce-Id": {"%C0%A0"}, "Ce-Source": {"a b"}, "Ce-Time": {"yesterday"}, "Ce-Data": {"x"},
			"Ce-": {"x"}, "Ce-My_ext": {"x"}, "Ce-Subject": {"\xff"}, "Ce-Dataschema": {"x"}, "Content-Type": {"nonsense"},
			"Ce-Open": {`"x`}, "Ce-Null": {"%00"},
		}, []string{
			"open", "", "data", "my_ext", "null", "time", "specversion", "id", "source", "type", "subject", "datacontenttype", "dataschema",
		}},
		"no specversion":    {map[string][]string{"Ce-Id": {"1"}}, []string{"specversion", "source", "type"}},
		"two values":        {httpHeadWith("Ce-Id", "1", "1"), []string{"id"}},
		"two spellings":     {httpHeadWith("ce-id", "1"), []string{"id"}},
		"two extensions":    {httpHeadWith("Ce-X", "", ""), []string{"x"}},
		"two content types": {httpHeadWith("Content-Type", "text/plain", "application/cloudevents+json"), []string{"datacontenttype"}},
		"two of them in other spellings": {
			map[string][]string{
				"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"s"}, "Ce-Type": {"t"},
				"content-type": {"text/plain"}, "Content-Type": {"text/plain"},
			},
			[]string{"datacontenttype"},
		},
		"batch":        {httpHead(map[string]string{"Content-Type": "application/cloudevents-batch+json"}), []string{"datacontenttype"}},
		"other format": {httpHead(map[string]string{"Content-Type": "application/cloudevents+avro"}), []string{"datacontenttype"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := event.DecodeHTTP(tc.header, []byte("body"))
			assert.Equal(t, tc.faults, faultsOf(t, err))
			assert.Equal(t, event.Event{}, e)
		})
	}
}

func httpHeadWith(name string, values ...string) map[string][]string {
	header := httpHead(nil)
	header[name] = values
	return header
}

func TestDecodeHTTPForeign(t *testing.T) {
	t.Parallel()
	for _, header := range []map[string][]string{
		nil, {}, {"Content-Type": {"application/json"}}, {"Content-Type": {"a/b", "a/b"}}, {"Ce-Ment": {"wet"}}, {"Ce-Id": {}}, {"Cloudevents": {"1"}},
	} {
		e, err := event.DecodeHTTP(header, []byte(`{"specversion":"1.0","id":"1","source":"s","type":"t"}`))
		require.ErrorIs(t, err, event.ErrNotCloudEvent)
		assert.Equal(t, event.Event{}, e)
	}
}

func TestDecodeHTTPContentType(t *testing.T) {
	t.Parallel()
	e, err := event.DecodeHTTP(httpHead(map[string]string{"Ce-Datacontenttype": "text/csv"}), []byte("a"))
	require.NoError(t, err)
	assert.Equal(t, "text/csv", e.DataContentType)
	e, err = event.DecodeHTTP(httpHead(map[string]string{"Ce-Datacontenttype": "text/csv", "Content-Type": "text/plain"}), []byte("a"))
	require.NoError(t, err)
	assert.Equal(t, "text/plain", e.DataContentType)
}

func TestDecodeHTTPStructured(t *testing.T) {
	t.Parallel()
	body := []byte(`{"specversion":"1.0","id":"1","source":"s","type":"t","x":5,"data":{ "a":1 }}`)
	want := event.Event{
		ID: "1", Source: "s", Type: "t", DataContentType: event.ContentTypeJSON,
		Extensions: map[string]any{"x": int32(5)}, Data: []byte(`{ "a":1 }`),
	}
	for _, header := range []map[string][]string{
		{"Content-Type": {"application/cloudevents+json"}},
		{"content-type": {" Application/CloudEvents+JSON; charset=UTF-8"}},
		{"Content-Type": {"application/cloudevents+json"}, "Ce-Id": {"other", "twice"}, "Ce-Specversion": {`"`}},
	} {
		e, err := event.DecodeHTTP(header, body)
		require.NoError(t, err)
		assert.Equal(t, want, e)
	}

	structured := map[string][]string{"Content-Type": {"application/cloudevents+json"}}
	e, err := event.DecodeHTTP(structured, []byte("{"))
	var syntax *event.SyntaxError
	require.ErrorAs(t, err, &syntax)
	assert.Equal(t, event.Event{}, e)
	e, err = event.DecodeHTTP(structured, []byte(`{"specversion":"1.0","type":"t"}`))
	assert.Equal(t, []string{"id", "source"}, faultsOf(t, err))
	assert.Equal(t, event.Event{}, e)
}

// overHTTP returns e as it must come back from the binary mode, where all extensions are text.
func overHTTP(e event.Event) event.Event {
	e = readBack(e, func(value any) (string, bool) {
		text, err := types.Format(value)
		return text, err == nil
	})
	e.DataContentType = strings.Trim(e.DataContentType, " \t")
	return e
}

func TestHTTPRoundTrip(t *testing.T) {
	t.Parallel()
	received := make(chan event.Event, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			var e event.Event
			if e, err = event.DecodeHTTP(r.Header, body); err == nil {
				received <- e
				return
			}
		}
		http.Error(w, err.Error(), http.StatusBadRequest)
	}))
	t.Cleanup(server.Close)
	rapid.Check(t, func(rt *rapid.T) {
		e := eventOf().Draw(rt, "event")
		header, body := e.EncodeHTTP()
		direct, err := event.DecodeHTTP(header, body)
		require.NoError(rt, err)
		if header["Ce-Id"] != nil {
			require.Equal(rt, overHTTP(e), direct)
		} else {
			require.Equal(rt, readBack(e, jsonText), direct)
		}

		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, bytes.NewReader(body))
		require.NoError(rt, err)
		request.Header = header
		response, err := server.Client().Do(request)
		require.NoError(rt, err)
		answer, err := io.ReadAll(response.Body)
		require.NoError(rt, err)
		require.NoError(rt, response.Body.Close())
		require.Equal(rt, http.StatusOK, response.StatusCode, "%s", answer)
		require.Equal(rt, direct, <-received)
	})
}

func FuzzDecodeHTTP(f *testing.F) {
	f.Fuzz(func(t *testing.T, prefix, version, id, source, at, name, value, contentType string, twice bool, body []byte) {
		header := map[string][]string{
			prefix + "specversion": {version}, prefix + "id": {id}, prefix + "source": {source}, prefix + "type": {value},
			prefix + "time": {at}, prefix + name: {value}, "Content-Type": {contentType}, "Accept": {"*/*", "a/b"},
		}
		if twice {
			header[name] = append(header[name], value)
		}
		kept := bytes.Clone(body)
		e, err := event.DecodeHTTP(header, body)
		require.Equal(t, kept, body, "the body was written to")
		if err != nil {
			require.Equal(t, event.Event{}, e)
			require.NotEmpty(t, err.Error())
			return
		}
		require.NoError(t, e.Validate())
		requireSDKAccepts(t, e)

		again, data := e.EncodeHTTP()
		for name, values := range again {
			require.Len(t, values, 1)
			require.Equal(t, http.CanonicalHeaderKey(name), name)
			if strings.HasPrefix(name, "Ce-") {
				require.NotRegexp(t, `[^!-~]`, values[0])
			}
		}
		back, err := event.DecodeHTTP(again, data)
		require.NoError(t, err)
		if again["Ce-Id"] != nil {
			require.Equal(t, overHTTP(e), back)
		} else {
			require.Equal(t, e, back)
		}
	})
}

func BenchmarkEncodeHTTP(b *testing.B) {
	b.ReportAllocs()
	e := orderCreated(b)
	for b.Loop() {
		e.EncodeHTTP()
	}
}

func BenchmarkDecodeHTTP(b *testing.B) {
	b.ReportAllocs()
	header, body := orderCreated(b).EncodeHTTP()
	for b.Loop() {
		if _, err := event.DecodeHTTP(header, body); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleEvent_EncodeHTTP() {
	e := event.Event{
		ID: "1", Source: "orders", Type: "order.created", Subject: "Müller & Söhne",
		DataContentType: event.ContentTypeJSON, Data: []byte(`{"total":"129.90"}`),
	}
	header, body := e.EncodeHTTP()
	for _, name := range slices.Sorted(maps.Keys(header)) {
		fmt.Printf("%s: %s\n", name, header[name][0])
	}
	fmt.Printf("\n%s\n", body)
	// Output:
	// Ce-Id: 1
	// Ce-Source: orders
	// Ce-Specversion: 1.0
	// Ce-Subject: M%C3%BCller%20&%20S%C3%B6hne
	// Ce-Type: order.created
	// Content-Type: application/json
	//
	// {"total":"129.90"}
}
