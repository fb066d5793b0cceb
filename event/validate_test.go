package event_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
)

// minimal returns a valid event with no more than is required.
func minimal() event.Event { return event.Event{ID: "1", Source: "s", Type: "t"} }

func TestValidateNamesEveryFault(t *testing.T) {
	t.Parallel()
	e := event.Event{
		Source:          "a b",
		Type:            " ",
		Subject:         "tab\there",
		Time:            time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC),
		DataContentType: "json",
		DataSchema:      "order.json",
		Extensions:      map[string]any{"Upper": "x", "id": "2", "odd": 1.5, "": true, "fine": "x", "latin": "\xe9"},
	}
	err := e.Validate()
	assert.Equal(t, []string{
		"id", "source", "type", "subject", "time", "datacontenttype", "dataschema",
		"", "Upper", "id", "latin", "odd",
	}, faultsOf(t, err))
	assert.EqualError(t, err, `invalid event: id: is missing; `+
		`source: has " ", which a URI must percent-encode; `+
		`type: is blank; `+
		`subject: has the control character U+0009; `+
		`time: is in the year 10000, for which RFC 3339 has no digits; `+
		`datacontenttype: is no media type such as application/json; `+
		`dataschema: is no absolute URI: it has no scheme, such as https:; `+
		`: an extension without a name; `+
		`Upper: is no extension's name: only lower-case letters a to z and digits are; `+
		`id: is a CloudEvents name, which no extension can have; `+
		`latin: is not UTF-8 at byte 0; `+
		`odd: is a float64; an extension is a bool, int32, string, []byte or time.Time`)
}

func TestValidateSource(t *testing.T) {
	t.Parallel()
	for source, valid := range map[string]bool{
		"orders":                                        true,
		"/cloudevents/spec/pull/123":                    true,
		"/sensors/tn-1234567/alerts":                    true,
		"1-555-123-4567":                                true,
		"https://github.com/events?a=b":                 true,
		"https://[::1]:8080/a#b":                        true,
		"mailto:cncf-wg-serverless@lists.cncf.io":       true,
		"urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66": true,
		"#":                           true,
		"./1:2":                       true,
		"//host/path":                 true,
		"a%20b":                       true,
		"~user/a;b=c,d!$&'()*+@":      true,
		"a+b-c.d:e":                   true,
		"a_b:c":                       false,
		"1:2":                         false,
		":x":                          false,
		"a b":                         false,
		"a%2":                         false,
		"a%zz":                        false,
		"münchen":                     false,
		"a\\b":                        false,
		"a<b>":                        false,
		"a#b#c":                       false,
		"a[b]":                        false,
		"https://host:port/":          false,
		"https://[::1/":               false,
		"a\x00b":                      false,
		"a\x7f":                       false,
		"\xff":                        false,
		strings.Repeat("orders/", 99): true,
	} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			e := minimal()
			e.Source = source
			if valid {
				require.NoError(t, e.Validate())
				return
			}
			assert.Equal(t, []string{"source"}, faultsOf(t, e.Validate()))
		})
	}
}

func TestValidateText(t *testing.T) {
	t.Parallel()
	for text, valid := range map[string]bool{
		"order-1":                   true,
		"Bestellung für Zoë 🚀":      true,
		" with blanks ":             true,
		"exactly8":                  true,
		"exactly 16 bytes":          true,
		"\u00a0":                    false, // blank
		"1234567\n":                 false,
		"12345678\n":                false,
		"1234567\x7f":               false,
		"12345678\x7f":              false,
		"\x1f2345678":               false,
		"1234567\xff":               false,
		"\u0085":                    false,
		"a\u009fb":                  false,
		"a\u00a0b":                  true,
		"\ufdd0":                    false,
		"\ufffe":                    false,
		"\U0010ffff":                false,
		"\ufffd":                    true,
		"\xed\xa0\x80":              false, // half a surrogate pair
		"1234567\u00fc12345678":     true,
		"1234567\u00fc\x0012345678": false,
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			e := minimal()
			e.Subject = text
			if valid {
				require.NoError(t, e.Validate())
				return
			}
			assert.Equal(t, []string{"subject"}, faultsOf(t, e.Validate()))
		})
	}
}

// A byte that no attribute may have is found wherever it stands.
func TestValidateTextEverywhere(t *testing.T) {
	t.Parallel()
	for c := range 256 {
		for at := range 20 {
			text := []byte("a printable subject.")
			text[at] = byte(c)
			e := minimal()
			e.Subject = string(text)
			if c >= ' ' && c <= '~' {
				require.NoError(t, e.Validate(), "%q", text)
			} else {
				require.Error(t, e.Validate(), "%q", text)
			}
		}
	}
}

func TestValidateContentType(t *testing.T) {
	t.Parallel()
	for contentType, valid := range map[string]bool{
		"application/json":                   true,
		"application/json; charset=utf-8":    true,
		"application/vnd.acme.order+json":    true,
		"TEXT/Plain;charset=\"utf-8\"":       true,
		"image/svg+xml":                      true,
		"json":                               false,
		"/json":                              false,
		"text/":                              false,
		"text/plain/x":                       false,
		"text/pl ain":                        false,
		"text/plain; charset":                false,
		"text/plain; charset=a; charset=b":   false,
		"application/json, application/json": false,
		";":                                  false,
	} {
		t.Run(contentType, func(t *testing.T) {
			t.Parallel()
			e := minimal()
			e.DataContentType = contentType
			if valid {
				require.NoError(t, e.Validate())
				return
			}
			assert.Equal(t, []string{"datacontenttype"}, faultsOf(t, e.Validate()))
		})
	}
}

func TestValidateSchemaAndExtensions(t *testing.T) {
	t.Parallel()
	e := minimal()
	e.DataSchema = "https://example.com/order.json#/definitions/order"
	e.Time = time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)
	e.Extensions = map[string]any{
		"a": true, "b": int32(1), "c": "", "d": []byte{0}, "e": time.Time{},
		strings.Repeat("x", 252): "the longest name that fits an AMQP header",
	}
	require.NoError(t, e.Validate())

	for name, value := range map[string]any{
		strings.Repeat("x", 253): "",
		"under_score":            "",
		"data":                   "",
		"specversion":            "1.0",
		"int":                    1,
		"nil":                    nil,
		"time":                   time.Now(),
		"late":                   time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC),
		"early":                  time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		e := minimal()
		e.Extensions = map[string]any{name: value}
		assert.Equal(t, []string{name}, faultsOf(t, e.Validate()))
	}
}

//nolint:paralleltest // testing.AllocsPerRun counts what the whole process allocates
func TestValidateCostsNothing(t *testing.T) {
	e := orderCreated(t)
	assert.Zero(t, testing.AllocsPerRun(100, func() { _ = e.Validate() }))
}
