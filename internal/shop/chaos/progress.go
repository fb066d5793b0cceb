package chaos

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop"
)

const (
	// look is how often it is looked whether something has come to be.
	look = 20 * time.Millisecond
	// lookFar is the same for what is asked of the broker.
	lookFar = time.Second
)

// progress is how far a shop has come, by what is in its event store.
type progress struct {
	placed atomic.Int64
	ended  atomic.Int64
	head   atomic.Int64
	moved  atomic.Int64 // when the head did, as Unix time in ns
}

func newProgress() *progress {
	p := &progress{}
	p.move(0)
	return p
}

func (p *progress) move(head int64) {
	p.head.Store(head)
	p.moved.Store(time.Now().UnixNano())
}

// still is for how long nothing has been appended.
func (p *progress) still() time.Duration { return time.Since(time.Unix(0, p.moved.Load())) }

// await waits until something is so.
func await(ctx context.Context, so func() bool) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// watchEnds counts the orders that have come to an end, until ctx ends.
func (r *run) watchEnds(ctx context.Context) error {
	ended := map[string]bool{}
	for e, err := range r.store.Follow(ctx, eventstore.Query{Types: []string{shop.OrderShipped, shop.OrderCancelled}}) {
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("follow the orders: %w", err)
		}
		ended[e.Subject] = true
		r.progress.ended.Store(int64(len(ended)))
	}
	return nil
}

// watchHead notes when something is appended, until ctx ends. It is an error that nothing is for too long.
func (r *run) watchHead(ctx context.Context) error {
	for pause(ctx, nil, 10*look) {
		head, err := r.store.Head(ctx)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // it has been watched until then
		case err != nil:
			return fmt.Errorf("look at the event store: %w", err)
		case head != r.progress.head.Load():
			r.progress.move(head)
		case r.progress.still() > r.patience:
			return fmt.Errorf("%w: %d of %d orders have ended, and nothing has happened for %v",
				errStalled, r.progress.ended.Load(), r.progress.placed.Load(), r.patience)
		}
	}
	return nil
}
