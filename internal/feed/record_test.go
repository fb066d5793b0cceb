package feed_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go" //nolint:depguard // for Table and Decimal: values of headers that have no other name
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/feed"
	"github.com/evdemo/evdemo/publisher"
)

// someEvent is valid, and all that JSON holds of an event.
func someEvent() event.Event {
	return event.Event{
		ID: "1", Source: "shop", Type: "a", Time: time.Date(2025, 11, 11, 16, 54, 0, 0, time.UTC),
		DataContentType: event.ContentTypeJSON, Data: []byte(`{"n": 1.0}`),
	}
}

const someEventJSON = `{"specversion":"1.0","id":"1","source":"shop","type":"a","time":"2025-11-11T16:54:00Z",` +
	`"datacontenttype":"application/json","data":{"n": 1.0}}`

// readRecord reads a line that is a record.
func readRecord(t require.TestingT, line string) publisher.Message {
	source := lines(line, event.Defaults{})
	m, err := source.Next()
	require.NoError(t, err, "%s", line)
	require.True(t, source.IsRecord(), "%s", line)
	return m
}

func writeRecord(t require.TestingT, r feed.Record) string {
	line, err := feed.AppendRecord(nil, r)
	require.NoError(t, err)
	require.NotContains(t, string(line), "\n", "it is one line")
	require.True(t, json.Valid(line), "%s", line)
	return string(line)
}

// A record looks like this, and is read as what it was.
func TestRecordForm(t *testing.T) {
	t.Parallel()
	raw := &publisher.Raw{
		Message: event.Message{
			ContentType: "text/plain", ContentEncoding: "gzip", MessageID: "7", Type: "note", CorrelationID: "c", AppID: "app",
			Timestamp: time.Unix(1731344040, 0).UTC(), Body: []byte("<a&b>\n\u2028"), Headers: map[string]any{"x-death": []any{}},
		},
		ReplyTo: "back", Priority: 5, Expiration: 90 * time.Second,
	}
	tests := map[string]publisher.Message{
		`{"event":` + someEventJSON + `}`: {Event: someEvent()},
		`{"event":` + someEventJSON + `,"headers":{"b":true,"n":null,"t":"x"},"exchange":"","routing_key":"payments"}`: {
			Event: someEvent(), Headers: map[string]any{"t": "x", "b": true, "n": nil}, To: publisher.ToQueue("payments"),
		},
		`{"raw":{"content_type":"text/plain","content_encoding":"gzip","message_id":"7","type":"note","correlation_id":"c",` +
			`"app_id":"app","reply_to":"back","priority":5,"expiration":"1m30s","timestamp":"2024-11-11T16:54:00Z",` +
			`"body":"<a&b>\n\u2028"},"headers":{"x-death":[]},"exchange":"logs","routing_key":"eu.warn"}`: {
			Raw: raw, To: publisher.Destination{Exchange: "logs", RoutingKey: "eu.warn"},
		},
		`{"raw":{}}`: {Raw: &publisher.Raw{}},
		`{"raw":{"message_id":{"@string":"/w=="},"body_base64":"AP8="},"exchange":{"@string":"/w=="},"routing_key":""}`: {
			Raw: &publisher.Raw{Message: event.Message{MessageID: "\xff", Body: []byte("\x00\xff")}}, To: publisher.ToTopic("\xff"),
		},
	}
	for want, m := range tests {
		assert.Equal(t, want, writeRecord(t, feed.Record{Message: m}))
		assert.Equal(t, m, readRecord(t, want))
	}
	failed := writeRecord(t, feed.Record{Message: publisher.Message{Raw: &publisher.Raw{}}, Failure: map[string]any{"reason": "<b>\n"}})
	assert.True(t, strings.HasSuffix(failed, `,"failure":{"reason":"<b>\n"}}`), failed)
	assert.Equal(t, publisher.Message{Raw: &publisher.Raw{}}, readRecord(t, failed))
}

