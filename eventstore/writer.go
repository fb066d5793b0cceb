package eventstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// The most that one transaction appends, unless a single append has more.
const (
	maxGroupEvents = 1000
	maxGroupBytes  = 8 << 20
)

// writer makes groups of what is appended at the same time. One goroutine takes what callers have asked for
// meanwhile, has it done in one transaction, and answers them all once that is durable.
type writer struct {
	database database
	retryFor time.Duration
	appended func() // called when a group has been appended

	failing time.Time // since when the database has not been reached; the goroutine's own

	mu     sync.Mutex
	queue  []*appendRequest
	closed bool

	wake  chan struct{} // holds one
	ended chan struct{}
	abort context.CancelFunc // of what is under way
}

// appendRequest is an append that somebody waits for.
type appendRequest struct {
	*appending

	came  time.Time
	begun bool        // an attempt at it may have been committed
	taken atomic.Bool // by the writer, or by a caller that does not wait any longer
	done  chan error  // holds one: trouble with the database
}

func startWriter(ctx context.Context, d database, retryFor time.Duration, appended func()) *writer {
	w := &writer{
		database: d, retryFor: retryFor, appended: appended,
		wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	ctx, w.abort = context.WithCancel(context.WithoutCancel(ctx))
	go w.run(ctx)
	return w
}

// write has a done.
func (w *writer) write(ctx context.Context, a *appending) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r := &appendRequest{appending: a, came: time.Now(), done: make(chan error, 1)}
	if err := w.enqueue(r); err != nil {
		return err
	}
	select {
	case err := <-r.done:
		return r.outcome(err)
	case <-ctx.Done():
	}
	if !r.taken.Swap(true) {
		return ctx.Err()
	}
	select {
	case err := <-r.done: // both at once
		return r.outcome(err)
	default:
		return fmt.Errorf("%w: %w", ctx.Err(), ErrOutcomeUnknown)
	}
}

// outcome is what the caller is told. The append is the writer's until then.
func (r *appendRequest) outcome(trouble error) error {
	if trouble != nil {
		return trouble
	}
	return r.err
}

func (w *writer) enqueue(r *appendRequest) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return ErrClosed
	}
	w.queue = append(w.queue, r)
	w.poke()
	return nil
}

func (w *writer) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *writer) run(ctx context.Context) {
	defer close(w.ended)
	for last := false; !last; {
		<-w.wake
		runtime.Gosched() // callers that were just answered come with their next append: a larger group
		var group []*appendRequest
		if group, last = w.take(); len(group) > 0 {
			w.commit(ctx, group)
		}
	}
}

// take gives the next group. Last means that none will follow.
func (w *writer) take() (group []*appendRequest, last bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, events, bytes := 0, 0, 0
	for _, r := range w.queue {
		if n > 0 && (events+r.events > maxGroupEvents || bytes+r.bytes > maxGroupBytes) {
			break
		}
		n++
		if r.taken.Swap(true) {
			continue
		}
		group = append(group, r)
		events += r.events
		bytes += r.bytes
	}
	clear(w.queue[:n])
	w.queue = w.queue[n:]
	if len(w.queue) > 0 {
		w.poke()
		return group, false
	}
	w.queue = nil
	return group, w.closed
}

// minRetry is for how long an append is tried again at least that had waited behind others.
const minRetry = time.Second

// commit has a group done and answers it. While the database cannot be reached it is done again, each append until its
// time is over. What is done again after a lost connection finds its events there, if the first time had been
// committed.
func (w *writer) commit(ctx context.Context, group []*appendRequest) {
	pauses := newPauses()
	for len(group) > 0 {
		begun, err := w.database.appendGroup(ctx, appendings(group))
		for _, r := range group {
			r.begun = r.begun || begun
		}
		switch {
		case err == nil:
			w.failing = time.Time{}
			w.appended()
			answer(group, nil)
			return
		case len(group) > 1 && w.database.refused(err):
			for _, r := range group { // it may be one append's own fault
				w.commit(ctx, []*appendRequest{r})
			}
			return
		case !w.database.transient(err) || ctx.Err() != nil:
			answer(group, w.database.explain(err))
			return
		}
		w.failing = cmp.Or(w.failing, time.Now())
		pause := pauses.NextBackOff()
		if group = w.expire(group, time.Now().Add(pause), err); len(group) > 0 {
			wait(ctx, pause)
		}
	}
}

// expire answers those that are not tried again at a time any more.
func (w *writer) expire(group []*appendRequest, next time.Time, err error) (left []*appendRequest) {
	for _, r := range group {
		deadline := r.came.Add(w.retryFor)
		if least := w.failing.Add(min(minRetry, w.retryFor)); deadline.Before(least) {
			deadline = least
		}
		if next.Before(deadline) {
			left = append(left, r)
		} else {
			answer([]*appendRequest{r}, unavailable(w.database.explain(err)))
		}
	}
	return left
}

func appendings(group []*appendRequest) []*appending {
	all := make([]*appending, len(group))
	for i, r := range group {
		all[i] = r.appending
	}
	return all
}

func answer(group []*appendRequest, err error) {
	for _, r := range group {
		if err != nil && r.begun {
			r.done <- fmt.Errorf("%w: %w", err, ErrOutcomeUnknown)
		} else {
			r.done <- err
		}
	}
}

// unavailable says that the database cannot be reached.
func unavailable(err error) error {
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

func newPauses() *backoff.ExponentialBackOff {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = 20*time.Millisecond, time.Second
	return pauses
}

func wait(ctx context.Context, pause time.Duration) {
	select {
	case <-time.After(pause):
	case <-ctx.Done():
	}
}

// close ends the goroutine once everything accepted is done, or has failed for as long as that is tried.
func (w *writer) close() {
	w.mu.Lock()
	w.closed = true
	w.poke()
	w.mu.Unlock()
	limit := time.AfterFunc(max(w.retryFor, time.Second), w.abort)
	<-w.ended
	limit.Stop()
	w.abort()
}

// retry makes an attempt, and makes it again for so long while the database cannot be reached.
func retry(ctx context.Context, d database, limit time.Duration, attempt func() error) error {
	pauses := newPauses()
	deadline := time.Now().Add(limit)
	for {
		err := attempt()
		if err == nil || !d.transient(err) {
			return d.explain(err)
		}
		pause := pauses.NextBackOff()
		if time.Now().Add(pause).After(deadline) {
			return unavailable(d.explain(err))
		}
		if wait(ctx, pause); ctx.Err() != nil {
			return errors.Join(ctx.Err(), d.explain(err))
		}
	}
}
