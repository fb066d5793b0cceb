package saga_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/saga"
	"github.com/evdemo/evdemo/worker"
)

// command makes a command that bears what the instance has come to.
func command(eventType string) func(*saga.Instance) (saga.Command, error) {
	return func(i *saga.Instance) (saga.Command, error) {
		return saga.Command{Type: eventType, Data: map[string]string{"trip": i.ID, "step": i.Step, "reason": i.Reason}}, nil
	}
}

// step is one with an answer of each kind.
func step(name string, timeout time.Duration) saga.Step {
	return saga.Step{
		Name: name, Do: command(name + ".book"), Done: []string{name + ".booked"}, Failed: []string{name + ".full"}, Timeout: timeout,
		Undo: command(name + ".cancel"), Undone: []string{name + ".cancelled"},
	}
}

// trip is a process of three steps, the last of which cannot be undone.
func trip(timeout time.Duration) saga.Definition {
	pay := step("pay", 0)
	pay.Undo, pay.Undone = nil, nil
	commands := func(eventType string) func(*saga.Instance) ([]saga.Command, error) {
		return func(i *saga.Instance) ([]saga.Command, error) {
			one, err := command(eventType)(i)
			return []saga.Command{one}, err
		}
	}
	return saga.Definition{
		Name: "trip", Starts: []string{"trip.wanted"}, Steps: []saga.Step{step("flight", timeout), step("hotel", timeout), pay},
		Completed: commands("trip.ready"), Compensated: commands("trip.off"),
	}
}

func coordinator(tb testing.TB, store *eventstore.Store, definition saga.Definition) *saga.Coordinator {
	tb.Helper()
	c, err := saga.NewCoordinator(saga.CoordinatorConfig{Store: store, Definition: definition, Poll: 20 * time.Millisecond, Lease: 500 * time.Millisecond})
	require.NoError(tb, err)
	return c
}

// answer answers the last command of a type to an instance.
func answer(tb testing.TB, store *eventstore.Store, c *saga.Coordinator, id, command, reply string) event.Event {
	tb.Helper()
	e := caused(tb, last(tb, store, c.Stream(id), command), reply, map[string]string{"reason": "none left"})
	mustDeliver(tb, c.Handle, e)
	return e
}

// What a stream has after each step of a trip. A step is noted down as one to be taken back before its command is there.
func booked(steps ...string) (all []string) {
	all = append(all, saga.TypeStarted)
	for n, s := range steps {
		all = append(all, saga.TypeStepStarted, s+".book")
		if n < len(steps)-1 {
			all = append(all, saga.TypeStepDone)
		}
	}
	return all
}

func TestAllStepsAreDone(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db string) {
		t.Helper()
		store := open(t, eventstore.Config{DB: db})
		c := coordinator(t, store, trip(time.Hour))
		require.Equal(t, []string{
			"flight.booked", "flight.cancelled", "flight.full", "hotel.booked", "hotel.cancelled", "hotel.full", "pay.booked", "pay.full", "trip.wanted",
		}, c.Types())
		wanted := happened(t, "trip.wanted", "7", map[string]string{"to": "<Rome> & back"})
		before, err := c.Load(t.Context(), "7")
		require.NoError(t, err)
		require.Empty(t, before.Status)
		mustDeliver(t, c.Handle, wanted)
		for _, s := range []string{"flight", "hotel"} {
			answer(t, store, c, "7", s+".book", s+".booked")
		}
		now, err := c.Load(t.Context(), "7")
		require.NoError(t, err)
		require.Equal(t, saga.Running, now.Status)
		require.Equal(t, "pay", now.Step)
		paid := answer(t, store, c, "7", "pay.book", "pay.booked")

		require.Equal(t, append(booked("flight", "hotel", "pay"), saga.TypeStepDone, saga.TypeCompleted, "trip.ready"), types(t, store, c.Stream("7")))
		now, err = c.Load(t.Context(), "7")
		require.NoError(t, err)
		require.Equal(t, saga.Completed, now.Status)
		require.Equal(t, "7", now.ID)
		require.Empty(t, now.Step)
		require.Equal(t, wanted.ID, now.Trigger.ID)
		var data struct{ To string }
		require.NoError(t, now.Read(&data))
		require.Equal(t, "<Rome> & back", data.To)
		reply, ok := now.Reply("pay")
		require.True(t, ok)
		require.Equal(t, paid.ID, reply.ID)
		_, ok = now.Reply("train")
		require.False(t, ok)
		for _, r := range read(t, store, eventstore.Query{Stream: c.Stream("7")}) {
			require.Equal(t, "saga/trip", r.Source)
			require.Equal(t, "7", r.Subject)
			require.Equal(t, wanted.ID, r.CorrelationID())
			if r.Type == saga.TypeStepStarted {
				noted := dataOf[saga.Progress](t, r.Event)
				sent := read(t, store, eventstore.Query{Stream: r.Stream, FromVersion: r.Version + 1, ToVersion: r.Version + 1})[0]
				require.Equal(t, sent.ID, noted.Command, "the command follows at once")
				require.Equal(t, noted.Step != "pay", noted.Compensable)
				require.Equal(t, noted.Step != "pay", noted.Deadline != nil)
			}
		}
	})
}

