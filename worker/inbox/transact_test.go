package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox"
)

// transact is a handler that has one effect and then does what more there is.
func transact(key worker.Key, more func(context.Context, *sql.Tx) error) func(context.Context) error {
	return func(ctx context.Context) error {
		return inbox.Transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
			if err := addEffect(ctx, tx, key); err != nil || more == nil {
				return err
			}
			return more(ctx, tx)
		})
	}
}

// The effect and the record are there together, also when the handler fails afterwards.
func TestTransactCommitsBoth(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	store := open(t, inbox.Config{Path: path})
	expect(t, store, eventKey(0), transact(eventKey(0), nil), true, nil)
	expect(t, store, eventKey(1), func(ctx context.Context) error {
		require.NoError(t, transact(eventKey(1), nil)(ctx))
		return errHandler
	}, true, errHandler)
	assert.Panics(t, func() {
		_, _ = store.Once(t.Context(), eventKey(2), func(ctx context.Context) error {
			require.NoError(t, transact(eventKey(2), nil)(ctx))
			panic("afterwards")
		})
	})
	for n := range int64(3) {
		assert.Equal(t, 1, effects(t, path, eventKey(n)))
		expect(t, store, eventKey(n), transact(eventKey(n), nil), false, nil)
		assert.Equal(t, 1, effects(t, path, eventKey(n)))
	}
	require.NoError(t, store.Close())
	again := open(t, inbox.Config{Path: path})
	expect(t, again, eventKey(0), transact(eventKey(0), nil), false, nil)
	assert.Equal(t, 0, count(t, independent(t, path), `SELECT count(*) FROM evdemo_inbox_claims`))
}