// What has several forms in Go, or more of them than the wire has, is read in the one that says the same.
func TestRecordLiberties(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("", 3600)
	at := time.Date(2025, 11, 11, 16, 54, 0, 0, zone)
	m := readRecord(t, writeRecord(t, feed.Record{Message: publisher.Message{
		Raw: &publisher.Raw{
			Message:    event.Message{Headers: map[string]any{"a": 1, "own": true}, Body: []byte{}, Timestamp: at},
			Expiration: -1,
		},
		Headers: map[string]any{
			"a": 2, "big": math.MaxInt32 + 1, "table": amqp.Table{"t": amqp.Table{"at": at}}, "list": []any(nil), "bytes": []byte(nil),
			"none": map[string]any(nil),
		},
	}}))
	assert.Equal(t, publisher.Message{Raw: &publisher.Raw{Message: event.Message{
		Timestamp: at.UTC(),
		Headers: map[string]any{
			"a": int32(2), "own": true, "big": int64(math.MaxInt32 + 1), "list": []any{}, "bytes": []byte{}, "none": map[string]any{},
			"table": map[string]any{"t": map[string]any{"at": at.UTC()}},
		},
	}}}, m)
	m = readRecord(t, writeRecord(t, feed.Record{Message: publisher.Message{Event: someEvent(), Headers: map[string]any{}}}))
	assert.Equal(t, publisher.Message{Event: someEvent()}, m)
	m = readRecord(t, `{"raw":{},"headers":{"int64":{"@int64":5},"float64":{"@float64":5},"exponent":5E0,"zero":-0}}`)
	assert.Equal(t, map[string]any{"int64": int64(5), "float64": 5.0, "exponent": 5.0, "zero": int64(0)}, m.Raw.Headers)
}

// What JSON would change of an event is kept in the form that the wire has.
func TestEventsThatJSONDoesNotHold(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*event.Event){
		"bytes in an extension": func(e *event.Event) { e.Extensions = map[string]any{"key": []byte("\xff"), "n": int32(1)} },
		"no content type":       func(e *event.Event) { e.DataContentType = "" },
	} {
		e := someEvent()
		change(&e)
		m := readRecord(t, writeRecord(t, feed.Record{Message: publisher.Message{Event: e, Headers: map[string]any{"h": "x"}, To: publisher.ToTopic("t")}}))
		want := e.Encode()
		want.Headers["h"] = "x"
		assert.Equal(t, publisher.Message{Raw: &publisher.Raw{Message: want}, To: publisher.ToTopic("t")}, m, name)
	}
}

// A record's event gets what CloudEvents requires, and nothing else: what had no time has none.
func TestRecordsAreNotFilledIn(t *testing.T) {
	t.Parallel()
	defaults := event.Defaults{Type: "made", Source: "here", Subject: "s"}
	messages, faults := readMessages(t, lines(
		`{"event":{"specversion":"1.0","id":"1","source":"shop","type":"a"}}`+"\n"+`{"headers":{},"event":{"specversion":"1.0"}}`, defaults))
	require.Empty(t, faults)
	require.Len(t, messages, 2)
	assert.Equal(t, publisher.Message{Event: event.Event{ID: "1", Source: "shop", Type: "a", Subject: "s"}}, messages[0])
	assert.NotEmpty(t, messages[1].Event.ID)
	messages[1].Event.ID = ""
	assert.Equal(t, publisher.Message{Event: event.Event{Source: "here", Type: "made", Subject: "s"}}, messages[1])

	messages, faults = readMessages(t, lines(`{"event":{"specversion":"1.0","id":"1","type":"a"}}`+"\n"+`{"event":{"specversion":"1.0"}}`, event.Defaults{}))
	require.Len(t, messages, 1)
	assert.Equal(t, "evdemo", messages[0].Event.Source)
	require.Len(t, faults, 1)
	require.ErrorIs(t, faults[0], event.ErrNoType)
}