// Where a step fails, those before it are taken back, last first, and the failed one is not.
func TestStepFails(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	c := coordinator(t, store, trip(time.Hour))
	steps := []string{"flight", "hotel", "pay"}
	for failing, s := range steps {
		id := s
		mustDeliver(t, c.Handle, happened(t, "trip.wanted", id, nil))
		for _, done := range steps[:failing] {
			answer(t, store, c, id, done+".book", done+".booked")
		}
		answer(t, store, c, id, s+".book", s+".full")
		want := append(booked(steps[:failing+1]...), saga.TypeStepFailed)
		for n := failing - 1; n >= 0; n-- {
			now, err := c.Load(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, saga.Compensating, now.Status)
			require.Equal(t, steps[n], now.Step)
			answer(t, store, c, id, steps[n]+".cancel", steps[n]+".cancelled")
			want = append(want, saga.TypeUndoStarted, steps[n]+".cancel", saga.TypeStepUndone)
		}
		require.Equal(t, append(want, saga.TypeCompensated, "trip.off"), types(t, store, c.Stream(id)))
		now, err := c.Load(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, saga.Compensated, now.Status)
		require.Equal(t, s+".full: none left", now.Reason)
		require.Equal(t, now.Reason, dataOf[saga.Ending](t, last(t, store, c.Stream(id), saga.TypeCompensated)).Reason)
	}
}

// Answers that nobody waits for change nothing: twice, under the same id or another, too early, too late, and to others.
func TestAnswersThatNobodyWaitsFor(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	c := coordinator(t, store, trip(time.Hour))
	wanted := happened(t, "trip.wanted", "7", nil)
	all := []string{"flight.booked", "flight.full", "flight.cancelled", "hotel.booked", "hotel.full", "hotel.cancelled", "pay.booked", "pay.full"}
	noise := func(wait ...string) {
		t.Helper()
		before := types(t, store, c.Stream("7"))
		for _, reply := range all {
			mustDeliver(t, c.Handle, happened(t, reply, "8", nil))
			waits := false
			for _, w := range wait {
				waits = waits || w == reply
			}
			if !waits {
				mustDeliver(t, c.Handle, happened(t, reply, "7", nil))
			}
		}
		require.Equal(t, before, types(t, store, c.Stream("7")))
	}
	noise()
	mustDeliver(t, c.Handle, wanted, wanted)
	noise("flight.booked", "flight.full")
	flown := answer(t, store, c, "7", "flight.book", "flight.booked")
	noise("hotel.booked", "hotel.full")
	full := answer(t, store, c, "7", "hotel.book", "hotel.full")
	mustDeliver(t, c.Handle, flown, full, wanted)
	noise("flight.cancelled")
	gone := answer(t, store, c, "7", "flight.cancel", "flight.cancelled")
	mustDeliver(t, c.Handle, gone, full, flown, wanted)
	noise()
	require.Empty(t, types(t, store, c.Stream("8")))
	mustDeliver(t, coordinator(t, store, trip(time.Hour)).Handle, gone, full, flown, wanted) // in another process
	require.Equal(t, append(booked("flight", "hotel"), saga.TypeStepFailed, saga.TypeUndoStarted, "flight.cancel",
		saga.TypeStepUndone, saga.TypeCompensated, "trip.off"), types(t, store, c.Stream("7")))
	require.ErrorIs(t, deliver(t.Context(), c.Handle, happened(t, "other", "7", nil)), worker.ErrSkip)
}

// An instance is begun once, by the event that comes first; another that has its id changes nothing, at whatever time.
func TestBegunTwice(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	definition := trip(time.Hour)
	definition.Starts = append(definition.Starts, "trip.wished")
	c := coordinator(t, store, definition)
	first := happened(t, "trip.wanted", "7", nil)
	mustDeliver(t, c.Handle, first, happened(t, "trip.wanted", "7", nil), happened(t, "trip.wished", "7", nil))
	require.Equal(t, booked("flight"), types(t, store, c.Stream("7")))
	answer(t, store, c, "7", "flight.book", "flight.full")
	mustDeliver(t, c.Handle, happened(t, "trip.wanted", "7", nil), happened(t, "trip.wished", "7", nil))
	now, err := c.Load(t.Context(), "7")
	require.NoError(t, err)
	require.Equal(t, saga.Compensated, now.Status)
	require.Equal(t, first.ID, now.Trigger.ID)
}

// One event begins an instance of each of two processes, even if their events have the same source.
func TestOneEventBeginsTwoProcesses(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	wanted := happened(t, "trip.wanted", "7", nil)
	for _, name := range []string{"trip", "journey"} {
		definition := trip(time.Hour)
		definition.Name = name
		c, err := saga.NewCoordinator(saga.CoordinatorConfig{Store: store, Definition: definition, Source: "travel"})
		require.NoError(t, err)
		mustDeliver(t, c.Handle, wanted, wanted)
		require.Equal(t, booked("flight"), types(t, store, c.Stream("7")))
	}
}

