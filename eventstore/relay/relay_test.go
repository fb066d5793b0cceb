package relay_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/eventstore/relay"
	"github.com/evdemo/evdemo/publisher"
)

// broker is a publisher whose answers the test gives.
type broker struct {
	// decide gives the answer to an event, at once; 0 keeps it waiting for release. Nil confirms.
	decide func(position int64) publisher.Outcome
	// refuse is what Send returns instead.
	refuse func(position int64) error

	mu      sync.Mutex
	arrived []int64 // positions, in the order of sending
	waiting []func(publisher.Outcome)
}

func (b *broker) Send(ctx context.Context, m publisher.Message, done func(publisher.Result)) error {
	position, _ := m.Headers[relay.HeaderPosition].(int64)
	if b.refuse != nil {
		if err := b.refuse(position); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	b.mu.Lock()
	b.arrived = append(b.arrived, position)
	answer := func(o publisher.Outcome) { done(publisher.Result{Message: m, Outcome: o}) }
	outcome := publisher.Confirmed
	if b.decide != nil {
		outcome = b.decide(position)
	}
	if outcome == 0 {
		b.waiting = append(b.waiting, answer)
	}
	b.mu.Unlock()
	if outcome != 0 {
		answer(outcome)
	}
	return nil
}

// release answers what waits.
func (b *broker) release(outcome publisher.Outcome) {
	b.mu.Lock()
	waiting := b.waiting
	b.waiting = nil
	b.mu.Unlock()
	for _, answer := range waiting {
		answer(outcome)
	}
}

func (b *broker) positions() []int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.arrived)
}

func (b *broker) held() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting)
}

// through gives 1, 2, ... n.
func through(n int64) (positions []int64) {
	for i := range n {
		positions = append(positions, i+1)
	}
	return positions
}

func catchUp(t *testing.T, config relay.Config) *relay.Relay {
	t.Helper()
	config.CatchUp = true
	r, err := relay.New(config)
	require.NoError(t, err)
	require.NoError(t, r.Run(t.Context()))
	return r
}

func checkpoint(t *testing.T, store *eventstore.Store) int64 {
	t.Helper()
	lag, err := relay.LagOf(t.Context(), store, relay.DefaultName)
	require.NoError(t, err)
	return lag.Position
}

func TestCatchUp(t *testing.T) {
	t.Parallel()
	store, b := openFile(t), &broker{}
	config := relay.Config{Store: store, Publisher: b, To: relay.ToQueue("q")}
	r := catchUp(t, config)
	assert.Empty(t, b.positions(), "an empty log")
	assert.Zero(t, r.Stats().Published)

	require.NoError(t, appendEvents(t.Context(), store, 0, 1200))
	r = catchUp(t, config)
	assert.Equal(t, through(1200), b.positions())
	assert.Equal(t, int64(1200), r.Stats().Published)
	assert.False(t, r.Stats().Active)
	assert.Equal(t, int64(1200), checkpoint(t, store))

	require.NoError(t, appendEvents(t.Context(), store, 1200, 1210))
	catchUp(t, config)
	assert.Equal(t, through(1210), b.positions(), "it goes on where it was")

	config.Name = "another"
	catchUp(t, config)
	assert.Equal(t, append(through(1210), through(1210)...), b.positions(), "names are independent")
}

// No more than the window is sent beyond what a successor would find in the database, at any moment.
func TestWindowIsCountedFromTheSavedCheckpoint(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db string) {
		t.Helper()
		store := open(t, eventstore.Config{DB: db})
		require.NoError(t, appendEvents(t.Context(), store, 0, 300))
		for _, window := range []int64{1, 2, 7, 100} {
			b, name, furthest := &broker{}, fmt.Sprint("window ", window), int64(0)
			ctx := t.Context()
			b.refuse = func(position int64) error {
				lag, err := relay.LagOf(ctx, store, name)
				furthest = max(furthest, position-lag.Position)
				return err
			}
			catchUp(t, relay.Config{Store: store, Publisher: b, To: relay.ToQueue("q"), Name: name, Window: int(window)})
			assert.Equal(t, through(300), b.positions())
			assert.LessOrEqual(t, furthest, window)
			assert.Positive(t, furthest)
		}
	})
}

