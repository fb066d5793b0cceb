package eventstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/postgrestest"
)

// connect opens a database as a program does that knows nothing of stores.
func connect(t *testing.T, db string) *sql.DB {
	t.Helper()
	driver := "pgx"
	if !strings.HasPrefix(db, "postgres") {
		driver, db = "sqlite", "file:"+db
	}
	conn, err := sql.Open(driver, db)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

func execute(t *testing.T, conn *sql.DB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		_, err := conn.ExecContext(t.Context(), s)
		require.NoError(t, err, s)
	}
}

func number(t *testing.T, conn *sql.DB, query string) (n int) {
	t.Helper()
	require.NoError(t, conn.QueryRowContext(t.Context(), query).Scan(&n), query)
	return n
}

// refused is the error of opening a store.
func refused(t *testing.T, config eventstore.Config) error {
	t.Helper()
	s, err := eventstore.Open(t.Context(), config)
	if err == nil {
		require.NoError(t, s.Close())
	}
	require.Error(t, err)
	return err
}

func TestOpenNamesAllMistakes(t *testing.T) {
	t.Parallel()
	err := refused(t, eventstore.Config{BusyTimeout: -1, Poll: -1, MaxConns: -1})
	for _, field := range []string{"DB", "BusyTimeout", "Poll", "MaxConns"} {
		require.ErrorContains(t, err, "Config."+field)
	}
}

func TestOpenRefusesANewerSchema(t *testing.T) {
	t.Parallel()
	for name, fresh := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := fresh(t)
			s := open(t, eventstore.Config{DB: db})
			fill(t, s, "a", 3)
			require.NoError(t, s.Close())
			conn := connect(t, db)
			execute(t, conn, `INSERT INTO evdemo_store_version (version_id, is_applied) VALUES (9999, true)`)
			for _, existing := range []bool{false, true} {
				err := refused(t, eventstore.Config{DB: db, Existing: existing})
				require.ErrorIs(t, err, eventstore.ErrSchema)
				require.ErrorContains(t, err, "9999")
			}
			execute(t, conn, `DELETE FROM evdemo_store_version WHERE version_id = 9999`)
			require.Len(t, read(t, open(t, eventstore.Config{DB: db})), 3)
		})
	}
}

func TestOpenBesideOtherTables(t *testing.T) {
	t.Parallel()
	for name, fresh := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := fresh(t)
			conn := connect(t, db)
			execute(t, conn, `CREATE TABLE theirs (n bigint)`, `INSERT INTO theirs VALUES (7)`)
			require.ErrorIs(t, refused(t, eventstore.Config{DB: db, Existing: true}), eventstore.ErrNoStore)
			s := open(t, eventstore.Config{DB: db})
			fill(t, s, "a", 1)
			require.NoError(t, s.Close())
			require.Len(t, read(t, open(t, eventstore.Config{DB: db, Existing: true})), 1)
			require.Equal(t, 7, number(t, conn, `SELECT n FROM theirs`))
		})
	}
}

func TestOpenExistingMakesNothing(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	missing, empty := filepath.Join(folder, "missing.db"), filepath.Join(folder, "empty.db")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for _, db := range []string{missing, empty} {
		require.ErrorIs(t, refused(t, eventstore.Config{DB: db, Existing: true}), eventstore.ErrNoStore)
	}
	require.NoFileExists(t, missing)
	content, err := os.ReadFile(empty)
	require.NoError(t, err)
	require.Empty(t, content)

	db := postgrestest.URL(t)
	require.ErrorIs(t, refused(t, eventstore.Config{DB: db, Existing: true}), eventstore.ErrNoStore)
	require.Equal(t, 0, number(t, connect(t, db), `SELECT count(*) FROM pg_stat_user_tables`))
}

func TestOpenWhatIsNoDatabase(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	text := filepath.Join(folder, "text.db")
	content := []byte(strings.Repeat("This is not a database.\n", 100))
	require.NoError(t, os.WriteFile(text, content, 0o600))
	for _, existing := range []bool{false, true} {
		began := time.Now()
		require.ErrorContains(t, refused(t, eventstore.Config{DB: text, Existing: existing}), "not an SQLite database")
		require.Less(t, time.Since(began), eventstore.DefaultBusyTimeout, "it is not tried again")
		require.Error(t, refused(t, eventstore.Config{DB: folder, Existing: existing}))
		require.Error(t, refused(t, eventstore.Config{DB: filepath.Join(folder, "nowhere", "a.db"), Existing: existing}))
	}
	require.ErrorContains(t, refused(t, eventstore.Config{DB: folder, Existing: true}), "folder")
	require.ErrorContains(t, refused(t, eventstore.Config{DB: filepath.Join(folder, "nowhere", "a.db")}), "folder")
	require.Error(t, refused(t, eventstore.Config{DB: ":memory:"}))
	after, err := os.ReadFile(text)
	require.NoError(t, err)
	require.Equal(t, content, after)
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing is left behind")
}

