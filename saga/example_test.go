package saga_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/saga"
	"github.com/evdemo/evdemo/worker"
)

// newStore opens a store in a new file; done closes it and removes the file.
func newStore(ctx context.Context) (store *eventstore.Store, done func()) {
	folder, err := os.MkdirTemp("", "evdemo-example-")
	if err != nil {
		panic(err)
	}
	store, err = eventstore.Open(ctx, eventstore.Config{DB: filepath.Join(folder, "orders.db")})
	if err != nil {
		panic(err)
	}
	return store, func() {
		if err := errors.Join(store.Close(), os.RemoveAll(folder)); err != nil {
			panic(err)
		}
	}
}

// order is an event about an order.
func order(number, eventType string, data any) event.Event {
	e, err := event.New(eventType, "shop", data)
	if err != nil {
		panic(err)
	}
	e.Subject = number
	return e
}

// handle hands an event to handlers, as a worker does that gets it from a bus.
func handle(ctx context.Context, e event.Event, handlers ...worker.Handler) {
	for _, handler := range handlers {
		if err := handler(ctx, &worker.Delivery{Event: e, Attempt: 1}); err != nil && !errors.Is(err, worker.ErrSkip) {
			panic(err)
		}
	}
}

// Choreography: the stock reacts to orders. It keeps what is left in the stream stock, and says what happened in the stream
// of the order. An event that comes a second time changes nothing.
func ExampleNewParticipant() {
	ctx := context.Background()
	store, done := newStore(ctx)
	defer done()

	reserve := func(_ context.Context, t *saga.Turn[int]) error {
		var placed struct{ Quantity int }
		if err := t.Read(&placed); err != nil {
			return err
		}
		if left := 10 - t.State(); placed.Quantity > left {
			t.EmitTo(1, "stock.short", map[string]int{"left": left})
			return nil
		}
		t.Emit("stock.taken", placed)
		t.EmitTo(1, "stock.reserved", placed)
		return nil
	}
	stock, err := saga.NewParticipant(store, saga.Service[int]{
		Name:    "stock",
		Streams: func(e event.Event) []string { return []string{"stock", "reservation-" + e.Subject} },
		Fold: eventstore.Fold[int]{Apply: func(taken int, r eventstore.Recorded) (int, error) {
			if r.Type != "stock.taken" {
				return taken, nil
			}
			var took struct{ Quantity int }
			err := json.Unmarshal(r.Data, &took)
			return taken + took.Quantity, err
		}},
		React: map[string]func(context.Context, *saga.Turn[int]) error{"order.placed": reserve},
	})
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		return
	}
	for _, number := range []string{"1", "2"} {
		placed := order(number, "order.placed", map[string]int{"quantity": 6})
		handle(ctx, placed, stock.Handle)
		handle(ctx, placed, stock.Handle)
	}
	for r, err := range store.Read(ctx, eventstore.Query{}) {
		fmt.Fprintln(os.Stdout, r.Stream, r.Type, string(r.Data), err)
	}
	// Output:
	// stock stock.taken {"Quantity":6} <nil>
	// reservation-1 stock.reserved {"Quantity":6} <nil>
	// reservation-2 stock.short {"left":4} <nil>
}

// Orchestration: a coordinator takes the steps of an order one after the other. The payment fails here, so what was reserved is
// released. A bus would bring the answers; here they are made by hand.
func ExampleNewCoordinator() {
	ctx := context.Background()
	store, done := newStore(ctx)
	defer done()

	send := func(eventType string) func(*saga.Instance) (saga.Command, error) {
		return func(i *saga.Instance) (saga.Command, error) {
			return saga.Command{Type: eventType, Data: map[string]string{"order": i.ID}}, nil
		}
	}
	c, err := saga.NewCoordinator(saga.CoordinatorConfig{Store: store, Definition: saga.Definition{
		Name: "order", Starts: []string{"order.placed"},
		Steps: []saga.Step{
			{
				Name: "stock", Do: send("stock.reserve"), Done: []string{"stock.reserved"}, Failed: []string{"stock.short"},
				Undo: send("stock.release"), Undone: []string{"stock.released"}, Timeout: time.Minute,
			},
			{Name: "payment", Do: send("payment.charge"), Done: []string{"payment.charged"}, Failed: []string{"payment.declined"}},
		},
	}})
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		return
	}
	handle(ctx, order("7", "order.placed", nil), c.Handle)
	handle(ctx, order("7", "stock.reserved", nil), c.Handle)
	handle(ctx, order("7", "payment.declined", map[string]string{"reason": "no funds"}), c.Handle)
	handle(ctx, order("7", "stock.released", nil), c.Handle)

	for r, err := range store.Read(ctx, eventstore.Query{Stream: c.Stream("7")}) {
		fmt.Fprintln(os.Stdout, r.Type, err)
	}
	seven, err := c.Load(ctx, "7")
	fmt.Fprintln(os.Stdout, seven.Status, "because of", seven.Reason, err)
	// Output:
	// saga.started <nil>
	// saga.step_started <nil>
	// stock.reserve <nil>
	// saga.step_done <nil>
	// saga.step_started <nil>
	// payment.charge <nil>
	// saga.step_failed <nil>
	// saga.undo_started <nil>
	// stock.release <nil>
	// saga.step_undone <nil>
	// saga.compensated <nil>
	// compensated because of payment.declined: no funds <nil>
}
