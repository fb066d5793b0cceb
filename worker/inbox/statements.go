package inbox

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/evdemo/evdemo/worker"
)

// pruneBatch is how many old records one transaction removes.
const pruneBatch = 500

// claimKey names a claim.
type claimKey = worker.Key

// statements are what the writer has prepared on its connection.
type statements struct {
	claim, handled, record, unclaim, renew, owners *sql.Stmt
	dismissOwner, dismissClaims, pruneOld          *sql.Stmt
	savepoint, release, rollback                   *sql.Stmt
	hold, isMarked, mark, waiting, overdue         *sql.Stmt
	stranded, forget, pruneMarks                   *sql.Stmt
}

func prepare(ctx context.Context, conn *sql.Conn) (statements, error) {
	var s statements
	for _, p := range []struct {
		stmt  **sql.Stmt
		query string
	}{
		// A claim of one's own is a left-over: within a process attempts at one event are in turn.
		{&s.claim, `INSERT INTO evdemo_inbox_claims (consumer, source, id, owner)
			SELECT ?1, ?2, ?3, ?4 WHERE NOT EXISTS (
				SELECT 1 FROM evdemo_inbox_handled WHERE consumer = ?1 AND source = ?2 AND id = ?3)
			ON CONFLICT DO UPDATE SET owner = owner WHERE owner = excluded.owner`},
		{&s.handled, `SELECT EXISTS (SELECT 1 FROM evdemo_inbox_handled WHERE consumer = ? AND source = ? AND id = ?)`},
		{&s.record, `INSERT INTO evdemo_inbox_handled (consumer, source, id, handled_at) VALUES (?, ?, ?, ?)
			ON CONFLICT DO NOTHING`},
		{&s.unclaim, `DELETE FROM evdemo_inbox_claims WHERE consumer = ? AND source = ? AND id = ? AND owner = ?`},
		{&s.renew, `INSERT INTO evdemo_inbox_owners (id, lease_ms, renewed) VALUES (?, ?, ?)
			ON CONFLICT DO UPDATE SET renewed = excluded.renewed`},
		{&s.owners, `SELECT id, lease_ms, renewed FROM evdemo_inbox_owners WHERE id <> ?`},
		{&s.dismissOwner, `DELETE FROM evdemo_inbox_owners WHERE id = ?`},
		{&s.dismissClaims, `DELETE FROM evdemo_inbox_claims WHERE owner = ?`},
		{&s.pruneOld, `DELETE FROM evdemo_inbox_handled WHERE (consumer, source, id) IN (
				SELECT consumer, source, id FROM evdemo_inbox_handled WHERE handled_at < ? ORDER BY handled_at LIMIT ?)`},
		{&s.hold, `INSERT INTO evdemo_inbox_held (consumers, queue, source, id, parent, until, message) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET claim = claim + 1, claimed = 0, until = excluded.until WHERE claimed <> 0`},
		{&s.isMarked, `SELECT EXISTS (SELECT 1 FROM evdemo_inbox_marks WHERE consumers = ? AND id = ?)`},
		{&s.mark, `INSERT INTO evdemo_inbox_marks (consumers, id, marked_at) VALUES (?, ?, ?)
			ON CONFLICT DO UPDATE SET marked_at = excluded.marked_at`},
		{&s.waiting, `UPDATE evdemo_inbox_held SET claim = max(claim, ?1 * 1000) + 1, claimed = ?1
			WHERE consumers = ?2 AND parent = ?3 AND claimed <= ?4
			RETURNING place, queue, source, id, parent, until, claim, message, 1`},
		{&s.overdue, `UPDATE evdemo_inbox_held SET claim = max(claim, ?1 * 1000) + 1, claimed = ?1 WHERE place IN (
				SELECT place FROM evdemo_inbox_held WHERE consumers = ?2 AND claimed <= ?3 AND until <= ?4 ORDER BY until LIMIT ?5)
			RETURNING place, queue, source, id, parent, until, claim, message,
				EXISTS (SELECT 1 FROM evdemo_inbox_marks m WHERE m.consumers = evdemo_inbox_held.consumers AND m.id = parent)`},
		{&s.stranded, `UPDATE evdemo_inbox_held SET claim = max(claim, ?1 * 1000) + 1, claimed = ?1 WHERE place IN (
				SELECT h.place FROM evdemo_inbox_held h WHERE h.consumers = ?2 AND h.claimed <= ?3 AND h.until > ?4
					AND EXISTS (SELECT 1 FROM evdemo_inbox_marks m WHERE m.consumers = h.consumers AND m.id = h.parent)
				ORDER BY h.place LIMIT ?5)
			RETURNING place, queue, source, id, parent, until, claim, message, 1`},
		{&s.forget, `DELETE FROM evdemo_inbox_held WHERE consumers = ? AND queue = ? AND source = ? AND id = ? AND claim = ?`},
		{&s.pruneMarks, `DELETE FROM evdemo_inbox_marks WHERE (consumers, id) IN (
				SELECT consumers, id FROM evdemo_inbox_marks WHERE marked_at < ? ORDER BY marked_at LIMIT ?)`},
		{&s.savepoint, `SAVEPOINT evdemo_inbox`},
		{&s.release, `RELEASE evdemo_inbox`},
		{&s.rollback, `ROLLBACK TO evdemo_inbox`},
	} {
		stmt, err := conn.PrepareContext(ctx, p.query)
		if err != nil {
			return s, fmt.Errorf("prepare statements: %w", err)
		}
		*p.stmt = stmt
	}
	return s, nil
}

