package saga_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/bus"
	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/saga"
	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
)

func TestServiceIsChecked(t *testing.T) {
	t.Parallel()
	_, err := saga.NewParticipant(nil, saga.Service[int]{SnapshotEvery: -1})
	for _, want := range []string{"a store", "Name", "Streams", "Fold.Apply", "React", "SnapshotEvery"} {
		require.ErrorContains(t, err, "want "+want)
	}
	fold := accounts()
	_, err = saga.NewParticipant(openFile(t), saga.Service[*account]{
		Name: "bank", Streams: bySubject, Fold: fold, SnapshotEvery: 10,
		React: map[string]func(context.Context, *saga.Turn[*account]) error{"asked": emits()},
	})
	require.EqualError(t, err, `service "bank": want Fold.Name, for snapshots`)
}

// isPermanent tells whether a worker would dead-letter the event at once: it does not try again what is permanent.
func isPermanent(t *testing.T, handle worker.Handler, e event.Event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	b, queue := bus.NewMemory(bus.Config{}), "payments"
	defer b.Close()
	require.NoError(t, b.Publish(ctx, publisher.Message{Event: e, To: publisher.ToQueue(queue)}))
	working, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- b.Work(working, queue, bus.Options{}, handle) }()
	var d worker.Delivery
	err := b.Work(ctx, topology.DeadLetterQueue(queue), bus.Options{}, func(_ context.Context, dead *worker.Delivery) error {
		d = *dead
		cancel()
		return nil
	})
	require.NoError(t, err)
	stop()
	require.NoError(t, <-ended)
	require.Equal(t, e.ID, d.Event.ID)
	require.Equal(t, 1, d.History.Attempts)
}

func TestWhatCannotBeDecidedOn(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	errOf := func(react reaction, subject string) error {
		return deliver(t.Context(), participant(t, store, react).Handle, happened(t, "asked", subject, map[string]int{}))
	}
	require.ErrorIs(t, deliver(t.Context(), participant(t, store, emits()).Handle, happened(t, "other", "a", nil)), worker.ErrSkip)
	require.ErrorContains(t, errOf(emits(0), "a,b,a"), "none twice")
	require.ErrorIs(t, errOf(emits(0), "a,"), eventstore.ErrStreamName)
	require.ErrorContains(t, errOf(func(_ context.Context, turn *saga.Turn[*account]) error {
		turn.Emit("did", 1)
		turn.Emit("did", func() {}) // no JSON
		return nil
	}, "a"), "unsupported type")
	require.ErrorIs(t, errOf(func(_ context.Context, turn *saga.Turn[*account]) error {
		turn.Emit("did", 1)
		return worker.ErrRequeue
	}, "a"), worker.ErrRequeue)
	require.ErrorContains(t, errOf(func(_ context.Context, turn *saga.Turn[*account]) error {
		var n int
		return turn.Read(&n)
	}, "a"), "the data of asked")
	require.Empty(t, read(t, store, eventstore.Query{}))
	isPermanent(t, participant(t, store, emits(0)).Handle, happened(t, "asked", "a,a", nil))
	isPermanent(t, participant(t, store, emits(0)).Handle, happened(t, "asked", "a,", nil))
	isPermanent(t, participant(t, store, func(_ context.Context, turn *saga.Turn[*account]) error {
		var n int
		return turn.Read(&n)
	}).Handle, happened(t, "asked", "a", "text"))
}

func TestNoStreams(t *testing.T) {
	t.Parallel()
	p, err := saga.NewParticipant(openFile(t), saga.Service[*account]{
		Name: "bank", Streams: func(event.Event) []string { return nil }, Fold: accounts(),
		React: map[string]func(context.Context, *saga.Turn[*account]) error{"asked": emits()},
	})
	require.NoError(t, err)
	require.ErrorContains(t, deliver(t.Context(), p.Handle, happened(t, "asked", "a", nil)), "want one at least")
}

// Two services with one name make events of one id. That is told, and not taken for a second delivery.
func TestTwoServicesOfOneName(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	e := happened(t, "asked", "a", nil)
	mustDeliver(t, participant(t, store, emits(0)).Handle, e)
	other, err := saga.NewParticipant(store, saga.Service[*account]{
		Name: "bank", Streams: func(e event.Event) []string { return []string{"other-" + e.Subject} }, Fold: accounts(),
		React: map[string]func(context.Context, *saga.Turn[*account]) error{"asked": emits(0)},
	})
	require.NoError(t, err)
	var duplicate *eventstore.DuplicateError
	require.ErrorAs(t, deliver(t.Context(), other.Handle, e), &duplicate)
	require.Equal(t, "a", duplicate.Stream)
}

