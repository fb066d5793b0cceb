package inbox

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/evdemo/evdemo/internal/sqlitefile"
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
		_, err := s.writer.do.hold.ExecContext(ctx, group, h.Queue, h.Source, h.ID, h.Parent, h.Until.UnixMilli(), h.Message)
		return err
	})
	return held && err == nil, err
}

// Mark implements worker.GateStore. What is marked is remembered for Config.Retention.
func (s *Store) Mark(ctx context.Context, group, id string) (ready []worker.Held, err error) {
	err = s.writer.write(context.WithoutCancel(ctx), func(ctx context.Context, _ *sql.Tx) (err error) {
		now := time.Now()
		if _, err = s.writer.do.mark.ExecContext(ctx, group, id, now.UnixMilli()); err != nil {
			return err
		}
		ready, err = heldBy(ctx, s.writer.do.waiting, now.UnixMilli(), group, id, now.Add(-worker.GateLease).UnixMilli())
		return err
	})
	return ready, err
}

// Claim implements worker.GateStore. What waits for an event that has been marked is left behind by a crash
// only, so that is looked for once in a lease.
func (s *Store) Claim(ctx context.Context, group string, moment time.Time, lease time.Duration) (due []worker.Held, err error) {
	now := time.Now()
	look := s.lookAgain(group, now, lease)
	err = s.writer.write(ctx, func(ctx context.Context, _ *sql.Tx) (err error) {
		free := now.Add(-lease).UnixMilli()
		due, err = heldBy(ctx, s.writer.do.overdue, now.UnixMilli(), group, free, moment.UnixMilli(), worker.GateBatch)
		if err != nil || !look || len(due) == worker.GateBatch {
			return err
		}
		stranded, err := heldBy(ctx, s.writer.do.stranded, now.UnixMilli(), group, free, moment.UnixMilli(), worker.GateBatch-len(due))
		due = append(due, stranded...)
		return err
	})
	if look && err == nil && len(due) < worker.GateBatch {
		s.noteLook(group, now)
	}
	return due, err
}

// lookAgain tells whether it is time to look for what was left behind.
func (s *Store) lookAgain(group string, now time.Time, lease time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Sub(s.looked[group]) >= lease
}

func (s *Store) noteLook(group string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.looked == nil {
		s.looked = map[string]time.Time{}
	}
	s.looked[group] = now
}

// Forget implements worker.GateStore.
func (s *Store) Forget(ctx context.Context, group string, sent []worker.Held) error {
	if len(sent) == 0 {
		return nil
	}
	return s.writer.write(ctx, func(ctx context.Context, _ *sql.Tx) error {
		for _, h := range sent {
			if _, err := s.writer.do.forget.ExecContext(ctx, group, h.Queue, h.Source, h.ID, h.Claim); err != nil {
				return err
			}
		}
		return nil
	})
}

// Holding implements worker.GateStore.
func (s *Store) Holding(ctx context.Context, group string) (n int, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT count(*) FROM evdemo_inbox_held WHERE consumers = ?`, group).Scan(&n)
	return n, sqlitefile.Explain(err)
}

// Durable implements worker.GateStore: it is.
func (s *Store) Durable() bool { return true }

// heldBy runs a statement that gives held events, and puts them in the order in which they were held.
func heldBy(ctx context.Context, stmt *sql.Stmt, args ...any) ([]worker.Held, error) {
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	type placed struct {
		worker.Held

		place int64
	}
	var all []placed
	for rows.Next() {
		var h placed
		var until int64
		if err := rows.Scan(&h.place, &h.Queue, &h.Source, &h.ID, &h.Parent, &until, &h.Claim, &h.Message, &h.Ready); err != nil {
			return nil, err
		}
		h.Until = time.UnixMilli(until)
		all = append(all, h)
	}
	slices.SortFunc(all, func(a, b placed) int { return cmp.Compare(a.place, b.place) })
	held := make([]worker.Held, len(all))
	for i, h := range all {
		held[i] = h.Held
	}
	return held, rows.Err()
}
