package sink

import (
	"context"
	"sync"
)

// maxGroup is how many callers share one wait for the disk at most.
const maxGroup = 512

// group has what many callers want written at the same time written at once, by one goroutine. Make it with startGroup;
// close ends the goroutine.
type group[T any] struct {
	write func(ctx context.Context, batch []T) error

	mu     sync.Mutex
	queue  []asked[T]
	closed bool

	wake  chan struct{} // holds one
	ended chan struct{}
}

type asked[T any] struct {
	item T
	done chan error // holds one
}

// startGroup starts the goroutine. write writes a batch, all of it or nothing: its error is everybody's.
func startGroup[T any](ctx context.Context, write func(ctx context.Context, batch []T) error) *group[T] {
	g := &group[T]{write: write, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	go g.run(context.WithoutCancel(ctx))
	return g
}

// do has an item written. Where ctx ends first, the item may be written all the same.
func (g *group[T]) do(ctx context.Context, item T) error {
	a := asked[T]{item, make(chan error, 1)}
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return ErrClosed
	}
	g.queue = append(g.queue, a)
	g.mu.Unlock()
	g.poke()
	select {
	case err := <-a.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *group[T]) poke() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// close has written what was asked for until now. More calls wait as well.
func (g *group[T]) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.poke()
	<-g.ended
}

func (g *group[T]) run(ctx context.Context) {
	defer close(g.ended)
	for last := false; !last; {
		<-g.wake
		var batch []asked[T]
		if batch, last = g.take(); len(batch) == 0 {
			continue
		}
		items := make([]T, len(batch))
		for i, a := range batch {
			items[i] = a.item
		}
		err := g.write(ctx, items)
		for _, a := range batch {
			a.done <- err
		}
	}
}

// take gives what is to be written next. Last means that nothing will follow.
func (g *group[T]) take() (batch []asked[T], last bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(g.queue), maxGroup)
	batch, g.queue = g.queue[:n:n], g.queue[n:]
	if len(g.queue) > 0 {
		g.poke()
		return batch, false
	}
	g.queue = nil
	return batch, g.closed
}
