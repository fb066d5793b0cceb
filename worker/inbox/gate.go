package inbox

import (
	"context"
	"database/sql"
	"time"

	"github.com/evdemo/evdemo/worker"
)

// Hold implements worker.GateStore.
func (s *Store) Hold(ctx context.Context, group string, h worker.Held) (held bool, err error) {
	err = s.writer.write(ctx, func(ctx context.Context, _ *sql.Tx) error {
		var marked bool
		if err := s.writer.do.isMarked.QueryRowContext(ctx, group, h.Parent).Scan(&marked); err != nil || marked {
			held = false
			return err
		}
		held = true
		_, err := s.writer.do.hold.ExecContext(ctx, group, h.Source, h.ID, h.Parent, h.Queue, h.Since.UnixMilli(), h.Message)
		return err
	})
	return held && err == nil, err
}

// Mark implements worker.GateStore. What is marked is remembered for Config.Retention.
func (s *Store) Mark(ctx context.Context, group, id string) (ready []worker.Held, err error) {
	now := time.Now()
	err = s.writer.write(context.WithoutCancel(ctx), func(ctx context.Context, _ *sql.Tx) error {
		if _, err := s.writer.do.mark.ExecContext(ctx, group, id, now.UnixMilli()); err != nil {
			return err
		}
		ready, err = heldBy(ctx, s.writer.do.waiting, now.UnixMilli(), group, id, now.Add(-worker.GateLease).UnixMilli())
		return err
	})
	return ready, err
}

// Claim implements worker.GateStore.
func (s *Store) Claim(ctx context.Context, group string, before time.Time) (due []worker.Held, err error) {
	now := time.Now()
	err = s.writer.write(ctx, func(ctx context.Context, _ *sql.Tx) error {
		due, err = heldBy(ctx, s.writer.do.due, now.UnixMilli(), group, now.Add(-worker.GateLease).UnixMilli(), before.UnixMilli(), worker.GateBatch)
		return err
	})
	return due, err
}

// Forget implements worker.GateStore.
func (s *Store) Forget(ctx context.Context, group string, sent []worker.Held) error {
	if len(sent) == 0 {
		return nil
	}
	return s.writer.write(ctx, func(ctx context.Context, _ *sql.Tx) error {
		for _, h := range sent {
			if _, err := s.writer.do.forget.ExecContext(ctx, group, h.Source, h.ID); err != nil {
				return err
			}
		}
		return nil
	})
}

// Holding implements worker.GateStore.
func (s *Store) Holding(ctx context.Context, group string) (n int, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT count(*) FROM evdemo_inbox_held WHERE consumers = ?`, group).Scan(&n)
	return n, explain(err)
}

// Durable implements worker.GateStore: it is.
func (s *Store) Durable() bool { return true }

// heldBy runs a statement that gives held events.
func heldBy(ctx context.Context, stmt *sql.Stmt, args ...any) (held []worker.Held, err error) {
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var h worker.Held
		var since int64
		if err := rows.Scan(&h.Source, &h.ID, &h.Parent, &h.Queue, &since, &h.Message, &h.Ready); err != nil {
			return nil, err
		}
		h.Since = time.UnixMilli(since)
		held = append(held, h)
	}
	return held, rows.Err()
}
