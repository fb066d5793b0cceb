package event_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
)

func TestParse(t *testing.T) {
	t.Parallel()
	at := time.Date(2025, 11, 11, 16, 54, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		doc      string
		defaults event.Defaults
		want     event.Event
	}{
		"CloudEvents": {
			doc: `{"specversion":"1.0","id":"1","source":"s","type":"t","time":"2025-11-11T16:54:00Z","data": { "a":1 } }`,
			want: event.Event{
				ID: "1", Source: "s", Type: "t", Time: at,
				DataContentType: event.ContentTypeJSON, Data: []byte(`{ "a":1 }`),
			},
		},
		"CloudEvents with defaults": {
			doc:      `{"specversion":"1.0","id":"1","time":"2025-11-11T16:54:00Z","source":null}`,
			defaults: event.Defaults{Type: "dt", Source: "ds", Subject: "du"},
			want:     event.Event{ID: "1", Source: "ds", Type: "dt", Subject: "du", Time: at},
		},
		"defaults yield to the document": {
			doc:      `{"specversion":"1.0","id":"1","source":"s","type":"t","subject":"u","time":"2025-11-11T16:54:00Z"}`,
			defaults: event.Defaults{Type: "dt", Source: "ds", Subject: "du"},
			want:     event.Event{ID: "1", Source: "s", Type: "t", Subject: "u", Time: at},
		},
		"envelope": {
			doc: `{"event_id":"evt-xyz789","type":"user.created","data":{"user_id":123,"email":"alice@example.com"},` +
				`"timestamp":"2025-11-11T16:54:00Z","source":"user-service"}`,
			want: event.Event{
				ID: "evt-xyz789", Source: "user-service", Type: "user.created", Time: at,
				DataContentType: event.ContentTypeJSON, Data: []byte(`{"user_id":123,"email":"alice@example.com"}`),
			},
		},
		"envelope with every name": {
			doc: `{"event_id":"3","type":"payment.processed","data":null,"timestamp":"2025-11-11T16:54:00Z","source":"payments",` +
				`"version":2,"cause":"evt-2","parent":"evt-1","correlation_id":"c","subject":"o-1","priority":5,"urgent":true}`,
			defaults: event.Defaults{Type: "dt"},
			want: event.Event{
				ID: "3", Source: "payments", Type: "payment.processed", Subject: "o-1", Time: at,
				DataContentType: event.ContentTypeJSON, Data: []byte(`null`),
				Extensions: map[string]any{
					event.ExtSchemaVersion: int32(2), event.ExtCausationID: "evt-2", event.ExtParentID: "evt-1",
					event.ExtCorrelationID: "c", "priority": int32(5), "urgent": true,
				},
			},
		},
		"envelope with CloudEvents names": {
			doc: `{"id":"1","type":"t","source":"s","time":"2025-11-11T16:54:00Z","datacontenttype":"text/plain","data":"hello",` +
				`"correlationid":"c","schemaversion":"v2"}`,
			want: event.Event{
				ID: "1", Source: "s", Type: "t", Time: at, DataContentType: "text/plain", Data: []byte("hello"),
				Extensions: map[string]any{event.ExtCorrelationID: "c", event.ExtSchemaVersion: "v2"},
			},
		},
		"envelope with numbers for ids": {
			doc: `{"event_id":42,"type":"t","data":1,"timestamp":"2025-11-11T16:54:00Z","subject":4711,"cause":41,"parent":40,"correlation_id":39}`,
			want: event.Event{
				ID: "42", Source: event.DefaultSource, Type: "t", Subject: "4711", Time: at, DataContentType: event.ContentTypeJSON, Data: []byte("1"),
				Extensions: map[string]any{
					event.ExtCausationID: "41", event.ExtParentID: "40", event.ExtCorrelationID: "39",
				},
			},
		},
		"envelope without a type": {
			doc:      `{"id":"1","time":"2025-11-11T16:54:00Z","data":{"order":1}}`,
			defaults: event.Defaults{Type: "dt"},
			want: event.Event{
				ID: "1", Source: event.DefaultSource, Type: "dt", Time: at,
				DataContentType: event.ContentTypeJSON, Data: []byte(`{"order":1}`),
			},
		},
		"envelope with base64": {
			doc:  `{"id":"1","type":"t","time":"2025-11-11T16:54:00Z","data_base64":"AP8="}`,
			want: event.Event{ID: "1", Source: event.DefaultSource, Type: "t", Time: at, Data: []byte{0, 255}},
		},
		"flat": {
			doc: `{"type": "user.created", "user_id": 123, "email": "alice@example.com", "id": [7], "subject": {"a": 1},` +
				` "timestamp": "2025-11-11T16:54:00Z", "version": 3, "event_id": "1"}`,
			want: event.Event{
				ID: "1", Source: event.DefaultSource, Type: "user.created", Time: at, DataContentType: event.ContentTypeJSON,
				Data:       []byte(`{"user_id":123,"email":"alice@example.com","id":[7],"subject":{"a": 1}}`),
				Extensions: map[string]any{event.ExtSchemaVersion: int32(3)},
			},
		},
		"flat without data": {
			doc:  `{"type":"t","event_id":"1","timestamp":"2025-11-11T16:54:00Z"}`,
			want: event.Event{ID: "1", Source: event.DefaultSource, Type: "t", Time: at},
		},
		"flat by its id, with a default type": {
			doc:      `{"event_id":"1","timestamp":"2025-11-11T16:54:00Z","amount":5}`,
			defaults: event.Defaults{Type: "dt"},
			want: event.Event{
				ID: "1", Source: event.DefaultSource, Type: "dt", Time: at,
				DataContentType: event.ContentTypeJSON, Data: []byte(`{"amount":5}`),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := event.Parse([]byte(tc.doc), tc.defaults)
			require.NoError(t, err)
			assert.Equal(t, tc.want, e)
		})
	}
}

