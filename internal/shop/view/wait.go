package view

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// minLook and maxLook are how often the checkpoint is looked at while somebody waits: the more seldom the longer it has
	// stood still.
	minLook = 2 * time.Millisecond
	maxLook = 50 * time.Millisecond
)

// waiting is those who wait for a position. One goroutine looks at the checkpoint for all of them, so that their number does
// not matter to the database; it is the same whichever process keeps the view.
type waiting struct {
	most int
	poke chan struct{} // holds one: somebody has come

	mu      sync.Mutex
	waiters map[*waiter]struct{}
}

type waiter struct {
	position int64
	seen     chan struct{} // closed when the view has seen the position
}

func newWaiting(most int) waiting {
	return waiting{most: most, poke: make(chan struct{}, 1), waiters: map[*waiter]struct{}{}}
}

// Wait waits until the view has seen a position of the log, or ctx ends, whose error it returns then. Run must be running. A
// position of an event that changes no order may be seen a second or two later than it could be. The error is [ErrTooMany]
// where too many wait.
func (o *Orders) Wait(ctx context.Context, position int64) error {
	w, err := o.enter(position)
	if err != nil {
		return err
	}
	defer o.leave(w)
	select {
	case <-w.seen:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *waiting) enter(position int64) (*waiter, error) {
	one := &waiter{position: position, seen: make(chan struct{})}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiters) >= w.most {
		return nil, ErrTooMany
	}
	w.waiters[one] = struct{}{}
	select {
	case w.poke <- struct{}{}:
	default:
	}
	return one, nil
}

func (w *waiting) leave(one *waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.waiters, one)
}

// wake wakes those whose position has been seen, and tells how many are left.
func (w *waiting) wake(seen int64) (left int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for one := range w.waiters {
		if one.position <= seen {
			close(one.seen)
			delete(w.waiters, one)
		}
	}
	return len(w.waiters)
}

// watch wakes those who wait, until ctx ends.
func (o *Orders) watch(ctx context.Context) error {
	for {
		select {
		case <-o.poke:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := o.watchWhileWaited(ctx); err != nil {
			return err
		}
	}
}

func (o *Orders) watchWhileWaited(ctx context.Context) error {
	pause, last := minLook, int64(-1)
	for {
		seen, err := o.seen(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			o.config.Logger.DebugContext(ctx, "view of orders: nobody can be told how far it is", slog.Any("error", err))
			seen = 0
		}
		if o.wake(seen) == 0 {
			return nil
		}
		if pause = min(2*pause, maxLook); seen != last {
			pause, last = minLook, seen
		}
		select {
		case <-time.After(pause):
		case <-o.poke:
			pause = minLook
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// seen is the position up to which the view has seen the log.
func (o *Orders) seen(ctx context.Context) (int64, error) {
	c, err := o.config.Store.Projected(ctx, projectionName)
	if err != nil || c.Version != projectionVersion {
		return 0, err
	}
	return c.Position, nil
}
