package event_test

import (
	"math"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/evdemo/evdemo/event"
)

func TestWithExtension(t *testing.T) {
	t.Parallel()
	noon := time.Date(2025, 11, 11, 13, 0, 0, 5, time.FixedZone("CET", 3600))
	for name, tc := range map[string]struct {
		value, want any
		text        string
	}{
		"bool":            {true, true, "true"},
		"int32":           {int32(-7), int32(-7), "-7"},
		"string":          {"x", "x", "x"},
		"bytes":           {[]byte{0, 255}, []byte{0, 255}, "AP8="},
		"time":            {noon, noon.UTC(), "2025-11-11T12:00:00.000000005Z"},
		"int":             {42, int32(42), "42"},
		"int8":            {int8(-1), int32(-1), "-1"},
		"int16":           {int16(300), int32(300), "300"},
		"int64":           {int64(42), int32(42), "42"},
		"uint8":           {uint8(200), int32(200), "200"},
		"uint16":          {uint16(65535), int32(65535), "65535"},
		"uint32":          {uint32(7), int32(7), "7"},
		"uint64":          {uint64(7), int32(7), "7"},
		"int beyond":      {math.MaxInt64, "9223372036854775807", "9223372036854775807"},
		"uint32 beyond":   {uint32(math.MaxUint32), "4294967295", "4294967295"},
		"uint64 beyond":   {uint64(math.MaxUint64), "18446744073709551615", "18446744073709551615"},
		"whole float":     {3.0, int32(3), "3"},
		"float":           {1.5, "1.5", "1.5"},
		"float32":         {float32(0.1), "0.1", "0.1"},
		"huge float":      {1e300, "1e+300", "1e+300"},
		"not a number":    {math.NaN(), "NaN", "NaN"},
		"infinity":        {math.Inf(-1), "-Inf", "-Inf"},
		"url":             {&url.URL{Scheme: "https", Host: "example.com"}, "https://example.com", "https://example.com"},
		"pointer to time": {&noon, noon.UTC(), "2025-11-11T12:00:00.000000005Z"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := event.Event{}.WithExtension("x", tc.value)
			assert.Equal(t, tc.want, e.Extensions["x"])
			assert.Equal(t, tc.text, e.Extension("x"))
		})
	}
}

func TestWithExtensionCopies(t *testing.T) {
	t.Parallel()
	var none event.Event
	one := none.WithExtension("a", "1")
	two := one.WithExtension("a", "2").WithExtension("b", true)
	assert.Nil(t, none.Extensions)
	assert.Equal(t, map[string]any{"a": "1"}, one.Extensions)
	assert.Equal(t, map[string]any{"a": "2", "b": true}, two.Extensions)
	assert.Nil(t, one.WithExtension("a", nil).Extensions)
	assert.Empty(t, one.Extension("b"))
}

func TestWithExtensionKeepsTheOdd(t *testing.T) {
	t.Parallel()
	for _, odd := range []any{[]any{1}, time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), map[string]any{"a": 1}, struct{}{}, (*url.URL)(nil)} {
		e := event.Event{ID: "1", Source: "s", Type: "t"}.WithExtension("x", odd)
		assert.Equal(t, []string{"x"}, faultsOf(t, e.Validate()))
		assert.Empty(t, e.Extension("x"))
	}
}

func TestSchemaVersion(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		value any
		want  int
		ok    bool
	}{
		"absent":    {nil, 1, true},
		"integer":   {int32(3), 3, true},
		"text":      {"3", 3, true},
		"with a v":  {"v2", 2, true},
		"zero":      {int32(0), 0, false},
		"negative":  {"-1", 0, false},
		"semver":    {"1.2.0", 0, false},
		"empty":     {"", 0, false},
		"a boolean": {true, 0, false},
		"enormous":  {"99999999999999999999", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			version, ok := event.Event{}.WithExtension(event.ExtSchemaVersion, tc.value).SchemaVersion()
			assert.Equal(t, tc.want, version)
			assert.Equal(t, tc.ok, ok)
		})
	}
}
