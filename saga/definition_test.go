package saga_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/saga"
)

// An instance goes on with the steps that are added behind its own. What is not there any more is an error that stays.
func TestDefinitionChanges(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	short, long := trip(time.Hour), trip(time.Hour)
	short.Steps = short.Steps[:2]
	c := coordinator(t, store, short)
	mustDeliver(t, c.Handle, happened(t, "trip.wanted", "7", nil), happened(t, "trip.wanted", "8", nil))
	answer(t, store, c, "7", "flight.book", "flight.booked")
	answer(t, store, c, "8", "flight.book", "flight.booked")
	answer(t, store, c, "8", "hotel.book", "hotel.full")
	c = coordinator(t, store, long)
	answer(t, store, c, "7", "hotel.book", "hotel.booked")
	require.Equal(t, booked("flight", "hotel", "pay"), types(t, store, c.Stream("7")))

	without := trip(time.Hour)
	without.Steps = []saga.Step{step("train", 0)}
	without.Steps[0].Done = append(without.Steps[0].Done, "pay.booked", "flight.cancelled")
	c = coordinator(t, store, without)
	for range 2 {
		require.ErrorContains(t, deliver(t.Context(), c.Handle, happened(t, "pay.booked", "7", nil)), `is at step "pay", which it does not have any more`)
		require.ErrorContains(t, deliver(t.Context(), c.Handle, happened(t, "flight.cancelled", "8", nil)), `is at step "flight", which`)
	}
	irrevocable := trip(time.Hour)
	irrevocable.Steps[0].Undo, irrevocable.Steps[0].Undone = nil, nil
	c = coordinator(t, store, irrevocable)
	mustDeliver(t, c.Handle, happened(t, "pay.full", "7", nil))
	require.ErrorContains(t, deliver(t.Context(), c.Handle, happened(t, "hotel.cancelled", "7", nil)), `for which it has no Undo any more`)
}

func TestDefinitionIsChecked(t *testing.T) {
	t.Parallel()
	_, err := saga.NewCoordinator(saga.CoordinatorConfig{})
	for _, want := range []string{"want a Store", "Name without hyphens", "Starts", "want Steps"} {
		require.ErrorContains(t, err, want)
	}
	_, err = saga.NewCoordinator(saga.CoordinatorConfig{Store: openFile(t), Definition: saga.Definition{
		Name: "a-b", Starts: []string{"begin"},
		Steps: []saga.Step{
			{Name: "one", Timeout: -1},
			{Name: "one", Do: command("x"), Done: []string{"begin", "done"}, Undo: command("y")},
			{Name: "two", Do: command("x"), Done: []string{"yes"}, Failed: []string{"done"}, Undo: command("y"), Undone: []string{"yes"}},
		},
	}})
	for _, want := range []string{
		`saga "a-b"`, "Name without hyphens", "step one: want Do", "step one: want the types of events that say that it is done", "a Timeout of 0 or more",
		`step 2: want a Name of its own, not "one"`, "begin is one of Starts", "want both of Undo and Undone", "step two: done is one of step one",
		"step two: yes is one of step two",
	} {
		require.ErrorContains(t, err, want)
	}
}

// The id may be anywhere in an event.
func TestIDOfOnesOwn(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	definition := trip(time.Hour)
	definition.ID = func(e event.Event) string { return e.CorrelationID() + strings.TrimPrefix(e.Subject, "trip ") }
	definition.Steps = definition.Steps[:1]
	definition.Completed = nil
	c := coordinator(t, store, definition)
	mustDeliver(t, c.Handle, happened(t, "trip.wanted", "trip 7", nil), happened(t, "flight.booked", "7", nil))
	now, err := c.Load(context.WithoutCancel(t.Context()), "7")
	require.NoError(t, err)
	require.Equal(t, "7", now.ID)
	require.Equal(t, saga.Completed, now.Status)
}