// White space, the order of members, escapes in their names and a byte order mark mean nothing.
func TestRecordsAsOthersWriteThem(t *testing.T) {
	t.Parallel()
	want := publisher.Message{Event: someEvent(), Headers: map[string]any{"a": int64(1)}, To: publisher.ToQueue("q")}
	for _, line := range []string{
		`{"headers":{"a":1},"routing_key":"q","event":` + someEventJSON + `}`,
		"\ufeff \t{ \"failure\" : [1, {\"event\":2}] , \"headers\" : { \"a\" : 1 } , \"event\" : " + someEventJSON + " , \"routing_key\" : \"q\" } \r",
		`{"\u0065vent":` + someEventJSON + `,"he\u0061ders":{"\u0061":1},"routing_key":"\u0071","exchange":null,"raw":null}`,
		`{"exchange":"","routing_key":"q","headers":{"a":1},"event":{"id":"1","specversion":"1.0","source":"shop","type":"a",` +
			`"time":"2025-11-11T16:54:00Z","data":{"n": 1.0}}}`,
	} {
		assert.Equal(t, want, readRecord(t, line))
	}
	assert.Equal(t, publisher.Message{Raw: &publisher.Raw{}},
		readRecord(t, `{"raw":{"priority":null,"timestamp":null,"expiration":null,"app_id":null,"body":null,"body_base64":""},"headers":{}}`))
}

// Whatever is not a record in every respect is what it was before there were records.
func TestNoRecords(t *testing.T) {
	t.Parallel()
	tests := []string{
		`{"event":"click"}`, `{"event":{"id":"1"}}`, `{"event":{"data":{"specversion":"1.0"}}}`, `{"event":null}`, `{"event":[{"specversion":"1.0"}]}`,
		`{"raw":"x"}`, `{"raw":null}`, `{"raw":[{}]}`, `{"headers":{}}`, `{"exchange":"x","routing_key":"y"}`, `{"failure":{}}`,
		`{"event":` + someEventJSON + `,"other":1}`, `{"raw":{},"name":"x"}`, `{"event":` + someEventJSON + `,"raw":{}}`,
		`{"raw":{},"event":7}`, `{"headers":{},"a":{"specversion":"1.0"}}`, `{}`, `{"":1}`, `[{"raw":{}}]`,
	}
	for _, line := range tests {
		source := lines(line, event.Defaults{Type: "t"})
		m, err := source.Next()
		require.NoError(t, err, "%s", line)
		assert.False(t, source.IsRecord(), "%s", line)
		assert.Nil(t, m.Raw, "%s", line)
		assert.Equal(t, "t", m.Event.Type, "%s", line)
		assert.Equal(t, line, string(m.Event.Data), "it is data, byte for byte")
	}
	m, err := lines(`{"type":"t","raw":{}}`, event.Defaults{}).Next()
	require.NoError(t, err)
	assert.JSONEq(t, `{"raw":{}}`, string(m.Event.Data))
	m, err = lines(`{"specversion":"1.0","type":"t","event":"e"}`, event.Defaults{}).Next()
	require.NoError(t, err)
	assert.Equal(t, "e", m.Event.Extension("event"))
}

