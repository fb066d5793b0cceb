package saga_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/saga"
)

// What becomes of a command to take a step.
const (
	isDone    = "done"
	isFailed  = "failed"
	isLost    = "lost"         // it is not taken, and nobody hears of that
	isUnheard = "not heard of" // it is taken, and nobody hears of that
)

// world is an instance under way: a bus that has it all in any order and some of it twice, services that answer, and two
// coordinators, each of which knows what it did itself.
type world struct {
	*rapid.T

	store        *eventstore.Store
	definition   saga.Definition
	fates        map[string]string
	coordinators [2]*saga.Coordinator
	id           string

	pending      []event.Event
	passed       int64           // the version up to which the stream's commands are pending, or have been
	taken, undid map[string]bool // by the services
}

func newWorld(t *rapid.T, store *eventstore.Store, number int64) *world {
	w := &world{
		T: t, store: store, id: fmt.Sprint(number), fates: map[string]string{}, taken: map[string]bool{}, undid: map[string]bool{},
		definition: saga.Definition{Name: "random", Starts: []string{"begin"}},
	}
	for n := range rapid.IntRange(1, 6).Draw(t, "steps") {
		s := step(fmt.Sprintf("s%d", n), rapid.SampledFrom([]time.Duration{0, atOnce, time.Hour}).Draw(t, "timeout"))
		if rapid.Bool().Draw(t, "irrevocable") {
			s.Undo, s.Undone = nil, nil
		}
		fates := []string{isDone, isDone, isDone, isFailed}
		if s.Timeout == atOnce { // or it would be waited for, and rightly
			fates = append(fates, isLost, isUnheard)
		}
		w.fates[s.Name] = rapid.SampledFrom(fates).Draw(t, "fate")
		w.definition.Steps = append(w.definition.Steps, s)
	}
	for n := range w.coordinators {
		c, err := saga.NewCoordinator(saga.CoordinatorConfig{Store: store, Definition: w.definition})
		require.NoError(t, err)
		w.coordinators[n] = c
	}
	return w
}

// run has everything happen that can.
func (w *world) run() {
	w.pending = append(w.pending, happened(w, "begin", w.id, nil), happened(w, "s0.booked", "other", nil))
	twice := 30
	for len(w.pending) > 0 || w.wait() {
		c := w.coordinators[rapid.IntRange(0, 1).Draw(w.T, "coordinator")]
		if rapid.IntRange(0, 9).Draw(w.T, "look at the deadline") == 0 {
			require.NoError(w, c.Expire(w.Context(), w.id))
		} else if len(w.pending) > 0 {
			n := rapid.IntRange(0, len(w.pending)-1).Draw(w.T, "event")
			e := w.pending[n]
			if again := twice > 0 && rapid.IntRange(0, 2).Draw(w.T, "again") == 0; again {
				twice--
			} else {
				w.pending = slices.Delete(w.pending, n, n+1)
			}
			w.give(c, e)
		}
		w.look()
	}
}

// wait tells whether something is yet to happen when everything has been delivered: a deadline, which passes here.
func (w *world) wait() bool {
	before := w.passed
	require.NoError(w, w.coordinators[0].Expire(w.Context(), w.id))
	w.look()
	return w.passed > before
}

// give hands an event to who is to have it.
func (w *world) give(c *saga.Coordinator, e event.Event) {
	name, what, _ := strings.Cut(e.Type, ".")
	switch what {
	case "book":
		if fate := w.fates[name]; !w.undid[name] { // what was taken back is not taken any more
			w.taken[name] = fate == isDone || fate == isUnheard
			switch fate {
			case isDone:
				w.reply(e, name+".booked")
			case isFailed:
				w.reply(e, name+".full")
			}
		}
	case "cancel":
		w.taken[name], w.undid[name] = false, true
		w.reply(e, name+".cancelled")
	default:
		require.NoError(w, deliver(w.Context(), c.Handle, e))
	}
}

// reply answers; a service that does so anew each time that it is asked is one that a coordinator has to bear.
func (w *world) reply(to event.Event, eventType string) {
	w.pending = append(w.pending, caused(w, to, eventType, nil))
}

// look takes the commands that have come.
func (w *world) look() {
	for _, r := range read(w, w.store, eventstore.Query{Stream: w.coordinators[0].Stream(w.id), FromVersion: w.passed + 1}) {
		w.passed = r.Version
		if !strings.HasPrefix(r.Type, "saga.") {
			w.pending = append(w.pending, r.Event)
		}
	}
}

// Whatever the process, the answers, and the order in which it all comes: an instance ends, completed or compensated. The
// services have then done all of it, or nothing but what cannot be taken back.
func TestInstancesEnd(t *testing.T) {
	t.Parallel()
	store := open(t, eventstore.Config{DB: file(t), Unsynced: true})
	number, ends := int64(0), map[saga.Status]int{}
	rapid.Check(t, func(rt *rapid.T) {
		number++
		w := newWorld(rt, store, number)
		w.run()
		c := w.coordinators[1]
		sound(w, store, c, w.id, w.definition)
		status := statusOf(w, c, w.id)
		ends[status]++
		course := courseOf(w, store, c.Stream(w.id))
		for _, s := range w.definition.Steps {
			switch {
			case status == saga.Completed:
				assert.True(w, w.taken[s.Name], "%s is taken", s.Name)
			case s.Undo != nil:
				assert.False(w, w.taken[s.Name], "%s is taken back", s.Name)
			}
			if slices.Contains(course.undo, s.Name) && !slices.Contains(course.done, s.Name) {
				assert.Equal(w, atOnce, s.Timeout, "only a step that may have been taken is taken back without an answer")
			}
		}
	})
	t.Log(ends)
	assert.Positive(t, ends[saga.Completed])
	assert.Positive(t, ends[saga.Compensated])
}
