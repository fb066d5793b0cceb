package saga_test

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/worker"
)

// handlers are those of a process, by the types of the events that they are for.
type handlers map[string][]worker.Handler

func (h handlers) add(types []string, handle worker.Handler) {
	for _, t := range types {
		h[t] = append(h[t], handle)
	}
}

// follow hands what is in the log, and what is appended from then on, to handlers, so many at a time, until ctx ends or one
// fails. It is a bus that needs no broker.
func (h handlers) follow(ctx context.Context, store *eventstore.Store, atOnce int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	types := make([]string, 0, len(h))
	for t := range h {
		types = append(types, t)
	}
	var err error
	for r, failed := range store.Follow(ctx, eventstore.Query{Types: types}) {
		if err = failed; err != nil {
			break
		}
		for _, handle := range h[r.Type] {
			group.Go(func() error { return deliver(ctx, handle, r.Event) })
		}
	}
	return errors.Join(group.Wait(), err)
}
