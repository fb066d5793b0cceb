package sink_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/shop/sink"
	"github.com/evdemo/evdemo/worker"
)

func TestLake(t *testing.T) {
	t.Parallel()
	subject{kind: "lake", place: folder, check: checkLake, anything: true}.run(t)
}

func folder(t *testing.T) place {
	t.Helper()
	return place{Dir: filepath.Join(t.TempDir(), "sink")}
}

// checkLake compares the files, which Close has completed, with the history.
func checkLake(t *testing.T, at place, orders int) {
	t.Helper()
	want := map[string]event.Event{}
	for _, e := range history(orders) {
		want[e.ID] = e
	}
	lines := readLake(t, at.Dir)
	require.Len(t, lines, len(want))
	days := map[string]bool{}
	for _, e := range lines {
		require.Equal(t, want[e.ID], e)
		days[e.Time.Format(time.DateOnly)] = true
		delete(want, e.ID)
	}
	assert.Empty(t, want)
	rows := readParquet(t, at.Dir)
	require.Len(t, rows, len(lines))
	for i, row := range rows {
		e := lines[i]
		require.Equal(t, sink.Row{
			ID: e.ID, Source: e.Source, Type: e.Type, Subject: e.Subject, Time: e.Time,
			CorrelationID: e.CorrelationID(), CausationID: e.CausationID(), Data: string(e.Data),
		}, row)
	}
	files, err := filepath.Glob(filepath.Join(at.Dir, "*.jsonl"))
	require.NoError(t, err)
	assert.Len(t, files, len(days), "a file for each day")
	left, err := filepath.Glob(filepath.Join(at.Dir, "*.tmp"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

func readLake(t *testing.T, dir string) (events []event.Event) {
	t.Helper()
	for e, err := range sink.ReadLake(t.Context(), dir) {
		require.NoError(t, err)
		events = append(events, e)
	}
	return events
}

func readParquet(t *testing.T, dir string) (rows []sink.Row) {
	t.Helper()
	for row, err := range sink.ReadParquet(dir) {
		require.NoError(t, err)
		rows = append(rows, row)
	}
	return rows
}

// openLake opens a lake that the test closes.
func openLake(t *testing.T, config sink.LakeConfig) *sink.Lake {
	t.Helper()
	l, err := sink.OpenLake(t.Context(), config)
	require.NoError(t, err)
	return l
}

func TestLakeMistakes(t *testing.T) {
	t.Parallel()
	_, err := sink.OpenLake(t.Context(), sink.LakeConfig{CompactEvery: -1})
	require.ErrorContains(t, err, "no folder")
	assert.ErrorContains(t, err, "compact every -1ns")
}

// What a crash has left behind the committed length is cut off, and so is a file of which nothing was committed.
func TestLakeCutsOff(t *testing.T) {
	t.Parallel()
	at := folder(t)
	l := openLake(t, sink.LakeConfig{Dir: at.Dir})
	require.NoError(t, handleAll(t.Context(), l, history(50), 1, 1))
	require.NoError(t, l.Close(t.Context()))
	first := filepath.Join(at.Dir, "2026-03-30.jsonl")
	file, err := os.OpenFile(first, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = file.WriteString(`{"specversion":"1.0","id":"half`)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	require.NoError(t, os.WriteFile(filepath.Join(at.Dir, "2027-01-01.jsonl"), []byte("{}\n"), 0o600))
	theirs := filepath.Join(at.Dir, "theirs.jsonl")
	require.NoError(t, os.WriteFile(theirs, []byte("{}\n"), 0o600))
	checkNumber := func() { assert.Len(t, readLake(t, at.Dir), len(history(50)), "a reader passes it over") }
	checkNumber()
	require.NoError(t, openLake(t, sink.LakeConfig{Dir: at.Dir}).Close(t.Context()))
	require.FileExists(t, theirs, "what is no day's is not the lake's to remove")
	require.NoError(t, os.Remove(theirs))
	checkLake(t, at, 50)
}

// A file that is shorter than what was committed, or an index that is gone, is told rather than passed over.
func TestLakeDamage(t *testing.T) {
	t.Parallel()
	at := folder(t)
	l := openLake(t, sink.LakeConfig{Dir: at.Dir})
	require.NoError(t, handleAll(t.Context(), l, history(50), 1, 1))
	require.NoError(t, l.Close(t.Context()))
	first := filepath.Join(at.Dir, "2026-03-30.jsonl")
	content, err := os.ReadFile(first)
	require.NoError(t, err)
	refused := func(words string) {
		_, err := sink.OpenLake(t.Context(), sink.LakeConfig{Dir: at.Dir})
		require.ErrorIs(t, err, sink.ErrDamaged)
		assert.ErrorContains(t, err, words)
	}
	require.NoError(t, os.Truncate(first, int64(len(content)-1)))
	refused("2026-03-30.jsonl has")
	var last error
	for _, err := range sink.ReadLake(t.Context(), at.Dir) {
		last = err
	}
	require.ErrorIs(t, last, sink.ErrDamaged)
	require.NoError(t, os.Remove(first))
	refused("2026-03-30.jsonl")
	require.NoError(t, os.WriteFile(first, content, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(at.Dir, "2026-03-30.parquet"), []byte("PAR1 is not enough"), 0o600))
	for _, err := range sink.ReadParquet(at.Dir) {
		require.ErrorIs(t, err, sink.ErrDamaged)
	}
	require.NoError(t, os.Remove(filepath.Join(at.Dir, "2026-03-30.parquet")))
	require.NoError(t, openLake(t, sink.LakeConfig{Dir: at.Dir}).Close(t.Context()), "a Parquet file that is missing is made again")
	checkLake(t, at, 50)
	for _, file := range []string{"index.db", "index.db-wal", "index.db-shm"} {
		_ = os.Remove(filepath.Join(at.Dir, file)) // not all of them are there
	}
	refused("index.db is missing")
	assert.FileExists(t, first, "nothing was thrown away")
}

// The Parquet file of a day is there once the day is over, without anybody's doing, and complete again after late events.
func TestLakeCompactsDaysThatAreOver(t *testing.T) {
	t.Parallel()
	at := folder(t)
	now := began.Add(26 * time.Hour) // of the second day
	l := openLake(t, sink.LakeConfig{Dir: at.Dir, CompactEvery: time.Millisecond, Now: func() time.Time { return now }})
	rows := func(day string) int {
		n := 0
		for row, err := range sink.ReadParquet(at.Dir) {
			if err == nil && row.Time.Format(time.DateOnly) == day {
				n++
			}
		}
		return n
	}
	events := history(50)
	first, second := events[:8], events[len(events)-1]
	require.NoError(t, handleAll(t.Context(), l, first, 1, 1))
	require.NoError(t, l.Handle(t.Context(), delivery([]event.Event{second}, 0)))
	require.Eventually(t, func() bool { return rows("2026-03-30") == len(first) }, patience, time.Millisecond)
	require.NoError(t, handleAll(t.Context(), l, events[:12], 1, 1))
	require.Eventually(t, func() bool { return rows("2026-03-30") == 12 }, patience, time.Millisecond)
	assert.Equal(t, 0, rows(second.Time.Format(time.DateOnly)), "a day that is not over has none")
	assert.Len(t, readLake(t, at.Dir), 13, "it can be read while it is open")
	require.NoError(t, l.Compact(t.Context()))
	assert.Equal(t, 1, rows(second.Time.Format(time.DateOnly)))
	require.NoError(t, l.Close(t.Context()))
}

// Data that is not on one line, and an event without a time or data, come back as they were.
func TestLakeKeepsEventsAsTheyAre(t *testing.T) {
	t.Parallel()
	at := folder(t)
	l := openLake(t, sink.LakeConfig{Dir: at.Dir})
	odd := history(1)[:3]
	odd[0].Data = []byte("{\n  \"a\" : 1.10, \"a\": 2 }\n")
	odd[1].Data, odd[1].Time = nil, time.Time{}
	odd[2].Extensions = nil
	require.NoError(t, handleAll(t.Context(), l, odd, 2, 1))
	require.ErrorIs(t, l.Handle(t.Context(), delivery(odd, 0)), worker.ErrDuplicate)
	require.NoError(t, l.Close(t.Context()))
	assert.ElementsMatch(t, odd, readLake(t, at.Dir))
	rows := readParquet(t, at.Dir)
	require.Len(t, rows, 3)
	assert.True(t, rows[0].Time.IsZero())
	assert.Empty(t, rows[0].Data)
	datas := []string{rows[1].Data, rows[2].Data}
	assert.Contains(t, datas, string(odd[0].Data))
}