func TestOpenFilesOfAnyName(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for _, name := range []string{"a b.db", "a?b=c.db", "a#b.db", "100%25.db", "ä日本.db", "a&mode=ro.db", "file:x.db", "'q\".db"} {
		s := open(t, eventstore.Config{DB: filepath.Join(folder, name)})
		fill(t, s, "a", 1)
		require.NoError(t, s.Close())
		require.FileExists(t, filepath.Join(folder, name))
	}
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Len(t, entries, 8, "each is one file once it is closed")
}

// Many goroutines and several processes open a database that does not exist yet, and append.
func TestOpenByManyAtOnce(t *testing.T) {
	t.Parallel()
	for name, fresh := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := fresh(t)
			var crowd errgroup.Group
			for range 3 {
				crowd.Go(func() error {
					out, err := childOf(t, "open", db).CombinedOutput()
					if err != nil {
						return fmt.Errorf("child: %w: %s", err, out)
					}
					return nil
				})
			}
			for range 8 {
				crowd.Go(func() error { return openOnce(t.Context(), db) })
			}
			require.NoError(t, crowd.Wait())
			require.Equal(t, int64(11), sound(t, open(t, eventstore.Config{DB: db, Existing: true})).Events)
		})
	}
}

func openOnce(ctx context.Context, db string) error {
	s, err := eventstore.Open(ctx, eventstore.Config{DB: db, BusyTimeout: time.Minute, MaxConns: 2})
	if err != nil {
		return err
	}
	_, err = s.Append(ctx, eventstore.StreamWrite{Stream: "opened", Events: someEvents(1)})
	return errors.Join(err, s.Close())
}

// childOf is the test binary as another process.
func childOf(t *testing.T, what string, args ...string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), childEnv+"="+what)
	return cmd
}

func TestLockedByAnotherProgram(t *testing.T) {
	t.Parallel()
	db := file(t)
	const timeout = 150 * time.Millisecond
	s := open(t, eventstore.Config{DB: db, BusyTimeout: timeout})
	fill(t, s, "a", 1)
	other, err := connect(t, db).Conn(t.Context())
	require.NoError(t, err)
	defer other.Close()
	_, err = other.ExecContext(t.Context(), `BEGIN IMMEDIATE`)
	require.NoError(t, err)
	began := time.Now()
	all := events(t, 1)
	_, err = s.Append(t.Context(), eventstore.StreamWrite{Stream: "a", Events: all})
	require.ErrorContains(t, err, "locked by another program")
	require.NotErrorIs(t, err, eventstore.ErrOutcomeUnknown)
	require.GreaterOrEqual(t, time.Since(began), timeout)
	require.Len(t, read(t, s), 1, "readers are not locked out")
	_, err = other.ExecContext(t.Context(), `ROLLBACK`)
	require.NoError(t, err)
	appended, err := s.Append(t.Context(), eventstore.StreamWrite{Stream: "a", Events: all})
	require.NoError(t, err)
	require.Equal(t, 1, appended.Added)
	sound(t, s)
}

func TestOpenShowsNoPassword(t *testing.T) {
	t.Parallel()
	db := postgrestest.URL(t)
	u, err := url.Parse(db)
	require.NoError(t, err)
	u.User = url.UserPassword("nobody", "hunter2")
	u.Host = "127.0.0.1:1"
	for _, db := range []string{u.String(), "postgres://nobody:hunter2@%%", "postgres://127.0.0.1:1/x?user=nobody&password=hunter2", "postgres://nobody:hunter2@127.0.0.1:x/y"} {
		err := refused(t, eventstore.Config{DB: db, RetryFor: -1})
		require.NotContains(t, err.Error(), "hunter2")
		require.NotContains(t, eventstore.Location(db), "hunter2")
	}
	require.ErrorIs(t, refused(t, eventstore.Config{DB: u.String(), RetryFor: -1}), eventstore.ErrUnavailable)
	require.Equal(t, "a.db", eventstore.Location("a.db"))
}

func TestOpenADatabaseThatDoesNotExist(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(postgrestest.URL(t))
	require.NoError(t, err)
	u.Path = "/nowhere"
	began := time.Now()
	err = refused(t, eventstore.Config{DB: u.String()})
	require.ErrorIs(t, err, eventstore.ErrUnavailable)
	require.ErrorContains(t, err, "no such database")
	require.Less(t, time.Since(began), eventstore.DefaultRetryFor, "it is not tried again")
}

// Two stores in two schemas of one database know nothing of each other.
func TestOpenInASchema(t *testing.T) {
	t.Parallel()
	db := postgrestest.URL(t)
	execute(t, connect(t, db), `CREATE SCHEMA one`, `CREATE SCHEMA two`)
	for i, schema := range []string{"one", "two"} {
		s := open(t, eventstore.Config{DB: db + "&search_path=" + schema})
		require.Empty(t, read(t, s))
		fill(t, s, "a", i+1)
		require.Len(t, read(t, s), i+1)
	}
	require.ErrorIs(t, refused(t, eventstore.Config{DB: db, Existing: true}), eventstore.ErrNoStore)
}
