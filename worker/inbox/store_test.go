package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/sqlitefile"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox"
)

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	text := filepath.Join(folder, "text")
	require.NoError(t, os.WriteFile(text, []byte(strings.Repeat("no database\n", 500)), 0o600))
	newer := filepath.Join(folder, "newer.db")
	newerDB := independent(t, newer)
	_, err := newerDB.ExecContext(t.Context(), `CREATE TABLE evdemo_inbox_schema (version INTEGER); INSERT INTO evdemo_inbox_schema VALUES (3)`)
	require.NoError(t, err)
	cases := map[string]struct {
		config inbox.Config
		want   []string
	}{
		"no path":       {inbox.Config{}, []string{"no path"}},
		"all mistakes":  {inbox.Config{Retention: -1, Lease: 1, BusyTimeout: 1}, []string{"no path", "retention", "lease", "busy timeout"}},
		"no folder":     {inbox.Config{Path: filepath.Join(folder, "nowhere", "inbox.db")}, []string{"nowhere", "no such file or directory"}},
		"a directory":   {inbox.Config{Path: folder}, []string{folder, "is a directory"}},
		"a device":      {inbox.Config{Path: os.DevNull}, []string{"is no regular file"}},
		"no database":   {inbox.Config{Path: text}, []string{text, "not an SQLite database"}},
		"newer version": {inbox.Config{Path: newer}, []string{newer, "newer version of evdemo", "version 3"}},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := inbox.Open(t.Context(), test.config)
			for _, part := range test.want {
				require.ErrorContains(t, err, part)
			}
			if test.config.Path == newer {
				require.ErrorIs(t, err, inbox.ErrSchema)
			}
		})
	}
	t.Cleanup(func() { // after the parallel ones
		content, err := os.ReadFile(text)
		require.NoError(t, err)
		assert.Equal(t, strings.Repeat("no database\n", 500), string(content), "it was left as it was")
	})
}

// What a superuser cannot provoke with permissions, a connection for reading can.
func TestReadOnlyIsExplained(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("sqlite", "file:"+dbPath(t)+"?mode=ro")
	require.NoError(t, err)
	defer db.Close()
	_, err = db.ExecContext(t.Context(), `INSERT INTO effects VALUES (1)`)
	require.ErrorContains(t, sqlitefile.Explain(err), "see the permissions")
}

func TestOpenAnyName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a b?c#d%41.db", "größe", ":memory:"} {
		path := filepath.Join(t.TempDir(), name)
		open(t, inbox.Config{Path: path})
		assert.FileExists(t, path)
	}
}

// Stores that open a new file at the same moment all get it.
func TestOpenTogether(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "inbox.db")
	var group sync.WaitGroup
	errs := make([]error, 8)
	for n := range int64(8) {
		group.Go(func() {
			store, err := inbox.Open(t.Context(), inbox.Config{Path: path, BusyTimeout: patience})
			if err == nil {
				_, err = store.Once(t.Context(), eventKey(n%4), succeed)
				err = errors.Join(err, store.Close())
			}
			errs[n] = err
		})
	}
	group.Wait()
	require.NoError(t, errors.Join(errs...))
	db := independent(t, path)
	assert.Equal(t, 4, count(t, db, `SELECT count(*) FROM evdemo_inbox_handled`))
	assert.Equal(t, 0, count(t, db, `SELECT count(*) FROM evdemo_inbox_claims`))
	assert.Equal(t, 0, count(t, db, `SELECT count(*) FROM evdemo_inbox_owners`))
}

// While another program holds the file's write lock the store fails with a reason, and afterwards it goes on.
func TestLocked(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	store := open(t, inbox.Config{Path: path, BusyTimeout: 50 * time.Millisecond, Lease: shortLease})
	lock, err := store.DB().BeginTx(t.Context(), nil)
	require.NoError(t, err)
	called, err := store.Once(t.Context(), eventKey(0), succeed)
	require.ErrorContains(t, err, "locked by another program")
	assert.False(t, called)
	require.NoError(t, lock.Rollback())
	expect(t, store, eventKey(0), succeed, true, nil)
}