// changes runs a statement and gives how many rows it changed.
func changes(ctx context.Context, stmt *sql.Stmt, args ...any) (int64, error) {
	result, err := stmt.ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// claimEvent claims an event for an owner, and tells where it cannot whether that is because the event has
// been handled. Neither means that another owner is at it.
func (s *statements) claimEvent(ctx context.Context, key worker.Key, owner int64) (claimed, handled bool, err error) {
	n, err := changes(ctx, s.claim, key.Consumer, key.Source, key.ID, owner)
	if err != nil || n > 0 {
		return n > 0, false, err
	}
	err = s.handled.QueryRowContext(ctx, key.Consumer, key.Source, key.ID).Scan(&handled)
	return false, handled, err
}

// recordEvent notes that an event has been handled, unless that is known, and gives up the owner's claim.
func (s *statements) recordEvent(ctx context.Context, key worker.Key, owner int64) (first bool, err error) {
	n, err := changes(ctx, s.record, key.Consumer, key.Source, key.ID, time.Now().UnixMilli())
	if err == nil {
		err = s.releaseEvent(ctx, key, owner)
	}
	return n > 0, err
}

func (s *statements) releaseEvent(ctx context.Context, key worker.Key, owner int64) error {
	_, err := s.unclaim.ExecContext(ctx, key.Consumer, key.Source, key.ID, owner)
	return err
}

// otherOwner is another owner's row.
type otherOwner struct {
	id      int64
	lease   time.Duration
	renewed int64
}

func (s *statements) otherOwners(ctx context.Context, self int64) (others []otherOwner, err error) {
	rows, err := s.owners.QueryContext(ctx, self)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var o otherOwner
		var lease int64
		if err := rows.Scan(&o.id, &lease, &o.renewed); err != nil {
			return nil, err
		}
		o.lease = time.Duration(lease) * time.Millisecond
		others = append(others, o)
	}
	return others, rows.Err()
}

// dismiss removes an owner with all its claims.
func (s *statements) dismiss(ctx context.Context, owner int64) error {
	_, err := s.dismissOwner.ExecContext(ctx, owner)
	if err == nil {
		_, err = s.dismissClaims.ExecContext(ctx, owner)
	}
	return err
}

// prune removes some of the records from before a moment, and tells whether there are more.
func (s *statements) prune(ctx context.Context, before time.Time) (more bool, err error) {
	n, err := changes(ctx, s.pruneOld, before.UnixMilli(), pruneBatch)
	if err != nil {
		return false, err
	}
	marks, err := changes(ctx, s.pruneMarks, before.UnixMilli(), pruneBatch)
	return n == pruneBatch || marks == pruneBatch, err
}
