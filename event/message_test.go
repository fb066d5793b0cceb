package event_test

import (
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
)

func TestEncode(t *testing.T) {
	t.Parallel()
	at := time.Date(2025, 11, 11, 17, 54, 0, 123456789, time.FixedZone("CET", 3600))
	e := event.Event{
		ID: "1", Source: "s", Type: "t", Subject: "u", Time: at,
		DataContentType: "application/json", DataSchema: "https://example.com/a",
		Extensions: map[string]any{
			event.ExtCorrelationID: "c", event.ExtCausationID: "2", event.ExtParentID: "3", event.ExtSchemaVersion: int32(2),
			event.ExtPartitionKey: "p", event.ExtTraceParent: "tp",
			"flag": true, "bin": []byte{1}, "at": at, "int": 7,
		},
		Data: []byte(`{ "a": 1 }`),
	}
	m := e.Encode()
	assert.Equal(t, event.Message{
		Headers: map[string]any{
			"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "t", "ce-subject": "u",
			"ce-time": "2025-11-11T16:54:00.123456789Z", "ce-dataschema": "https://example.com/a",
			"ce-correlationid": "c", "ce-causationid": "2", "ce-parentid": "3", "ce-schemaversion": int32(2),
			"ce-partitionkey": "p", "ce-traceparent": "tp", "ce-flag": true, "ce-bin": []byte{1},
			"ce-at": "2025-11-11T16:54:00.123456789Z", "ce-int": int32(7),
		},
		Body:      []byte(`{ "a": 1 }`),
		MessageID: "1", Type: "t", CorrelationID: "c", ContentType: "application/json", Timestamp: at,
	}, m)
	assert.Same(t, &e.Data[0], &m.Body[0], "the body is not copied")
}