// A handler that succeeds and cannot be recorded makes an error; its claim does not keep others waiting for
// longer than the trouble lasts.
func TestRecordFails(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	store := open(t, inbox.Config{Path: path, BusyTimeout: 50 * time.Millisecond, Lease: shortLease})
	other := open(t, inbox.Config{Path: path, BusyTimeout: patience, Lease: patience})
	var lock *sql.Tx
	called, err := store.Once(t.Context(), eventKey(0), func(context.Context) (err error) {
		lock, err = other.DB().BeginTx(t.Context(), nil)
		return err
	})
	require.ErrorContains(t, err, "was handled, but that cannot be recorded")
	assert.True(t, called)
	require.NoError(t, lock.Rollback())
	expect(t, other, eventKey(0), succeed, true, nil)
	expect(t, store, eventKey(0), succeed, false, nil)
}

// When there is no more room events fail, none is forgotten, and afterwards the store goes on.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	store := open(t, inbox.Config{Path: path})
	expect(t, store, eventKey(0), transact(eventKey(0), func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `PRAGMA max_page_count = 1`) // means: no more than there are
		return err
	}), true, nil)
	full := int64(0)
	for n := int64(1); full == 0; n++ {
		key := eventKey(n)
		key.ID += strings.Repeat("x", 500)
		_, err := store.Once(t.Context(), key, transact(key, nil))
		if err == nil {
			require.Equal(t, 1, effects(t, path, key))
			continue
		}
		require.ErrorContains(t, err, "disk full")
		require.Equal(t, 0, effects(t, path, key))
		expect(t, store, key, transact(key, nil), true, nil) // on a connection without that limit
		require.Equal(t, 1, effects(t, path, key))
		full = n
	}
	assert.Greater(t, full, int64(1))
}

// Close finishes what was accepted, and refuses what comes later. It waits for no handler.
func TestClose(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	store, err := inbox.Open(t.Context(), inbox.Config{Path: path, Lease: shortLease})
	require.NoError(t, err)
	finish, held := hold(t, store, eventKey(1))
	begun, proceed := make(chan struct{}), make(chan struct{})
	accepted := once(t.Context(), store, eventKey(0), transact(eventKey(0), func(context.Context, *sql.Tx) error {
		close(begun)
		<-proceed
		return nil
	}))
	await(t, begun)
	closed := make(chan error, 2)
	for range 2 {
		go func() { closed <- store.Close() }()
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel() // while the store is open and its writer busy, that is what Once says
	require.Eventually(t, func() bool {
		_, err := store.Once(ended, worker.Key{}, succeed)
		return errors.Is(err, inbox.ErrClosed)
	}, patience, time.Millisecond)
	close(proceed)
	assert.Equal(t, outcome{called: true}, await(t, accepted))
	require.NoError(t, await(t, closed))
	require.NoError(t, await(t, closed))
	assert.Equal(t, 1, effects(t, path, eventKey(0)))

	finish <- nil
	late := await(t, held)
	require.ErrorIs(t, late.err, inbox.ErrClosed)
	assert.True(t, late.called)
	next := open(t, inbox.Config{Path: path, Lease: shortLease})
	expect(t, next, eventKey(1), succeed, true, nil) // after the lease
}

// A caller that waits for another process's attempt is let go by Close.
func TestCloseEndsWaiting(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	holder := open(t, inbox.Config{Path: path})
	finish, held := hold(t, holder, eventKey(0))
	store, err := inbox.Open(t.Context(), inbox.Config{Path: path})
	require.NoError(t, err)
	waiting := once(t.Context(), store, eventKey(0), succeed)
	require.NoError(t, store.Close())
	require.ErrorIs(t, await(t, waiting).err, inbox.ErrClosed)
	finish <- nil
	assert.Equal(t, outcome{called: true}, await(t, held))
}

// Records older than the retention are removed in the background, and no others.
func TestRetention(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	first := open(t, inbox.Config{Path: path})
	expect(t, first, eventKey(0), succeed, true, nil)
	db := independent(t, path)
	old := time.Now().Add(-inbox.DefaultRetention - time.Minute).UnixMilli()
	_, err := db.ExecContext(t.Context(), `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
		INSERT INTO evdemo_inbox_handled SELECT 'old', '', i, ? FROM n`, old)
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), `INSERT INTO evdemo_inbox_handled VALUES ('young', '', '', ?)`, old+2*60_000)
	require.NoError(t, err)
	store := open(t, inbox.Config{Path: path, Lease: 100 * time.Millisecond})
	require.Eventually(t, func() bool {
		return count(t, db, `SELECT count(*) FROM evdemo_inbox_handled WHERE consumer = 'old'`) == 0
	}, patience, 10*time.Millisecond)
	expect(t, store, eventKey(0), succeed, false, nil)
	expect(t, store, worker.Key{Consumer: "young"}, succeed, false, nil)
	expect(t, store, worker.Key{Consumer: "old", ID: "1"}, succeed, true, nil)
}

