package ledger_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/evdemo/evdemo/internal/ledger"
)

// entry is one thing that happened. What the ledger makes of many is worked out here once more, by
// looking through all of them for each figure.
type entry struct {
	what               string // attempt, outcome or effect
	id, outcome        string
	consumer, consumed string // the consumer and its member
}

func members() map[string][]string {
	return map[string][]string{"listener": {"listener"}, "queue": {"worker-1", "worker-2", "worker-3"}}
}

func drawEntries(t *rapid.T) []entry {
	ids := rapid.Custom(func(t *rapid.T) string { return fmt.Sprintf("id-%02d", rapid.IntRange(0, 30).Draw(t, "id")) })
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) entry {
		e := entry{what: rapid.SampledFrom([]string{"attempt", "outcome", "effect", "effect"}).Draw(t, "what"), id: ids.Draw(t, "id")}
		switch e.what {
		case "outcome":
			e.outcome = rapid.SampledFrom([]string{"confirmed", "returned", "nacked", "unknown"}).Draw(t, "outcome")
		case "effect":
			e.consumer = rapid.SampledFrom([]string{"listener", "queue"}).Draw(t, "consumer")
			e.consumed = rapid.SampledFrom(members()[e.consumer]).Draw(t, "member")
		}
		return e
	}), 0, 200).Draw(t, "entries")
}

func enter(entries []entry) *ledger.Ledger {
	l := ledger.New()
	l.Expect("listener", members()["listener"]...)
	l.Expect("queue", members()["queue"]...)
	for _, e := range entries {
		switch e.what {
		case "attempt":
			l.Attempt(e.id)
		case "outcome":
			l.Outcome(e.id, e.outcome)
		case "effect":
			l.Effect(e.consumer, e.consumed, e.id)
		}
	}
	return l
}

func count(entries []entry, matches func(entry) bool) int {
	n := 0
	for _, e := range entries {
		if matches(e) {
			n++
		}
	}
	return n
}

// naive works the account out from the entries.
func naive(entries []entry) ledger.Account {
	var ids, attempted []string
	for _, e := range entries {
		ids = append(ids, e.id)
		if e.what == "attempt" {
			attempted = append(attempted, e.id)
		}
	}
	slices.Sort(ids)
	slices.Sort(attempted)
	ids, attempted = slices.Compact(ids), slices.Compact(attempted)
	a := ledger.Account{Attempted: len(attempted), Outcomes: map[string]int{}}
	for _, id := range ids {
		outcomes := count(entries, func(e entry) bool { return e.what == "outcome" && e.id == id })
		switch {
		case outcomes > 1:
			a.Unaccounted += outcomes - 1
		case outcomes == 0 && slices.Contains(attempted, id):
			a.Unaccounted++
		}
	}
	for _, e := range entries {
		if e.what == "outcome" {
			a.Outcomes[e.outcome]++
		}
	}
	for _, name := range []string{"listener", "queue"} {
		a.Consumers = append(a.Consumers, naiveConsumer(name, entries, ids, attempted))
	}
	return a
}

func naiveConsumer(name string, entries []entry, ids, attempted []string) ledger.Consumer {
	c := ledger.Consumer{Name: name}
	for _, member := range members()[name] {
		c.Members = append(c.Members, ledger.Member{
			Name:    member,
			Effects: count(entries, func(e entry) bool { return e.what == "effect" && e.consumer == name && e.consumed == member }),
		})
	}
	for _, id := range ids {
		effects := count(entries, func(e entry) bool { return e.what == "effect" && e.consumer == name && e.id == id })
		switch wanted := slices.Contains(attempted, id); {
		case !wanted:
			c.Extra += effects
		case effects == 0:
			c.Missing++
			if len(c.MissingIDs) < 10 {
				c.MissingIDs = append(c.MissingIDs, id)
			}
		default:
			c.Effects++
			c.Extra += effects - 1
		}
	}
	return c
}

func TestAccountIsWhatHappened(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		entries := drawEntries(t)
		got, want := enter(entries).Account(), naive(entries)
		for i := range got.Consumers { // nil or empty is the same list
			got.Consumers[i].MissingIDs = append([]string{}, got.Consumers[i].MissingIDs...)
			want.Consumers[i].MissingIDs = append([]string{}, want.Consumers[i].MissingIDs...)
		}
		require.Equal(t, want, got)
	})
}

