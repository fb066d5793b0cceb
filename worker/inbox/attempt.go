package inbox

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"time"

	"github.com/evdemo/evdemo/internal/sqlitefile"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox/internal/attempt"
)

// How often the file is asked whether another process's attempt has ended.
const (
	minPoll = 5 * time.Millisecond
	maxPoll = 100 * time.Millisecond
)

// Once implements worker.DedupStore. Attempts at one event are in turn among all the processes that share
// the file. An attempt that fails, or panics, leaves nothing behind, and the next is made at once.
//
// Where handle has called Transact and that has committed, the event is handled, whatever handle
// returns: its error is passed on, and the event's next delivery is a duplicate.
func (s *Store) Once(ctx context.Context, key worker.Key, handle func(context.Context) error) (called bool, err error) {
	if attempt.InTransact(ctx, backend{s}) {
		return false, ErrInTransact
	}
	if err := s.enter(); err != nil {
		return false, err
	}
	defer s.leave()
	_, err = s.recent.Once(ctx, key, func(ctx context.Context) error {
		claimed, err := s.claim(ctx, key)
		if err != nil {
			return fmt.Errorf("claim event %s: %w", key.ID, err)
		}
		if !claimed {
			return nil
		}
		called = true
		return s.attempt(ctx, key, handle)
	})
	return called, err
}

// claim makes the event this process's. False means that it has been handled.
func (s *Store) claim(ctx context.Context, key worker.Key) (claimed bool, err error) {
	s.writer.forgetFailed(key)
	for {
		var handled bool
		err := s.writer.write(ctx, func(ctx context.Context, _ *sql.Tx) (err error) {
			claimed, handled, err = s.writer.do.claimEvent(ctx, key, s.writer.owner.id)
			return err
		})
		if err != nil || claimed || handled {
			return claimed && err == nil, err
		}
		if err := s.awaitOther(ctx, key); err != nil {
			return false, err
		}
	}
}

// awaitOther waits until the claim of another process is gone: it is done, has failed, or is dead.
func (s *Store) awaitOther(ctx context.Context, key worker.Key) error {
	const query = `SELECT EXISTS (SELECT 1 FROM evdemo_inbox_claims WHERE consumer = ? AND source = ? AND id = ?)`
	for pause := minPoll; ; pause = min(2*pause, maxPoll) {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		case <-s.writer.ended:
			return ErrClosed
		}
		var claimed bool
		err := s.db.QueryRowContext(ctx, query, key.Consumer, key.Source, key.ID).Scan(&claimed)
		if err != nil || !claimed {
			return sqlitefile.Explain(err)
		}
	}
}

// attempt calls handle and settles the claim.
func (s *Store) attempt(ctx context.Context, key worker.Key, handle func(context.Context) error) error {
	a := attempt.New(backend{s}, key)
	defer func() { // after a panic too
		if !a.Handled() {
			s.release(ctx, key)
		}
	}()
	return a.Run(ctx, handle)
}

// backend is the store's part of an attempt. Both its methods give up the claim with what they record.
type backend struct{ store *Store }

// Record implements attempt.Store. The event was handled, even if ctx has ended.
func (b backend) Record(ctx context.Context, key worker.Key) error {
	w := b.store.writer
	err := w.write(context.WithoutCancel(ctx), func(ctx context.Context, _ *sql.Tx) error {
		_, err := w.do.recordEvent(ctx, key, w.owner.id)
		return err
	})
	if err != nil {
		return fmt.Errorf("event %s was handled, but that cannot be recorded, and it will be handled again: %w", key.ID, err)
	}
	return nil
}

// release gives the claim up. Where that fails it is tried again later.
func (s *Store) release(ctx context.Context, key worker.Key) {
	err := s.writer.write(context.WithoutCancel(ctx), func(ctx context.Context, _ *sql.Tx) error {
		return s.writer.do.releaseEvent(ctx, key, s.writer.owner.id)
	})
	if err != nil {
		s.writer.releaseLater(key)
		s.config.Logger.Warn("inbox: a failed attempt is given up later", slog.String("path", s.config.Path),
			slog.String("id", key.ID), slog.Any("error", err))
	}
}