func TestRecordFaults(t *testing.T) {
	t.Parallel()
	withHeader := func(value string) string { return `{"raw":{},"headers":{"h":` + value + `}}` }
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	tests := []struct{ line, fault string }{
		{`{"event":{"specversion":"1.0","id":"1","source":"a b","type":"t"}}`, `invalid event: source: has " ", which a URI must percent-encode`},
		{`{"event":{"specversion":"2.0","type":"t"}}`, `invalid event: specversion: is "2.0"; only "1.0" is supported`},
		{`{"event":{"specversion":"1.0"}}`, `no "type" and no default type`},
		{`{"event":{"specversion":"1.0","type":"t"},"header":{}}`, `no "type" and no default type, and no record: a record has no member "header"`},
		{`{"raw":{},"type":7}`, `invalid event: type: is a number; it must be a string`},
		{`{"raw":{},"header":1}`, `no "type" and no default type, and no record: a record has no member "header"`},
		{`{"raw":{},"event":1}`, `no "type" and no default type, and no record: a record has "event" or "raw", not both`},
		{`{"raw":{},"headers":{`, `not an event in JSON, at byte 20: unexpected end of JSON input`},
		{`{"raw":{},"headers":{"a":1,}}`, `not an event in JSON, at byte 27: invalid character '}' looking for beginning of object key string`},
		{`{"raw":{}} {}`, `not an event in JSON, at byte 11: invalid character '{' after top-level value`},
		{"{\"raw\":{\"body\":\"\xff\"}}", `not an event in JSON, at byte 16: it is not UTF-8`},
		{`{"event":` + someEventJSON + `,"headers":{"ce-id":"2"}}`, `invalid record: headers: header name "ce-id": the prefixes ce-, evdemo- and x- are taken`},
		{`{"event":` + someEventJSON + `,"headers":{"x-death":[]}}`, `invalid record: headers: header name "x-death": the prefixes ce-, evdemo- and x- are taken`},
		{`{"event":` + someEventJSON + `,"headers":{"":1}}`, `invalid record: headers: header name "" must have 1 to 255 bytes`},
		{`{"raw":{},"raw":{}}`, `invalid record: record.raw: is there twice`},
		{`{"raw":{},"headers":1}`, `invalid record: headers: is a number; want an object`},
		{`{"raw":{},"headers":[]}`, `invalid record: headers: is an array; want an object`},
		{`{"raw":{},"headers":{"@table":1}}`, `invalid record: headers: @table is a number; want an object, or an array of names and values`},
		{`{"raw":{},"exchange":1,"routing_key":true}`, `invalid record: exchange: is a number; want a string; routing_key: is a boolean; want a string`},
		{`{"raw":{},"exchange":{"a":1}}`, `invalid record: exchange: is an object; want a string`},
		{`{"raw":{},"routing_key":"` + string(long(256)) + `"}`, `invalid record: routing_key: has 256 bytes; AMQP holds 255`},
		{`{"raw":{"message_id":"` + string(long(256)) + `"}}`, `invalid record: raw.message_id: has 256 bytes; AMQP holds 255`},
		{`{"raw":{"message_id":7}}`, `invalid record: raw.message_id: is a number; want a string`},
		{`{"raw":{"messageid":"7","b\u0007":1}}`, `invalid record: raw.messageid: is no member of a raw message; raw."b\a": is no member of a raw message`},
		{`{"raw":{"headers":{}}}`, `invalid record: raw.headers: is no member of a raw message`},
		{`{"raw":{"type":"a","type":"b"}}`, `invalid record: raw.type: is there twice`},
		{`{"raw":{"priority":256}}`, `invalid record: raw.priority: is no uint8`},
		{`{"raw":{"priority":"5"}}`, `invalid record: raw.priority: is no uint8`},
		{`{"raw":{"priority":1.0}}`, `invalid record: raw.priority: is no uint8`},
		{`{"raw":{"expiration":"60000"}}`, `invalid record: raw.expiration: is no duration, such as "1m30s"`},
		{`{"raw":{"expiration":"-1s"}}`, `invalid record: raw.expiration: is no duration, such as "1m30s"`},
		{`{"raw":{"expiration":60000}}`, `invalid record: raw.expiration: is no duration, such as "1m30s"`},
		{`{"raw":{"timestamp":"yesterday"}}`, `invalid record: raw.timestamp: is no time in RFC 3339, such as "2025-11-11T16:54:00Z", nor whole seconds since 1970`},
		{`{"raw":{"timestamp":1.5}}`, `invalid record: raw.timestamp: is no time in RFC 3339, such as "2025-11-11T16:54:00Z", nor whole seconds since 1970`},
		{`{"raw":{"body":{}}}`, `invalid record: raw.body: is no string`},
		{`{"raw":{"body":"","body_base64":""}}`, `invalid record: raw.body: and "body_base64" are both there; only one can be`},
		{`{"raw":{"body_base64":"A"}}`, `invalid record: raw.body_base64: illegal base64 data at input byte 0`},
		{`{"raw":{"body_base64":1}}`, `invalid record: raw.body_base64: is a number; want a string of base64`},
		{withHeader(`9223372036854775808`), `invalid record: headers.h: is no int64`},
		{withHeader(`1e999`), `invalid record: headers.h: is no float64`},
		{withHeader(`{"@int8":128}`), `invalid record: headers.h: is no int8`},
		{withHeader(`{"@int16":-32769}`), `invalid record: headers.h: is no int16`},
		{withHeader(`{"@int32":2147483648}`), `invalid record: headers.h: is no int32`},
		{withHeader(`{"@int32":1.0}`), `invalid record: headers.h: is no int32`},
		{withHeader(`{"@int32":"NaN"}`), `invalid record: headers.h: is no int32`},
		{withHeader(`{"@float64":"NaN"}`), `invalid record: headers.h: is no float64`},
		{withHeader(`{"@float32":"+Inf"}`), `invalid record: headers.h: is no float32`},
		{withHeader(`{"@float64":true}`), `invalid record: headers.h: is no float64`},
		{withHeader(`{"@uint8":-1}`), `invalid record: headers.h: is no uint8`},
		{withHeader(`{"@uint16":65536}`), `invalid record: headers.h: is no uint16`},
		{withHeader(`{"@uint32":4294967296}`), `invalid record: headers.h: is no uint32`},
		{withHeader(`{"@float32":1e39}`), `invalid record: headers.h: is no float32`},
		{withHeader(`{"@float64":"0x1p4"}`), `invalid record: headers.h: is no float64`},
		{withHeader(`{"@decimal":{"scale":256,"value":1}}`), `invalid record: headers.h.scale: is no uint8; headers.h: is no decimal, such as {"scale":2,"value":314} for 3.14`},
		{withHeader(`{"@time":true}`), `invalid record: headers.h: is no time in RFC 3339, such as "2025-11-11T16:54:00Z", nor whole seconds since 1970`},
		{withHeader(`{"@bytes":"_w=="}`), `invalid record: headers.h: illegal base64 data at input byte 0`},
		{withHeader(`{"@string":null}`), `invalid record: headers.h: is null; want a string of base64`},
		{withHeader(`{"@uint64":1}`), `invalid record: headers.h: "@uint64" is no type; an object with this name alone is written as {"@table":{...}}`},
		{withHeader(`{"@table":[["YQ==",1],["YQ==",2],[1,2],["YQ=="]]}`), `invalid record: headers.h.a: is there twice; headers.h: is a number; want a string of base64; headers.h: @table[3] is no array of a name and a value`},
		{withHeader(`[1,{"a":{"b":1,"b":2}}]`), `invalid record: headers.h.a.b: is there twice`},
		{withHeader(`[1,{"a":{"b":{"@int8":1000}}}]`), `invalid record: headers.h[1].a.b: is no int8`},
		{withHeader(`{"` + string(long(256)) + `":1}`), `invalid record: headers.h."` + string(long(60)) + `": the name has 256 bytes; AMQP holds 255`},
		{withHeader(nested(33)), `invalid record: headers.h` + strings.Repeat("[0]", 32) + `: lies more than 32 tables and arrays deep`},
		{withHeader(nested(5000)), `invalid record: headers.h: is nested too deeply; headers.h` + strings.Repeat("[0]", 32) + `: lies more than 32 tables and arrays deep`},
		{
			withHeader(`[` + strings.Repeat(`{"@":1},`, 20) + `1]`),
			`invalid record: ` + strings.Join(headerFaults(10), "; ") + `; and 10 more`,
		},
	}
	for _, test := range tests {
		m, err := lines("\n"+test.line, event.Defaults{}).Next()
		require.EqualError(t, err, "in:2: "+test.fault, "%.300s", test.line)
		assert.Equal(t, publisher.Message{}, m)
	}
	_, err := lines(withHeader(nested(20000)), event.Defaults{}).Next()
	require.ErrorContains(t, err, "exceeded max depth", "which is where Go's JSON ends")
}

