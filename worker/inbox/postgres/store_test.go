package postgres_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/postgrestest"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox"
	"github.com/evdemo/evdemo/worker/inbox/postgres"
)

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	newer, latin := postgrestest.URL(t), postgrestest.URL(t)
	require.NoError(t, open(t, postgres.Config{URL: newer}).Close())
	db := independent(t, newer)
	_, err := db.ExecContext(t.Context(), `INSERT INTO evdemo_inbox_version (version_id, is_applied) VALUES (99, true)`)
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), `CREATE DATABASE evdemo_test_latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0`)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := db.ExecContext(context.WithoutCancel(t.Context()), `DROP DATABASE evdemo_test_latin1`)
		require.NoError(t, err)
	})
	latin = strings.Replace(latin, latin[strings.LastIndex(latin, "/"):strings.Index(latin, "?")], "/evdemo_test_latin1", 1)
	cases := map[string]struct {
		config postgres.Config
		want   []string
	}{
		"no URL":        {postgres.Config{}, []string{"no URL"}},
		"all mistakes":  {postgres.Config{Retention: -1, MaxConns: -1, Timeout: 1}, []string{"no URL", "retention", "connections", "timeout"}},
		"another URL":   {postgres.Config{URL: "amqp://user:secret@host/"}, []string{"postgres://user@host:5432/database"}},
		"no URL at all": {postgres.Config{URL: "postgres://user:secret@%%"}, []string{"postgres://user@host:5432/database"}},
		"no server":     {postgres.Config{URL: "postgres://user:secret@127.0.0.1:1/shop"}, []string{"postgres://user@127.0.0.1:1/shop", "refused"}},
		"no database":   {postgres.Config{URL: strings.Replace(newer, "/evdemo_test_", "/evdemo_none_", 1)}, []string{"no such database: create it"}},
		"newer version": {postgres.Config{URL: newer}, []string{"newer version of evdemo", "version 99"}},
		"not UTF-8":     {postgres.Config{URL: latin}, []string{"LATIN1"}},
	}
	t.Run("cases", func(t *testing.T) {
		t.Parallel()
		for name, test := range cases {
			_, err := postgres.Open(t.Context(), test.config)
			for _, part := range test.want {
				require.ErrorContains(t, err, part, name)
			}
			require.NotContains(t, err.Error(), "secret", name)
			assert.Equal(t, name == "no server" || name == "no database", errors.Is(err, postgres.ErrUnavailable), name)
			assert.Equal(t, name == "newer version", errors.Is(err, inbox.ErrSchema), name)
		}
	})
}

// Stores that open a new database at the same moment all get it.
func TestOpenTogether(t *testing.T) {
	t.Parallel()
	url := postgrestest.URL(t)
	var group sync.WaitGroup
	errs := make([]error, 8)
	for n := range int64(8) {
		group.Go(func() {
			store, err := postgres.Open(t.Context(), postgres.Config{URL: url, Timeout: patience})
			if err == nil {
				_, err = store.Once(t.Context(), eventKey(n%4), succeed)
				err = errors.Join(err, store.Close())
			}
			errs[n] = err
		})
	}
	group.Wait()
	require.NoError(t, errors.Join(errs...))
	assert.Equal(t, 4, count(t, independent(t, url), `SELECT count(*) FROM evdemo_inbox_handled`))
}

// Close finishes what was accepted, and refuses what comes later. It waits for no handler.
func TestClose(t *testing.T) {
	t.Parallel()
	at := database(t)
	store, err := postgres.Open(t.Context(), postgres.Config{URL: at, Timeout: patience})
	require.NoError(t, err)
	finish, held := hold(t, store, eventKey(1))
	begun, proceed := make(chan struct{}), make(chan struct{})
	accepted := once(t.Context(), store, eventKey(0), func(ctx context.Context) error {
		return inbox.Transact(ctx, inTransaction(eventKey(0), begun, proceed))
	})
	await(t, begun)
	closed := make(chan error, 2)
	for range 2 {
		go func() { closed <- store.Close() }()
	}
	require.Eventually(t, func() bool {
		_, err := store.Once(t.Context(), worker.Key{}, succeed)
		return errors.Is(err, inbox.ErrClosed)
	}, patience, time.Millisecond)
	_, err = store.Mark(t.Context(), "g", "id")
	require.ErrorIs(t, err, inbox.ErrClosed)
	assert.Empty(t, closed)
	close(proceed)
	assert.Equal(t, outcome{called: true}, await(t, accepted))
	require.NoError(t, await(t, closed))
	require.NoError(t, await(t, closed))
	assert.Equal(t, 1, effects(t, independent(t, at), eventKey(0)))

	finish <- nil
	late := await(t, held)
	require.ErrorIs(t, late.err, inbox.ErrClosed)
	assert.True(t, late.called)
	expect(t, open(t, postgres.Config{URL: at}), eventKey(1), succeed, true, nil)
}

// A caller that waits for another process's attempt is let go by Close.
func TestCloseEndsWaiting(t *testing.T) {
	t.Parallel()
	url := postgrestest.URL(t)
	holder := open(t, postgres.Config{URL: url})
	finish, held := hold(t, holder, eventKey(0))
	store, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	require.NoError(t, err)
	waiting := once(t.Context(), store, eventKey(0), succeed)
	require.NoError(t, store.Close())
	require.ErrorIs(t, await(t, waiting).err, inbox.ErrClosed)
	finish <- nil
	assert.Equal(t, outcome{called: true}, await(t, held))
}

