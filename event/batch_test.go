package event_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
)

func TestBatch(t *testing.T) {
	t.Parallel()
	events := []event.Event{
		{ID: "1", Source: "s", Type: "t", DataContentType: event.ContentTypeJSON, Data: []byte(`{"a": 1.0,"a":2}`)},
		{ID: "2", Source: "s", Type: "t", DataContentType: "image/png", Data: []byte{0xff, 0}, Extensions: map[string]any{"x": int32(1)}},
	}
	doc, err := event.AppendBatch([]byte("before"), events)
	require.NoError(t, err)
	assert.Equal(t, `before[{"specversion":"1.0","id":"1","source":"s","type":"t","datacontenttype":"application/json","data":{"a": 1.0,"a":2}},`+
		`{"specversion":"1.0","id":"2","source":"s","type":"t","datacontenttype":"image/png","x":1,"data_base64":"/wA="}]`, string(doc))
	back, err := event.ParseBatch(doc[len("before"):])
	require.NoError(t, err)
	assert.Equal(t, events, back)

	doc, err = event.AppendBatch(nil, nil)
	require.NoError(t, err)
	assert.Equal(t, "[]", string(doc))
	back, err = event.ParseBatch(doc)
	require.NoError(t, err)
	assert.Empty(t, back)

	events[1].Extensions = map[string]any{"id": "x"}
	doc, err = event.AppendBatch([]byte("before"), events)
	require.ErrorContains(t, err, "event 1 of the batch: ")
	assert.Equal(t, "before", string(doc))
}

func TestParseBatchRefuses(t *testing.T) {
	t.Parallel()
	good := `{"specversion":"1.0","id":"1","source":"s","type":"t"}`
	for doc, want := range map[string]string{
		``:                          "not a batch of events in JSON: ",
		`null`:                      "not a batch of events in JSON: want an array",
		good:                        "not a batch of events in JSON: ",
		`[` + good + `] x`:          "not a batch of events in JSON: ",
		`[` + good + `,null]`:       "event 1 of the batch: ",
		`[` + good + `,{"id":"1"}]`: "event 1 of the batch: ",
	} {
		events, err := event.ParseBatch([]byte(doc))
		require.ErrorContains(t, err, want, doc)
		assert.Nil(t, events)
	}
}

func FuzzParseBatch(f *testing.F) {
	f.Add([]byte(`[{"specversion":"1.0","id":"1","source":"s","type":"t","data":{"a":1}},{"specversion":"1.0","id":"2","source":"s","type":"t","data_base64":"/wA="}]`))
	f.Add([]byte("\ufeff[]"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		kept := bytes.Clone(doc)
		events, err := event.ParseBatch(doc)
		require.Equal(t, kept, doc, "the document was written to")
		if err != nil {
			require.Nil(t, events)
			return
		}
		for _, e := range events {
			requireStable(t, e)
		}
	})
}
