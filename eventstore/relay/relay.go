package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/evdemo/evdemo/eventstore"
)

const (
	// formatVersion is the Checkpoint.Version of relays.
	formatVersion = 1
	// firstPause and longestPause are between two attempts at an event that does not get through.
	firstPause   = 100 * time.Millisecond
	longestPause = 15 * time.Second
	// lookEvery is how often the lag is looked at.
	lookEvery = time.Second
)

// Relay publishes the log of an event store. All its methods may be called from several goroutines.
type Relay struct {
	config  Config
	types   map[string]bool
	counts  counters
	running atomic.Bool

	mu    sync.Mutex
	state state
}

// New checks a config and makes the relay.
func New(config Config) (*Relay, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("make relay: %w", err)
	}
	r := &Relay{config: config, types: make(map[string]bool, len(config.Types))}
	for _, t := range config.Types {
		r.types[t] = true
	}
	return r, nil
}

// Run waits until this relay is the active one of its name, and publishes until ctx ends. Then it sends no more, waits
// for the answers to what is on its way and saves the checkpoint, for up to Config.DrainTimeout, and returns nil.
//
// While the broker is away it waits. An event that is returned or refused is tried again until it gets through. When
// another relay has become the active one, this one stands by again. While a PostgreSQL server is away it waits, for
// the RetryFor of the store.
//
// It returns an *[EventError] for an event that cannot be published at all; everything before that is published, unless
// the broker does not answer within Config.DrainTimeout, and the checkpoint is in front of it. It returns what reading
// the log or saving the checkpoint returned, and errors that wrap ErrDrainTimeout, ErrBeyondLog, ErrCheckpoint or
// publisher.ErrClosed.
func (r *Relay) Run(ctx context.Context) error {
	if r.running.Swap(true) {
		return ErrRunning
	}
	defer r.running.Store(false)
	watching, stop := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		r.watch(watching)
		r.setLag(Lag{})
	})
	defer watcher.Wait()
	defer stop()
	over, err := r.caughtUp(ctx)
	if err != nil {
		return fmt.Errorf("relay %s: %w", r.config.Name, err)
	}
	var own error // what the relay itself ended with
	err = r.config.Store.LeadUnless(ctx, key(r.config.Name), r.config.Lease, over, func(working context.Context, lease *eventstore.Lease) error {
		err := r.lead(working, lease)
		own = err
		if errors.Is(err, eventstore.ErrLeaseLost) {
			if own = nil; ctx.Err() != nil { // while it waited for answers
				own = fmt.Errorf("%w: %w", ErrDrainTimeout, err)
			}
		}
		return err
	})
	if ctx.Err() != nil {
		err = own
	}
	if err == nil || errors.Is(err, context.Cause(ctx)) {
		return nil
	}
	return fmt.Errorf("relay %s: %w", r.config.Name, err)
}

// caughtUp tells, with Config.CatchUp, whether another relay has published all that is in the log now.
func (r *Relay) caughtUp(ctx context.Context) (over func(context.Context) (bool, error), err error) {
	if !r.config.CatchUp {
		return nil, nil //nolint:nilnil // a relay that goes on waits for its turn
	}
	head, err := r.config.Store.Head(ctx)
	return func(ctx context.Context) (bool, error) {
		c, err := r.config.Store.Checkpoint(ctx, key(r.config.Name))
		return c.Version == formatVersion && c.Position >= head, err
	}, err
}

// lead publishes for as long as this is the active relay. Where the database was put back it goes on from the checkpoint
// that is there then.
func (r *Relay) lead(ctx context.Context, lease *eventstore.Lease) error {
	for {
		err := r.leadOn(ctx, lease)
		if !errors.Is(err, eventstore.ErrRewound) || ctx.Err() != nil {
			return err
		}
		r.config.Logger.Warn("relay goes back: the log is another", slog.String("name", r.config.Name), slog.Any("error", err))
	}
}

