package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox"
	"github.com/evdemo/evdemo/worker/inbox/postgres"
)

// The effect and the record are there together, also when the handler fails afterwards.
func TestTransactCommitsBoth(t *testing.T) {
	t.Parallel()
	at := database(t)
	db := independent(t, at)
	store := open(t, postgres.Config{URL: at})
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
		assert.Equal(t, 1, effects(t, db, eventKey(n)))
		expect(t, store, eventKey(n), transact(eventKey(n), nil), false, nil)
		assert.Equal(t, 1, effects(t, db, eventKey(n)))
	}
	require.NoError(t, store.Close())
	assert.Equal(t, 0, claims(t, db))
	again := open(t, postgres.Config{URL: at})
	expect(t, again, eventKey(0), transact(eventKey(0), nil), false, nil)
}

// Of a function that fails nothing remains, whichever way it fails.
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
		"an error of SQL that is not passed on": {func(ctx context.Context, tx *sql.Tx) error {
			_, _ = tx.ExecContext(ctx, `INSERT INTO nowhere VALUES (1)`)
			return nil
		}, inbox.ErrTransactionLost},
		"a panic":                {func(context.Context, *sql.Tx) error { panic(errHandler) }, nil},
		"the end of a goroutine": {func(context.Context, *sql.Tx) error { runtime.Goexit(); return nil }, nil},
		"a rollback":             {func(_ context.Context, tx *sql.Tx) error { return tx.Rollback() }, inbox.ErrTransactionLost},
		"a rollback in SQL": {func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `ROLLBACK`)
			return err
		}, inbox.ErrTransactionLost},
		"going on without a transaction": {func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `ROLLBACK`)
			_ = addEffect(ctx, tx, eventKey(9)) // would be committed by itself
			return err
		}, inbox.ErrTransactionLost},
		"going on in one of its own": {func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `ROLLBACK; BEGIN`)
			if err == nil {
				err = addEffect(ctx, tx, eventKey(9)) // would be committed without the record
			}
			return errors.Join(errHandler, err)
		}, errHandler},
		"a context that ends in mid-write": {endInMidWrite, context.DeadlineExceeded},
		"and going on all the same": {func(ctx context.Context, tx *sql.Tx) error {
			_ = endInMidWrite(ctx, tx)
			_ = addEffect(ctx, tx, eventKey(9))
			return nil
		}, nil},
		"an end of the connection": {func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
			assert.Error(t, err)
			return nil
		}, nil},
		"a deferred constraint": {func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO strict VALUES (1), (1)`)
			return err
		}, nil},
	}
	at := database(t)
	db := independent(t, at)
	_, err := db.ExecContext(t.Context(), `CREATE TABLE strict (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)`)
	require.NoError(t, err)
	store := open(t, postgres.Config{URL: at, MaxConns: 1}) // what one leaves is what the next one gets
	n := int64(100)
	for name, failure := range failures {
		n++
		t.Log(name)
		result := once(t.Context(), store, eventKey(n), transact(eventKey(n), failure.more))
		if name != "a panic" && name != "the end of a goroutine" {
			failed := await(t, result)
			require.Error(t, failed.err, name)
			require.ErrorIs(t, failed.err, cmpOr(failure.want, failed.err), name)
			assert.True(t, failed.called, name)
		}
		expect(t, store, eventKey(n), transact(eventKey(n), nil), true, nil)
		assert.Equal(t, 1, effects(t, db, eventKey(n)), "%s: that of the second attempt", name)
		assert.Equal(t, 0, effects(t, db, eventKey(9)), "%s: what was done without the transaction", name)
	}
	assert.Equal(t, 0, count(t, db, `SELECT count(*) FROM strict`))
}

func cmpOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

const endless = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) `

func endInMidWrite(ctx context.Context, tx *sql.Tx) error {
	ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err := tx.ExecContext(ctx, `SELECT pg_sleep(60)`)
	return errors.Join(err, ctx.Err())
}

// Rows without end that a function leaves open are cut off.
func TestFunctionLeavesRowsOpen(t *testing.T) {
	t.Parallel()
	at := database(t)
	store := open(t, postgres.Config{URL: at, MaxConns: 1, Timeout: time.Second})
	result := once(t.Context(), store, eventKey(0), transact(eventKey(0), func(ctx context.Context, tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, endless+`SELECT i FROM n`) //nolint:sqlclosecheck // that is the fault
		if err != nil || !rows.Next() || rows.Err() != nil {
			return errors.Join(err, errors.New("no rows"))
		}
		return errHandler
	}))
	require.ErrorIs(t, await(t, result).err, errHandler)
	expect(t, store, eventKey(0), transact(eventKey(0), nil), true, nil)
	assert.Equal(t, 1, effects(t, independent(t, at), eventKey(0)))
}

