package audit_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/audit"
)

func TestTrail(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 15, 4, 5, 1000, time.UTC)
	e := eventOf(`{"status":"paid","by":{"id":7}}`)
	e.Extensions = map[string]any{"authid": "anna", "authtype": "user", "tenant": "acme", event.ExtCausationID: "cause", event.ExtCorrelationID: "flow"}
	first := eventstore.Recorded{Event: e, Stream: "order-1", Version: 1, Position: 17, RecordedAt: at}
	for text, want := range map[string]string{"": "anna", "tenant": "acme", "data.by.id": "7", "data.status": "paid", "data.by": `{"id":7}`, "data.status.x": "", "data.no": "", "none": ""} {
		trail := audit.Trail{}
		if text != "" {
			var err error
			trail.Who, err = audit.ParseWho(text)
			require.NoError(t, err)
		}
		step, err := trail.Next(first)
		require.NoError(t, err)
		assert.Equal(t, want, step.Who, text)
	}
	var trail audit.Trail
	step, err := trail.Next(first)
	require.NoError(t, err)
	assert.JSONEq(t, `{"stream":"order-1","version":1,"position":17,"recorded_at":"2026-01-02T15:04:05.000001Z",`+
		`"id":"1","type":"thing.told","source":"s","who":"anna","who_type":"user","causationid":"cause","correlationid":"flow",`+
		`"changes":[{"path":"/by/id","op":"added","new":7},{"path":"/status","op":"added","new":"paid"}]}`, textOf(t, step))
	assert.True(t, step.Touches("/by"))
	assert.True(t, step.Touches("/by/id"))
	assert.True(t, step.Touches("/by/id/within"))
	assert.False(t, step.Touches("/b"))
	assert.False(t, step.Touches("/stat"))
	_, err = trail.Next(first)
	require.ErrorIs(t, err, audit.ErrGap)
}

func TestParseWhoMistakes(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "data", "data.", "data..x", ".", "a.b", "data.x."} {
		_, err := audit.ParseWho(text)
		assert.ErrorContains(t, err, "want the name of an extension", text)
	}
}

// A snapshot holds the state exactly, and is compared by verify.
func TestFoldInAStore(t *testing.T) {
	t.Parallel()
	store, err := eventstore.Open(t.Context(), eventstore.Config{DB: filepath.Join(t.TempDir(), "a.db")})
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close()) }()
	for _, data := range []string{`{"n":1.10,"deep":{"x":[1,{"y":null}]}}`, `{"deep":{"x":null,"text":"<&>"}}`, `{"n":null}`} {
		e, err := event.New("told", "s", []byte(data))
		require.NoError(t, err)
		_, err = store.Append(t.Context(), eventstore.StreamWrite{Stream: "s", Events: []event.Event{e}})
		require.NoError(t, err)
		_, err = eventstore.Load(t.Context(), store, "s", audit.Fold(), eventstore.SnapshotEvery(1))
		require.NoError(t, err)
	}
	for version, want := range map[int64]string{1: `{"deep":{"x":[1,{"y":null}]},"n":1.10}`, 2: `{"deep":{"text":"\u003c\u0026\u003e"},"n":1.10}`, 3: `{"deep":{"text":"\u003c\u0026\u003e"}}`} {
		state, err := eventstore.Load(t.Context(), store, "s", audit.Fold(), eventstore.AtVersion(version))
		require.NoError(t, err)
		assert.Equal(t, version, state.Snapshot)
		assert.Equal(t, want, textOf(t, state.Value))
		replayed, err := eventstore.Load(t.Context(), store, "s", audit.Fold(), eventstore.AtVersion(version), eventstore.WithoutSnapshots())
		require.NoError(t, err)
		assert.Equal(t, replayed.Value, state.Value)
	}
	v, err := store.Verify(t.Context(), func(f eventstore.Finding) { t.Error(f) }, eventstore.CheckSnapshots(audit.Fold()))
	require.NoError(t, err)
	assert.Equal(t, int64(3), v.Compared)
	_, err = audit.Fold().Decode([]byte(`[]`))
	require.Error(t, err)
	_, err = audit.Fold().Decode([]byte(`{} {}`))
	require.Error(t, err)
}