func TestEncodeMinimal(t *testing.T) {
	t.Parallel()
	assert.Equal(t, event.Message{
		Headers:   map[string]any{"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "t"},
		MessageID: "1", Type: "t",
	}, minimal().Encode())
}

// What AMQP's properties cannot hold is in the headers alone, and nothing is lost.
func TestEncodeLong(t *testing.T) {
	t.Parallel()
	fits, long := strings.Repeat("x", 255), strings.Repeat("x", 256)
	e := event.Event{
		ID: fits, Source: fits, Type: fits, DataContentType: "text/" + fits[5:],
		Extensions: map[string]any{event.ExtCorrelationID: fits},
	}
	m := e.Encode()
	assert.Equal(t, []string{fits, fits, fits, e.DataContentType}, []string{m.MessageID, m.Type, m.CorrelationID, m.ContentType})
	assert.NotContains(t, m.Headers, "ce-datacontenttype")

	e = event.Event{
		ID: long, Source: long, Type: long, DataContentType: "text/" + long,
		Extensions: map[string]any{event.ExtCorrelationID: long},
	}
	m = e.Encode()
	assert.Equal(t, []string{"", "", "", ""}, []string{m.MessageID, m.Type, m.CorrelationID, m.ContentType})
	back, err := event.Decode(m)
	require.NoError(t, err)
	assert.Equal(t, e, back)
}

// Data that is itself a CloudEvent in JSON must not be taken for the message's own.
func TestEncodeCloudEventAsData(t *testing.T) {
	t.Parallel()
	inner, err := minimal().MarshalJSON()
	require.NoError(t, err)
	e := event.Event{ID: "2", Source: "audit", Type: "seen", DataContentType: "application/cloudevents+json", Data: inner}
	m := e.Encode()
	assert.Empty(t, m.ContentType)
	back, err := event.Decode(m)
	require.NoError(t, err)
	assert.Equal(t, e, back)
}

func TestEncodeLeavesOutWhatAMQPCannotHold(t *testing.T) {
	t.Parallel()
	e := minimal()
	e.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	e.Extensions = map[string]any{
		strings.Repeat("x", 253): "too long", "": "no name", "id": "reserved", "data": "reserved",
		"nested": map[string]any{"a": 1}, "nil": nil, "late": e.Time, "fine": "x",
	}
	require.Error(t, e.Validate())
	m := e.Encode()
	assert.Equal(t, []string{"ce-fine", "ce-id", "ce-source", "ce-specversion", "ce-type"}, slices.Sorted(maps.Keys(m.Headers)))
	assert.Equal(t, "1", m.Headers["ce-id"])
	assert.True(t, m.Timestamp.IsZero())
}

func TestDecodePrefixes(t *testing.T) {
	t.Parallel()
	want := event.Event{
		ID: "1", Source: "s", Type: "t", Subject: "u", Time: time.Date(2025, 11, 11, 16, 54, 0, 5, time.UTC),
		DataContentType: "text/plain", DataSchema: "https://example.com/a",
		Extensions: map[string]any{"x": "y"}, Data: []byte("hi"),
	}
	for _, prefix := range []string{"ce-", "ce_", "cloudEvents:", "cloudEvents_"} {
		t.Run(prefix, func(t *testing.T) {
			t.Parallel()
			headers := map[string]any{"x-death": []any{}, "x": "not this one", "other-id": "7"}
			for name, value := range map[string]any{
				"specversion": "1.0", "id": "1", "source": []byte("s"), "type": "t", "subject": "u",
				"time": "2025-11-11T16:54:00.000000005Z", "dataschema": "https://example.com/a", "x": "y", "none": nil,
			} {
				headers[prefix+name] = value
			}
			e, err := event.Decode(event.Message{Headers: headers, ContentType: "text/plain", Body: []byte("hi")})
			require.NoError(t, err)
			assert.Equal(t, want, e)
		})
	}
}

// One prefix counts, so that what comes out does not depend on the order of a map.
func TestDecodeMixedPrefixes(t *testing.T) {
	t.Parallel()
	for range 20 {
		e, err := event.Decode(event.Message{Headers: map[string]any{
			"cloudEvents:specversion": "1.0", "cloudEvents:id": "2", "cloudEvents:source": "s2", "cloudEvents:type": "t2", "cloudEvents:x": "2",
			"ce_specversion": "1.0", "ce_id": "1", "ce_source": "s1", "ce_type": "t1",
			"ce-id": "3",
		}})
		require.NoError(t, err)
		assert.Equal(t, event.Event{ID: "1", Source: "s1", Type: "t1"}, e)
	}
}

func TestDecodeValues(t *testing.T) {
	t.Parallel()
	at := time.Date(2025, 11, 11, 16, 54, 0, 0, time.UTC)
	type named string
	for name, tc := range map[string]struct {
		value, want any // a nil want: left out, and a fault
	}{
		"bool":       {true, true},
		"int8":       {int8(-1), int32(-1)},
		"int16":      {int16(-1), int32(-1)},
		"int32":      {int32(-1), int32(-1)},
		"int64":      {int64(5), int32(5)},
		"int64 huge": {int64(math.MaxInt64), "9223372036854775807"},
		"byte":       {byte(255), int32(255)},
		"uint16":     {uint16(1), int32(1)},
		"uint32":     {uint32(math.MaxUint32), "4294967295"},
		"float32":    {float32(1.5), "1.5"},
		"float64":    {2.0, int32(2)},
		"infinity":   {math.Inf(1), "+Inf"},
		"string":     {"x", "x"},
		"bytes":      {[]byte{1}, []byte{1}},
		"time":       {at.Local(), at},
		"late time":  {time.Unix(math.MaxInt64/2, 0), nil},
		"table":      {map[string]any{"a": map[string]any{}}, nil},
		"array":      {[]any{nil, []any{}}, nil},
		"struct":     {struct{ Scale uint8 }{1}, nil},
		"func":       {func() {}, nil},
		"named":      {named("x"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := minimal().Encode()
			m.Headers["ce-x"] = tc.value
			e, err := event.Decode(m)
			if tc.want == nil {
				assert.Equal(t, []string{"x"}, faultsOf(t, err))
				assert.Equal(t, minimal(), e)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, map[string]any{"x": tc.want}, e.Extensions)
		})
	}
}

func TestDecodeCoreOfOtherTypes(t *testing.T) {
	t.Parallel()
	at := time.Date(2025, 11, 11, 16, 54, 0, 0, time.UTC)
	e, err := event.Decode(event.Message{Headers: map[string]any{
		"ce-specversion": []byte("1.0"), "ce-id": int64(7), "ce-source": []byte("s"), "ce-type": true, "ce-time": at.Local(),
		"ce-datacontenttype": "text/plain",
	}})
	require.NoError(t, err)
	assert.Equal(t, event.Event{ID: "7", Source: "s", Type: "true", Time: at, DataContentType: "text/plain"}, e)
}

func TestDecodeFaults(t *testing.T) {
	t.Parallel()
	at := time.Date(2025, 11, 11, 16, 54, 0, 0, time.UTC)
	m := event.Message{
		Headers: map[string]any{
			"ce-specversion": "0.3", "ce-id": map[string]any{}, "ce-time": "yesterday", "ce-": "x", "ce-data": "x",
			"ce-my_ext": "kept", "ce-list": []any{1},
		},
		MessageID: "m", Type: "mt", AppID: "app", Timestamp: at.Local(), CorrelationID: "c",
		ContentType: "not a type", Body: []byte("body"),
	}
	e, err := event.Decode(m)
	assert.Equal(t, []string{"", "data", "id", "list", "my_ext", "time", "specversion", "source", "type", "datacontenttype"}, faultsOf(t, err))
	assert.Equal(t, event.Event{
		ID: "m", Source: "app", Type: "mt", Time: at, DataContentType: "not a type",
		Extensions: map[string]any{"my_ext": "kept"}, Data: []byte("body"),
	}, e)
}

func TestDecodeForeign(t *testing.T) {
	t.Parallel()
	at := time.Date(2025, 11, 11, 16, 54, 0, 0, time.UTC)
	body := []byte(`{"event_id":"evt-1","type":"user.created","data":{}}`)
	e, err := event.Decode(event.Message{
		Headers: map[string]any{"x-death": []any{map[string]any{"count": int64(1)}}, "tenant": "a", "id": "no"},
		Body:    body, MessageID: "m", Type: "mt", AppID: "app", CorrelationID: "c",
		ContentType: event.ContentTypeJSON, ContentEncoding: "gzip", Timestamp: at,
	})
	require.ErrorIs(t, err, event.ErrNotCloudEvent)
	assert.Equal(t, event.Event{
		ID: "m", Source: "app", Type: "mt", Time: at, DataContentType: event.ContentTypeJSON,
		Extensions: map[string]any{event.ExtCorrelationID: "c"}, Data: body,
	}, e)
	assert.Same(t, &body[0], &e.Data[0])
}

func TestDecodeNothing(t *testing.T) {
	t.Parallel()
	e, err := event.Decode(event.Message{Body: []byte{}, Timestamp: time.Unix(math.MaxInt64/2, 0)})
	require.ErrorIs(t, err, event.ErrNotCloudEvent)
	id, err := uuid.Parse(e.ID)
	require.NoError(t, err)
	assert.Equal(t, uuid.Version(7), id.Version())
	assert.Equal(t, event.Event{ID: e.ID, Source: "amqp", Type: "amqp.message"}, e)
}

func TestDecodeFaultsAreShort(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 1000)
	_, err := event.Decode(event.Message{Headers: map[string]any{
		"ce-specversion": long, "ce-id": "1", "ce-source": "s", "ce-type": "t", "ce-time": []any{long},
	}})
	require.ErrorContains(t, err, "time: is a []interface {}; it must be RFC 3339")
	require.ErrorContains(t, err, `specversion: is "éé`)
	assert.Less(t, len(err.Error()), 300)
}

