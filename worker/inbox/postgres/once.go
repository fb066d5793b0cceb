package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox/internal/attempt"
)

// How often the server is asked whether another process's attempt has ended.
const (
	minPoll = 5 * time.Millisecond
	maxPoll = 100 * time.Millisecond
)

// backend is the store's part of an attempt.
type backend struct{ store *Store }

// Once implements worker.DedupStore. Attempts at one event are in turn among all the processes that share the
// database. An attempt that fails, or panics, leaves nothing behind, and the next is made at once.
//
// While the database cannot be written to, an attempt whose handler has succeeded waits, for as long as ctx lives,
// until that is recorded.
//
// Where handle has called inbox.Transact and that has committed, the event is handled, whatever handle returns:
// its error is passed on, and the event's next delivery is a duplicate.
func (s *Store) Once(ctx context.Context, key worker.Key, handle func(context.Context) error) (called bool, err error) {
	if attempt.InTransact(ctx, backend{s}) {
		return false, attempt.ErrInTransact
	}
	if s.isClosing() {
		return false, attempt.ErrClosed
	}
	_, err = s.recent.Once(ctx, key, func(ctx context.Context) error {
		lock := lockOfEvent(key)
		claimed, err := s.claim(ctx, key, lock)
		if err != nil {
			return fmt.Errorf("claim event %s: %w", key.ID, err)
		}
		if !claimed {
			return nil
		}
		called = true
		defer s.keeper.release(lock) // after a panic too
		return attempt.New(backend{s}, key).Run(ctx, handle)
	})
	return called, err
}

// claim makes the event this process's. False means that it has been handled.
func (s *Store) claim(ctx context.Context, key worker.Key, lock int64) (claimed bool, err error) {
	key = columns(key)
	for pause := minPoll; ; pause = min(2*pause, maxPoll) {
		v, err := s.keeper.claim(ctx, key, lock)
		if err != nil || v != busy {
			return v == claimedIt, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false, ctx.Err()
		case <-s.closing:
			return false, attempt.ErrClosed
		}
	}
}

// Record implements attempt.Store. The event was handled, even if ctx has ended.
func (b backend) Record(ctx context.Context, key worker.Key) error {
	err := b.store.enter()
	if err == nil {
		defer b.store.leave()
		err = b.store.writer.record(ctx, columns(key))
	}
	if err != nil {
		return fmt.Errorf("event %s was handled, but that cannot be recorded, and it will be handled again: %w", key.ID, err)
	}
	return nil
}
