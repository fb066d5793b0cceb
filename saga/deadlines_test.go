package saga_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/saga"
	"github.com/evdemo/evdemo/worker"
)

// atOnce is a timeout that is over when anybody looks.
const atOnce = time.Microsecond

func statusOf(tb tester, c *saga.Coordinator, id string) saga.Status {
	tb.Helper()
	now, err := c.Load(tb.Context(), id)
	require.NoError(tb, err)
	return now.Status
}

// A deadline that passed while nobody ran is met with when somebody does, and once, however many look after it. The step that
// did not answer is taken back too, and its answer comes too late.
func TestDeadlinePasses(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db string) {
		t.Helper()
		store, other := open(t, eventstore.Config{DB: db}), open(t, eventstore.Config{DB: db})
		definition := trip(time.Hour)
		definition.Steps[1].Timeout = atOnce
		const instances = 20
		before := coordinator(t, store, definition) // which knows things, and does not run
		for n := range instances {
			id := fmt.Sprint(n)
			mustDeliver(t, before.Handle, happened(t, "trip.wanted", id, nil))
			answer(t, store, before, id, "flight.book", "flight.booked")
		}
		var all []*saga.Coordinator
		for _, s := range []*eventstore.Store{store, other, store, other} {
			one := coordinator(t, s, definition)
			all = append(all, one)
			background(t, one.Run)
		}
		want := append(booked("flight", "hotel"), saga.TypeStepFailed, saga.TypeUndoStarted, "hotel.cancel")
		for n := range instances {
			id := fmt.Sprint(n)
			c := all[n%len(all)]
			eventually(t, func() bool { return statusOf(t, c, id) == saga.Compensating }, "the deadline of "+id)
			failed := dataOf[saga.Progress](t, last(t, store, c.Stream(id), saga.TypeStepFailed))
			require.True(t, failed.Unknown)
			require.Contains(t, failed.Reason, "no answer to hotel.book by ")
			book := last(t, store, c.Stream(id), "hotel.book")
			require.Equal(t, book.ID, last(t, store, c.Stream(id), "hotel.cancel").CausationID())
			mustDeliver(t, c.Handle, caused(t, book, "hotel.booked", nil), caused(t, book, "hotel.full", nil))
			require.Equal(t, want, types(t, store, c.Stream(id)))
			answer(t, store, c, id, "hotel.cancel", "hotel.cancelled")
			answer(t, store, c, id, "flight.cancel", "flight.cancelled")
			require.Equal(t, saga.Compensated, statusOf(t, c, id))
		}
	})
}

// An answer and the deadline come at the same moment. One of them has its way, whole.
func TestAnswerRacesDeadline(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db string) {
		t.Helper()
		store, other := open(t, eventstore.Config{DB: db, BusyTimeout: patience}), open(t, eventstore.Config{DB: db, BusyTimeout: patience})
		definition := trip(atOnce)
		definition.Steps = definition.Steps[:1]
		answering, expiring := coordinator(t, store, definition), coordinator(t, other, definition)
		outcomes := map[string]int{}
		for n := range 40 {
			id := fmt.Sprint(n)
			mustDeliver(t, answering.Handle, happened(t, "trip.wanted", id, nil))
			reply := caused(t, last(t, store, answering.Stream(id), "flight.book"), "flight.booked", nil)
			var group errgroup.Group
			group.Go(func() error { return deliver(t.Context(), answering.Handle, reply) })
			group.Go(func() error { return deliver(t.Context(), expiring.Handle, reply) })
			group.Go(func() error { return expiring.Expire(t.Context(), id) })
			group.Go(func() error { return answering.Expire(t.Context(), id) })
			require.NoError(t, group.Wait())
			outcomes[strings.Join(types(t, store, answering.Stream(id))[3:], " ")]++
		}
		t.Log(outcomes)
		delete(outcomes, "saga.step_done saga.completed trip.ready")
		delete(outcomes, "saga.step_failed saga.undo_started flight.cancel")
		require.Empty(t, outcomes)
	})
}

// A step whose deadline is not over does not fail, and neither does one that has none, or another that has begun meanwhile.
func TestDeadlinesThatHaveNotPassed(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	definition := trip(time.Hour)
	definition.Steps[0].Timeout = atOnce
	c := coordinator(t, store, definition)
	require.NoError(t, c.Expire(t.Context(), "7"), "there is no such instance")
	mustDeliver(t, c.Handle, happened(t, "trip.wanted", "7", nil))
	for _, s := range []string{"flight", "hotel", "pay"} {
		answer(t, store, c, "7", s+".book", s+".booked")
		require.NoError(t, c.Expire(t.Context(), "7"))
	}
	require.Equal(t, saga.Completed, statusOf(t, c, "7"))
}

