package eventstore_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/postgrestest"
)

// A copy is for the same people as the store.
func TestBackupKeepsPermissions(t *testing.T) {
	t.Parallel()
	db := file(t)
	s := open(t, eventstore.Config{DB: db})
	fill(t, s, "a", 1)
	for _, mode := range []fs.FileMode{0o600, 0o640, 0o660, 0o644} {
		require.NoError(t, os.Chmod(db, mode))
		require.Equal(t, mode, modeOfBackup(t, s))
	}
	s = open(t, eventstore.Config{DB: postgrestest.URL(t)})
	fill(t, s, "a", 1)
	require.Equal(t, fs.FileMode(0o600), modeOfBackup(t, s))
}

func modeOfBackup(t *testing.T, s *eventstore.Store) fs.FileMode {
	t.Helper()
	target := filepath.Join(t.TempDir(), "copy.db")
	_, err := s.Backup(t.Context(), target)
	require.NoError(t, err)
	info, err := os.Stat(target)
	require.NoError(t, err)
	return info.Mode().Perm()
}