// Close does not wait for a server that is away for longer than its time.
func TestCloseWithoutServer(t *testing.T) {
	t.Parallel()
	server := postgrestest.Server(t)
	store, err := postgres.Open(t.Context(), postgres.Config{URL: server.URL("postgres"), Timeout: 300 * time.Millisecond})
	require.NoError(t, err)
	finish, held := hold(t, store, eventKey(0))
	require.NoError(t, server.Kill())
	finish <- nil
	closed := make(chan error, 1)
	go func() { closed <- store.Close() }()
	require.NoError(t, await(t, closed))
	require.ErrorContains(t, await(t, held).err, "was handled, but that cannot be recorded")
}

// Records older than the retention are removed in the background, and no others.
func TestRetention(t *testing.T) {
	t.Parallel()
	url := postgrestest.URL(t)
	first := open(t, postgres.Config{URL: url})
	expect(t, first, eventKey(0), succeed, true, nil)
	_, err := first.Mark(t.Context(), "g", "young")
	require.NoError(t, err)
	db := independent(t, url)
	_, err = db.ExecContext(t.Context(), `
		INSERT INTO evdemo_inbox_handled SELECT 'old', '', i, 1, now() - interval '30 days 1 minute' FROM generate_series(1, 3000) i;
		INSERT INTO evdemo_inbox_marks SELECT 'old', i, now() - interval '30 days 1 minute' FROM generate_series(1, 3000) i;
		INSERT INTO evdemo_inbox_handled VALUES ('young', '', '', 1, now() - interval '29 days 23 hours')`)
	require.NoError(t, err)
	store := open(t, postgres.Config{URL: url})
	require.Eventually(t, func() bool {
		return count(t, db, `SELECT (SELECT count(*) FROM evdemo_inbox_handled WHERE consumer = 'old') + (SELECT count(*) FROM evdemo_inbox_marks WHERE consumers = 'old')`) == 0
	}, patience, 10*time.Millisecond)
	expect(t, store, eventKey(0), succeed, false, nil)
	expect(t, store, worker.Key{Consumer: "young"}, succeed, false, nil)
	expect(t, store, worker.Key{Consumer: "old", ID: "1"}, succeed, true, nil)
	held, err := store.Hold(t.Context(), "g", worker.Held{Parent: "young"})
	require.NoError(t, err)
	assert.False(t, held)
}

// A handler that has succeeded waits until that can be written, for as long as its context lives. Then others get
// the event.
func TestRecordFails(t *testing.T) {
	t.Parallel()
	url := postgrestest.URL(t)
	var log strings.Builder
	var mu sync.Mutex
	store := open(t, postgres.Config{URL: url, Timeout: 5 * time.Second, Logger: slog.New(slog.NewTextHandler(locked{&mu, &log}, nil))})
	other := open(t, postgres.Config{URL: url})
	db := independent(t, url)
	away := func(context.Context) error {
		_, err := db.ExecContext(t.Context(), `ALTER TABLE evdemo_inbox_handled RENAME TO elsewhere`)
		return err
	}
	back := func() {
		_, err := db.ExecContext(t.Context(), `ALTER TABLE elsewhere RENAME TO evdemo_inbox_handled`)
		require.NoError(t, err)
	}
	waits := func(result <-chan outcome) {
		select {
		case ended := <-result:
			assert.Fail(t, "recorded nowhere", "called %v: %v", ended.called, ended.err)
		case <-time.After(500 * time.Millisecond):
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := once(ctx, store, eventKey(0), away)
	waits(result)
	cancel()
	failed := await(t, result)
	require.ErrorContains(t, failed.err, "was handled, but that cannot be recorded")
	require.ErrorContains(t, failed.err, "a table of the inbox is missing")
	assert.True(t, failed.called)
	called, err := store.Once(t.Context(), eventKey(1), succeed)
	require.Error(t, err)
	assert.False(t, called, "nothing is begun that cannot be recorded")
	back()

	result = once(t.Context(), store, eventKey(0), away)
	waits(result)
	back()
	assert.Equal(t, outcome{called: true}, await(t, result))
	expect(t, other, eventKey(0), succeed, false, nil)
	mu.Lock()
	defer mu.Unlock()
	assert.Contains(t, log.String(), "asking it again")
}

// locked is a writer for several goroutines.
type locked struct {
	mu *sync.Mutex
	w  *strings.Builder
}

func (l locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// Whatever a message is called, it is told from others, and its name is no reason to fail.
func TestAnyName(t *testing.T) {
	t.Parallel()
	store := open(t, postgres.Config{URL: postgrestest.URL(t)})
	other := open(t, postgres.Config{URL: postgrestest.URL(t)})
	long := strings.Repeat("x", 5000)
	names := []string{"", " ", "a\x00b", "a\x00c", "\xff", "\xfe", "größe", long, long + "y", "sha256:", `\000`, "'; DROP TABLE evdemo_inbox_handled --"}
	for _, a := range names {
		for _, b := range names {
			key := worker.Key{Consumer: a, Source: b, ID: a}
			expect(t, store, key, succeed, true, nil)
			expect(t, store, key, func(context.Context) error { return errHandler }, false, nil)
			h := worker.Held{Queue: a, Source: b, ID: a, Parent: b, Message: []byte("m"), Until: time.Now().Add(time.Hour)}
			held, err := other.Hold(t.Context(), a, h)
			require.NoError(t, err)
			require.True(t, held)
		}
	}
	for _, group := range names {
		for _, parent := range names {
			ready, err := other.Mark(t.Context(), group, parent)
			require.NoError(t, err)
			require.Len(t, ready, 1)
			h := ready[0]
			require.Equal(t, []string{group, parent, group, parent}, []string{h.Queue, h.Source, h.ID, h.Parent})
			require.NoError(t, other.Forget(t.Context(), group, ready))
		}
		n, err := other.Holding(t.Context(), group)
		require.NoError(t, err)
		require.Zero(t, n)
	}
}