// Without a timeout Run has nothing to do, and makes no table.
func TestNoDeadlines(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	stop := background(t, coordinator(t, store, trip(0)).Run)
	stop()
	var tables int
	require.NoError(t, store.DB().QueryRowContext(t.Context(), `SELECT count(*) FROM sqlite_schema WHERE name LIKE '%deadlines%'`).Scan(&tables))
	require.Zero(t, tables)
}

// logs is what a coordinator has logged.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Instances that cannot be taken back, more of them than are looked at together, are reported and keep no other waiting; so do
// those whose Undo panics. They go on when that is mended.
func TestDeadlinesOfInstancesThatFail(t *testing.T) {
	t.Parallel()
	store := open(t, eventstore.Config{DB: file(t), Unsynced: true})
	const bad, good = 300, 10
	var mended atomic.Bool
	definition := trip(atOnce)
	undo := definition.Steps[0].Undo
	definition.Steps[0].Undo = func(i *saga.Instance) (saga.Command, error) {
		switch {
		case mended.Load() || strings.HasPrefix(i.ID, "good"):
			return undo(i)
		case strings.HasSuffix(i.ID, "9"):
			panic("no way back")
		default:
			return saga.Command{}, errors.New("no number")
		}
	}
	var logged logs
	c, err := saga.NewCoordinator(saga.CoordinatorConfig{
		Store: store, Definition: definition, Poll: 5 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(&logged, nil)),
	})
	require.NoError(t, err)
	var group errgroup.Group
	group.SetLimit(16)
	for n := range bad {
		group.Go(func() error {
			return deliver(t.Context(), c.Handle, happened(t, "trip.wanted", fmt.Sprintf("bad-%d", n), nil))
		})
	}
	require.NoError(t, group.Wait())
	for n := range good {
		mustDeliver(t, c.Handle, happened(t, "trip.wanted", fmt.Sprintf("good-%d", n), nil))
	}
	background(t, c.Run)
	for n := range good {
		eventually(t, func() bool { return statusOf(t, c, fmt.Sprintf("good-%d", n)) == saga.Compensating }, "a deadline behind those that fail")
	}
	eventually(t, func() bool {
		return strings.Contains(logged.String(), "no number") && strings.Contains(logged.String(), "no way back")
	}, "the log")
	require.Equal(t, saga.Running, statusOf(t, c, "bad-1"))
	mended.Store(true)
	for n := range bad {
		eventually(t, func() bool { return statusOf(t, c, fmt.Sprintf("bad-%d", n)) == saga.Compensating }, "a deadline that is mended")
	}
}

// Many coordinators, in two processes, get every event in an order of their own and some of them twice, while deadlines pass.
// Each instance ends, and each command is there once.
func TestManyCoordinators(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db string) {
		t.Helper()
		const instances = 12
		definition := trip(time.Hour)
		definition.Steps[1].Timeout = 20 * time.Millisecond
		config := eventstore.Config{DB: db, BusyTimeout: patience, Poll: 5 * time.Millisecond}
		stores := []*eventstore.Store{open(t, config), open(t, config)}
		answers := map[string]string{
			"flight.book": "flight.booked", "hotel.cancel": "hotel.cancelled", "flight.cancel": "flight.cancelled", "pay.book": "pay.booked",
		}
		var c *saga.Coordinator
		for n := range 4 {
			store := stores[n%2]
			one := coordinator(t, store, definition)
			all := handlers{}
			all.add(one.Types(), one.Handle)
			for command, reply := range answers {
				all.add([]string{command}, answering(t, store, reply))
			}
			all.add([]string{"hotel.book"}, answering(t, store, "hotel.booked")) // in time or not
			for eventType, list := range all {
				if rand.IntN(2) == 0 {
					all[eventType] = append(list, list...)
				}
			}
			background(t, one.Run)
			background(t, func(ctx context.Context) error { return all.follow(ctx, store, 8) })
			c = one
		}
		for n := range instances {
			e := happened(t, "trip.wanted", fmt.Sprint(n), nil)
			_, err := stores[0].Append(t.Context(), eventstore.StreamWrite{Stream: "wanted", Events: []event.Event{e}})
			require.NoError(t, err)
		}
		for n := range instances {
			id := fmt.Sprint(n)
			eventually(t, func() bool { s := statusOf(t, c, id); return s == saga.Completed || s == saga.Compensated }, "the end of "+id)
			sound(t, stores[0], c, id, definition)
		}
	})
}

// answering answers commands, with an event of its own for each time that it gets one.
func answering(tb testing.TB, store *eventstore.Store, reply string) func(context.Context, *worker.Delivery) error {
	tb.Helper()
	return func(ctx context.Context, d *worker.Delivery) error {
		e, err := event.Caused(d.Event, reply, "test", nil)
		if err != nil {
			return err
		}
		_, err = store.Append(ctx, eventstore.StreamWrite{Stream: "answers", Events: []event.Event{e}})
		return err
	}
}