// What was decided is told to who asks, when it is decided and at any time after that.
func TestAsk(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db string) {
		t.Helper()
		store, other := open(t, eventstore.Config{DB: db}), open(t, eventstore.Config{DB: db})
		p := participant(t, store, emits(1, 0, 1, 0))
		e := happened(t, "asked", "a,b", nil)
		namesake := e // another's event, with the same id
		namesake.Source = "elsewhere"
		decided, err := p.Ask(t.Context(), e)
		require.NoError(t, err)
		require.Equal(t, []string{"did1", "did3", "did0", "did2"}, typesOf(decided), "stream by stream, as in the log")
		_, err = p.Ask(t.Context(), namesake)
		require.NoError(t, err)
		for _, asked := range []*saga.Participant{p, participant(t, store, emits(0)), participant(t, other, emits(0, 0, 0, 0, 0))} {
			again, err := asked.Ask(t.Context(), e)
			require.NoError(t, err)
			require.Equal(t, decided, again)
		}
		nothing, err := participant(t, store, emits()).Ask(t.Context(), happened(t, "asked", "a,b", nil))
		require.NoError(t, err)
		require.Empty(t, nothing)
		_, err = p.Ask(t.Context(), happened(t, "other", "a", nil))
		require.ErrorIs(t, err, worker.ErrSkip)
		require.Len(t, read(t, store, eventstore.Query{}), 8)
	})
}

func typesOf(events []event.Event) (all []string) {
	for _, e := range events {
		all = append(all, e.Type)
	}
	return all
}

// The key of a decision is the same each time that it is made, in whatever process, and no other decision's.
func TestKey(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	keys := map[string][]string{}
	errAgain := errors.New("again")
	react := func(_ context.Context, turn *saga.Turn[*account]) error {
		keys[turn.Trigger.Source+turn.Trigger.ID] = append(keys[turn.Trigger.Source+turn.Trigger.ID], turn.Key())
		return errAgain
	}
	one, two := happened(t, "asked", "a", nil), happened(t, "asked", "a", nil)
	namesake := one
	namesake.Source = "elsewhere"
	for _, e := range []event.Event{one, two, namesake, one, two, namesake} {
		require.ErrorIs(t, deliver(t.Context(), participant(t, store, react).Handle, e), errAgain)
	}
	all := map[string]bool{}
	for _, k := range keys {
		require.Len(t, k, 2)
		require.Equal(t, k[0], k[1])
		all[k[0]] = true
	}
	require.Len(t, all, 3)
}

// A service with snapshots decides from the same states.
func TestSnapshots(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	counting := saga.Service[int]{
		Name: "bank", Streams: bySubject, SnapshotEvery: 3,
		Fold: eventstore.Fold[int]{Name: "count", Version: 1, Apply: func(n int, _ eventstore.Recorded) (int, error) { return n + 1, nil }},
		React: map[string]func(context.Context, *saga.Turn[int]) error{"asked": func(_ context.Context, turn *saga.Turn[int]) error {
			turn.Emit(fmt.Sprintf("did%d", turn.State()), nil)
			return nil
		}},
	}
	var want []string
	for n := range 10 {
		p, err := saga.NewParticipant(store, counting) // a process of its own each time
		require.NoError(t, err)
		mustDeliver(t, p.Handle, happened(t, "asked", "a", nil))
		want = append(want, fmt.Sprintf("did%d", n))
	}
	require.Equal(t, want, types(t, store, "a"))
	state, err := eventstore.Load(t.Context(), store, "a", counting.Fold)
	require.NoError(t, err)
	require.Positive(t, state.Snapshot)
}

// The events of a decision say what brought them about, and have the trigger's subject and correlation.
func TestEmit(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	p := participant(t, store, func(_ context.Context, turn *saga.Turn[*account]) error {
		require.EqualValues(t, 0, turn.Version())
		turn.Emit("did", 5)
		return nil
	})
	require.Equal(t, []string{"asked"}, p.Types())
	asked := caused(t, happened(t, "began", "a", nil), "asked", nil)
	mustDeliver(t, p.Handle, asked)
	did := last(t, store, "a", "did")
	require.Equal(t, "bank", did.Source)
	require.Equal(t, "a", did.Subject)
	require.Equal(t, asked.ID, did.CausationID())
	require.Equal(t, asked.CorrelationID(), did.CorrelationID())
	require.JSONEq(t, "5", string(did.Data))
	require.WithinDuration(t, time.Now(), did.Time, patience)
}

// An event is its source and id: whoever sends it again with another time sends the same one.
func TestSentAgainAtAnotherTime(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	var keys []string
	p := participant(t, store, func(_ context.Context, turn *saga.Turn[*account]) error {
		keys = append(keys, turn.Key())
		turn.Emit("did", len(keys))
		return nil
	})
	for _, id := range []string{event.NewID(), "evt-1"} {
		keys = nil
		e := happened(t, "asked", "account-"+id, nil)
		e.ID = id
		for range 3 {
			mustDeliver(t, p.Handle, e)
			e.Time = e.Time.Add(time.Second)
		}
		require.Len(t, read(t, store, eventstore.Query{Stream: "account-" + id}), 1)
		require.Len(t, keys, 3)
		require.Equal(t, keys[0], keys[1])
		require.Equal(t, keys[0], keys[2])
	}
}
