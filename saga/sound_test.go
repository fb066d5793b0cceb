package saga_test

import (
	"slices"

	"github.com/stretchr/testify/assert"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/saga"
)

// course is what the stream of an instance tells.
type course struct {
	times map[string]int // how often each thing is there
	done  []string       // steps, in their order
	owed  []string       // steps that have to be taken back if the instance does not complete, in their order
	undo  []string       // steps that were taken back, in their order
}

func courseOf(tb tester, store *eventstore.Store, stream string) *course {
	tb.Helper()
	c := &course{times: map[string]int{}, owed: []string{}, undo: []string{}}
	for _, r := range read(tb, store, eventstore.Query{Stream: stream}) {
		if !slices.Contains([]string{saga.TypeStepStarted, saga.TypeStepDone, saga.TypeStepFailed, saga.TypeUndoStarted, saga.TypeStepUndone}, r.Type) {
			c.times[r.Type]++ // a command, or the beginning or the end
			continue
		}
		p := dataOf[saga.Progress](tb, r.Event)
		c.times[r.Type+" "+p.Step]++
		switch r.Type {
		case saga.TypeStepStarted:
			if p.Compensable {
				c.owed = append(c.owed, p.Step)
			}
		case saga.TypeStepDone:
			c.done = append(c.done, p.Step)
		case saga.TypeStepFailed:
			if !p.Unknown { // it has not been taken
				c.owed = slices.DeleteFunc(c.owed, func(s string) bool { return s == p.Step })
			}
		case saga.TypeUndoStarted:
			c.undo = append(c.undo, p.Step)
		}
	}
	return c
}

// sound fails the test unless an instance has ended, has done everything once, and has taken back what it had to, last first.
func sound(tb tester, store *eventstore.Store, c *saga.Coordinator, id string, definition saga.Definition) {
	tb.Helper()
	got := courseOf(tb, store, c.Stream(id))
	for what, n := range got.times {
		assert.Equal(tb, 1, n, "%s of %s", what, id)
	}
	switch status := statusOf(tb, c, id); status {
	case saga.Completed:
		names := make([]string, 0, len(definition.Steps))
		for _, s := range definition.Steps {
			names = append(names, s.Name)
		}
		assert.Equal(tb, names, got.done, "of %s", id)
		assert.Empty(tb, got.undo, "of %s", id)
		assert.Equal(tb, 1, got.times[saga.TypeCompleted])
	case saga.Compensated:
		slices.Reverse(got.owed)
		assert.Equal(tb, got.owed, got.undo, "of %s", id)
		assert.Equal(tb, 1, got.times[saga.TypeCompensated])
		for _, s := range got.undo {
			assert.Equal(tb, 1, got.times[saga.TypeStepUndone+" "+s], "%s of %s", s, id)
		}
	case saga.Running, saga.Compensating:
		assert.Fail(tb, "it has not ended", "%s is %s", id, status)
	}
}