// Of a function that fails nothing remains, whichever way it fails, and the others in its transaction are
// not concerned: neither those before it nor those after it.
func TestTransactFails(t *testing.T) {
	t.Parallel()
	failures := map[string]struct {
		more func(context.Context, *sql.Tx) error
		want error
	}{
		"an error": {func(context.Context, *sql.Tx) error { return errHandler }, errHandler},
		"an error of SQL": {func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO nowhere VALUES (1)`)
			return errors.Join(errHandler, err)
		}, errHandler},
		"a panic":                {func(context.Context, *sql.Tx) error { panic(errHandler) }, nil},
		"the end of a goroutine": {func(context.Context, *sql.Tx) error { runtime.Goexit(); return nil }, nil},
		"a rollback":             {func(_ context.Context, tx *sql.Tx) error { return tx.Rollback() }, inbox.ErrTransactionLost},
		"a commit":               {func(_ context.Context, tx *sql.Tx) error { _ = tx.Commit(); return nil }, inbox.ErrTransactionLost},
		"a commit in SQL": {func(ctx context.Context, tx *sql.Tx) error {
			_, _ = tx.ExecContext(ctx, `COMMIT`)
			return nil
		}, inbox.ErrTransactionLost},
		"going on without a transaction": {func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `ROLLBACK`)
			_ = addEffect(ctx, tx, eventKey(0)) // would be committed by itself
			return err
		}, inbox.ErrTransactionLost},
		"a context that ends in mid-write":     {endInMidWrite, context.DeadlineExceeded},
		"and going on all the same":            {goOnAfterEnd, inbox.ErrTransactionLost},
		"rows left open":                       {leaveRowsOpen, errHandler},
		"a context that ends in mid-read":      {endInMidRead, context.DeadlineExceeded},
		"an error after a savepoint of theirs": {ownSavepoint, errHandler},
	}
	for name, failure := range failures {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := dbPath(t)
			store := open(t, inbox.Config{Path: path})
			results := inOneGroup(t, store, func(n int64) func(context.Context) error {
				if n == 1 {
					return transact(eventKey(n), failure.more)
				}
				return transact(eventKey(n), nil)
			})
			for n, result := range results {
				if n != 1 {
					assert.Equal(t, outcome{called: true}, await(t, result))
					assert.Equal(t, 1, effects(t, path, eventKey(int64(n))))
				} else if failure.want != nil {
					failed := await(t, result)
					require.ErrorIs(t, failed.err, failure.want)
					assert.True(t, failed.called)
				}
			}
			expectEventually(t, store, eventKey(1))
			assert.Equal(t, 1, effects(t, path, eventKey(1)), "that of the second attempt")
			assert.Equal(t, 0, effects(t, path, eventKey(0)), "what was done without a transaction")
		})
	}
}

// expectEventually makes another attempt at an event whose first ends in the background.
func expectEventually(t *testing.T, store *inbox.Store, key worker.Key) {
	t.Helper()
	expect(t, store, key, transact(key, nil), true, nil)
}

// inOneGroup has the handlers of events 1 to 3 write in one transaction, in this order: the writer is kept
// busy until all wait. The results of events 1 to 3 are under their numbers.
func inOneGroup(t *testing.T, store *inbox.Store, handler func(n int64) func(context.Context) error) map[int]<-chan outcome {
	t.Helper()
	// Their claims first.
	order := []int64{2, 1, 3}
	begun := make(chan int64)
	proceed := map[int64]chan struct{}{}
	results := map[int]<-chan outcome{}
	for _, n := range order {
		turn := make(chan struct{})
		proceed[n] = turn
		results[int(n)] = onceOrPanic(t, store, eventKey(n), func(ctx context.Context) error {
			begun <- n
			<-turn
			return handler(n)(ctx)
		})
		await(t, begun)
	}
	busy, free := make(chan struct{}), make(chan struct{})
	blocker := once(t.Context(), store, eventKey(99), func(ctx context.Context) error {
		return inbox.Transact(ctx, func(context.Context, *sql.Tx) error { close(busy); <-free; return nil })
	})
	await(t, busy)
	for i, n := range order {
		close(proceed[n])
		require.Eventually(t, func() bool { return store.Queued() == i+1 }, patience, time.Millisecond)
	}
	close(free)
	require.Equal(t, outcome{called: true}, await(t, blocker))
	return results
}

// onceOrPanic is once for handlers that may panic or end their goroutine.
func onceOrPanic(t *testing.T, store *inbox.Store, key worker.Key, handle func(context.Context) error) <-chan outcome {
	t.Helper()
	result := make(chan outcome, 1)
	go func() {
		defer func() { _ = recover() }()
		called, err := store.Once(t.Context(), key, handle)
		result <- outcome{called, err}
	}()
	return result
}

const endless = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) `

func endInMidWrite(ctx context.Context, tx *sql.Tx) error {
	ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err := tx.ExecContext(ctx, endless+`INSERT INTO effects SELECT i FROM n`)
	return errors.Join(err, ctx.Err())
}

// goOnAfterEnd writes on when its transaction is gone: that would be committed by itself.
func goOnAfterEnd(ctx context.Context, tx *sql.Tx) error {
	_ = endInMidWrite(ctx, tx)
	_ = addEffect(ctx, tx, eventKey(0))
	return nil
}

func endInMidRead(ctx context.Context, tx *sql.Tx) error {
	ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	var n int64
	err := tx.QueryRowContext(ctx, endless+`SELECT max(i) FROM n`).Scan(&n)
	return errors.Join(err, ctx.Err())
}

func leaveRowsOpen(ctx context.Context, tx *sql.Tx) error {
	rows, err := tx.QueryContext(ctx, endless+`SELECT i FROM n`) //nolint:sqlclosecheck // that is the fault
	if err != nil || !rows.Next() || rows.Err() != nil {
		return errors.Join(err, errors.New("no rows"))
	}
	return errHandler
}

func ownSavepoint(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, `SAVEPOINT theirs; INSERT INTO effects VALUES ('x')`)
	return errors.Join(errHandler, err)
}

func TestTransactOutsideOnce(t *testing.T) {
	t.Parallel()
	nothing := func(context.Context, *sql.Tx) error { return nil }
	require.ErrorIs(t, inbox.Transact(t.Context(), nothing), inbox.ErrNotInOnce)
	store := open(t, inbox.Config{Path: dbPath(t)})
	var ended context.Context
	expect(t, store, eventKey(0), func(ctx context.Context) error { ended = ctx; return nil }, true, nil)
	require.ErrorIs(t, inbox.Transact(ended, nothing), inbox.ErrNotInOnce)
}

func TestTransactTwice(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	store := open(t, inbox.Config{Path: path})
	expect(t, store, eventKey(0), func(ctx context.Context) error {
		require.NoError(t, transact(eventKey(0), nil)(ctx))
		return transact(eventKey(0), nil)(ctx)
	}, true, inbox.ErrTransacted)
	assert.Equal(t, 1, effects(t, path, eventKey(0)))
	expect(t, store, eventKey(0), succeed, false, nil)
	within := func(ctx context.Context, _ *sql.Tx) error { return transact(eventKey(1), nil)(ctx) }
	expect(t, store, eventKey(1), transact(eventKey(1), within), true, inbox.ErrTransacted)
	assert.Equal(t, 0, effects(t, path, eventKey(1)))
}

// Once within Transact would wait for itself.
func TestOnceWithinTransact(t *testing.T) {
	t.Parallel()
	store := open(t, inbox.Config{Path: dbPath(t)})
	within := func(ctx context.Context, _ *sql.Tx) error {
		_, err := store.Once(ctx, eventKey(1), succeed)
		return err
	}
	expect(t, store, eventKey(0), transact(eventKey(0), within), true, inbox.ErrInTransact)
	expect(t, store, eventKey(0), func(ctx context.Context) error { // but within a handler it is fine
		_, err := store.Once(ctx, eventKey(1), succeed)
		return err
	}, true, nil)
}

// When another process has handled the event meanwhile, as after a lease that ran out, the function is not
// called and the worker counts a duplicate.
func TestTransactAfterOther(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	stalled, other := open(t, inbox.Config{Path: path}), open(t, inbox.Config{Path: path})
	expect(t, stalled, eventKey(0), func(ctx context.Context) error {
		_, err := independent(t, path).ExecContext(ctx, `DELETE FROM evdemo_inbox_claims`) // as a take-over does
		require.NoError(t, err)
		expect(t, other, eventKey(0), transact(eventKey(0), nil), true, nil)
		return transact(eventKey(0), nil)(ctx)
	}, true, worker.ErrDuplicate)
	assert.Equal(t, 1, effects(t, path, eventKey(0)))
	expect(t, stalled, eventKey(0), succeed, false, nil)
}

// A context that ends before the writer has begun takes the request back.
func TestTransactHeedsContext(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	store := open(t, inbox.Config{Path: path})
	ctx, cancel := context.WithCancel(t.Context())
	claimed, proceed := make(chan struct{}), make(chan struct{})
	result := once(ctx, store, eventKey(0), func(ctx context.Context) error {
		close(claimed)
		<-proceed
		return transact(eventKey(0), nil)(ctx)
	})
	await(t, claimed)
	expect(t, store, eventKey(1), transact(eventKey(1), func(context.Context, *sql.Tx) error {
		close(proceed)
		require.Eventually(t, func() bool { return store.Queued() == 1 }, patience, time.Millisecond)
		cancel()
		require.Eventually(t, func() bool { return store.Queued() == 2 }, patience, time.Millisecond, "the release")
		return nil
	}), true, nil)
	require.ErrorIs(t, await(t, result).err, context.Canceled)
	assert.Equal(t, 0, effects(t, path, eventKey(0)))
	expect(t, store, eventKey(0), succeed, true, nil)
}

// A handler that does not wait for its own Transact has it waited for.
func TestHandlerLeavesTransactBehind(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	store := open(t, inbox.Config{Path: path})
	expect(t, store, eventKey(0), func(ctx context.Context) error {
		begun := make(chan struct{})
		go func() {
			_ = transact(eventKey(0), func(context.Context, *sql.Tx) error { close(begun); runtime.Gosched(); return nil })(ctx)
		}()
		await(t, begun)
		return nil
	}, true, nil)
	assert.Equal(t, 1, effects(t, path, eventKey(0)))
}