// A function that commits by itself commits the record as well: the event has been handled.
func TestFunctionCommitsByItself(t *testing.T) {
	t.Parallel()
	at := database(t)
	db := independent(t, at)
	store := open(t, postgres.Config{URL: at})
	expect(t, store, eventKey(0), transact(eventKey(0), func(_ context.Context, tx *sql.Tx) error { return tx.Commit() }), true, nil)
	expect(t, store, eventKey(1), transact(eventKey(1), func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `COMMIT`)
		require.Error(t, addEffect(ctx, tx, eventKey(9)), "nothing is written without the record")
		return err
	}), true, nil)
	for n := range int64(2) {
		assert.Equal(t, 1, effects(t, db, eventKey(n)))
		expect(t, store, eventKey(n), succeed, false, nil)
	}
	assert.Equal(t, 0, effects(t, db, eventKey(9)))
}

func TestTransactOutsideOnce(t *testing.T) {
	t.Parallel()
	store := open(t, postgres.Config{URL: database(t)})
	var ended context.Context
	expect(t, store, eventKey(0), func(ctx context.Context) error { ended = ctx; return nil }, true, nil)
	require.ErrorIs(t, transact(eventKey(0), nil)(ended), inbox.ErrNotInOnce)
}

func TestTransactTwice(t *testing.T) {
	t.Parallel()
	at := database(t)
	store := open(t, postgres.Config{URL: at})
	expect(t, store, eventKey(0), func(ctx context.Context) error {
		require.NoError(t, transact(eventKey(0), nil)(ctx))
		return transact(eventKey(0), nil)(ctx)
	}, true, inbox.ErrTransacted)
	assert.Equal(t, 1, effects(t, independent(t, at), eventKey(0)))
	expect(t, store, eventKey(0), succeed, false, nil)
	within := func(ctx context.Context, _ *sql.Tx) error { return transact(eventKey(1), nil)(ctx) }
	expect(t, store, eventKey(1), transact(eventKey(1), within), true, inbox.ErrTransacted)
	assert.Equal(t, 0, effects(t, independent(t, at), eventKey(1)))
}