// Headers without a specversion are no CloudEvent, but what they say is known.
func TestDecodeWithoutSpecVersion(t *testing.T) {
	t.Parallel()
	e, err := event.Decode(event.Message{Headers: map[string]any{"ce_type": "t"}, MessageID: "m", Type: "property"})
	assert.Equal(t, []string{"specversion", "id", "source"}, faultsOf(t, err))
	assert.Equal(t, event.Event{ID: "m", Source: "amqp", Type: "t"}, e)
}

func TestDecodeStructured(t *testing.T) {
	t.Parallel()
	body := []byte(`{"specversion":"1.0","id":"1","source":"s","type":"t","x":5,"data":{ "a":1 }}`)
	want := event.Event{
		ID: "1", Source: "s", Type: "t", DataContentType: event.ContentTypeJSON,
		Extensions: map[string]any{"x": int32(5)}, Data: []byte(`{ "a":1 }`),
	}
	binary := map[string]any{"ce-specversion": "1.0", "ce-id": "h", "ce-source": "hs", "ce-type": "ht"}
	for name, m := range map[string]event.Message{
		"plain":       {ContentType: "application/cloudevents+json", Body: body},
		"parameters":  {ContentType: "Application/CloudEvents+JSON; charset=UTF-8", Body: body},
		"byte order":  {ContentType: "application/cloudevents+json", Body: append([]byte("\ufeff"), body...)},
		"and headers": {ContentType: "application/cloudevents+json", Body: body, Headers: binary, MessageID: "m"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := event.Decode(m)
			require.NoError(t, err)
			assert.Equal(t, want, e)
		})
	}
}

func TestDecodeStructuredBroken(t *testing.T) {
	t.Parallel()
	binary := map[string]any{"ce-specversion": "1.0", "ce-id": "h", "ce-source": "hs", "ce-type": "ht"}
	data := []byte(`{"a":1}`)

	e, err := event.Decode(event.Message{ContentType: "application/cloudevents+json", Body: []byte("{"), MessageID: "m"})
	var syntax *event.SyntaxError
	require.ErrorAs(t, err, &syntax)
	assert.Equal(t, event.Event{
		ID: "m", Source: "amqp", Type: "amqp.message", DataContentType: "application/cloudevents+json", Data: []byte("{"),
	}, e)

	e, err = event.Decode(event.Message{ContentType: "application/cloudevents+json", Body: []byte(`{"specversion":"1.0","type":"t"}`)})
	assert.Equal(t, []string{"id", "source"}, faultsOf(t, err))
	assert.Equal(t, "t", e.Type)
	assert.NotEmpty(t, e.ID)

	for _, contentType := range []string{"application/cloudevents+avro", "application/cloudevents-batch+json", "application/cloudevents"} {
		e, err = event.Decode(event.Message{ContentType: contentType, Body: data})
		assert.Equal(t, []string{"datacontenttype"}, faultsOf(t, err))
		assert.Equal(t, data, e.Data)
	}

	// A sender that uses both at once: attributes in headers, and a content type that lies.
	e, err = event.Decode(event.Message{ContentType: "application/cloudevents+json", Body: data, Headers: binary})
	require.NoError(t, err)
	assert.Equal(t, event.Event{ID: "h", Source: "hs", Type: "ht", DataContentType: "application/cloudevents+json", Data: data}, e)
}