// Answers that come late, and in another order, never carry the checkpoint over an event without one.
func TestCheckpointHasNoGaps(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	require.NoError(t, appendEvents(t.Context(), store, 0, 200))
	b := &broker{decide: func(position int64) publisher.Outcome {
		if position == 100 {
			return 0
		}
		return publisher.Confirmed
	}}
	r := run(t, relay.Config{Store: store, Publisher: b, To: relay.ToQueue("q"), Window: 64, DrainTimeout: 50 * time.Millisecond})
	eventually(t, func() bool { return len(b.positions()) == 99+64 }, "the window from the one that has no answer")
	eventually(t, func() bool { return checkpoint(t, store) == 99 }, "what is confirmed is noted")
	require.ErrorIs(t, r.end(), relay.ErrDrainTimeout)
	assert.Equal(t, int64(99), checkpoint(t, store))
	assert.Len(t, b.positions(), 99+64)

	b.release(publisher.Confirmed) // nobody listens any more
	b.decide = nil
	catchUp(t, relay.Config{Store: store, Publisher: b, To: relay.ToQueue("q")})
	assert.Equal(t, append(through(163), through(200)[99:]...), b.positions())
}

// What does not get through is tried again, alone, and then everything behind it; nothing is left out.
func TestNotGettingThrough(t *testing.T) {
	t.Parallel()
	for _, outcome := range []publisher.Outcome{publisher.Returned, publisher.Nacked, publisher.Unknown} {
		t.Run(outcome.String(), func(t *testing.T) {
			t.Parallel()
			store := openFile(t)
			require.NoError(t, appendEvents(t.Context(), store, 0, 100))
			attempts := 0
			b := &broker{decide: func(position int64) publisher.Outcome {
				if position == 50 {
					if attempts++; attempts < 4 {
						return outcome
					}
				}
				return publisher.Confirmed
			}}
			var log logged
			began := time.Now()
			r := catchUp(t, relay.Config{Store: store, Publisher: b, To: relay.ToQueue("q"), Logger: slog.New(&log)})
			assert.GreaterOrEqual(t, time.Since(began), 500*time.Millisecond, "pauses of about 100, 200 and 400 ms")
			got := b.positions()
			assert.Equal(t, 4, attempts)
			assert.Equal(t, through(50), got[:50])
			assert.Equal(t, through(100)[50:], got[len(got)-50:])
			for _, repeated := range got[50 : len(got)-50] {
				assert.GreaterOrEqual(t, repeated, int64(50))
			}
			stats := r.Stats()
			assert.Equal(t, int64(3), stats.Returned+stats.Nacked+stats.Unknown)
			assert.Equal(t, int64(len(got)-100-3), stats.Repeated, "the attempts at the event itself are counted as such")
			assert.Equal(t, int64(len(got)-3), stats.Published)
			assert.Equal(t, 3, log.count("relay stands still: an event does not get through"))
			assert.Equal(t, 1, log.count("relay goes on"))
			assert.Equal(t, int64(100), checkpoint(t, store))
		})
	}
}

// Where nothing gets through, one event is tried at a time, and the statistics say which.
func TestStandingStill(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	require.NoError(t, appendEvents(t.Context(), store, 0, 100))
	b := &broker{decide: func(int64) publisher.Outcome { return publisher.Returned }}
	r := run(t, relay.Config{Store: store, Publisher: b, To: relay.ToTopic("orders")})
	eventually(t, func() bool { return r.Stats().Returned >= 3 && r.Stats().Stuck != nil }, "attempts")
	stats := r.Stats()
	assert.Equal(t, int64(1), stats.Stuck.Position)
	assert.Equal(t, "order-0", stats.Stuck.Stream)
	assert.Equal(t, int64(1), stats.Stuck.Version)
	assert.Equal(t, "event-0", stats.Stuck.ID)
	require.EqualError(t, stats.Stuck, "event at position 1, version 1 of stream order-0: event event-0: returned")
	var outcome *publisher.OutcomeError
	require.ErrorAs(t, stats.Stuck, &outcome)
	assert.True(t, stats.Active)
	eventually(t, func() bool { return r.Stats().Lag.Events() == 100 }, "the lag")
	assert.False(t, r.Stats().Lag.Oldest.IsZero())
	require.NoError(t, testutil.CollectAndCompare(r.Collector(), strings.NewReader(`
# HELP evdemo_relay_stuck Whether the relay stands still at an event that does not get through.
# TYPE evdemo_relay_stuck gauge
evdemo_relay_stuck 1
# HELP evdemo_relay_lag_events Events of the log that are behind the checkpoint.
# TYPE evdemo_relay_lag_events gauge
evdemo_relay_lag_events 100
# HELP evdemo_relay_active Whether this is the active relay of its name.
# TYPE evdemo_relay_active gauge
evdemo_relay_active 1
`), "evdemo_relay_stuck", "evdemo_relay_lag_events", "evdemo_relay_active"))
	require.NoError(t, prometheus.NewPedanticRegistry().Register(r.Collector()))
	require.NoError(t, r.end())
	for _, position := range b.positions() {
		assert.Equal(t, int64(1), position)
	}
	assert.Nil(t, r.Stats().Stuck)
	assert.False(t, r.Stats().Active)
}

