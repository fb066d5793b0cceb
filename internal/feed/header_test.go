package feed_test

import (
	"bytes"
	"math"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go" //nolint:depguard // for Table and Decimal: values of headers that have no other name
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/feed"
	"github.com/evdemo/evdemo/publisher"
)

// headerForms has every kind of value that a header can have.
func headerForms() map[string]any {
	deep := map[string]any{"a": []any{map[string]any{"b": nil}}}
	return map[string]any{
		`"x"`: "x", `""`: "", `true`: true, `null`: nil,
		`5`: int64(5), `-9223372036854775808`: int64(math.MinInt64),
		`2.0`: 2.0, `0.1`: 0.1, `-0.0`: math.Copysign(0, -1), `1e+300`: 1e300, `5e-324`: 5e-324, `-123456.0`: -123456.0,
		`{"@float32":0.1}`: float32(0.1), `{"@float32":2.0}`: float32(2), `{"@float32":3.4028235e+38}`: float32(math.MaxFloat32),
		`{"@int8":-128}`: int8(math.MinInt8), `{"@int16":32767}`: int16(math.MaxInt16), `{"@int32":5}`: int32(5),
		`{"@uint8":255}`: uint8(255), `{"@uint16":65535}`: uint16(65535), `{"@uint32":4294967295}`: uint32(math.MaxUint32),
		`{"@decimal":{"scale":2,"value":-314}}`: amqp.Decimal{Scale: 2, Value: -314},
		`{"@time":"2025-11-11T16:54:00Z"}`:      time.Date(2025, 11, 11, 16, 54, 0, 0, time.UTC),
		`{"@time":"2025-11-11T16:54:00.5Z"}`:    time.Date(2025, 11, 11, 16, 54, 0, 5e8, time.UTC),
		`{"@time":1731344040000}`:               time.Unix(1731344040000, 0).UTC(),
		`{"@bytes":"AP8="}`:                     []byte("\x00\xff"), `{"@bytes":""}`: []byte{}, `{"@string":"/w=="}`: "\xff",
		`[]`: []any{}, `[1,"a",[2.0]]`: []any{int64(1), "a", []any{2.0}},
		`{}`: map[string]any{}, `{"a":1,"b":{}}`: map[string]any{"a": int64(1), "b": map[string]any{}}, `{"a":[{"b":null}]}`: deep,
		`{"@table":{"@time":"x"}}`: map[string]any{"@time": "x"}, `{"@table":{"@":1}}`: map[string]any{"@": int64(1)},
		`{"@table":{"@table":{"@table":{"@int8":{"@int8":1}}}}}`: map[string]any{"@table": map[string]any{"@int8": int8(1)}},
		`{"@a":1,"@b":2}`: map[string]any{"@a": int64(1), "@b": int64(2)}, `{"a@":1}`: map[string]any{"a@": int64(1)},
		`{"@table":[["/w==",{"@int8":1}]]}`: map[string]any{"\xff": int8(1)}, `{"@table":[["QHg=",1],["/w==",2]]}`: map[string]any{"@x": int64(1), "\xff": int64(2)},
	}
}

func TestHeaderForms(t *testing.T) {
	t.Parallel()
	for want, value := range headerForms() {
		m := publisher.Message{Event: someEvent(), Headers: map[string]any{"h": value}}
		line := writeRecord(t, feed.Record{Message: m})
		assert.Equal(t, `{"event":`+someEventJSON+`,"headers":{"h":`+want+`}}`, line)
		assert.Equal(t, m, readRecord(t, line), "%s", want)
	}
}

// The headers as a whole are a table like any other.
func TestHeadersMayBeNamedAnything(t *testing.T) {
	t.Parallel()
	for want, headers := range map[string]map[string]any{
		`{"@table":{"@time":"x"}}`:        {"@time": "x"},
		`{"@table":{"@table":{}}}`:        {"@table": map[string]any{}},
		`{"@table":[["/w==",1]]}`:         {"\xff": int64(1)},
		`{"":1}`:                          {"": int64(1)},
		`{"ce-id":1,"x-death":2}`:         {"ce-id": int64(1), "x-death": int64(2)},
		`{"` + string(long(255)) + `":1}`: {string(long(255)): int64(1)},
	} {
		m := publisher.Message{Raw: &publisher.Raw{Message: event.Message{Headers: headers}}}
		line := writeRecord(t, feed.Record{Message: m})
		assert.Equal(t, `{"raw":{},"headers":`+want+`}`, line)
		assert.Equal(t, m, readRecord(t, line))
	}
	m := readRecord(t, `{"raw":{},"headers":{"@time":"a name like any other: headers can be nothing but a table"}}`)
	assert.Len(t, m.Raw.Headers, 1)
}

func long(n int) []byte { return bytes.Repeat([]byte("n"), n) }

// As deep as a message can be, in the form that takes the most of JSON.
func TestTheDeepestHeaders(t *testing.T) {
	t.Parallel()
	value := any(amqp.Decimal{Scale: 1})
	for range 32 {
		value = map[string]any{"\xff": value}
	}
	m := publisher.Message{Raw: &publisher.Raw{Message: event.Message{Headers: map[string]any{"\xff": value}}}}
	assert.Equal(t, m, readRecord(t, writeRecord(t, feed.Record{Message: m})))

	m.Raw.Headers = map[string]any{"h": map[string]any{"\xff": value}}
	_, err := feed.AppendRecord(nil, feed.Record{Message: m})
	require.ErrorContains(t, err, "lies more than 32 tables and arrays deep")
}

// nameOf draws the name of a header, or any other short string.
func nameOf() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringMatching(`[a-z_]{1,8}`),
		rapid.SampledFrom([]string{"", "@time", "@table", "@int32", "@", "x-death", "a\x00b", "\u2028", "\"\\", "é"}),
		rapid.StringN(0, 60, 255),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 255), func(b []byte) string { return string(b) }),
	)
}

func timeOf() *rapid.Generator[time.Time] {
	return rapid.OneOf(
		rapid.Map(rapid.Int64(), func(s int64) time.Time { return time.Unix(s, 0).UTC() }),
		rapid.Custom(func(t *rapid.T) time.Time {
			seconds := rapid.Int64Range(-62167219200, 253402300799).Draw(t, "seconds")
			return time.Unix(seconds, rapid.Int64Range(0, 999_999_999).Draw(t, "nanos")).UTC()
		}),
	)
}

// headerOf draws a header's value with tables and arrays up to a depth.
func headerOf(depth int) *rapid.Generator[any] {
	kinds := []*rapid.Generator[any]{
		rapid.Just[any](nil), rapid.Bool().AsAny(), rapid.Int64().AsAny(), rapid.Int32().AsAny(), rapid.Int16().AsAny(), rapid.Int8().AsAny(),
		rapid.Uint8().AsAny(), rapid.Uint16().AsAny(), rapid.Uint32().AsAny(), rapid.Float64().AsAny(), rapid.Float32().AsAny(),
		rapid.Map(rapid.Int32(), func(n int32) any { return float64(n) }),
		rapid.Map(rapid.Int32(), func(n int32) any { return amqp.Decimal{Scale: uint8(n), Value: n} }), //nolint:gosec // any will do
		rapid.String().AsAny(), nameOf().AsAny(), rapid.SliceOf(rapid.Byte()).AsAny(), timeOf().AsAny(),
	}
	if depth > 0 {
		kinds = append(kinds, rapid.SliceOfN(headerOf(depth-1), 0, 4).AsAny(), rapid.MapOfN(nameOf(), headerOf(depth-1), 0, 4).AsAny())
	}
	return rapid.OneOf(kinds...)
}
