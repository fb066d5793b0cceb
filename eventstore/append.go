package eventstore

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"
)

// Append appends events to streams, all or none, and returns once they are durable.
//
// Where a stream is not as expected the error is a *[ConflictError]. An event that is in the log already, in
// the same stream and with the same content, is not appended again, and counts as appended: so an append whose
// outcome was not heard of may simply be made again, whatever it expected. An event whose id and source belong to
// another event is a *[DuplicateError].
//
// What several goroutines append at the same time shares a transaction, and the wait for the disk; each append
// has an outcome of its own. When ctx ends before the append has begun, nothing of it happens; when it ends
// later, the error wraps [ErrOutcomeUnknown]. While a PostgreSQL server cannot be reached the append waits and
// tries again, for Config.RetryFor, then the error wraps [ErrUnavailable], and ErrOutcomeUnknown if the server may
// have committed.
func (s *Store) Append(ctx context.Context, writes ...StreamWrite) (Appended, error) {
	a, err := newAppending(writes)
	if err != nil {
		return Appended{}, err
	}
	if ctx.Done() != nil {
		a.keepData() // the caller may be gone before the writer has read it
	}
	if err := s.writer.write(ctx, a); err != nil {
		return Appended{}, err
	}
	return a.out, nil
}

// AppendTx appends like [Store.Append], in the caller's transaction: the events are there once that is committed. A
// *[ConflictError], *[DuplicateError] or *[InvalidError] leaves the transaction as it was, to be gone on
// with; after any other error it must be rolled back. Nothing is tried again.
//
// Positions are in the order of the commits, so every other append waits from here until the transaction has
// ended: call AppendTx last, and commit at once. On PostgreSQL a transaction that has been idle for 30 s after it is
// ended by the server, unless idle_in_transaction_session_timeout says otherwise.
//
// tx is of [Store.DB] or of any other connection to the same database. On SQLite it must have begun with BEGIN
// IMMEDIATE, or not have read anything yet; on PostgreSQL its isolation level must be read committed, the default.
func (s *Store) AppendTx(ctx context.Context, tx *sql.Tx, writes ...StreamWrite) (Appended, error) {
	a, err := newAppending(writes)
	if err != nil {
		return Appended{}, err
	}
	if err := appendAll(ctx, s.database, txRunner{tx}, []*appending{a}); err != nil {
		return Appended{}, s.database.explain(orEnded(ctx, err))
	}
	return a.out, a.err
}

// appending is one append on its way.
type appending struct {
	writes []write
	events int
	bytes  int

	out Appended
	err error // the append's own outcome, where it has left nothing
}

// write is a StreamWrite as the tables have it.
type write struct {
	stream string
	expect Expectation
	rows   []row
}

func newAppending(writes []StreamWrite) (*appending, error) {
	a := &appending{writes: make([]write, len(writes))}
	for i, w := range writes {
		if err := checkStream(w.Stream); err != nil {
			return nil, err
		}
		if w.Expect < NoStream {
			return nil, fmt.Errorf("stream %s: %w", w.Stream, ErrNegative)
		}
		rows := make([]row, len(w.Events))
		for j, e := range w.Events {
			var err error
			if rows[j], err = newRow(e); err != nil {
				return nil, &InvalidError{Stream: w.Stream, Index: j, Err: err}
			}
			a.bytes += rows[j].size()
		}
		a.events += len(rows)
		a.writes[i] = write{stream: w.Stream, expect: w.Expect, rows: rows}
	}
	return a, nil
}

func (a *appending) keepData() {
	for i := range a.writes {
		for j := range a.writes[i].rows {
			a.writes[i].rows[j].data = bytes.Clone(a.writes[i].rows[j].data)
		}
	}
}

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return false
		}
	}
	return true
}

// appendAll makes appends in a transaction. The error is trouble with the database.
func appendAll(ctx context.Context, d database, q runner, group []*appending) error {
	h, err := d.lock(ctx, q)
	if err != nil {
		return err
	}
	before := h.position
	for _, a := range group {
		if err := appendTo(ctx, q, &h, a); err != nil {
			return err
		}
	}
	if h.position == before {
		return nil
	}
	return d.appended(ctx, q)
}