// An event that cannot be published ends the relay, which has published what is before it and nothing behind it.
func TestUnpublishableEvents(t *testing.T) {
	t.Parallel()
	unroutable := errors.New("no such customer")
	for name, test := range map[string]struct {
		to     publisher.Destination
		err    error
		refuse error
		want   string
	}{
		"To returns an error": {err: unroutable, want: "no such customer"},
		"To gives nothing":    {want: "Config.To gives neither an exchange nor a routing key"},
		"it is invalid":       {to: publisher.ToQueue("q"), refuse: fmt.Errorf("%w: too odd", publisher.ErrInvalid), want: "event cannot be published: too odd"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := openFile(t)
			require.NoError(t, appendEvents(t.Context(), store, 0, 100))
			b := &broker{refuse: func(position int64) error {
				if position == 50 {
					return test.refuse
				}
				return nil
			}}
			r := run(t, relay.Config{Store: store, Publisher: b, To: func(r eventstore.Recorded) (publisher.Destination, error) {
				if r.Position == 50 {
					return test.to, test.err
				}
				return publisher.ToQueue("q"), nil
			}})
			err := r.wait()
			require.EqualError(t, err, "relay relay: event at position 50, version 8 of stream order-0: "+test.want)
			var failed *relay.EventError
			require.ErrorAs(t, err, &failed)
			assert.Equal(t, int64(50), failed.Position)
			assert.Equal(t, "event-49", failed.ID)
			if test.err != nil {
				require.ErrorIs(t, err, test.err)
			}
			assert.Equal(t, through(49), b.positions())
			assert.Equal(t, int64(49), checkpoint(t, store))
		})
	}
}

// One that is refused comes before one that cannot be published, though its answer comes later.
func TestRefusedBeforeUnpublishable(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	require.NoError(t, appendEvents(t.Context(), store, 0, 100))
	held := false
	b := &broker{decide: func(position int64) publisher.Outcome {
		if position == 45 && !held {
			held = true
			return 0
		}
		return publisher.Confirmed
	}}
	asked := make(chan struct{}, 2)
	r := run(t, relay.Config{Store: store, Publisher: b, To: func(r eventstore.Recorded) (publisher.Destination, error) {
		if r.Position == 50 {
			asked <- struct{}{}
			return publisher.Destination{}, errors.New("no such customer")
		}
		return publisher.ToQueue("q"), nil
	}})
	<-asked
	b.release(publisher.Nacked)
	var failed *relay.EventError
	require.ErrorAs(t, r.wait(), &failed)
	assert.Equal(t, int64(50), failed.Position)
	assert.Equal(t, append(through(49), through(49)[44:]...), b.positions())
	assert.Equal(t, int64(49), checkpoint(t, store))
}

func TestSkipping(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	for n, kind := range []string{"order.created", "audit.looked", "order.secret", "order.paid", "audit.looked"} {
		e := numbered(n)
		e.Type = kind
		_, err := store.Append(t.Context(), eventstore.StreamWrite{Stream: "s", Events: []event.Event{e}})
		require.NoError(t, err)
	}
	b := &broker{}
	r := catchUp(t, relay.Config{
		Store: store, Publisher: b, Types: []string{"order.created", "order.secret", "order.paid"},
		To: func(r eventstore.Recorded) (publisher.Destination, error) {
			if r.Type == "order.secret" {
				return publisher.Destination{}, fmt.Errorf("keep it: %w", relay.ErrSkip)
			}
			return publisher.ToTopic("orders"), nil
		},
	})
	assert.Equal(t, []int64{1, 4}, b.positions())
	assert.Equal(t, int64(2), r.Stats().Published)
	assert.Equal(t, int64(3), r.Stats().Skipped)
	assert.Equal(t, int64(5), checkpoint(t, store), "what is passed over at the end is done with as well")
}

