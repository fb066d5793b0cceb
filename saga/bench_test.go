package saga_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/saga"
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

// fiveSteps is a process of five steps, each by a service of its own.
func fiveSteps(tb testing.TB, store *eventstore.Store) (*saga.Coordinator, handlers) {
	tb.Helper()
	all, definition := handlers{}, saga.Definition{Name: "five", Starts: []string{"order.placed"}}
	for n := range 5 {
		name := fmt.Sprintf("step%d", n)
		definition.Steps = append(definition.Steps, saga.Step{
			Name: name,
			Do: func(i *saga.Instance) (saga.Command, error) {
				return saga.Command{Type: name + ".do", Data: map[string]string{"order": i.ID}}, nil
			},
			Done: []string{name + ".done"}, Failed: []string{name + ".failed"}, Timeout: time.Minute,
			Undo: func(i *saga.Instance) (saga.Command, error) {
				return saga.Command{Type: name + ".undo", Data: map[string]string{"order": i.ID}}, nil
			},
			Undone: []string{name + ".undone"},
		})
		p, err := saga.NewParticipant(store, saga.Service[int]{
			Name: name, Streams: func(e event.Event) []string { return []string{name + "-" + e.Subject} },
			Fold: eventstore.Fold[int]{Apply: func(n int, _ eventstore.Recorded) (int, error) { return n + 1, nil }},
			React: map[string]func(context.Context, *saga.Turn[int]) error{
				name + ".do": func(_ context.Context, t *saga.Turn[int]) error {
					t.Emit(name+".done", map[string]any{"order": t.Trigger.Subject, "times": t.State() + 1})
					return nil
				},
			},
		})
		require.NoError(tb, err)
		all.add(p.Types(), p.Handle)
	}
	c, err := saga.NewCoordinator(saga.CoordinatorConfig{Store: store, Definition: definition})
	require.NoError(tb, err)
	all.add(c.Types(), c.Handle)
	return c, all
}

// BenchmarkFiveSteps runs processes of five steps to their ends, many at the same time, with everything on one SQLite file that
// is synced at each commit: twelve appends of 23 events for each. It reports how many end in a second.
func BenchmarkFiveSteps(b *testing.B) {
	store := openFile(b)
	c, all := fiveSteps(b, store)
	background(b, c.Run)
	background(b, func(ctx context.Context) error { return all.follow(ctx, store, 64) })
	b.ReportAllocs()
	b.ResetTimer()
	var starting errgroup.Group
	starting.SetLimit(64)
	for n := range b.N {
		starting.Go(func() error {
			e := happened(b, "order.placed", fmt.Sprintf("%d", n), map[string]int{"cents": 1200})
			_, err := store.Append(b.Context(), eventstore.StreamWrite{Stream: "order-" + e.Subject, Events: []event.Event{e}})
			return err
		})
	}
	require.NoError(b, starting.Wait())
	ended := 0
	for _, err := range store.Follow(b.Context(), eventstore.Query{Types: []string{saga.TypeCompleted, saga.TypeCompensated}, Limit: b.N}) {
		require.NoError(b, err)
		ended++
	}
	b.StopTimer()
	require.Equal(b, b.N, ended)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sagas/s")
}
