package worker_test

import (
	"context"
	"errors"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/event/schema"
	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
)

// A handler gets the version that it wants, and what it cannot have is a dead letter, as it came.
func TestSchemas(t *testing.T) {
	t.Parallel()
	registry, err := schema.Load(fstest.MapFS{
		"t.v1.json": {Data: []byte(`{"required":["name"]}`)},
		"t.v2.json": {Data: []byte(`{"required":["full_name"]}`)},
		"t.v3.json": {Data: []byte(`{"required":["given"]}`)},
	})
	require.NoError(t, err)
	reader, err := registry.Reader(map[string]int{"t": 2}, schema.Upcaster{Type: "t", From: 1, Upcast: func([]byte) ([]byte, error) {
		return []byte(`{"full_name":"upcast"}`), nil
	}})
	require.NoError(t, err)
	url := brokertest.URL(t)
	q, _ := queue(t, url)
	p, err := publisher.Open(t.Context(), publisher.Config{URLs: []string{url}})
	require.NoError(t, err)
	for i, data := range []string{`{"name":"a"}`, `{"full_name":"b"}`, `{"given":"c"}`, `{}`} {
		e, err := event.New("t", "test", []byte(data))
		require.NoError(t, err)
		e = e.WithExtension(event.ExtSchemaVersion, min(i, 2)+1)
		e.ID = string(rune('a' + i))
		require.NoError(t, p.Publish(t.Context(), publisher.Message{Event: e, To: publisher.ToQueue(q)}))
	}
	require.NoError(t, p.Close(t.Context()))
	var got []string
	w := start(t, worker.Config{URLs: []string{url}, Queue: q, IdleTimeout: time.Second}, worker.Wrap(
		func(_ context.Context, d *worker.Delivery) error {
			version, _ := d.Event.SchemaVersion()
			assert.Equal(t, 2, version)
			got = append(got, d.Event.ID+" "+string(d.Event.Data))
			if d.Event.ID == "a" {
				return worker.Permanent(errors.New("on purpose"))
			}
			return nil
		}, worker.Schemas(reader)))
	require.NoError(t, w.wait())
	assert.Equal(t, []string{`a {"full_name":"upcast"}`, `b {"full_name":"b"}`}, got)
	letters := map[string]string{}
	_, err = lettersOf(url).Visit(t.Context(), topology.DeadLetterQueue(q), func(l *worker.Letter) (worker.Action, error) {
		letters[l.Event.ID] = string(l.Failure.Reason) + " " + string(l.Event.Data)
		return worker.Keep(), nil
	})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{
		"a": `permanent {"name":"a"}`, "c": `version {"given":"c"}`, "d": `invalid {}`,
	}, letters)
}