func TestWhereItBegins(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	require.NoError(t, appendEvents(t.Context(), store, 0, 10))
	begin := func(name string, from int64) (positions []int64) {
		b := &broker{}
		catchUp(t, relay.Config{Store: store, Publisher: b, To: relay.ToQueue("q"), Name: name, From: from})
		return b.positions()
	}
	assert.Equal(t, []int64{8, 9, 10}, begin("seven", 7))
	assert.Empty(t, begin("head", relay.Head))
	require.NoError(t, appendEvents(t.Context(), store, 10, 12))
	assert.Equal(t, []int64{11, 12}, begin("seven", 3), "it has a checkpoint")
	assert.Equal(t, []int64{11, 12}, begin("head", relay.Head), "the end that the log had at first")

	r, err := relay.New(relay.Config{Store: store, Publisher: &broker{}, To: relay.ToQueue("q"), Name: "beyond", From: 13})
	require.NoError(t, err)
	require.ErrorIs(t, r.Run(t.Context()), relay.ErrBeyondLog)
	_, err = store.DB().ExecContext(t.Context(), `UPDATE evdemo_store_checkpoints SET version = 2 WHERE name = 'relay/seven'`)
	require.NoError(t, err)
	r, err = relay.New(relay.Config{Store: store, Publisher: &broker{}, To: relay.ToQueue("q"), Name: "seven"})
	require.NoError(t, err)
	require.ErrorIs(t, r.Run(t.Context()), relay.ErrCheckpoint)
}

// A relay that is stopped sends no more, and has the answers to everything before it says where the next one goes on.
func TestStopDrains(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	require.NoError(t, appendEvents(t.Context(), store, 0, 1000))
	b := &broker{}
	b.decide = func(position int64) publisher.Outcome {
		if position > 200 {
			return 0
		}
		return publisher.Confirmed
	}
	r := run(t, relay.Config{Store: store, Publisher: b, To: relay.ToQueue("q"), Window: 100})
	eventually(t, func() bool { return len(b.positions()) == 300 }, "a full window")
	r.stop()
	select {
	case err := <-r.ended:
		require.Fail(t, "it does not wait", "%v", err)
	case <-time.After(50 * time.Millisecond):
	}
	b.release(publisher.Confirmed)
	require.NoError(t, r.wait())
	assert.Equal(t, through(300), b.positions())
	assert.Equal(t, int64(300), checkpoint(t, store))
}

// A refusal while it drains is not waited out: the next relay begins with that event.
func TestStopWhileStandingStill(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	require.NoError(t, appendEvents(t.Context(), store, 0, 10))
	b := &broker{decide: func(position int64) publisher.Outcome {
		if position == 5 {
			return 0
		}
		return publisher.Confirmed
	}}
	r := run(t, relay.Config{Store: store, Publisher: b, To: relay.ToQueue("q")})
	eventually(t, func() bool { return b.held() == 1 }, "the fifth waits")
	r.stop()
	b.release(publisher.Nacked)
	require.NoError(t, r.wait())
	assert.Equal(t, int64(4), checkpoint(t, store))
}

// steal makes another owner of the lease, as another process does that has waited for it to run out.
func steal(t *testing.T, store *eventstore.Store) {
	t.Helper()
	_, err := store.DB().ExecContext(t.Context(), `UPDATE evdemo_store_leases SET owner = 'thief', renewed = renewed + 1`)
	require.NoError(t, err)
}

// A relay that has lost its lease sends no more and leaves the checkpoint alone; it stands by, and is back once the other
// is gone.
func TestLostLease(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db string) {
		t.Helper()
		store := open(t, eventstore.Config{DB: db})
		require.NoError(t, appendEvents(t.Context(), store, 0, 20))
		b := &broker{decide: func(position int64) publisher.Outcome {
			if position == 10 {
				return 0
			}
			return publisher.Confirmed
		}}
		r := run(t, relay.Config{Store: store, Publisher: b, To: relay.ToQueue("q"), Lease: 2 * time.Second})
		eventually(t, func() bool { return b.held() == 1 && len(b.positions()) == 19+1 }, "the tenth waits")
		eventually(t, func() bool { return checkpoint(t, store) == 9 }, "the others are noted")
		steal(t, store)
		eventually(t, func() bool { return !r.Stats().Active }, "stands by")
		b.release(publisher.Confirmed) // too late to count
		assert.Equal(t, int64(9), checkpoint(t, store))
		assert.Len(t, b.positions(), 20)
		eventually(t, func() bool { return r.Stats().Active }, "takes over")
		eventually(t, func() bool { return b.held() == 1 }, "from the checkpoint on")
		b.release(publisher.Confirmed)
		eventually(t, func() bool { return checkpoint(t, store) == 20 }, "to the end")
		require.NoError(t, r.end())
		assert.Equal(t, append(through(20), through(20)[9:]...), b.positions())
	})
}