func (r *Relay) leadOn(ctx context.Context, lease *eventstore.Lease) error {
	position, head, err := r.start(ctx, lease)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	r.counts.active.Store(true)
	defer r.counts.active.Store(false)
	defer r.standsStill(nil)
	r.config.Logger.Info("relay is the active one", slog.String("name", r.config.Name), slog.Int64("position", position))
	pauses := &backoff.ExponentialBackOff{InitialInterval: firstPause, RandomizationFactor: 0.2, Multiplier: 2, MaxInterval: longestPause}
	pauses.Reset()
	for {
		p := newPass(r, lease, position, head)
		err := p.run(ctx)
		refused, again := errors.AsType[*refusal](err)
		if !again {
			return err
		}
		var confirmed int64
		if position, confirmed = p.progress.result(); confirmed > 0 {
			pauses.Reset()
		}
		if err := r.pause(ctx, refused.EventError, pauses.NextBackOff()); err != nil {
			return err
		}
		if err := r.unchanged(ctx, position); err != nil {
			return err
		}
	}
}

// start finds out where to go on, and where the log ends now. A relay that has no checkpoint saves one at once: Head
// is where the log ended when it was asked for first, not after the next crash.
func (r *Relay) start(ctx context.Context, lease *eventstore.Lease) (position, head int64, err error) {
	c, err := r.config.Store.Checkpoint(ctx, key(r.config.Name))
	if err != nil {
		return 0, 0, err
	}
	if head, err = r.config.Store.Head(ctx); err != nil {
		return 0, 0, err
	}
	if c.Version > formatVersion {
		return 0, 0, ErrCheckpoint
	}
	position = c.Position
	if c.Version == 0 {
		if position = r.config.From; position == Head {
			position = head
		}
	}
	if position > head {
		return 0, 0, fmt.Errorf("%w: the relay is to begin behind position %d, and the last event is at %d", ErrBeyondLog, position, head)
	}
	if c.Version == 0 {
		err = lease.SaveNow(ctx, eventstore.Checkpoint{Version: formatVersion, Position: position})
	}
	return position, head, err
}

// unchanged makes sure that the checkpoint is where it was left.
func (r *Relay) unchanged(ctx context.Context, position int64) error {
	c, err := r.config.Store.Checkpoint(ctx, key(r.config.Name))
	if err == nil && c != (eventstore.Checkpoint{Version: formatVersion, Position: position}) {
		err = fmt.Errorf("the checkpoint is at position %d and should be at %d: %w", c.Position, position, eventstore.ErrRewound)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// pause waits for the next attempt at an event that did not get through.
func (r *Relay) pause(ctx context.Context, stuck *EventError, pause time.Duration) error {
	r.standsStill(stuck)
	r.config.Logger.Warn("relay stands still: an event does not get through", slog.String("name", r.config.Name),
		slog.Int64("position", stuck.Position), slog.String("stream", stuck.Stream), slog.String("id", stuck.ID),
		slog.Any("error", stuck.Err), slog.Duration("again_in", pause.Round(time.Millisecond)))
	select {
	case <-time.After(pause):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// goesOn notes that the event at which the relay stood still has got through.
func (r *Relay) goesOn() {
	if r.stuck() {
		r.standsStill(nil)
		r.config.Logger.Info("relay goes on", slog.String("name", r.config.Name))
	}
}

// wants tells whether an event is of the types to publish.
func (r *Relay) wants(event *eventstore.Recorded) bool {
	return len(r.types) == 0 || r.types[event.Type]
}

// Lag is how far a relay is behind.
type Lag struct {
	// Position is that of the checkpoint: up to and with it everything is published. Head is that of the last
	// event in the log.
	Position, Head int64
	// Oldest is when the first event behind the checkpoint was appended, by the clock of the store; zero where there
	// is none.
	Oldest time.Time
}

// Events is how many events of the log are behind the checkpoint.
func (l Lag) Events() int64 { return max(l.Head-l.Position, 0) }

// LagOf tells how far the relay with a name is behind, whichever process runs it, if any does. Where only the first event
// behind the checkpoint cannot be read, the rest is there beside the error.
func LagOf(ctx context.Context, store *eventstore.Store, name string) (l Lag, err error) {
	c, err := store.Checkpoint(ctx, key(name))
	if err != nil {
		return Lag{}, err
	}
	if l.Head, err = store.Head(ctx); err != nil {
		return Lag{}, err
	}
	l.Position = c.Position
	for r, err := range store.Read(ctx, eventstore.Query{After: l.Position, Limit: 1}) {
		if err != nil {
			return l, err
		}
		l.Oldest = r.RecordedAt
	}
	return l, nil
}

// watch looks at the lag until ctx ends. What cannot be read is looked at again.
func (r *Relay) watch(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if lag, err := LagOf(ctx, r.config.Store, r.config.Name); err == nil || lag.Head > 0 {
			r.setLag(lag)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