// appendTo appends in a transaction that holds the head, and brings the head up. Trouble with the database is
// returned; the append's own outcome is in a.err.
func appendTo(ctx context.Context, q runner, h *head, a *appending) error {
	alone := a.events <= 1 && len(a.writes) == 1 // leaves nothing where it fails
	if !alone {
		if err := q.exec(ctx, setSavepoint); err != nil {
			return err
		}
	}
	before := *h
	a.out, a.err = Appended{Positions: make([]int64, 0, a.events), Versions: make([]int64, 0, len(a.writes))}, nil
	err := appendWrites(ctx, q, h, a)
	if err != nil && !isOutcome(err) {
		return err
	}
	if a.err = err; err != nil {
		*h, a.out = before, Appended{}
	}
	if a.out.Added > 0 {
		a.out.RecordedAt = micros(h.recordedAt)
	}
	if alone {
		return nil
	}
	if a.err != nil {
		if err := q.exec(ctx, undoSavepoint); err != nil {
			return err
		}
	}
	return q.exec(ctx, releaseSavepoint)
}

// isOutcome tells whether an error is an append's own, and no trouble with the database.
func isOutcome(err error) bool {
	_, conflict := errors.AsType[*ConflictError](err)
	_, duplicate := errors.AsType[*DuplicateError](err)
	return conflict || duplicate
}

// appendWrites appends the writes one after the other.
func appendWrites(ctx context.Context, q runner, h *head, a *appending) error {
	known := make([]int64, len(a.writes)) // the version of each write's stream behind it
	var unmet error                       // by a stream that is only looked at
	for i := range a.writes {
		w := &a.writes[i]
		version, err := versionBefore(ctx, q, a.writes[:i], known, w.stream)
		if err != nil {
			return err
		}
		known[i] = version
		met := w.expect.version() < 0 || w.expect.version() == version
		if len(w.rows) == 0 {
			if !met && unmet == nil {
				unmet = w.conflict(version)
			}
			a.out.Versions = append(a.out.Versions, version)
			continue
		}
		if !met {
			if err := appendedBefore(ctx, q, a, w, version); err != nil {
				return err
			}
			continue
		}
		if err := appendRows(ctx, q, h, a, w, &known[i]); err != nil {
			return err
		}
	}
	if a.out.Added == 0 && a.events > 0 {
		return nil // the append is made a second time, and what it had looked at may have changed since
	}
	return unmet
}

func (w *write) conflict(version int64) error {
	return &ConflictError{Stream: w.stream, Expected: w.expect, Actual: version}
}

// versionBefore gives the version of a stream: what an earlier write of the append has made of it, or what the
// table says.
func versionBefore(ctx context.Context, q runner, earlier []write, known []int64, stream string) (version int64, err error) {
	for i, w := range slices.Backward(earlier) {
		if w.stream == stream {
			return known[i], nil
		}
	}
	err = q.row(ctx, selectVersion, stream).Scan(&version)
	return version, err
}

// appendRows appends the events of a write to a stream that is as expected.
func appendRows(ctx context.Context, q runner, h *head, a *appending, w *write, version *int64) error {
	behind := *version
	for i := range w.rows {
		r := &w.rows[i]
		inserted, err := q.insert(ctx, h.position+1, w.stream, *version+1, h.recordedAt, r)
		if err != nil {
			return err
		}
		if inserted {
			h.position++
			*version++
			a.out.Added++
			a.out.Positions, behind = append(a.out.Positions, h.position), *version
			continue
		}
		there, err := find(ctx, q, r)
		if err != nil {
			return err
		}
		if err := there.is(w.stream, r); err != nil {
			return err
		}
		a.out.Positions, behind = append(a.out.Positions, there.position), there.version
	}
	a.out.Versions = append(a.out.Versions, behind)
	return nil
}

// appendedBefore accepts a write to a stream that is not as expected, if all its events are there: then it is
// made a second time.
func appendedBefore(ctx context.Context, q runner, a *appending, w *write, version int64) error {
	behind := int64(0)
	for i := range w.rows {
		there, err := find(ctx, q, &w.rows[i])
		if errors.Is(err, sql.ErrNoRows) {
			return w.conflict(version)
		}
		if err != nil {
			return err
		}
		if err := there.is(w.stream, &w.rows[i]); err != nil {
			return err
		}
		a.out.Positions, behind = append(a.out.Positions, there.position), there.version
	}
	a.out.Versions = append(a.out.Versions, behind)
	return nil
}

// placed is an event in the log as the table has it.
type placed struct {
	row

	position, version, recordedAt int64
	stream                        string
}

// find looks for the event with a row's id and source; sql.ErrNoRows says that there is none.
func find(ctx context.Context, q runner, r *row) (*placed, error) {
	var p placed
	return &p, p.scan(q.row(ctx, selectEvent, r.id, r.source))
}

// is tells whether this is that event in that stream.
func (p *placed) is(stream string, r *row) error {
	if p.stream == stream && p.same(r) {
		return nil
	}
	return &DuplicateError{ID: p.id, Source: p.source, Stream: p.stream, Position: p.position, Moved: p.same(r)}
}

func micros(n int64) time.Time { return time.UnixMicro(n).UTC() }
