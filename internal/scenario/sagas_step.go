package scenario

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop/service"
	"github.com/evdemo/evdemo/internal/stage"
	"github.com/evdemo/evdemo/saga"
	"github.com/evdemo/evdemo/worker"
)

// stepOrders is how many orders take the steps, one after the other. The first ones are not timed.
const stepOrders, stepWarm = 150, 70

// step is a program that takes part in a process of some steps: a service, or the coordinator.
type step interface {
	Types() []string
	Handle(ctx context.Context, d *worker.Delivery) error
}

// stepFigures are what a step costs, in the same words for both flows.
func stepFigures() []stage.Figure {
	return []stage.Figure{
		{Key: "events4", Label: "4 steps: events in the log, per order"},
		{Key: "events5", Label: "5 steps: events in the log, per order"},
		{Key: "deliveries4", Label: "4 steps: events handed to a program, per order"},
		{Key: "deliveries5", Label: "5 steps: events handed to a program, per order"},
		{Key: "ms4", Label: "4 steps: the fastest order takes", Unit: "ms"},
		{Key: "ms5", Label: "5 steps: the fastest order takes", Unit: "ms"},
	}
}

// measureStep measures what one more step costs, where nothing but the flow matters: in this process, one order at a time.
func measureStep(ctx context.Context, s *stage.Stage, flow service.Flow) error {
	store, err := eventstore.Open(ctx, eventstore.Config{DB: filepath.Join(s.Dir, "steps.db")})
	if err != nil {
		return err
	}
	s.OnClose(func(context.Context) error { return store.Close() })
	programs := map[string]step{}
	for _, steps := range []int{4, 5} {
		for n := 1; n <= steps; n++ {
			name := "step-" + strconv.Itoa(n)
			if programs[name] != nil {
				continue // it runs already, and does not hear of the change
			}
			if programs[name], err = serviceOf(store, flow, n); err != nil {
				return err
			}
		}
		if flow == service.Orchestration {
			if programs["coordinator"], err = coordinatorOf(store, steps); err != nil {
				return err
			}
		}
		if err := runSteps(ctx, s, store, programs, steps); err != nil {
			return err
		}
	}
	return nil
}

// serviceOf is the service of a step: it reacts to the step before, or does as it is told, and says that it is done.
func serviceOf(store *eventstore.Store, flow service.Flow, n int) (step, error) {
	trigger := doneType(n - 1)
	if flow == service.Orchestration {
		trigger = doType(n)
	}
	return saga.NewParticipant(store, saga.Service[int]{
		Name: "step-" + strconv.Itoa(n), Streams: func(e event.Event) []string { return []string{fmt.Sprintf("step-%d-%s", n, e.Subject)} },
		Fold: eventstore.Fold[int]{Apply: func(done int, _ eventstore.Recorded) (int, error) { return done + 1, nil }},
		React: map[string]func(context.Context, *saga.Turn[int]) error{trigger: func(_ context.Context, t *saga.Turn[int]) error {
			t.Emit(doneType(n), nil)
			return nil
		}},
	})
}

func coordinatorOf(store *eventstore.Store, steps int) (step, error) {
	definition := saga.Definition{Name: "order", Starts: []string{doneType(0)}}
	for n := 1; n <= steps; n++ {
		do := func(*saga.Instance) (saga.Command, error) { return saga.Command{Type: doType(n)}, nil }
		definition.Steps = append(definition.Steps, saga.Step{Name: strconv.Itoa(n), Do: do, Done: []string{doneType(n)}})
	}
	return saga.NewCoordinator(saga.CoordinatorConfig{Store: store, Definition: definition})
}

// doneType is the type of the event that a step is done; of none, that there is an order. DoType is that of its command.
func doneType(n int) string { return fmt.Sprintf("step%d.done", n) }
func doType(n int) string   { return fmt.Sprintf("step%d.do", n) }

// runSteps has orders go through all steps, handing each event from the log to whoever wants it, as a bus does.
func runSteps(ctx context.Context, s *stage.Stage, store *eventstore.Store, programs map[string]step, steps int) error {
	wanted := map[string][]step{}
	for _, program := range programs {
		for _, eventType := range program.Types() {
			wanted[eventType] = append(wanted[eventType], program)
		}
	}
	before, err := store.Head(ctx)
	if err != nil {
		return err
	}
	deliveries, after, took := 0, before, stage.Times{}
	for n := range stepOrders {
		began := time.Now()
		placed := s.Event(doneType(0), fmt.Sprintf("order-%d-%d", steps, n), nil)
		if _, err := store.Append(ctx, eventstore.StreamWrite{Stream: placed.Subject, Events: []event.Event{placed}}); err != nil {
			return err
		}
		for ended := false; !ended; {
			for r, err := range store.Read(ctx, eventstore.Query{After: after}) {
				if err != nil {
					return err
				}
				after = r.Position
				for _, program := range wanted[r.Type] {
					deliveries++
					if err := program.Handle(ctx, &worker.Delivery{Event: r.Event, Attempt: 1}); err != nil {
						return err
					}
				}
				ended = ended || r.Type == doneType(steps)
			}
		}
		if n >= stepWarm {
			took.Add(time.Since(began))
		}
	}
	head, err := store.Head(ctx) // the coordinator has noted down the last end, too
	if err != nil {
		return err
	}
	s.Measure(fmt.Sprintf("ms%d", steps), took.Quantile(0))
	s.Measure(fmt.Sprintf("events%d", steps), float64(head-before)/stepOrders)
	s.Measure(fmt.Sprintf("deliveries%d", steps), float64(deliveries)/stepOrders)
	return nil
}