// Of several relays one is active, and the next takes over at once from one that is stopped.
func TestOneIsActive(t *testing.T) {
	t.Parallel()
	store, b := openFile(t), &broker{}
	config := relay.Config{Store: store, Publisher: b, To: relay.ToQueue("q"), Lease: 4 * time.Second}
	first := run(t, config)
	eventually(t, func() bool { return first.Stats().Active }, "the first")
	second := run(t, config)
	require.NoError(t, appendEvents(t.Context(), store, 0, 50))
	eventually(t, func() bool { return second.Stats().Lag.Position == 50 }, "one that stands by knows the lag")
	assert.False(t, second.Stats().Active)
	require.NoError(t, first.end())
	require.NoError(t, appendEvents(t.Context(), store, 50, 100))
	eventually(t, func() bool { return len(b.positions()) == 100 }, "the second goes on")
	require.NoError(t, second.end())
	assert.Equal(t, through(100), b.positions())
}

func TestRunsOnceAtATime(t *testing.T) {
	t.Parallel()
	r := run(t, relay.Config{Store: openFile(t), Publisher: &broker{}, To: relay.ToQueue("q")})
	eventually(t, func() bool { return r.Stats().Active }, "it runs")
	require.ErrorIs(t, r.Run(t.Context()), relay.ErrRunning)
	require.NoError(t, r.end())
	stopped, stop := context.WithCancel(t.Context())
	stop()
	require.NoError(t, r.Run(stopped), "and again, stopped before it could begin")
}

func TestTroubleWithTheStoreEndsIt(t *testing.T) {
	t.Parallel()
	store, err := eventstore.Open(t.Context(), eventstore.Config{DB: filepath.Join(t.TempDir(), "store.db")})
	require.NoError(t, err)
	r := run(t, relay.Config{Store: store, Publisher: &broker{}, To: relay.ToQueue("q")})
	eventually(t, func() bool { return r.Stats().Active }, "it runs")
	require.NoError(t, store.Close())
	require.ErrorIs(t, r.wait(), eventstore.ErrClosed)
}

// A checkpoint that cannot be saved ends the relay: it would never be heard of otherwise.
func TestTroubleWithTheCheckpointEndsIt(t *testing.T) {
	t.Parallel()
	store, b := openFile(t), &broker{}
	r := run(t, relay.Config{Store: store, Publisher: b, To: relay.ToQueue("q"), Window: 10})
	eventually(t, func() bool { return r.Stats().Active }, "it runs")
	_, err := store.DB().ExecContext(t.Context(), `CREATE TRIGGER full BEFORE UPDATE ON evdemo_store_checkpoints
		BEGIN SELECT RAISE(ABORT, 'disk full'); END`)
	require.NoError(t, err)
	require.NoError(t, appendEvents(t.Context(), store, 0, 100))
	require.ErrorContains(t, r.wait(), "relay relay: save checkpoint: ")
	assert.LessOrEqual(t, len(b.positions()), 10)
}

func TestClosedPublisherEndsIt(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	require.NoError(t, appendEvents(t.Context(), store, 0, 1))
	r := run(t, relay.Config{Store: store, Publisher: &broker{refuse: func(int64) error { return publisher.ErrClosed }}, To: relay.ToQueue("q")})
	require.ErrorIs(t, r.wait(), publisher.ErrClosed)
}

func TestConfigMistakes(t *testing.T) {
	t.Parallel()
	_, err := relay.New(relay.Config{From: -2, Window: -1, Lease: -1})
	require.EqualError(t, err, `make relay: Config.Store, Publisher and To are all needed
Config.From is negative: -2
Config.Window -1 is not within 1 to 1048576
Config.Lease and DrainTimeout cannot be negative`)
}

// logged counts messages.
type logged struct {
	mu       sync.Mutex
	messages []string
}

func (l *logged) Enabled(context.Context, slog.Level) bool { return true }
func (l *logged) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logged) WithGroup(string) slog.Handler            { return l }

func (l *logged) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.messages = append(l.messages, r.Message)
	return nil
}

func (l *logged) count(message string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.messages {
		if m == message {
			n++
		}
	}
	return n
}
