package filter_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/filter"
)

func order() event.Event {
	return event.Event{
		ID: "o-1", Source: "shop/eu", Type: "order.created", Subject: "order-1", Time: time.Date(2024, 5, 1, 10, 0, 0, 0, time.UTC),
		DataContentType: "application/json", DataSchema: "https://example.com/order", Extensions: map[string]any{"tenant": "acme", "tries": int32(3)},
		Data: []byte(`{"amount": 50.5, "currency": "EUR", "items": [{"sku": "a", "n": 2}, {"sku": "b", "n": 1}], "note": null, "big": 12345678901234567890}`),
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	headers := map[string]any{"region": "eu", "hops": int32(2), "nested": map[string]any{"a": "b"}}
	tests := map[string]bool{
		"":                         true,
		"true":                     true,
		"false":                    false,
		`type == "order.created"`:  true,
		`type == "order.deleted"`:  false,
		`type startsWith "order."`: true,
		`id == "o-1" and source endsWith "/eu" and subject matches "^order-\\d$"`: true,
		`type in ["order.created", "order.paid"]`:                                 true,
		`time > date("2024-01-01") && time.Year() == 2024`:                        true,
		`time.Hour() == 9`: false,
		`datacontenttype == "application/json" && dataschema contains "example.com"`: true,
		`extensions.tenant == "acme" && extensions.tries == 3`:                       true,
		`extensions.missing == nil`:                                                  true,
		`headers.region == "eu" && headers.hops > 1 && headers.nested.a == "b"`:      true,
		`headers.missing == "x"`:                                                     false,
		`"region" in headers`:                                                        true,
		`data.amount > 50`:                                                           true,
		`data.amount > 51`:                                                           false,
		`data.amount > 50 && data.currency == "EUR"`:                                 true,
		`data.items[1].sku == "b"`:                                                   true,
		`any(data.items, .n > 1)`:                                                    true,
		`sum(data.items, .n) == 3`:                                                   true,
		`data.missing == nil`:                                                        true,
		`data.note == nil`:                                                           true,
		`(data.missing ?? 7) == 7`:                                                   true,
		`data?.a?.b?.c == nil`:                                                       true,
		`"amount" in data`:                                                           true,
		`data.big > 1e19`:                                                            true,
		`$env.data.amount > 50`:                                                      true,
		`$env["type"] == "order.created"`:                                            true,
		`let d = data; d.amount > 50`:                                                true,
		`len(data.items) == 2 ? type == "order.created" : false`:                     true,
	}
	for expression, want := range tests {
		f, err := filter.Compile(expression)
		require.NoError(t, err, expression)
		got, err := f.Match(order(), headers)
		require.NoError(t, err, expression)
		assert.Equal(t, want, got, expression)
	}
}

func TestDataThatIsNoJSONIsText(t *testing.T) {
	t.Parallel()
	e := order()
	for data, expression := range map[string]string{
		"plain text": `data == "plain text"`, "": `data == ""`, "[1, 2]": "data[1] == 2", "7": "data == 7", `"quoted"`: `data == "quoted"`,
		"null": "data == nil", "true": "data", "{broken": `data startsWith "{"`, "\xff\x00": "len(data) == 2",
	} {
		f, err := filter.Compile(expression)
		require.NoError(t, err, expression)
		e.Data = []byte(data)
		got, err := f.Match(e, nil)
		require.NoError(t, err, "%s on %q", expression, data)
		assert.True(t, got, "%s on %q", expression, data)
	}
}

// What cannot be worked out for an event is no match, and says why.
func TestMatchErrors(t *testing.T) {
	t.Parallel()
	e := order()
	e.Data = []byte(`{"total": 5}`)
	for expression, text := range map[string]string{
		"data.amount > 50":         "invalid operation: <nil> > int",
		`data.total + "x" == "5x"`: "invalid operation: float64 + string",
		"data.a.b == 1":            "cannot fetch b from <nil>",
		"data[0] == 1":             "",
		"extensions.missing > 1":   "invalid operation",
		"data.total":               "invalid operation: bool(float64)",
		"int(subject) == 1":        "invalid operation: int(order-1)",
		"all(data.total, true)":    "",
		`headers.a.b == "x"`:       "cannot fetch b from <nil>",
	} {
		f, err := filter.Compile(expression)
		require.NoError(t, err, expression)
		got, err := f.Match(e, nil)
		require.Error(t, err, expression)
		assert.Contains(t, err.Error(), text, expression)
		assert.False(t, got, expression)
	}
}

func TestBadExpressions(t *testing.T) {
	t.Parallel()
	for expression, text := range map[string]string{
		"type ==":               "unexpected token EOF (1:7)",
		`tpye == "a"`:           "unknown name tpye",
		"1 + 1":                 "expected bool, but got int",
		"type":                  "expected bool, but got string",
		"time > 5":              "invalid operation",
		"type > 5":              "invalid operation",
		`nosuch(data)`:          "unknown name nosuch",
		`type = "a"`:            "",
		"'unclosed":             "literal not terminated",
		"\x00":                  "",
		strings.Repeat("(", 99): "",
	} {
		f, err := filter.Compile(expression)
		require.ErrorIs(t, err, filter.ErrExpression, expression)
		require.ErrorContains(t, err, "invalid filter: ", expression)
		require.ErrorContains(t, err, text, expression)
		assert.Nil(t, f)
	}
}

// Data is decoded where an expression looks at it, and nowhere else: that costs more than all the rest.
func TestDataIsDecodedOnlyWhereItIsWanted(t *testing.T) { //nolint:paralleltest // it counts allocations
	e := order()
	e.Data = []byte(`[` + strings.Repeat(`{"a": [1, 2, 3]},`, 1000) + `1]`)
	allocations := func(expression string) float64 {
		f, err := filter.Compile(expression)
		require.NoError(t, err)
		return testing.AllocsPerRun(20, func() {
			if _, err := f.Match(e, nil); err != nil {
				t.Error(err)
			}
		})
	}
	for _, expression := range []string{`type == "order.created"`, `extensions.data == nil`, `headers["data"] == nil`, `"data" != type`} {
		assert.Less(t, allocations(expression), 100.0, expression)
	}
	for _, expression := range []string{"len(data) > 0", "$env.data != nil", `any([1], data[0].a[0] == #)`, "let d = data; d != nil"} {
		assert.Greater(t, allocations(expression), 1000.0, expression)
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	f, err := filter.Compile(`type == "order.created" && sum(data.items, .n) == 3 && subject matches "order-\\d"`)
	require.NoError(t, err)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				got, err := f.Match(order(), map[string]any{"a": "b"})
				assert.True(t, got && err == nil, "%v", err)
			}
		})
	}
	all.Wait()
}

// FuzzFilter: no expression and no event break the filter, and an expression that does not compile
// says so.
func FuzzFilter(f *testing.F) {
	f.Add(`type == "order.created" && data.amount > 50`, []byte(`{"amount": 51}`))
	f.Add(`any(data, # > 1)`, []byte(`[1, "2", null]`))
	f.Fuzz(func(t *testing.T, expression string, data []byte) {
		if len(expression) > 200 || strings.ContainsAny(expression, "*.") && strings.Contains(expression, "..") {
			t.Skip("ranges and repetitions are as costly as they say")
		}
		compiled, err := filter.Compile(expression)
		if err != nil {
			require.ErrorIs(t, err, filter.ErrExpression)
			return
		}
		e := order()
		e.Data = data
		if matched, err := compiled.Match(e, nil); err != nil {
			require.False(t, matched)
		}
	})
}
