package eventstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/evdemo/evdemo/event"
)

// Fold makes a stream's state from its events. It must be pure: the same events give the same state, always.
type Fold[S any] struct {
	// Name and Version identify the fold to its snapshots. Raise Version when Apply, Initial or S changes its
	// meaning, or Config.Upcast does: snapshots of other versions are not looked at.
	Name    string
	Version int
	// Initial makes the state before the first event. Nil means the zero S.
	Initial func() S
	// Apply makes the state behind an event from the one before it. It may change and return what it is given.
	Apply func(S, Recorded) (S, error)
	// Encode and Decode write snapshots and read them. Nil means JSON.
	Encode func(S) ([]byte, error)
	Decode func([]byte) (S, error)
}

// State is what a stream's events amount to.
type State[S any] struct {
	Value S
	// Version is the stream's version that this is the state of, 0 before the first event.
	Version int64
	// Position and RecordedAt are the last event's.
	Position   int64
	RecordedAt time.Time
	// Snapshot is the version of the snapshot that this began with, 0 for none, and Replayed counts the events
	// that were applied since.
	Snapshot int64
	Replayed int
}

// LoadOption is an option of [Load].
type LoadOption func(*loading)

type loading struct {
	version       *int64
	moment        *time.Time
	snapshotEvery int
	noSnapshots   bool
}

// AtVersion loads the state at a version of the stream, which must have that many events: 0 for the initial state.
func AtVersion(version int64) LoadOption { return func(l *loading) { l.version = &version } }

// AsOf loads the state that the stream had at a time, by the times at which its events were appended. At the zero time it
// had none.
func AsOf(moment time.Time) LoadOption { return func(l *loading) { l.moment = &moment } }

// SnapshotEvery writes a snapshot after a load that applied at least so many events. The default writes none. All are kept,
// for loads at earlier versions; [Store.DropSnapshots] removes those of other fold versions.
func SnapshotEvery(events int) LoadOption { return func(l *loading) { l.snapshotEvery = events } }

// WithoutSnapshots applies every event of the stream, and neither reads nor writes a snapshot.
func WithoutSnapshots() LoadOption { return func(l *loading) { l.noSnapshots = true } }

// Load gives the state of a stream, from its newest snapshot and the events since. A stream without events has the
// initial state at version 0.
//
// A snapshot that is damaged, or cannot be decoded, is not used: an older one is, or all events are applied. One that
// cannot be written is logged, and nothing is lost by it.
func Load[S any](ctx context.Context, s *Store, stream string, fold Fold[S], options ...LoadOption) (State[S], error) {
	l := &loading{}
	for _, option := range options {
		option(l)
	}
	if err := l.check(stream, fold.Name); err != nil {
		return State[S]{}, err
	}
	if fold.Apply == nil {
		return State[S]{}, errors.New("a fold needs Apply")
	}
	var state State[S]
	if !l.noSnapshots && !l.initial() {
		var err error
		if state, err = restore(ctx, s, stream, fold, l); err != nil {
			return State[S]{}, err
		}
	}
	if state.Version == 0 && fold.Initial != nil {
		state.Value = fold.Initial()
	}
	if l.initial() {
		return state, nil
	}
	if err := replay(ctx, s, stream, fold, l, &state); err != nil {
		return State[S]{}, err
	}
	if l.snapshotEvery > 0 && state.Replayed >= l.snapshotEvery && !l.noSnapshots {
		if err := save(ctx, s, stream, fold, &state); err != nil {
			s.config.Logger.Warn("event store: no snapshot was written", slog.String("stream", stream), slog.Any("error", err))
		}
	}
	return state, nil
}

func (l *loading) check(stream, fold string) error {
	if err := checkStream(stream); err != nil {
		return err
	}
	switch {
	case l.version != nil && *l.version < 0:
		return fmt.Errorf("%w %d: versions begin with 1", ErrNoVersion, *l.version)
	case l.version != nil && l.moment != nil:
		return errors.New("give a version or a time, not both")
	case fold == "" && !l.noSnapshots:
		return errors.New("a fold without a name has no snapshots: name it, or load WithoutSnapshots")
	default:
		return nil
	}
}

// initial tells whether the state before the first event is asked for.
func (l *loading) initial() bool {
	return l.version != nil && *l.version == 0 || l.moment != nil && l.moment.IsZero()
}

// replay applies the events behind the state.
func replay[S any](ctx context.Context, s *Store, stream string, fold Fold[S], l *loading, state *State[S]) error {
	q := Query{Stream: stream, FromVersion: state.Version + 1}
	if l.version != nil {
		if q.ToVersion = *l.version; state.Version == q.ToVersion {
			return nil
		}
	}
	if l.moment != nil {
		q.AsOf = *l.moment
	}
	for r, err := range s.Read(ctx, q) {
		if err != nil {
			return err
		}
		if r.Version != state.Version+1 {
			return &DamagedError{Position: r.Position, Stream: stream, Err: fmt.Errorf("version %d follows version %d", r.Version, state.Version)}
		}
		if state.Value, err = fold.Apply(state.Value, r); err != nil {
			return fmt.Errorf("stream %s, version %d, event %s: %w", stream, r.Version, r.ID, err)
		}
		state.Version, state.Position, state.RecordedAt = r.Version, r.Position, r.RecordedAt
		state.Replayed++
	}
	if state.Version < q.ToVersion {
		return fmt.Errorf("stream %s: %w %d: the last is %d", stream, ErrNoVersion, q.ToVersion, state.Version)
	}
	return nil
}

// updateAttempts is how often [Update] decides anew.
const updateAttempts = 20

// Update loads a stream's state, has new events decided from it, and appends them if the stream has not changed
// meanwhile. If it has, it begins again: decide may be called several times, and must have no other effect. Whatever
// decide returns, an error or no events at all, ends it.
//
// Updates of a stream through the same Store are in turn. What appends to it otherwise, in this process or in others, is
// what an Update may have to begin again for; one that does so twenty times returns the last *[ConflictError]. Decide must
// not call Update itself: those of one stream would wait for each other. After [ErrOutcomeUnknown] the events may be there, and another Update decides from a state with them.
func Update[S any](
	ctx context.Context, s *Store, stream string, fold Fold[S], decide func(State[S]) ([]event.Event, error), options ...LoadOption,
) (Appended, error) {
	leave, err := s.turns.Enter(ctx, stream)
	if err != nil {
		return Appended{}, err
	}
	defer leave()
	for attempt := 1; ; attempt++ {
		state, err := Load(ctx, s, stream, fold, options...)
		if err != nil {
			return Appended{}, err
		}
		events, err := decide(state)
		if err != nil || len(events) == 0 {
			return Appended{}, err
		}
		appended, err := s.Append(ctx, StreamWrite{Stream: stream, Expect: Exactly(state.Version), Events: events})
		if _, conflict := errors.AsType[*ConflictError](err); !conflict || attempt == updateAttempts {
			return appended, err
		}
		select {
		case <-time.After(rand.N(time.Duration(attempt) * time.Millisecond)): //nolint:gosec // only to get out of step
		case <-ctx.Done():
			return Appended{}, ctx.Err()
		}
	}
}

func (f *Fold[S]) encode(value S) ([]byte, error) {
	if f.Encode != nil {
		return f.Encode(value)
	}
	return json.Marshal(value)
}

func (f *Fold[S]) decode(b []byte) (value S, err error) {
	if f.Decode != nil {
		return f.Decode(b)
	}
	err = json.Unmarshal(b, &value)
	return value, err
}