func TestOnceWithinTransact(t *testing.T) {
	t.Parallel()
	store := open(t, postgres.Config{URL: database(t)})
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

// When another process has handled the event meanwhile, as after a session that was lost, the function is not
// called and the worker counts a duplicate.
func TestTransactAfterOther(t *testing.T) {
	t.Parallel()
	at := database(t)
	db := independent(t, at)
	stalled := open(t, postgres.Config{URL: at})
	expect(t, stalled, eventKey(0), func(ctx context.Context) error {
		_, err := db.ExecContext(ctx, `INSERT INTO evdemo_inbox_handled VALUES ($1, $2, $3, 1)`, eventKey(0).Consumer, eventKey(0).Source, eventKey(0).ID)
		require.NoError(t, err)
		return transact(eventKey(0), nil)(ctx)
	}, true, worker.ErrDuplicate)
	assert.Equal(t, 0, effects(t, db, eventKey(0)))
	expect(t, stalled, eventKey(0), succeed, false, nil)
}

// A context that ends while all connections are taken takes the request back.
func TestTransactHeedsContext(t *testing.T) {
	t.Parallel()
	at := database(t)
	store := open(t, postgres.Config{URL: at, MaxConns: 1})
	busy, free := make(chan struct{}), make(chan struct{})
	blocker := once(t.Context(), store, eventKey(1), transact(eventKey(1), func(context.Context, *sql.Tx) error {
		close(busy)
		<-free
		return nil
	}))
	await(t, busy)
	ctx, cancel := context.WithCancel(t.Context())
	called, err := store.Once(ctx, eventKey(0), func(ctx context.Context) error {
		cancel()
		return transact(eventKey(0), nil)(ctx)
	})
	require.ErrorIs(t, err, context.Canceled)
	assert.True(t, called)
	close(free)
	assert.Equal(t, outcome{called: true}, await(t, blocker))
	assert.Equal(t, 0, effects(t, independent(t, at), eventKey(0)))
	expect(t, store, eventKey(0), succeed, true, nil)
}

// A handler that does not wait for its own Transact has it waited for.
func TestHandlerLeavesTransactBehind(t *testing.T) {
	t.Parallel()
	at := database(t)
	store := open(t, postgres.Config{URL: at})
	expect(t, store, eventKey(0), func(ctx context.Context) error {
		begun := make(chan struct{})
		go func() {
			_ = transact(eventKey(0), func(context.Context, *sql.Tx) error { close(begun); runtime.Gosched(); return nil })(ctx)
		}()
		await(t, begun)
		return nil
	}, true, nil)
	assert.Equal(t, 1, effects(t, independent(t, at), eventKey(0)))
}

// Handlers need no connection, and those that wait for others need none either: a hundred of each make do with one,
// and while they are at it the functions of others go through.
func TestHandlersNeedNoConnections(t *testing.T) {
	t.Parallel()
	at := database(t)
	db := independent(t, at)
	store, other := open(t, postgres.Config{URL: at, MaxConns: 1}), open(t, postgres.Config{URL: at, MaxConns: 1})
	free := make(chan struct{})
	var begun, ended sync.WaitGroup
	begun.Add(100)
	for n := range int64(100) {
		ended.Go(func() {
			expect(t, store, eventKey(n), func(ctx context.Context) error {
				begun.Done()
				<-free
				return transact(eventKey(n), nil)(ctx)
			}, true, nil)
		})
	}
	begun.Wait()
	for n := range int64(100) {
		ended.Go(func() { expect(t, store, eventKey(n), succeed, false, nil) })
		ended.Go(func() { expect(t, other, eventKey(n), succeed, false, nil) })
	}
	expect(t, store, eventKey(100), transact(eventKey(100), nil), true, nil)
	expect(t, other, eventKey(101), succeed, true, nil)
	assert.Less(t, count(t, db, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'evdemo'`), 13)
	close(free)
	ended.Wait()
	assert.Equal(t, 101, count(t, db, `SELECT count(*) FROM effects`))
}

// A server that ends transactions which are idle does not mind long handlers. A function that is idle for too long
// fails with a reason, and nothing of it remains.
func TestIdleTransaction(t *testing.T) {
	t.Parallel()
	at := database(t)
	db := independent(t, at)
	u, err := url.Parse(at)
	require.NoError(t, err)
	q := u.Query()
	q.Set("options", "-c idle_in_transaction_session_timeout=100ms")
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20")
	store := open(t, postgres.Config{URL: u.String()})
	pause := func() { <-time.After(400 * time.Millisecond) }
	expect(t, store, eventKey(0), func(ctx context.Context) error { pause(); return transact(eventKey(0), nil)(ctx) }, true, nil)
	called, err := store.Once(t.Context(), eventKey(1), transact(eventKey(1), func(context.Context, *sql.Tx) error { pause(); return nil }))
	require.ErrorContains(t, err, "idle_in_transaction_session_timeout")
	assert.True(t, called)
	assert.Equal(t, 0, effects(t, db, eventKey(1)))
	expect(t, store, eventKey(1), transact(eventKey(1), nil), true, nil)
	assert.Equal(t, 1, effects(t, db, eventKey(1)))
}
