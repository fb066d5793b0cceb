package saga

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/worker"
)

// Service says how a service takes part in a process: which events it reacts to, and how. It knows no broker.
type Service[S any] struct {
	// Name is the source of the service's events, and goes into their ids: a service that is renamed decides anew on what is
	// delivered again. Required.
	Name string
	// Streams says which streams a decision about an event is made from, at least one, none twice. The service's events go to
	// the first, or where [Turn.EmitTo] says. No other service should write to them. Required.
	Streams func(trigger event.Event) []string
	// Fold makes the state of a stream. Its Apply is called with the events of every stream that Streams names.
	Fold eventstore.Fold[S]
	// SnapshotEvery has a snapshot written after so many events of a stream, which is for streams that grow without end.
	// Default: none.
	SnapshotEvery int
	// React decides about events, by their types. A reaction looks at the state and says what happened; it emits nothing
	// where there is nothing to do. It may be called several times for one event, and for one that has been decided on
	// before. Its error is as that of a [worker.Handler], and means that nothing was decided. Required.
	React map[string]func(ctx context.Context, t *Turn[S]) error
}

// Participant is a service on an event store. Its methods may be called from several goroutines.
type Participant struct {
	types []string
	react func(context.Context, event.Event) ([]event.Event, error)
	past  func(context.Context, event.Event) ([]event.Event, error)
}

// NewParticipant puts a service on an event store. The error names everything that is missing.
func NewParticipant[S any](store *eventstore.Store, service Service[S]) (*Participant, error) {
	var faults []error
	for _, required := range []struct {
		there bool
		what  string
	}{
		{store != nil, "a store"},
		{service.Name != "", "Name"},
		{service.Streams != nil, "Streams"},
		{service.Fold.Apply != nil, "Fold.Apply"},
		{len(service.React) > 0, "React"},
		{service.SnapshotEvery >= 0, "SnapshotEvery of 0 or more"},
		{service.SnapshotEvery <= 0 || service.Fold.Name != "", "Fold.Name, for snapshots"},
	} {
		if !required.there {
			faults = append(faults, fmt.Errorf("want %s", required.what))
		}
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("service %q: %w", service.Name, errors.Join(faults...))
	}
	k := newKernel(store, service.Name, service.Fold, service.SnapshotEvery)
	return &Participant{
		types: slices.Sorted(maps.Keys(service.React)),
		react: func(ctx context.Context, e event.Event) ([]event.Event, error) {
			react, ok := service.React[e.Type]
			if !ok {
				return nil, worker.ErrSkip
			}
			return k.decide(ctx, keyOf(e), e, service.Streams(e), react)
		},
		past: func(ctx context.Context, e event.Event) ([]event.Event, error) {
			return k.past(ctx, &Turn[S]{Trigger: e, key: keyOf(e), source: service.Name, streams: service.Streams(e)})
		},
	}, nil
}

// Types are the types of the events that the service reacts to.
func (p *Participant) Types() []string { return slices.Clone(p.types) }

// Handle is the [worker.Handler] of the service: it returns nil once what was decided is durable. An event of a type that the
// service does not react to is skipped, see [worker.ErrSkip].
func (p *Participant) Handle(ctx context.Context, d *worker.Delivery) error {
	_, err := p.react(ctx, d.Event)
	return err
}

// Ask has the service decide about an event, and returns what was decided: now, or when it was asked before. It is for callers
// who wait for the answer. Where the answer was given before, the whole streams are read for it. An event of a type that the
// service does not react to is [worker.ErrSkip] here, too.
func (p *Participant) Ask(ctx context.Context, e event.Event) ([]event.Event, error) {
	events, err := p.react(ctx, e)
	if err != nil || len(events) > 0 {
		return events, err
	}
	return p.past(ctx, e)
}

// past is what was decided about an event, in the order in which it was appended.
func (k *kernel[S]) past(ctx context.Context, turn *Turn[S]) (events []event.Event, err error) {
	for _, stream := range turn.streams {
		for r, err := range k.store.Read(ctx, eventstore.Query{Stream: stream}) {
			if err != nil {
				return nil, err
			}
			if r.CausationID() == turn.Trigger.ID && r.Source == turn.source {
				events = append(events, r.Event)
			}
		}
	}
	ids := make(map[string]bool, len(events))
	for n := range events {
		ids[turn.nth(n)] = true
	}
	return slices.DeleteFunc(events, func(e event.Event) bool { return !ids[e.ID] }), nil // an event of another source may have that id
}

// jsonOf reads an event's data.
func jsonOf(e event.Event, into any) error {
	if err := json.Unmarshal(e.Data, into); err != nil {
		return fmt.Errorf("the data of %s %s: %w", e.Type, e.ID, err)
	}
	return nil
}
