//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/saga"
	"github.com/evdemo/evdemo/worker"
)

// wantedSagas is how many sagas of five steps per second are wanted.
const wantedSagas = 500

// fiveSteps is a process of five steps, each by a service of its own, and who handles which type.
func fiveSteps(store *eventstore.Store) (*saga.Coordinator, map[string][]worker.Handler, error) {
	handlers := map[string][]worker.Handler{}
	add := func(types []string, handle worker.Handler) {
		for _, t := range types {
			handlers[t] = append(handlers[t], handle)
		}
	}
	definition := saga.Definition{Name: "five", Starts: []string{"order.placed"}}
	for n := range sagaSteps {
		name := fmt.Sprintf("step%d", n)
		command := func(what string) func(*saga.Instance) (saga.Command, error) {
			return func(i *saga.Instance) (saga.Command, error) {
				return saga.Command{Type: name + what, Data: map[string]string{"order": i.ID}}, nil
			}
		}
		definition.Steps = append(definition.Steps, saga.Step{
			Name: name, Timeout: time.Minute, Do: command(".do"), Done: []string{name + ".done"},
			Undo: command(".undo"), Undone: []string{name + ".undone"},
		})
		p, err := saga.NewParticipant(store, saga.Service[int]{
			Name: name, Streams: func(e event.Event) []string { return []string{name + "-" + e.Subject} },
			Fold: eventstore.Fold[int]{Apply: func(n int, _ eventstore.Recorded) (int, error) { return n + 1, nil }},
			React: map[string]func(context.Context, *saga.Turn[int]) error{
				name + ".do": func(_ context.Context, t *saga.Turn[int]) error {
					t.Emit(name+".done", map[string]string{"order": t.Trigger.Subject})
					return nil
				},
			},
		})
		if err != nil {
			return nil, nil, err
		}
		add(p.Types(), p.Handle)
	}
	c, err := saga.NewCoordinator(saga.CoordinatorConfig{Store: store, Definition: definition})
	if err == nil {
		add(c.Types(), c.Handle)
	}
	return c, handlers, err
}

// fiveStepped runs sagas of five steps from the first event to the last, 64 events at a time, beside five inserts of one
// transaction each.
func (s *stores) fiveStepped(ctx context.Context, at *place) (p pair, err error) {
	bare, err := at.bareInserts(ctx, storeSingles, 1)
	if err != nil {
		return p, err
	}
	c, handlers, err := fiveSteps(at.store)
	if err != nil {
		return p, err
	}
	for n := range sagas {
		e, err := event.New("order.placed", "bench", map[string]int{"cents": 1200})
		if err != nil {
			return p, err
		}
		e.Subject = fmt.Sprint(n)
		if _, err := at.store.Append(ctx, eventstore.StreamWrite{Stream: "order-" + e.Subject, Events: []event.Event{e}}); err != nil {
			return p, err
		}
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	watching := make(chan error, 1)
	go func() { watching <- c.Run(running) }()
	began := time.Now()
	err = follow(running, at.store, handlers)
	took := time.Since(began)
	stop()
	if watched := <-watching; !errors.Is(watched, context.Canceled) {
		err = errors.Join(err, watched)
	}
	return pair{bare / sagaSteps, sagas / took.Seconds()}, err
}

// follow hands the log to the handlers until all sagas are completed.
func follow(ctx context.Context, store *eventstore.Store, handlers map[string][]worker.Handler) error {
	group, handling := errgroup.WithContext(ctx)
	group.SetLimit(storeCallers)
	completed := 0
	var err error
	for r, failed := range store.Follow(ctx, eventstore.Query{}) {
		if err = failed; err != nil || handling.Err() != nil {
			break
		}
		if r.Type == saga.TypeCompleted {
			if completed++; completed == sagas {
				break
			}
		}
		for _, handle := range handlers[r.Type] {
			group.Go(func() error { return handle(handling, &worker.Delivery{Event: r.Event}) })
		}
	}
	return errors.Join(group.Wait(), err)
}
