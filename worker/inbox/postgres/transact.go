package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox/internal/attempt"
)

// Transact implements attempt.Store. The record comes first: a duplicate does not get as far as the function, and two
// transactions that record the same event are in turn.
func (b backend) Transact(ctx context.Context, key worker.Key, fn func(context.Context, *sql.Tx) error) error {
	s := b.store
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	t := &transaction{store: s, key: columns(key), mark: rand.Int64N(1<<62) + 1} //nolint:gosec // no secret
	defer t.end()
	err := s.insist(ctx, 0, "the transaction of event "+key.ID, func(context.Context) error { return t.begin(ctx) })
	switch {
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("begin the transaction of event %s: %w", key.ID, err)
	case !t.first:
		return worker.ErrDuplicate
	}
	if err := fn(ctx, t.tx); err != nil {
		return err
	}
	return t.commit(ctx)
}

// transaction is that of one call of Transact.
type transaction struct {
	store *Store
	key   worker.Key
	mark  int64 // what the record has for this attempt
	first bool  // the record is this transaction's

	conn   *sql.Conn
	tx     *sql.Tx
	cancel context.CancelFunc // ends the transaction's context, which outlasts the caller's
	link   net.Conn
}

// begin takes a connection, and makes the record. It may be called again after it has failed.
func (t *transaction) begin(ctx context.Context) (err error) {
	t.end()
	if t.conn, err = t.store.db.Conn(ctx); err != nil {
		return err
	}
	var inTx context.Context
	inTx, t.cancel = context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, t.cancel)
	defer stop()
	timer := time.AfterFunc(t.store.config.Timeout, t.cancel)
	defer timer.Stop()
	if t.tx, err = t.conn.BeginTx(inTx, &sql.TxOptions{Isolation: sql.LevelReadCommitted}); err != nil {
		return err
	}
	if err := t.record(inTx); err != nil {
		return err
	}
	if ended := !stop(); ended || !timer.Stop() {
		return fmt.Errorf("no answer for %v: %w", t.store.config.Timeout, inTx.Err())
	}
	return nil
}

// record makes the record, unless there is one. One that another transaction has made and not committed is waited
// for. Two statements in one go are no statement that can be prepared.
func (t *transaction) record(ctx context.Context) error {
	return t.raw(func(conn *pgx.Conn) error {
		tag, err := conn.Exec(ctx, `SET TRANSACTION READ WRITE; `+t.store.again+insertRecord, pgx.QueryExecModeSimpleProtocol,
			t.key.Consumer, t.key.Source, t.key.ID, t.mark)
		t.first, t.link = tag.RowsAffected() > 0, conn.PgConn().Conn()
		if err != nil {
			_ = conn.Close(ctx) // a function may have left it like this
		}
		return err
	})
}

const insertRecord = `INSERT INTO evdemo_inbox_handled (consumer, source, id, attempt) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`

func (t *transaction) raw(do func(*pgx.Conn) error) error {
	return t.conn.Raw(func(conn any) error {
		c, ok := conn.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("connection is a %T", conn)
		}
		return do(c.Conn())
	})
}

// commit commits, and finds out what became of it where the server does not say.
func (t *transaction) commit(ctx context.Context) error {
	var status byte
	closed := true
	if err := t.raw(func(conn *pgx.Conn) error {
		status, closed = conn.PgConn().TxStatus(), conn.IsClosed()
		return nil
	}); err != nil {
		return t.resolve(ctx, err)
	}
	if !closed && status == 'I' {
		return t.resolve(ctx, attempt.ErrTransactionLost)
	}
	defer t.guard()()
	err := t.tx.Commit()
	pgErr, said := errors.AsType[*pgconn.PgError](err)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgx.ErrTxCommitRollback):
		return fmt.Errorf("%w, or went on after one of its statements had failed", attempt.ErrTransactionLost)
	case errors.Is(err, sql.ErrTxDone):
		return t.resolve(ctx, attempt.ErrTransactionLost)
	case said && pgErr.SeverityUnlocalized == "ERROR": // as of a deferred constraint
		return fmt.Errorf("commit event %s: %w", t.key.ID, explain(err))
	default:
		return t.resolve(ctx, err)
	}
}

// resolve finds out on another connection whether the transaction was committed, for as long as it takes. To make the
// same record waits until the server has ended a transaction that it still has under way; the record that is
// there then is that of this attempt, or of another one, or could be made, which is undone.
func (t *transaction) resolve(ctx context.Context, cause error) error {
	t.end()
	var by *int64
	err := t.store.insist(ctx, t.store.config.Timeout, "the outcome of event "+t.key.ID, func(ctx context.Context) (err error) {
		by, err = t.recorded(ctx)
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("it is not known whether event %s was committed: %w", t.key.ID, errors.Join(cause, err))
	case by == nil:
		return fmt.Errorf("event %s was not committed, and nothing of it remains: %w", t.key.ID, explain(cause))
	case *by != t.mark:
		return worker.ErrDuplicate
	default:
		return nil
	}
}

// recorded tells which attempt has recorded the event; nil where none has.
func (t *transaction) recorded(ctx context.Context) (by *int64, err error) {
	tx, err := t.store.own.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	tag, err := tx.Exec(ctx, insertRecord, t.key.Consumer, t.key.Source, t.key.ID, 0)
	if err != nil || tag.RowsAffected() > 0 {
		return nil, err
	}
	const query = `SELECT attempt FROM evdemo_inbox_handled WHERE consumer = $1 AND source = $2 AND id = $3`
	err = tx.QueryRow(ctx, query, t.key.Consumer, t.key.Source, t.key.ID).Scan(&by)
	return by, err
}

// guard cuts the connection off when the server takes too long over what follows, or has more to say than anybody
// reads, as of rows that the function has left open. What it returns ends that.
func (t *transaction) guard() (release func()) {
	link := t.link
	timer := time.AfterFunc(t.store.config.Timeout, func() {
		if link != nil {
			_ = link.Close()
		}
	})
	return func() { timer.Stop() }
}

// end undoes what was not committed, and gives the connection back.
func (t *transaction) end() {
	if t.conn == nil {
		return
	}
	if t.tx != nil {
		defer t.guard()()
		_ = t.tx.Rollback() // nothing, once committed
	}
	_ = t.conn.Close() // the pool keeps none that is in a transaction
	if t.cancel != nil {
		t.cancel()
	}
	t.conn, t.tx, t.cancel, t.link = nil, nil, nil, nil
}
