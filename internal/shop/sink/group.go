package sink

import (
	"context"

	"github.com/evdemo/evdemo/internal/requests"
)

// maxGroup is how many callers share one wait for the disk at most.
const maxGroup = 512

// group has what many callers want written at the same time written at once, by one goroutine. Make it with startGroup;
// close ends the goroutine.
type group[T any] struct {
	write func(ctx context.Context, batch []T) error
	asked *requests.Queue[asked[T]]
	ended chan struct{}
}

type asked[T any] struct {
	item T
	done chan error // holds one
}

// startGroup starts the goroutine. write writes a batch, all of it or nothing: its error is everybody's.
func startGroup[T any](ctx context.Context, write func(ctx context.Context, batch []T) error) *group[T] {
	g := &group[T]{write: write, asked: requests.New[asked[T]](maxGroup), ended: make(chan struct{})}
	go g.run(context.WithoutCancel(ctx))
	return g
}

// do has an item written. Where ctx ends first, the item may be written all the same.
func (g *group[T]) do(ctx context.Context, item T) error {
	a := asked[T]{item, make(chan error, 1)}
	if !g.asked.Add(a) {
		return ErrClosed
	}
	select {
	case err := <-a.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// close has written what was asked for until now. More calls wait as well.
func (g *group[T]) close() {
	g.asked.Close()
	<-g.ended
}

func (g *group[T]) run(ctx context.Context) {
	defer close(g.ended)
	for last := false; !last; {
		<-g.asked.Wake()
		var batch []asked[T]
		if batch, last = g.asked.Take(); len(batch) == 0 {
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