// The order in which things are noted does not matter: effects come before outcomes, and attempts
// may be noted last of all.
func TestAccountDoesNotDependOnTheOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		entries := drawEntries(t)
		shuffled := rapid.Permutation(entries).Draw(t, "shuffled")
		require.Equal(t, enter(entries).Account(), enter(shuffled).Account())
	})
}

// However many are lost and however many come twice, each is counted for itself.
func TestALossAndADuplicateNeverCancel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.IntRange(1, 100).Draw(t, "events")
		lost := rapid.IntRange(0, events).Draw(t, "lost")
		twice := rapid.IntRange(0, events-lost).Draw(t, "twice")
		strange := rapid.IntRange(0, 5).Draw(t, "strange")
		l := ledger.New()
		l.Expect("c", "m")
		for i := range events {
			id := fmt.Sprint(i)
			l.Attempt(id)
			l.Outcome(id, "confirmed")
			if i >= lost {
				l.Effect("c", "m", id)
			}
			if i >= events-twice {
				l.Effect("c", "m", id)
			}
		}
		for i := range strange {
			l.Effect("c", "m", fmt.Sprint("strange-", i))
		}
		c := l.Account().Consumers[0]
		require.Equal(t, lost, c.Missing)
		require.Equal(t, events-lost, c.Effects)
		require.Equal(t, twice+strange, c.Extra)
		require.Len(t, c.MissingIDs, min(lost, 10))
		distinct, members := l.Done("c")
		require.Equal(t, events-lost+strange, distinct)
		require.Equal(t, []ledger.Member{{Name: "m", Effects: events - lost + twice + strange}}, members)
	})
}

func TestUnaccounted(t *testing.T) {
	t.Parallel()
	l := ledger.New()
	l.Attempt("silent")
	l.Attempt("fine")
	l.Outcome("fine", "confirmed")
	l.Attempt("two")
	l.Outcome("two", "confirmed")
	l.Outcome("two", "returned")
	a := l.Account()
	assert.Equal(t, 3, a.Attempted)
	assert.Equal(t, map[string]int{"confirmed": 2, "returned": 1}, a.Outcomes)
	assert.Equal(t, 2, a.Unaccounted, "one without an outcome, one with two")
}

func TestMembersAreListedAlsoWithoutEffects(t *testing.T) {
	t.Parallel()
	l := ledger.New()
	l.Expect("b", "2", "1")
	l.Expect("a")
	l.Attempt("x")
	l.Effect("b", "1", "x")
	consumers := l.Account().Consumers
	require.Len(t, consumers, 2)
	assert.Equal(t, "b", consumers[0].Name, "in the order in which they were announced")
	assert.Equal(t, []ledger.Member{{Name: "2"}, {Name: "1", Effects: 1}}, consumers[0].Members)
	assert.Equal(t, []string{"x"}, consumers[1].MissingIDs)
}

func TestConcurrentEntries(t *testing.T) {
	t.Parallel()
	l := ledger.New()
	l.Expect("c", "m")
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := range 500 {
				id := fmt.Sprint(worker, "-", i)
				l.Attempt(id)
				l.Effect("c", "m", id)
				l.Outcome(id, "confirmed")
				if i%100 == 0 {
					l.Account()
					l.Done("c")
				}
			}
		})
	}
	all.Wait()
	a := l.Account()
	assert.Equal(t, 4000, a.Attempted)
	assert.Equal(t, map[string]int{"confirmed": 4000}, a.Outcomes)
	assert.Zero(t, a.Unaccounted)
	assert.Equal(t, 4000, a.Consumers[0].Effects)
	assert.Zero(t, a.Consumers[0].Missing+a.Consumers[0].Extra)
}

func TestClaimf(t *testing.T) {
	t.Parallel()
	want := ledger.Claim{Text: "all came", Holds: true, Figures: "3 of 3"}
	assert.Equal(t, want, ledger.Claimf(true, "all came", "%d of %d", 3, 3))
}