func TestParseBareData(t *testing.T) {
	t.Parallel()
	d := event.Defaults{Type: "payment.made", Source: "bank", Subject: "p-1"}
	for _, data := range []string{
		`{"type":"visa","amount":5}`,
		`{"order_id":"1", "amount": 1.10, "amount": 2}`,
		`{"data":[1,2],"unit":"kg"}`,
		`{}`, `[1, 2]`, `"text"`, `null`, `0.10`, `true`,
	} {
		t.Run(data, func(t *testing.T) {
			t.Parallel()
			before := time.Now().Add(-time.Microsecond)
			e, err := event.Parse([]byte("\ufeff "+data+"\n"), d)
			require.NoError(t, err)
			assert.Equal(t, data, string(e.Data))
			assert.Equal(t, event.ContentTypeJSON, e.DataContentType)
			assert.Equal(t, []string{"payment.made", "bank", "p-1"}, []string{e.Type, e.Source, e.Subject})
			assert.WithinRange(t, e.Time, before, time.Now())
			id, err := uuid.Parse(e.ID)
			require.NoError(t, err)
			assert.Equal(t, uuid.Version(7), id.Version())
		})
	}
}

func TestParseCopies(t *testing.T) {
	t.Parallel()
	doc := []byte(`{"a":1}`)
	e, err := event.Parse(doc, event.Defaults{Type: "t"})
	require.NoError(t, err)
	clear(doc)
	assert.Equal(t, `{"a":1}`, string(e.Data))
}

func TestParseTimes(t *testing.T) {
	t.Parallel()
	want := time.Date(2025, 11, 11, 16, 54, 0, 123456000, time.UTC)
	for _, text := range []string{
		"2025-11-11T16:54:00.123456Z",
		"2025-11-11T17:54:00.123456+01:00",
		"2025-11-11t16:54:00.123456z",
		"2025-11-11T16:54:00.123456",       // Python's datetime.utcnow().isoformat()
		"2025-11-11 16:54:00.123456",       // and str() of it
		"2025-11-11 18:54:00.123456+02:00", // and of one with a zone
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			e, err := event.Parse([]byte(`{"type":"t","data":1,"timestamp":"`+text+`"}`), event.Defaults{})
			require.NoError(t, err)
			assert.Equal(t, want, e.Time)
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		doc    string
		faults []string
	}{
		"CloudEvents of another version": {`{"specversion":"0.3","type":"t"}`, []string{"specversion"}},
		"every fault": {
			`{"event_id":{},"type":"t","data":1,"source":"a b","timestamp":1731344040,"user_id":1,"tags":[]}`,
			[]string{"id", "time", "tags", "source", "user_id"},
		},
		"two names for one":        {`{"event_id":"1","id":"1","type":"t","data":1}`, []string{"id"}},
		"a type that is no string": {`{"type":5.5,"data":1,"subject":false}`, []string{"type", "subject"}},
		"a blank type":             {`{"type":" ","data":1}`, []string{"type"}},
		"both kinds of data":       {`{"type":"t","data":1,"data_base64":"MQ=="}`, []string{"data"}},
		"a time of no kind":        {`{"type":"t","data":1,"time":"yesterday"}`, []string{"time"}},
		"an unheard-of year":       {`{"type":"t","data":1,"time":"0000-01-01 00:00:00+01:00"}`, []string{"time"}},
		"a fault in a flat event":  {`{"type":"t","timestamp":false}`, []string{"time"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := event.Parse([]byte(tc.doc), event.Defaults{})
			assert.Equal(t, tc.faults, faultsOf(t, err))
		})
	}
	_, err := event.Parse([]byte(`1`), event.Defaults{Type: "t", Source: "a b"})
	assert.Equal(t, []string{"source"}, faultsOf(t, err))
}

func TestParseNoType(t *testing.T) {
	t.Parallel()
	for _, doc := range []string{`{"order":1}`, `{"data":1}`, `{"event_id":"1"}`, `{"specversion":"1.0"}`, `{"type":null,"data":1}`} {
		_, err := event.Parse([]byte(doc), event.Defaults{})
		require.ErrorIs(t, err, event.ErrNoType, doc)
		require.EqualError(t, err, `no "type" and no default type`)
	}
	_, err := event.Parse([]byte(`[{"type":"t"}]`), event.Defaults{})
	require.ErrorIs(t, err, event.ErrNoType)
	assert.EqualError(t, err, `the document is an array, not an object: no "type" and no default type`)
}

func TestParseSyntax(t *testing.T) {
	t.Parallel()
	for doc, offset := range map[string]int64{
		"":                       0,
		"\ufeff\n":               4,
		"{type: order}":          1,
		`{"type":"t"} {}`:        13,
		"{\"type\":\"caf\xe9\"}": 12,
	} {
		_, err := event.Parse([]byte(doc), event.Defaults{Type: "t"})
		var syntax *event.SyntaxError
		require.ErrorAs(t, err, &syntax, doc)
		assert.Equal(t, offset, syntax.Offset, doc)
	}
}