// The claims of an owner that shows no life are taken over after its lease, and not before.
func TestLeaseRunsOut(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	store := open(t, inbox.Config{Path: path, Lease: 150 * time.Millisecond})
	db := independent(t, path)
	_, err := db.ExecContext(t.Context(), fmt.Sprintf(`INSERT INTO evdemo_inbox_owners VALUES (77, %d, 1)`, shortLease.Milliseconds()))
	require.NoError(t, err)
	key := eventKey(0)
	_, err = db.ExecContext(t.Context(), `INSERT INTO evdemo_inbox_claims VALUES (?, ?, ?, 77)`, key.Consumer, key.Source, key.ID)
	require.NoError(t, err)
	began := time.Now()
	expect(t, store, key, succeed, true, nil)
	assert.GreaterOrEqual(t, time.Since(began), shortLease)
	assert.Equal(t, 0, count(t, db, `SELECT count(*) FROM evdemo_inbox_owners WHERE id = 77`))
}

// A handler may take many times its lease, as long as its process lives.
func TestLeaseIsRenewed(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	config := inbox.Config{Path: path, Lease: shortLease, BusyTimeout: patience}
	holder, waiter := open(t, config), open(t, config)
	finish, held := hold(t, holder, eventKey(0))
	waiting := once(t.Context(), waiter, eventKey(0), succeed)
	select {
	case <-waiting:
		assert.Fail(t, "a claim was taken from a process that lives")
	case <-time.After(5 * shortLease):
	}
	finish <- nil
	assert.Equal(t, outcome{called: true}, await(t, held))
	assert.Equal(t, outcome{called: false}, await(t, waiting))
}

// A function in Transact may take many times the lease: while it holds the write lock nobody takes over, and
// the lease is renewed before that lock is given up.
func TestLeaseOutlastsLongTransaction(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	config := inbox.Config{Path: path, Lease: shortLease, BusyTimeout: patience}
	holder, waiter := open(t, config), open(t, config)
	finish, held := hold(t, holder, eventKey(0))
	begun := make(chan struct{})
	long := once(t.Context(), holder, eventKey(1), transact(eventKey(1), func(context.Context, *sql.Tx) error {
		close(begun)
		<-time.After(4 * shortLease)
		return nil
	}))
	await(t, begun)
	waiting := once(t.Context(), waiter, eventKey(0), succeed)
	assert.Equal(t, outcome{called: true}, await(t, long))
	select {
	case <-waiting:
		assert.Fail(t, "a claim was taken from a process that lives")
	case <-time.After(2 * shortLease):
	}
	finish <- nil
	assert.Equal(t, outcome{called: true}, await(t, held))
	assert.Equal(t, outcome{called: false}, await(t, waiting))
}

// A file of version 1, which had no gates, gets what they need and keeps what it remembers.
func TestOpenBringsAnOlderFileUp(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "inbox.db")
	key := worker.Key{Consumer: "q", Source: "s", ID: "1"}
	handle := func(context.Context) error { return nil }
	store, err := inbox.Open(t.Context(), inbox.Config{Path: path})
	require.NoError(t, err)
	_, err = store.Once(t.Context(), key, handle)
	require.NoError(t, err)
	require.NoError(t, store.Close())
	_, err = independent(t, path).ExecContext(t.Context(),
		`DROP TABLE evdemo_inbox_marks; DROP TABLE evdemo_inbox_held; UPDATE evdemo_inbox_schema SET version = 1`)
	require.NoError(t, err)

	store, err = inbox.Open(t.Context(), inbox.Config{Path: path})
	require.NoError(t, err)
	defer store.Close()
	called, err := store.Once(t.Context(), key, handle)
	require.NoError(t, err)
	assert.False(t, called, "it was handled before")
	held, err := store.Hold(t.Context(), "g", worker.Held{Queue: "q", Source: "s", ID: "2", Parent: "1", Message: []byte("m")})
	require.NoError(t, err)
	assert.True(t, held)
}