// headerFaults has the faults of the first values of a header that is an array of what has no type.
func headerFaults(n int) []string {
	faults := make([]string, n)
	for i := range faults {
		faults[i] = fmt.Sprintf(`headers.h[%d]: "@" is no type; an object with this name alone is written as {"@table":{...}}`, i)
	}
	return faults
}

func TestAppendRecordRefuses(t *testing.T) {
	t.Parallel()
	raw := func(change func(*publisher.Raw)) feed.Record {
		r := &publisher.Raw{Message: event.Message{MessageID: "7"}}
		change(r)
		return feed.Record{Message: publisher.Message{Raw: r}}
	}
	withHeader := func(value any) feed.Record {
		return feed.Record{Message: publisher.Message{Event: someEvent(), Headers: map[string]any{"h": []any{value}}}}
	}
	tests := []struct {
		record feed.Record
		fault  string
	}{
		{feed.Record{Message: publisher.Message{Event: event.Event{ID: "7", Source: "s"}}}, `write event 7 as a record: invalid event: type: is missing`},
		{
			feed.Record{Message: publisher.Message{Event: someEvent(), Headers: map[string]any{"ce-id": 1}}},
			`write event 1 as a record: headers: header name "ce-id": the prefixes ce-, evdemo- and x- are taken`,
		},
		{withHeader(uint64(1)), `write event 1 as a record: headers.h[0]: is a uint64, for which AMQP has no type`},
		{withHeader(math.NaN()), `write event 1 as a record: headers.h[0]: is NaN, which RabbitMQ does not take`},
		{withHeader(float32(math.Inf(-1))), `write event 1 as a record: headers.h[0]: is -Inf, which RabbitMQ does not take`},
		{withHeader([]string{}), `write event 1 as a record: headers.h[0]: is a []string, for which AMQP has no type`},
		{withHeader(map[string]any{string(long(256)): 1}), `write event 1 as a record: headers.h[0]."` + string(long(60)) + `": the name has 256 bytes; AMQP holds 255`},
		{raw(func(r *publisher.Raw) { r.ReplyTo = string(long(256)) }), `write event 7 as a record: raw.reply_to: has 256 bytes; AMQP holds 255`},
		{feed.Record{Message: publisher.Message{Event: someEvent(), To: publisher.ToQueue(string(long(256)))}}, `write event 1 as a record: routing_key: has 256 bytes; AMQP holds 255`},
		{feed.Record{Message: publisher.Message{Event: someEvent()}, Failure: math.NaN()}, `write event 1 as a record: failure: json: unsupported value: NaN`},
	}
	for _, test := range tests {
		dst := []byte("before")
		line, err := feed.AppendRecord(dst, test.record)
		require.EqualError(t, err, test.fault)
		assert.Equal(t, "before", string(line))
	}
	line, err := feed.AppendRecord([]byte("before"), feed.Record{Message: publisher.Message{Raw: &publisher.Raw{}}})
	require.NoError(t, err)
	assert.Equal(t, `before{"raw":{}}`, string(line))
}

func TestRecordKeepsWhenItCame(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	with := writeRecord(t, feed.Record{Message: publisher.Message{Event: someEvent()}, At: at})
	without := writeRecord(t, feed.Record{Message: publisher.Message{Event: someEvent()}})
	require.Contains(t, with, `,"at":"2026-01-02T03:04:05.000006Z"`)
	lines := feed.NewLines("in", strings.NewReader(with+"\n"+without+"\n"), event.Defaults{})
	for _, want := range []time.Time{at, {}} {
		_, err := lines.Next()
		require.NoError(t, err)
		require.True(t, want.Equal(lines.At()))
	}
	_, err := feed.NewLines("in", strings.NewReader(strings.Replace(with, "2026-01", "2026-13", 1)), event.Defaults{}).Next()
	require.ErrorContains(t, err, "at: ")
}
