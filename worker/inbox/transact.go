package inbox

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox/internal/attempt"
)

// Transact commits the effects of an event together with the record that it has been handled. It is called
// by a handler within Store.Once, with the context that the handler got or one made from it, once in an
// attempt, and should be the last thing that the handler does: when it returns nil both are durable, and
// the event has been handled whatever the handler returns.
//
// When fn returns an error or panics, nothing of what it did remains, and Transact returns the error, or
// panics. When the commit fails, nothing remains either. When another process has recorded the event
// meanwhile, Transact returns [worker.ErrDuplicate] without calling fn, for the handler to pass on.
//
// fn writes to the store's database through tx, and has no effect elsewhere. It must not begin or end
// transactions. It is called with the same context that Transact got.
//
// On SQLite fn shares the transaction with others and holds the file's write lock, so it must be quick, and must
// not wait for anything that writes to the file by another way. Where another's function has spoiled the
// transaction, fn is called again in a new one. SQLite's foreign keys are not enforced in it.
//
// On PostgreSQL (package inbox/postgres) the transaction is fn's own, READ COMMITTED, and fn is called once. A
// function that commits by itself has committed the record as well, and Transact returns nil. Where the connection
// breaks during the commit, Transact looks up on another one what became of it, for as long as ctx lives.
//
// When ctx ends before the store has begun with it, Transact returns ctx's error and fn is not called.
func Transact(ctx context.Context, fn func(ctx context.Context, tx *sql.Tx) error) error {
	return attempt.Transact(ctx, fn)
}

// Transact implements attempt.Store.
func (b backend) Transact(ctx context.Context, key worker.Key, fn func(context.Context, *sql.Tx) error) error {
	t := &turn{writer: b.store.writer, key: key, begin: make(chan *sql.Tx), ended: make(chan error)}
	t.request = newRequest(t.work)
	if err := t.writer.enqueue(t.request); err != nil {
		return err
	}
	end := ctx.Done()
	for {
		select {
		case tx := <-t.begin:
			t.call(ctx, tx, fn)
		case err := <-t.done:
			return err
		case <-end:
			if !t.taken.Swap(true) {
				return ctx.Err()
			}
			end = nil // the writer has begun with it: the outcome is its
		}
	}
}

// turn is the part of one Transact in the writer's transaction. The function runs on its caller's goroutine
// while the writer waits, so that a panic, or the end of the goroutine, is the caller's own.
type turn struct {
	*request

	writer *writer
	key    worker.Key
	begin  chan *sql.Tx
	ended  chan error
}

// call runs the function on the caller's side.
func (t *turn) call(ctx context.Context, tx *sql.Tx, fn func(context.Context, *sql.Tx) error) {
	err := errPanicked
	defer func() { t.ended <- err }()
	err = fn(ctx, tx)
}

// work is the writer's side. The record comes first: a duplicate does not get as far as the function.
func (t *turn) work(ctx context.Context, tx *sql.Tx) error {
	w := t.writer
	if _, err := w.do.savepoint.ExecContext(ctx); err != nil {
		return fmt.Errorf("set savepoint: %w", err)
	}
	first, err := w.do.recordEvent(ctx, t.key, w.owner.id)
	if err != nil {
		return fmt.Errorf("record event: %w", err)
	}
	if t.err = worker.ErrDuplicate; first {
		t.begin <- tx
		t.err = <-t.ended
	}
	if t.err != nil {
		if _, err := w.do.rollback.ExecContext(ctx); err != nil {
			return ErrTransactionLost
		}
	}
	if _, err := w.do.release.ExecContext(ctx); err != nil {
		if t.err == nil {
			t.err = fmt.Errorf("%w: %w", ErrTransactionLost, err)
		}
		return ErrTransactionLost
	}
	return nil
}
