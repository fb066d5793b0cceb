package eventstore_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/eventstore"
)

// What is neither the URL of a PostgreSQL database nor a path is no file either, and what is secret in it stays so.
func TestOpenWhatIsNoLocation(t *testing.T) {
	t.Parallel()
	for _, db := range []string{
		"mysql://u:hunter2@h/db", "postgres+ssl://u:hunter2@h/db", "sqlite://orders.db?_auth_pass=hunter2", "MySQL://u:hunter2@h/db",
		"file:orders.db", "file:///tmp/orders.db", "file::memory:?cache=shared", "file:orders.db?_auth_pass=hunter2",
		"host=localhost user=x password=hunter2", "user=x password=hunter2 dbname=orders", "password=hunter2 host=/tmp",
	} {
		err := refused(t, eventstore.Config{DB: db, RetryFor: -1})
		require.ErrorIs(t, err, eventstore.ErrURL, db)
		require.NotContains(t, err.Error(), "hunter2")
		require.ErrorContains(t, err, "postgres://user@host:5432/database", "what to write instead")
	}
	for _, name := range []string{"file:orders.db", "orders.db", ":memory:", "file::memory:?cache=shared", "host=localhost user=x password=hunter2"} {
		require.NoFileExists(t, name)
	}
}

// A URL may be written in capitals, and shows no password then either.
func TestOpenAURLInCapitals(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"postgres", "POSTGRES", "PostgreSQL"} {
		db := scheme + "://nobody:hunter2@127.0.0.1:1/x?sslmode=disable"
		err := refused(t, eventstore.Config{DB: db, RetryFor: -1})
		require.ErrorIs(t, err, eventstore.ErrUnavailable)
		require.NotContains(t, err.Error(), "hunter2")
		require.NotContains(t, eventstore.Location(db), "hunter2")
	}
}

// A mistake in a URL is named, as far as that can be done without the password.
func TestOpenNamesMistakesOfAURL(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"sslmode=bogus": "sslmode", "connect_timeout=x": "connect_timeout", "sslmode=verify-full&sslrootcert=/missing.pem": "/missing.pem",
		"service=none": "service", "password=hunter2&sslmode=bogus": "sslmode",
	} {
		err := refused(t, eventstore.Config{DB: "postgres://u:hunter2@127.0.0.1:1/db?" + query, RetryFor: -1})
		require.ErrorIs(t, err, eventstore.ErrURL)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func TestOpenPathsThatLookLikeMore(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for _, db := range []string{
		"/" + filepath.Join(folder, "two slashes.db"), filepath.Join(folder, "host=a", "orders.db"), filepath.Join(folder, "dbname=a.db"),
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(db), 0o700))
		s := open(t, eventstore.Config{DB: db})
		fill(t, s, "a", 1)
		require.FileExists(t, db)
	}
}

// A target of a backup is read as Config.DB is.
func TestBackupToWhatIsNoLocation(t *testing.T) {
	t.Parallel()
	s := open(t, eventstore.Config{DB: file(t)})
	fill(t, s, "a", 1)
	for _, target := range []string{
		"mysql://u:hunter2@h/db", "POSTGRES://u:hunter2@127.0.0.1:1/db?sslmode=bogus", "file:copy.db", "host=localhost password=hunter2", ":memory:",
	} {
		_, err := s.Backup(t.Context(), target)
		if err == nil {
			t.Errorf("%s is taken for a path", target)
			require.NoError(t, os.Remove(target))
			continue
		}
		assert.NotContains(t, err.Error(), "hunter2")
	}
}