// What cannot be made fails the step; the trigger's data may be damaged, and is kept as it is.
func TestDoFails(t *testing.T) {
	t.Parallel()
	for _, failing := range []int{0, 1, 2} {
		t.Run(fmt.Sprint(failing), func(t *testing.T) {
			t.Parallel()
			store := openFile(t)
			definition := trip(time.Hour)
			definition.Steps[failing].Do = func(i *saga.Instance) (saga.Command, error) {
				var data map[string]string
				return saga.Command{Type: "never"}, i.Read(&data)
			}
			c := coordinator(t, store, definition)
			wanted := happened(t, "trip.wanted", "7", nil)
			wanted.DataContentType, wanted.Data = event.ContentTypeJSON, []byte("{\"to\": \x00 Ro")
			mustDeliver(t, c.Handle, wanted, wanted)
			steps := []string{"flight", "hotel", "pay"}[:failing]
			want := booked(steps...)
			for _, s := range steps {
				answer(t, store, c, "7", s+".book", s+".booked")
			}
			if failing > 0 {
				want = append(want, saga.TypeStepDone)
			}
			want = append(want, saga.TypeStepFailed)
			for n := failing - 1; n >= 0; n-- {
				answer(t, store, c, "7", steps[n]+".cancel", steps[n]+".cancelled")
				want = append(want, saga.TypeUndoStarted, steps[n]+".cancel", saga.TypeStepUndone)
			}
			require.Equal(t, append(want, saga.TypeCompensated, "trip.off"), types(t, store, c.Stream("7")))
			now, err := c.Load(t.Context(), "7")
			require.NoError(t, err)
			require.Contains(t, now.Reason, "the data of trip.wanted")
			require.Equal(t, wanted.Data, now.Trigger.Data)
		})
	}
}

// What cannot be taken back is not passed over: nothing is decided until it can.
func TestUndoFails(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	var errUndo error
	definition := trip(time.Hour)
	definition.Steps[0].Undo = func(*saga.Instance) (saga.Command, error) { return saga.Command{Type: "flight.cancel"}, errUndo }
	c := coordinator(t, store, definition)
	mustDeliver(t, c.Handle, happened(t, "trip.wanted", "7", nil))
	answer(t, store, c, "7", "flight.book", "flight.booked")
	full := caused(t, last(t, store, c.Stream("7"), "hotel.book"), "hotel.full", nil)
	errUndo = errors.New("no number")
	for range 2 {
		require.ErrorIs(t, deliver(t.Context(), c.Handle, full), errUndo)
		require.Equal(t, booked("flight", "hotel"), types(t, store, c.Stream("7")))
	}
	errUndo = nil
	mustDeliver(t, c.Handle, full)
	require.Equal(t, append(booked("flight", "hotel"), saga.TypeStepFailed, saga.TypeUndoStarted, "flight.cancel"), types(t, store, c.Stream("7")))
}

func TestEventsOfNoInstance(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	c := coordinator(t, store, trip(time.Hour))
	for _, subject := range []string{"", strings.Repeat("long", 300)} {
		isPermanent(t, c.Handle, event.Event{ID: "1", Source: "test", Type: "trip.wanted", Subject: subject})
	}
	require.Empty(t, read(t, store, eventstore.Query{}))
}

// A command that the coordinator would take for a note of its own is refused, and so is one that is no event.
func TestCommandsThatAreNone(t *testing.T) {
	t.Parallel()
	for want, bad := range map[string]saga.Command{
		"the coordinator's own": {Type: saga.TypeStepDone}, "type": {}, "unsupported type": {Type: "x", Data: func() {}},
	} {
		store := openFile(t)
		definition := trip(time.Hour)
		definition.Steps[0].Do = func(*saga.Instance) (saga.Command, error) { return bad, nil }
		c := coordinator(t, store, definition)
		require.ErrorContains(t, deliver(t.Context(), c.Handle, happened(t, "trip.wanted", "7", nil)), want)
		require.Empty(t, read(t, store, eventstore.Query{}))
	}
}

// A process keeps the states of so many instances, and reads the others again.
func TestInstancesAreForgotten(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	c := coordinator(t, store, trip(time.Hour))
	c.KnowOnly(2)
	ids := []string{"a", "b", "c", "d", "e"}
	for _, id := range ids {
		mustDeliver(t, c.Handle, happened(t, "trip.wanted", id, nil))
	}
	for _, s := range []string{"flight", "hotel", "pay"} {
		for _, id := range ids {
			answer(t, store, c, id, s+".book", s+".booked")
			mustDeliver(t, c.Handle, happened(t, "flight.booked", "nobody-"+id, nil))
		}
	}
	for _, id := range ids {
		require.Equal(t, append(booked("flight", "hotel", "pay"), saga.TypeStepDone, saga.TypeCompleted, "trip.ready"), types(t, store, c.Stream(id)))
	}
}
