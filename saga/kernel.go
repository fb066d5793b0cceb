package saga

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/turns"
	"github.com/evdemo/evdemo/worker"
)

// kernel makes decisions from the state of streams, and makes them durable.
type kernel[S any] struct {
	store     *eventstore.Store
	source    string
	fold      eventstore.Fold[S]
	snapshots int
	turns     turns.Turns
	// known has the states behind this process's last decisions. They may be out of date: an append tells. Whoever has a
	// stream's turn takes its state out, and puts it back whole: Apply may change a state in place, and a decision that fails
	// or panics half way leaves nothing behind.
	known *lru.Cache[string, eventstore.State[S]]
}

const (
	knownStates = 8192
	// attempts is how often a decision is made that others overtake.
	attempts = 50
)

func newKernel[S any](store *eventstore.Store, source string, fold eventstore.Fold[S], snapshots int) *kernel[S] {
	known, err := lru.New[string, eventstore.State[S]](knownStates)
	if err != nil {
		panic(err) // the size is none, which it is not
	}
	return &kernel[S]{store: store, source: source, fold: fold, snapshots: snapshots, known: known}
}

// decide has decide decide about a cause. What is decided has ids made from key. It returns the events that were appended
// now: none where nothing is to be done, or was done before.
func (k *kernel[S]) decide(
	ctx context.Context, key string, cause event.Event, streams []string, decide func(context.Context, *Turn[S]) error,
) ([]event.Event, error) {
	if len(streams) == 0 || twice(streams) {
		return nil, worker.Permanent(fmt.Errorf("%s %s is decided on from the streams %q: want one at least, and none twice", cause.Type, cause.ID, streams))
	}
	leave, err := k.turns.EnterAll(ctx, streams)
	if err != nil {
		return nil, err
	}
	defer leave()
	for attempt := 1; ; attempt++ {
		turn := &Turn[S]{Trigger: cause, key: key, source: k.source, streams: streams}
		events, err := k.attempt(ctx, turn, decide)
		if err == nil {
			k.remember(turn)
			return events, nil
		}
		if errors.Is(err, eventstore.ErrStreamName) { // and will not be one the next time
			return nil, worker.Permanent(err)
		}
		if _, conflict := errors.AsType[*eventstore.ConflictError](err); !conflict || attempt == attempts {
			return nil, err
		}
		select {
		case <-time.After(rand.N(time.Duration(attempt) * time.Millisecond)): //nolint:gosec // only to get out of step
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func twice(names []string) bool {
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return true
		}
	}
	return false
}

// attempt decides and appends, once. States that are known need not be read: where they are out of date the append fails.
func (k *kernel[S]) attempt(
	ctx context.Context, turn *Turn[S], decide func(context.Context, *Turn[S]) error,
) ([]event.Event, error) {
	fresh, err := k.load(ctx, turn)
	if err != nil {
		return nil, err
	}
	if err := turn.decide(ctx, decide); err != nil {
		return nil, err
	}
	alone := len(turn.streams) == 1
	for sure := fresh && alone; turn.count == 0 && !sure; { // there is no append that would tell
		news, err := k.refresh(ctx, turn)
		if err != nil {
			return nil, err
		}
		if news {
			if err := turn.decide(ctx, decide); err != nil {
				return nil, err
			}
		}
		sure = alone || !news // several streams were read one after the other: they are of one moment if nothing came since
	}
	if turn.count == 0 {
		return nil, nil
	}
	return k.append(ctx, turn)
}

// load gets the states of the turn's streams: fresh, if all of them were read.
func (k *kernel[S]) load(ctx context.Context, turn *Turn[S]) (fresh bool, err error) {
	option := eventstore.WithoutSnapshots()
	if k.snapshots > 0 {
		option = eventstore.SnapshotEvery(k.snapshots)
	}
	fresh = true
	turn.states = make([]eventstore.State[S], len(turn.streams))
	for i, stream := range turn.streams {
		state, known := k.known.Get(stream)
		if known {
			k.known.Remove(stream)
			fresh = false
		} else if state, err = eventstore.Load(ctx, k.store, stream, k.fold, option); err != nil {
			return false, err
		}
		turn.states[i] = state
	}
	return fresh, nil
}

// refresh applies to the states what was appended since, and tells whether that was anything.
func (k *kernel[S]) refresh(ctx context.Context, turn *Turn[S]) (news bool, err error) {
	for i, stream := range turn.streams {
		for r, err := range k.store.Read(ctx, eventstore.Query{Stream: stream, FromVersion: turn.states[i].Version + 1}) {
			if err == nil {
				err = k.apply(&turn.states[i], r)
			}
			if err != nil {
				return false, err
			}
			news = true
		}
	}
	return news, nil
}

func (k *kernel[S]) apply(state *eventstore.State[S], r eventstore.Recorded) (err error) {
	if state.Value, err = k.fold.Apply(state.Value, r); err != nil {
		return fmt.Errorf("apply version %d of %s: %w", r.Version, r.Stream, err)
	}
	state.Version, state.Position, state.RecordedAt = r.Version, r.Position, r.RecordedAt
	return nil
}

// remember keeps the states for the next turn.
func (k *kernel[S]) remember(turn *Turn[S]) {
	for i, stream := range turn.streams {
		k.known.Add(stream, turn.states[i])
	}
}

// append makes the decision durable. Where an event with one of its ids is there, but not the same, the decision was made
// before, from another state: it stands.
func (k *kernel[S]) append(ctx context.Context, turn *Turn[S]) ([]event.Event, error) {
	writes := make([]eventstore.StreamWrite, len(turn.streams))
	for i, stream := range turn.streams {
		writes[i] = eventstore.StreamWrite{Stream: stream, Expect: eventstore.Exactly(turn.states[i].Version), Events: turn.events[i]}
	}
	appended, err := k.store.Append(ctx, writes...)
	if duplicate, ok := errors.AsType[*eventstore.DuplicateError](err); ok && turn.made(duplicate) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if appended.Added < turn.count { // it was made before, and its answer lost
		return nil, nil
	}
	all := make([]event.Event, 0, turn.count)
	for i, stream := range turn.streams {
		for j, e := range turn.events[i] {
			r := eventstore.Recorded{
				Event: e, Stream: stream, Position: appended.Positions[len(all)], RecordedAt: appended.RecordedAt,
				Version: appended.Versions[i] - int64(len(turn.events[i])-1-j),
			}
			if err := k.apply(&turn.states[i], r); err != nil { // as the next load will
				return nil, err
			}
			all = append(all, e)
		}
	}
	return all, nil
}

// Turn is one decision about one event.
type Turn[S any] struct {
	// Trigger is what is decided about.
	Trigger event.Event

	key, source string
	streams     []string
	states      []eventstore.State[S]
	events      [][]event.Event // by stream
	count       int
	err         error
}

func (t *Turn[S]) decide(ctx context.Context, decide func(context.Context, *Turn[S]) error) error {
	t.events, t.count, t.err = make([][]event.Event, len(t.streams)), 0, nil
	return errors.Join(decide(ctx, t), t.err)
}

// State is the state of the first stream. It must not be changed.
func (t *Turn[S]) State() S { return t.states[0].Value }

// StateOf is the state of the stream at this place among those of Service.Streams. It must not be changed.
func (t *Turn[S]) StateOf(i int) S { return t.states[i].Value }

// Version is the version of the first stream, 0 where it has no events.
func (t *Turn[S]) Version() int64 { return t.states[0].Version }

// Key names this decision: it is the same each time that the event is decided on. It is the idempotency key for what a
// decision does elsewhere.
func (t *Turn[S]) Key() string { return t.id("key") }

// Read reads the trigger's data as JSON. The error is permanent: the event will not be better the next time.
func (t *Turn[S]) Read(into any) error { return read(t.Trigger, into) }

// Emit decides that something has happened: an event in the first stream, caused by the trigger. data is as in event.New;
// where it cannot be an event's, the whole decision fails.
func (t *Turn[S]) Emit(eventType string, data any) { t.EmitTo(0, eventType, data) }

// EmitTo is Emit for the stream at this place among those of Service.Streams.
func (t *Turn[S]) EmitTo(i int, eventType string, data any) {
	e, err := event.Caused(t.Trigger, eventType, t.source, data)
	if err != nil {
		t.err = errors.Join(t.err, err)
		return
	}
	e.ID = t.nth(t.count)
	t.count++
	t.events[i] = append(t.events[i], e)
}

// made tells whether a duplicate is of an event of this very decision. In a stream that the decision is not made from it is
// not: then two services have one name, and what the second decides would be lost.
func (t *Turn[S]) made(duplicate *eventstore.DuplicateError) bool {
	if duplicate.Source != t.source || !slices.Contains(t.streams, duplicate.Stream) {
		return false
	}
	for n := range t.count {
		if duplicate.ID == t.nth(n) {
			return true
		}
	}
	return false
}

// nth is the id of the event that is decided after n others.
func (t *Turn[S]) nth(n int) string { return t.id(strconv.Itoa(n)) }

// id is made from what is decided on, by whom, and what it is: a UUID of version 8 (RFC 9562). Where the trigger's id begins
// with a time, as those of versions 7 and 8 do, this one begins with the same, so that an index over ids grows at its end.
func (t *Turn[S]) id(what string) string {
	id := uuid.NewHash(sha256.New(), uuid.Nil, []byte(t.source+"\x00"+t.key+"\x00"+what), 8)
	if trigger, err := uuid.Parse(t.Trigger.ID); err == nil && (trigger.Version() == 7 || trigger.Version() == 8) {
		copy(id[:6], trigger[:6])
	}
	return id.String()
}

// keyOf names an event, for what is decided about it.
func keyOf(e event.Event) string { return e.Source + "\x00" + e.ID }

func read(e event.Event, into any) error {
	if err := jsonOf(e, into); err != nil {
		return worker.Permanent(err)
	}
	return nil
}
