package saga_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/saga"
	"github.com/evdemo/evdemo/worker"
)

// whenOpen does nothing before the stream has been opened.
func whenOpen(_ context.Context, t *saga.Turn[*account]) error {
	if t.State().has("opened") {
		t.Emit("did", 1)
	}
	return nil
}

// A decision to do nothing is one about the stream as it is, not as it was when this process last looked.
func TestNothingIsDecidedFromAnOldState(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db string) {
		t.Helper()
		store, other := open(t, eventstore.Config{DB: db}), open(t, eventstore.Config{DB: db})
		p := participant(t, store, whenOpen)
		mustDeliver(t, p.Handle, happened(t, "asked", "a", nil)) // and what it knows is that there is nothing
		for n := range 3 {
			put(t, other, "a", "opened")
			mustDeliver(t, p.Handle, happened(t, "asked", "a", nil))
			require.Len(t, types(t, store, "a"), 2*n+2)
		}
		require.Equal(t, []string{"opened", "did", "opened", "did", "opened", "did"}, types(t, store, "a"))
	})
}

// Streams that are read one after the other are not seen in a state that they never had together: here one of the two is open
// at every moment, but for what is read of them the first time, or the second.
func TestNothingIsDecidedFromStatesOfDifferentMoments(t *testing.T) {
	t.Parallel()
	type puts [][2]string
	move := puts{{"a", "opened"}, {"b", "closed"}}
	for name, test := range map[string]struct {
		before puts
		on     map[string]puts // what is appended when an event of a type is read
	}{
		"while they are read":      {puts{{"a", "made"}, {"b", "opened"}}, map[string]puts{"made": move}},
		"while they are looked at": {puts{{"b", "made"}}, map[string]puts{"made": {{"b", "opened"}, {"a", "noise"}}, "noise": move}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := openFile(t)
			all := func(these puts) {
				for _, p := range these {
					put(t, store, p[0], p[1])
				}
			}
			all(test.before)
			fold := accounts()
			apply := fold.Apply
			fold.Apply = func(a *account, r eventstore.Recorded) (*account, error) {
				then := test.on[r.Type]
				delete(test.on, r.Type)
				all(then)
				return apply(a, r)
			}
			p, err := saga.NewParticipant(store, saga.Service[*account]{
				Name: "bank", Streams: bySubject, Fold: fold,
				React: map[string]func(context.Context, *saga.Turn[*account]) error{"asked": func(_ context.Context, turn *saga.Turn[*account]) error {
					a, b := turn.State(), turn.StateOf(1)
					if a.has("opened") || b.has("opened") && !b.has("closed") {
						turn.Emit("did", 1)
					}
					return nil
				}},
			})
			require.NoError(t, err)
			mustDeliver(t, p.Handle, happened(t, "asked", "a,b", nil))
			require.Empty(t, test.on)
			require.Contains(t, types(t, store, "a"), "did")
		})
	}
}

// put appends an event to a stream, past those who decide.
func put(tb testing.TB, store *eventstore.Store, stream, eventType string) {
	tb.Helper()
	_, err := store.Append(tb.Context(), eventstore.StreamWrite{Stream: stream, Events: []event.Event{happened(tb, eventType, stream, nil)}})
	require.NoError(tb, err)
}

// A turn that ends badly, at whatever moment, leaves no state behind that is wrong, and nobody waiting.
func TestWhatIsKnownIsNotSpoiled(t *testing.T) {
	t.Parallel()
	errBad := errors.New("bad")
	for name, test := range map[string]struct {
		then reaction
		want func(*testing.T, error)
	}{
		"it panics": {
			func(context.Context, *saga.Turn[*account]) error { panic("bad") },
			func(t *testing.T, err error) { t.Helper(); require.ErrorContains(t, err, "bad") },
		},
		"it fails half way": {
			func(_ context.Context, turn *saga.Turn[*account]) error { turn.Emit("half", 1); return errBad },
			func(t *testing.T, err error) { t.Helper(); require.ErrorIs(t, err, errBad) },
		},
		"it decides what was decided": {
			emits(0, 0),
			func(t *testing.T, err error) { t.Helper(); require.NoError(t, err) },
		},
		"it does nothing": {
			emits(),
			func(t *testing.T, err error) { t.Helper(); require.NoError(t, err) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := openFile(t)
			react := emits(0)
			p := participant(t, store, func(ctx context.Context, turn *saga.Turn[*account]) error { return react(ctx, turn) })
			e := happened(t, "asked", "a", nil)
			mustDeliver(t, p.Handle, e)
			put(t, store, "a", "opened")
			react = func(ctx context.Context, turn *saga.Turn[*account]) error {
				if turn.State().has("opened") { // the old state is looked at first, and then brought up
					return test.then(ctx, turn)
				}
				return nil
			}
			err := deliver(t.Context(), worker.Wrap(p.Handle, worker.Recover()), e)
			test.want(t, err)

			var seen []int64
			react = func(ctx context.Context, turn *saga.Turn[*account]) error {
				seen = slices.Clone(turn.State().versions)
				return emits()(ctx, turn)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			require.NoError(t, deliver(ctx, p.Handle, happened(t, "asked", "a", nil)))
			require.Equal(t, []int64{1, 2}, seen)
			react = whenOpen
			mustDeliver(t, p.Handle, happened(t, "asked", "a", nil))
			require.Equal(t, []string{"did0", "opened", "did"}, types(t, store, "a"))
		})
	}
}

// An event that Apply does not take is appended all the same; then nobody can decide from the stream until the service is
// mended, and nothing is lost by it.
func TestApplyFails(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	p := participant(t, store, func(_ context.Context, turn *saga.Turn[*account]) error { turn.Emit("did", "no number"); return nil })
	for range 2 {
		require.ErrorContains(t, deliver(t.Context(), p.Handle, happened(t, "asked", "a", nil)), "cannot unmarshal string")
	}
	require.Equal(t, []string{"did"}, types(t, store, "a"))
}

// Where a log was put back the decision is made from what it has now.
func TestRewound(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	p := participant(t, store, func(_ context.Context, turn *saga.Turn[*account]) error {
		turn.Emit(fmt.Sprintf("did%d", turn.Version()), 1)
		return nil
	})
	for range 3 {
		mustDeliver(t, p.Handle, happened(t, "asked", "a", nil))
	}
	for _, statement := range []string{`DROP TRIGGER evdemo_store_events_remain`, `DELETE FROM evdemo_store_events WHERE position > 1`} {
		_, err := store.DB().ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}
	mustDeliver(t, p.Handle, happened(t, "asked", "a", nil))
	require.Equal(t, []string{"did0", "did1"}, types(t, store, "a"))
}
