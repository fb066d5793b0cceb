package eventstore

import (
	"context"
	"database/sql"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// statement is the text of an SQL statement. Those here mean the same on both databases.
type statement string

const (
	selectVersion statement = `SELECT coalesce(max(version), 0) FROM evdemo_store_events WHERE stream = $1`
	insertEvent   statement = `INSERT INTO evdemo_store_events VALUES ($1, $2, $3, $4, $5, $6, $7, nullif($8, ''), nullif($9, ''),
		nullif($10, ''), nullif($11, ''), nullif($12, ''), nullif($13, ''), $14) ON CONFLICT (id, source) DO NOTHING`
	selectEvent      statement = `SELECT ` + columns + ` FROM evdemo_store_events WHERE id = $1 AND source = $2`
	setSavepoint     statement = `SAVEPOINT evdemo_append`
	undoSavepoint    statement = `ROLLBACK TO SAVEPOINT evdemo_append`
	releaseSavepoint statement = `RELEASE SAVEPOINT evdemo_append`
	selectHead       statement = `SELECT position, recorded_at FROM evdemo_store_events ORDER BY position DESC LIMIT 1`

	columns = `position, stream, version, recorded_at, id, source, type, coalesce(subject, ''), coalesce(time, ''),
		coalesce(content_type, ''), coalesce(data_schema, ''), coalesce(correlation, ''), coalesce(extensions, ''), data`
)

// runner runs statements in a transaction.
type runner interface {
	exec(ctx context.Context, s statement, args ...any) error
	row(ctx context.Context, s statement, args ...any) scanner
	// insert tells whether there was no event with that id and source.
	insert(ctx context.Context, position int64, stream string, version, recordedAt int64, r *row) (inserted bool, err error)
}

// scanner is a row of a result.
type scanner interface{ Scan(targets ...any) error }

// scan reads the columns.
func (p *placed) scan(from scanner) error {
	return from.Scan(&p.position, &p.stream, &p.version, &p.recordedAt, &p.id, &p.source, &p.kind, &p.subject, &p.time,
		&p.contentType, &p.dataSchema, &p.correlation, &p.extensions, &p.data)
}

// recorded makes the event again.
func (p *placed) recorded() (Recorded, error) {
	e, err := p.event()
	if err != nil {
		return Recorded{}, &DamagedError{Position: p.position, Stream: p.stream, Err: err}
	}
	return Recorded{Event: e, Position: p.position, Stream: p.stream, Version: p.version, RecordedAt: micros(p.recordedAt)}, nil
}

// size is about how many bytes a row takes.
func (r *row) size() int {
	return len(r.id) + len(r.source) + len(r.kind) + len(r.subject) + len(r.time) + len(r.contentType) + len(r.dataSchema) +
		len(r.correlation) + len(r.extensions) + len(r.data)
}

// head is the end of the log.
type head struct{ position, recordedAt int64 }

// txRunner runs statements in a transaction of database/sql.
type txRunner struct{ tx *sql.Tx }

func (q txRunner) exec(ctx context.Context, s statement, args ...any) error {
	_, err := q.tx.ExecContext(ctx, string(s), args...)
	return err
}

func (q txRunner) row(ctx context.Context, s statement, args ...any) scanner {
	return q.tx.QueryRowContext(ctx, string(s), args...)
}

func (q txRunner) insert(ctx context.Context, position int64, stream string, version, recordedAt int64, r *row) (bool, error) {
	return inserted(q.tx.ExecContext(ctx, string(insertEvent), insertArgs(position, stream, version, recordedAt, r)...))
}

func insertArgs(position int64, stream string, version, recordedAt int64, r *row) []any {
	return []any{
		position, stream, version, recordedAt, r.id, r.source, r.kind, r.subject, r.time,
		r.contentType, r.dataSchema, r.correlation, r.extensions, r.bytes(),
	}
}

// bytes is the data, or nil for none: no data and empty data are the same.
func (r *row) bytes() []byte {
	if len(r.data) == 0 {
		return nil
	}
	return r.data
}

func inserted(result sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

// preparedRunner runs prepared statements in a transaction of database/sql.
type preparedRunner struct {
	tx       *sql.Tx
	prepared map[statement]*sql.Stmt
	within   map[statement]*sql.Stmt // the same in the transaction, those that were needed
}

func (q preparedRunner) stmt(ctx context.Context, s statement) *sql.Stmt {
	stmt := q.within[s]
	if stmt == nil {
		stmt = q.tx.StmtContext(ctx, q.prepared[s])
		q.within[s] = stmt
	}
	return stmt
}

func (q preparedRunner) exec(ctx context.Context, s statement, args ...any) error {
	_, err := q.stmt(ctx, s).ExecContext(ctx, args...)
	return err
}

func (q preparedRunner) row(ctx context.Context, s statement, args ...any) scanner {
	return q.stmt(ctx, s).QueryRowContext(ctx, args...)
}

func (q preparedRunner) insert(ctx context.Context, position int64, stream string, version, recordedAt int64, r *row) (bool, error) {
	return inserted(q.stmt(ctx, insertEvent).ExecContext(ctx, insertArgs(position, stream, version, recordedAt, r)...))
}

// pgxRunner runs statements in a transaction of pgx.
type pgxRunner struct{ tx pgx.Tx }

func (q pgxRunner) exec(ctx context.Context, s statement, args ...any) error {
	_, err := q.tx.Exec(ctx, string(s), args...)
	return err
}

func (q pgxRunner) row(ctx context.Context, s statement, args ...any) scanner {
	return pgxRow{q.tx.QueryRow(ctx, string(s), args...)}
}

func (q pgxRunner) insert(ctx context.Context, position int64, stream string, version, recordedAt int64, r *row) (bool, error) {
	var tag pgconn.CommandTag
	tag, err := q.tx.Exec(ctx, string(insertEvent), insertArgs(position, stream, version, recordedAt, r)...)
	return tag.RowsAffected() == 1, err
}

// pgxRow speaks of no rows as database/sql does.
type pgxRow struct{ row pgx.Row }

func (r pgxRow) Scan(targets ...any) error {
	err := r.row.Scan(targets...)
	if errors.Is(err, pgx.ErrNoRows) {
		return sql.ErrNoRows
	}
	return err
}
