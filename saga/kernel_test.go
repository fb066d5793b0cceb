package saga_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/postgrestest"
	"github.com/evdemo/evdemo/saga"
)

// account is the state of a stream. It is changed in place, as folds may.
type account struct {
	versions []int64
	types    []string
	total    int
}

func (a *account) has(eventType string) bool { return slices.Contains(a.types, eventType) }

// accounts fails where an event is applied twice, or one is left out.
func accounts() eventstore.Fold[*account] {
	return eventstore.Fold[*account]{
		Initial: func() *account { return &account{} },
		Apply: func(a *account, r eventstore.Recorded) (*account, error) {
			if r.Version != int64(len(a.versions))+1 {
				return a, fmt.Errorf("version %d is applied to %v", r.Version, a.versions)
			}
			var n int
			if len(r.Data) > 0 {
				if err := json.Unmarshal(r.Data, &n); err != nil {
					return a, err
				}
			}
			a.versions, a.types, a.total = append(a.versions, r.Version), append(a.types, r.Type), a.total+n
			return a, nil
		},
	}
}

type reaction = func(context.Context, *saga.Turn[*account]) error

// bySubject is one stream for each subject, or several for one with commas.
func bySubject(e event.Event) []string { return strings.Split(e.Subject, ",") }

// participant reacts to events of one type with a service that has state.
func participant(tb testing.TB, store *eventstore.Store, react reaction) *saga.Participant {
	tb.Helper()
	p, err := saga.NewParticipant(store, saga.Service[*account]{
		Name: "bank", Streams: bySubject, Fold: accounts(), React: map[string]func(context.Context, *saga.Turn[*account]) error{"asked": react},
	})
	require.NoError(tb, err)
	return p
}

// emits decides what it is told to, whatever the state.
func emits(to ...int) reaction {
	return func(_ context.Context, t *saga.Turn[*account]) error {
		for n, i := range to {
			t.EmitTo(i, fmt.Sprintf("did%d", n), 1)
		}
		return nil
	}
}

// What was decided the first time stands, whatever would be decided at a second delivery: more, less, or in other streams.
func TestDecidedOnce(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ first, second []int }{
		"the same": {[]int{0, 1}, []int{0, 1}}, "more": {[]int{0}, []int{0, 0, 1}}, "less": {[]int{0, 1, 1}, []int{0}},
		"nothing": {[]int{0}, nil}, "in another stream": {[]int{0}, []int{1}}, "the other way round": {[]int{0, 1}, []int{1, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, db string) {
				t.Helper()
				store, other := open(t, eventstore.Config{DB: db}), open(t, eventstore.Config{DB: db})
				e := happened(t, "asked", "a,b", nil)
				first := participant(t, store, emits(test.first...))
				mustDeliver(t, first.Handle, e)
				decided := read(t, store, eventstore.Query{})
				require.Len(t, decided, len(test.first))

				second := participant(t, store, emits(test.second...))
				elsewhere := participant(t, other, emits(test.second...))
				mustDeliver(t, first.Handle, e)
				mustDeliver(t, second.Handle, e, e)
				mustDeliver(t, elsewhere.Handle, e, happened(t, "asked", "b,c", nil), e) // also when the state is known
				mustDeliver(t, first.Handle, e)
				require.Equal(t, decided, read(t, store, eventstore.Query{Through: int64(len(decided))}))
				require.Len(t, read(t, store, eventstore.Query{}), len(decided)+len(test.second), "and what the other event brought about")
			})
		})
	}
}

// Two processes, each with several goroutines, get every event, in an order of their own and some of them twice. Each moves an
// amount between two of a few accounts, which it must not overdraw. Nothing is lost, and each event moves its amount once.
func TestOverlappingStreams(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db string) {
		t.Helper()
		const moves, names = 60, 4
		move := func(_ context.Context, turn *saga.Turn[*account]) error {
			var amount int
			if err := turn.Read(&amount); err != nil {
				return err
			}
			if turn.State().total+10 < amount {
				turn.Emit("refused", nil)
				return nil
			}
			turn.Emit("taken", -amount)
			turn.EmitTo(1, "given", amount)
			return nil
		}
		events := make([]event.Event, moves)
		for n := range events {
			from, to := n%names, (n+1+n/names%(names-1))%names
			events[n] = happened(t, "asked", fmt.Sprintf("%c,%c", 'a'+from, 'a'+to), n%7)
		}
		var crowd errgroup.Group
		for range 2 {
			p := participant(t, open(t, eventstore.Config{DB: db, BusyTimeout: patience}), move)
			for range 3 {
				crowd.Go(func() error {
					for _, n := range rand.Perm(moves) {
						for range 1 + n%2 {
							if err := deliver(t.Context(), p.Handle, events[n]); err != nil {
								return err
							}
						}
					}
					return nil
				})
			}
		}
		require.NoError(t, crowd.Wait())
		store := open(t, eventstore.Config{DB: db})
		decided, total, balance := map[string]int{}, 0, map[string]int{}
		for _, r := range read(t, store, eventstore.Query{}) {
			if r.Type != "given" {
				decided[r.CausationID()]++
			}
			if r.Type != "refused" {
				total += dataOf[int](t, r.Event)
				balance[r.Stream] += dataOf[int](t, r.Event)
				assert.GreaterOrEqual(t, balance[r.Stream], -10, "of %s at position %d", r.Stream, r.Position)
			}
		}
		assert.Zero(t, total)
		assert.Len(t, decided, moves)
		for _, e := range events {
			assert.Equal(t, 1, decided[e.ID], "decisions about %s", e.ID)
		}
	})
}

