package eventstore_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/postgrestest"
)

// No page of a file that was overwritten, and no end that is missing, goes unnoticed.
func TestDamagedFile(t *testing.T) {
	t.Parallel()
	const page = 4096
	db := file(t)
	s := open(t, eventstore.Config{DB: db})
	fill(t, s, "a", 150)
	fill(t, s, "b", 50)
	require.NoError(t, s.Close())
	whole, err := os.ReadFile(db)
	require.NoError(t, err)
	require.Greater(t, len(whole), 10*page)
	damaged := filepath.Join(t.TempDir(), "damaged.db")
	for at := 0; at < len(whole); at += page {
		for _, filler := range []byte{0, 0xa5} {
			content := bytes.Clone(whole)
			copy(content[at:], bytes.Repeat([]byte{filler}, page))
			require.True(t, noticed(t, damaged, content), "page %d overwritten with %x", at/page, filler)
		}
		require.True(t, noticed(t, damaged, whole[:at+page/2]), "cut off in page %d", at/page)
	}
	require.False(t, noticed(t, damaged, whole))
}

// noticed tells whether a file is refused, or something is found in it.
func noticed(t *testing.T, path string, content []byte) bool {
	t.Helper()
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		if err := os.Remove(name); err != nil {
			require.ErrorIs(t, err, os.ErrNotExist)
		}
	}
	require.NoError(t, os.WriteFile(path, content, 0o600))
	s, err := eventstore.Open(t.Context(), eventstore.Config{DB: path, Existing: true, BusyTimeout: 50 * time.Millisecond})
	if err != nil {
		return true
	}
	defer s.Close()
	found := 0
	_, err = s.Verify(t.Context(), func(eventstore.Finding) { found++ })
	return err != nil || found > 0
}

// A backup of a damaged store is an error, not a damaged backup.
func TestBackupOfADamagedStore(t *testing.T) {
	t.Parallel()
	db := postgrestest.URL(t)
	s := open(t, eventstore.Config{DB: db})
	fill(t, s, "a", 20)
	execute(t, connect(t, db), `DROP TRIGGER evdemo_store_events_stay ON evdemo_store_events`, `DELETE FROM evdemo_store_events WHERE position = 10`)
	target := file(t)
	_, err := s.Backup(t.Context(), target)
	var damaged *eventstore.DamagedError
	require.ErrorAs(t, err, &damaged)
	require.Equal(t, int64(10), damaged.Position)
	require.NoFileExists(t, target)
}

// A log goes from one kind of database to the other and back, and is the same.
func TestBackupBetweenDatabases(t *testing.T) {
	t.Parallel()
	s := open(t, eventstore.Config{DB: file(t)})
	fill(t, s, "a", 1500)
	fill(t, s, "b", 10)
	log := read(t, s)
	for _, target := range []string{postgrestest.URL(t), postgrestest.URL(t), file(t), postgrestest.URL(t)} {
		n, err := s.Backup(t.Context(), target)
		require.NoError(t, err)
		require.Equal(t, int64(len(log)), n)
		s = open(t, eventstore.Config{DB: target, Existing: true})
		require.Equal(t, log, read(t, s))
		sound(t, s)
	}
}
