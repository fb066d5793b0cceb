package postgres_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/postgrestest"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox/postgres"
)

func heldEvent(id, parent string) worker.Held {
	return worker.Held{
		Queue: "q", Source: "s", ID: id, Parent: parent,
		Until: time.Now().Add(time.Hour).Truncate(time.Millisecond), Message: []byte("m " + id),
	}
}

// gates are two stores on one database, and the test's.
type gates struct {
	t             *testing.T
	first, second worker.GateStore
}

func openGates(t *testing.T) gates {
	t.Helper()
	url := postgrestest.URL(t)
	return gates{t, open(t, postgres.Config{URL: url}), open(t, postgres.Config{URL: url})}
}

func (g gates) hold(h worker.Held, group string) bool {
	g.t.Helper()
	ok, err := g.first.Hold(g.t.Context(), group, h)
	require.NoError(g.t, err)
	return ok
}

func (g gates) mark(group, id string) []worker.Held {
	g.t.Helper()
	ready, err := g.second.Mark(g.t.Context(), group, id)
	require.NoError(g.t, err)
	return ready
}

func (g gates) claim(now time.Time, lease time.Duration) []worker.Held {
	g.t.Helper()
	due, err := g.second.Claim(g.t.Context(), "g", now, lease)
	require.NoError(g.t, err)
	return due
}

func (g gates) forget(held ...worker.Held) {
	g.t.Helper()
	require.NoError(g.t, g.first.Forget(g.t.Context(), "g", held))
}

func (g gates) holding() int {
	g.t.Helper()
	n, err := g.first.Holding(g.t.Context(), "g")
	require.NoError(g.t, err)
	return n
}

// What one store holds the other one gives.
func TestGate(t *testing.T) {
	t.Parallel()
	g := openGates(t)
	assert.True(t, g.first.Durable())
	late := time.Now().Add(2 * time.Hour)
	a, b := heldEvent("a", "p"), heldEvent("b", "other")
	require.True(t, g.hold(a, "g"))
	require.True(t, g.hold(a, "g"), "a duplicate waits as well")
	require.True(t, g.hold(b, "g"))
	require.Equal(t, 2, g.holding(), "and is held once")
	elsewhere := a
	elsewhere.Queue = "q2"
	require.True(t, g.hold(elsewhere, "g"))
	require.Equal(t, 3, g.holding(), "its copy in another queue is another event")
	require.Empty(t, g.claim(time.Now(), worker.GateLease))
	require.Empty(t, g.mark("another group", "p"))

	ready := g.mark("g", "p")
	require.Len(t, ready, 2)
	require.True(t, a.Until.Equal(ready[0].Until))
	require.NotZero(t, ready[0].Claim)
	want := a
	want.Ready, want.Until, want.Claim = true, ready[0].Until, ready[0].Claim
	require.Equal(t, want, ready[0])
	require.Equal(t, "q2", ready[1].Queue)
	require.Empty(t, g.mark("g", "p"), "they have been given to somebody")
	require.False(t, g.hold(heldEvent("c", "p"), "g"), "its parent has been handled")
	require.True(t, g.hold(heldEvent("c", "p"), "third group"))

	again := g.claim(late, 0)
	require.Len(t, again, 3, "what was given and not forgotten is given again, after its lease")
	g.forget(ready...)
	require.Equal(t, 3, g.holding(), "somebody else has them now")
	for _, h := range again {
		require.Equal(t, h.ID == "a", h.Ready)
		if h.Ready {
			g.forget(h)
		}
	}
	require.Equal(t, 1, g.holding())
	due := g.claim(late, 0)
	require.Len(t, due, 1)
	require.Equal(t, "b", due[0].ID)
	require.Empty(t, g.claim(late, worker.GateLease), "it has been given to somebody")
	require.True(t, g.hold(b, "g"))
	g.forget(due...)
	require.Equal(t, 1, g.holding(), "it was held again meanwhile")
	ready = g.mark("g", "other")
	require.Len(t, ready, 1)
	g.forget(ready...)
	g.forget()
	require.Zero(t, g.holding())
}

// What was given to a process that died is given again, before its time has come, where its parent was handled.
func TestGateGivesWhatWasLeftBehind(t *testing.T) {
	t.Parallel()
	g := openGates(t)
	require.True(t, g.hold(heldEvent("a", "p"), "g"))
	require.Len(t, g.mark("g", "p"), 1)
	again := g.claim(time.Now(), 0)
	require.Len(t, again, 1)
	require.True(t, again[0].Ready)
	require.Empty(t, g.claim(time.Now(), worker.GateLease))
}

// What waits for one parent is given in the order in which it came, and a thousand at a time.
func TestGateKeepsOrder(t *testing.T) {
	t.Parallel()
	g := openGates(t)
	var want, got []string
	for n := range 30 {
		want = append(want, fmt.Sprint(n))
		require.True(t, g.hold(heldEvent(fmt.Sprint(n), "p"), "g"))
	}
	for _, h := range g.mark("g", "p") {
		got = append(got, h.ID)
	}
	require.Equal(t, want, got)
}

// However a child and its parent meet: the child is not held, or given to whoever handles the parent.
func TestGateLeavesNoChildBehind(t *testing.T) {
	t.Parallel()
	g := openGates(t)
	const events = 300
	var mu sync.Mutex
	let := map[string]int{}
	var errs []error
	for n := range events {
		id := fmt.Sprint(n)
		var both sync.WaitGroup
		both.Go(func() {
			held, err := g.first.Hold(t.Context(), "g", heldEvent(id, "parent of "+id))
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
			if !held {
				let[id]++
			}
		})
		both.Go(func() {
			ready, err := g.second.Mark(t.Context(), "g", "parent of "+id)
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
			for _, h := range ready {
				let[h.ID]++
			}
		})
		both.Wait()
	}
	require.NoError(t, errors.Join(errs...))
	for n := range events {
		assert.Equal(t, 1, let[fmt.Sprint(n)], "event %d", n)
	}
}

// Nothing is given to two at a time.
func TestGateGivesEachOnce(t *testing.T) {
	t.Parallel()
	g := openGates(t)
	for n := range 200 {
		require.True(t, g.hold(heldEvent(fmt.Sprint(n), "p"), "g"))
	}
	var mu sync.Mutex
	given := map[string]int{}
	var errs []error
	note := func(held []worker.Held, err error) {
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, err)
		for _, h := range held {
			given[h.ID]++
		}
	}
	var group sync.WaitGroup
	late := time.Now().Add(2 * time.Hour)
	for _, store := range []worker.GateStore{g.first, g.second, g.first, g.second} {
		group.Go(func() { note(store.Claim(t.Context(), "g", late, worker.GateLease)) })
		group.Go(func() { note(store.Mark(t.Context(), "g", "p")) })
	}
	group.Wait()
	require.NoError(t, errors.Join(errs...))
	assert.Len(t, given, 200)
	for id, n := range given {
		assert.Equal(t, 1, n, "event %s", id)
	}
}