// An append whose outcome nobody hears of is found when the event comes again.
func TestOutcomeUnknown(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	deciding := make(chan struct{}, 1)
	p := participant(t, store, func(_ context.Context, turn *saga.Turn[*account]) error {
		turn.Emit("did", 1)
		select {
		case deciding <- struct{}{}:
		default:
		}
		return nil
	})
	tx, err := store.DB().BeginTx(t.Context(), nil) // appends wait for it
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	e := happened(t, "asked", "a", nil)
	answer := make(chan error, 1)
	go func() { answer <- deliver(ctx, p.Handle, e) }()
	<-deciding
	var failed error
	eventually(t, func() bool { // the append may not have been taken yet: then nothing of it happens
		cancel()
		failed = <-answer
		if errors.Is(failed, eventstore.ErrOutcomeUnknown) {
			return true
		}
		ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
		answer <- deliver(ctx, p.Handle, e)
		return false
	}, "an append that is under way")
	cancel()
	require.NoError(t, tx.Rollback())
	mustDeliver(t, p.Handle, e, e)
	require.Equal(t, []string{"did"}, types(t, store, "a"))
	mustDeliver(t, p.Handle, happened(t, "asked", "a", nil))
	require.Equal(t, []string{"did", "did"}, types(t, store, "a"))
}

// Where others are faster each time, the event is given back with the conflict, and nothing is decided.
func TestOvertakenTooOften(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	times := 0
	p := participant(t, store, func(_ context.Context, turn *saga.Turn[*account]) error {
		if times++; times <= 50 {
			put(t, store, "a", "other")
		}
		turn.Emit("did", 1)
		return nil
	})
	e := happened(t, "asked", "a", nil)
	var conflict *eventstore.ConflictError
	require.ErrorAs(t, deliver(t.Context(), p.Handle, e), &conflict)
	require.Equal(t, 50, times)
	require.NotContains(t, types(t, store, "a"), "did")
	mustDeliver(t, p.Handle, e)
	require.Len(t, types(t, store, "a"), 51)

	ctx, cancel := context.WithCancel(t.Context()) // and who gives up does so at once
	times = 0
	again := participant(t, store, func(_ context.Context, turn *saga.Turn[*account]) error {
		put(t, store, "a", "other")
		turn.Emit("did", 1)
		if times++; times == 2 {
			cancel()
		}
		return nil
	})
	require.ErrorIs(t, deliver(ctx, again.Handle, happened(t, "asked", "a", nil)), context.Canceled)
	require.Equal(t, 2, times)
}

// A PostgreSQL or SQLite store that two processes decide on at the same moment has one of the decisions.
func TestTwoProcessesDecideTheSame(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db string) {
		t.Helper()
		const events = 30
		var both [2]*saga.Participant
		meet := make(chan struct{})
		for n := range both {
			both[n] = participant(t, open(t, eventstore.Config{DB: db, BusyTimeout: patience}), func(_ context.Context, turn *saga.Turn[*account]) error {
				select { // the two are here together, or one of them comes a second time
				case meet <- struct{}{}:
				case <-meet:
				case <-time.After(10 * time.Millisecond):
				}
				turn.Emit(fmt.Sprintf("did-by-%d", n), 1)
				turn.EmitTo(1, fmt.Sprintf("told-by-%d", n), 1)
				return nil
			})
		}
		for n := range events {
			e := happened(t, "asked", fmt.Sprintf("a%d,b", n), nil)
			var group errgroup.Group
			for _, p := range both {
				group.Go(func() error { return deliver(t.Context(), p.Handle, e) })
			}
			require.NoError(t, group.Wait())
		}
		store := open(t, eventstore.Config{DB: db})
		told := read(t, store, eventstore.Query{Stream: "b"})
		require.Len(t, told, events)
		for n, r := range told {
			did := read(t, store, eventstore.Query{Stream: fmt.Sprintf("a%d", n)})
			require.Len(t, did, 1)
			require.Equal(t, did[0].Type[len(did[0].Type)-1:], r.Type[len(r.Type)-1:], "whole decisions, of one process each")
		}
	})
}

// While PostgreSQL is away a handler waits; what it had decided is there once, whether or not the answer was lost.
func TestDatabaseGoesAway(t *testing.T) {
	t.Parallel()
	server := postgrestest.Server(t)
	store := open(t, eventstore.Config{DB: server.URL("postgres"), RetryFor: patience})
	p := participant(t, store, emits(0))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var group errgroup.Group
	handled := make(chan event.Event, 10_000)
	for range 4 {
		group.Go(func() error {
			for n := 0; ctx.Err() == nil; n++ {
				e := happened(t, "asked", fmt.Sprintf("s%d", n%3), nil)
				if err := deliver(t.Context(), p.Handle, e); err != nil {
					return err
				}
				handled <- e
			}
			return nil
		})
	}
	for range 3 {
		for range 20 {
			<-handled
		}
		require.NoError(t, server.Kill())
		require.NoError(t, server.Restart(t.Context()))
	}
	for range 20 {
		<-handled
	}
	cancel()
	require.NoError(t, group.Wait())
	decided := map[string]int{}
	for _, r := range read(t, store, eventstore.Query{}) {
		decided[r.CausationID()]++
	}
	for id, n := range decided {
		assert.Equal(t, 1, n, "decisions about %s", id)
	}
	close(handled)
	for e := range handled {
		assert.Equal(t, 1, decided[e.ID])
	}
}
