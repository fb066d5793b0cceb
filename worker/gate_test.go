package worker_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox"
)

// gateStores are all stores of gates that there are.
func gateStores() map[string]func(t *testing.T) worker.GateStore {
	return map[string]func(t *testing.T) worker.GateStore{
		"memory": func(*testing.T) worker.GateStore { return worker.NewGateMemory(0) },
		"sqlite": func(t *testing.T) worker.GateStore { //nolint:thelper // it is no helper
			store, err := inbox.Open(t.Context(), inbox.Config{Path: filepath.Join(t.TempDir(), "gate.db"), RelaxedSync: true})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, store.Close()) })
			return store
		},
	}
}

func TestGateStores(t *testing.T) {
	t.Parallel()
	for name, open := range gateStores() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, store := t.Context(), open(t)
			held := func(id, parent string) worker.Held {
				return worker.Held{
					Queue: "q", Source: "s", ID: id, Parent: parent,
					Until: time.Now().Add(time.Hour).Truncate(time.Millisecond), Message: []byte("m " + id),
				}
			}
			hold := func(h worker.Held, group string) bool {
				ok, err := store.Hold(ctx, group, h)
				require.NoError(t, err)
				return ok
			}
			holding := func() int {
				n, err := store.Holding(ctx, "g")
				require.NoError(t, err)
				return n
			}
			claim := func(now time.Time, lease time.Duration) []worker.Held {
				due, err := store.Claim(ctx, "g", now, lease)
				require.NoError(t, err)
				return due
			}
			mark := func(group, id string) []worker.Held {
				ready, err := store.Mark(ctx, group, id)
				require.NoError(t, err)
				return ready
			}
			forget := func(held ...worker.Held) { require.NoError(t, store.Forget(ctx, "g", held)) }
			late := time.Now().Add(2 * time.Hour)
			a, b := held("a", "p"), held("b", "other")
			require.True(t, hold(a, "g"))
			require.True(t, hold(a, "g"), "a duplicate waits as well")
			require.True(t, hold(b, "g"))
			require.Equal(t, 2, holding(), "and is held once")
			elsewhere := a
			elsewhere.Queue = "q2"
			require.True(t, hold(elsewhere, "g"))
			require.Equal(t, 3, holding(), "its copy in another queue is another event")
			require.Empty(t, claim(time.Now(), worker.GateLease))

			require.Empty(t, mark("another group", "p"))
			ready := mark("g", "p")
			require.Len(t, ready, 2)
			require.True(t, a.Until.Equal(ready[0].Until))
			require.NotZero(t, ready[0].Claim)
			want := a
			want.Ready, want.Until, want.Claim = true, ready[0].Until, ready[0].Claim
			require.Equal(t, want, ready[0])
			require.Equal(t, "q2", ready[1].Queue)
			require.Empty(t, mark("g", "p"), "they have been given to somebody")
			require.False(t, hold(held("c", "p"), "g"), "its parent has been handled")
			require.True(t, hold(held("c", "p"), "third group"))
			again := claim(late, 0)
			require.Len(t, again, 3, "what was given and not forgotten is given again, after its lease")
			forget(ready...)
			require.Equal(t, 3, holding(), "somebody else has them now")
			for _, h := range again {
				require.Equal(t, h.ID == "a", h.Ready)
				if h.Ready {
					forget(h)
				}
			}
			require.Equal(t, 1, holding())

			due := claim(late, 0)
			require.Len(t, due, 1)
			require.Equal(t, "b", due[0].ID)
			require.Empty(t, claim(late, worker.GateLease), "it has been given to somebody")
			require.True(t, hold(b, "g"))
			forget(due...)
			require.Equal(t, 1, holding(), "it was held again meanwhile")
			ready = mark("g", "other")
			require.Len(t, ready, 1)
			forget(ready...)
			forget()
			require.Zero(t, holding())
		})
	}
}

// What waits for one parent is given in the order in which it came.
func TestGateStoresKeepOrder(t *testing.T) {
	t.Parallel()
	for name, open := range gateStores() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := open(t)
			var want, got []string
			for n := range 30 {
				id := fmt.Sprint(n)
				want = append(want, id)
				_, err := store.Hold(t.Context(), "g", worker.Held{Queue: "q", Source: "s", ID: id, Parent: "p", Until: time.Now().Add(time.Hour), Message: []byte("m")})
				require.NoError(t, err)
			}
			ready, err := store.Mark(t.Context(), "g", "p")
			require.NoError(t, err)
			for _, h := range ready {
				got = append(got, h.ID)
			}
			require.Equal(t, want, got)
		})
	}
}

// chains are flows of three events in three queues: an order, its payment, its shipment.
type chains struct {
	queues []string
	ids    []string
	parent map[string]string
	send   []publisher.Message // shuffled, some of it twice, some of it late
}

func makeChains(t *testing.T, queues []string, n int, random *rand.Rand) *chains {
	t.Helper()
	c := &chains{queues: queues, parent: map[string]string{}}
	var late []publisher.Message
	for range n {
		var before *event.Event
		for i, queue := range queues {
			e, err := event.New(fmt.Sprint("step.", i), "test", nil)
			if before != nil {
				e, err = event.Caused(*before, fmt.Sprint("step.", i), "test", nil)
				c.parent[e.ID] = before.ID
			}
			require.NoError(t, err)
			c.ids = append(c.ids, e.ID)
			m := publisher.Message{Event: e, To: publisher.ToQueue(queue)}
			if random.IntN(10) == 0 {
				late = append(late, m)
			} else {
				c.send = append(c.send, m)
			}
			if random.IntN(10) == 0 {
				c.send = append(c.send, m)
			}
			before = &e
		}
	}
	shuffle := func(messages []publisher.Message) {
		random.Shuffle(len(messages), func(i, j int) { messages[i], messages[j] = messages[j], messages[i] })
	}
	shuffle(c.send)
	shuffle(late)
	c.send = append(c.send, late...)
	return c
}

func (c *chains) publish(t *testing.T, url string) {
	t.Helper()
	p, err := publisher.Open(t.Context(), publisher.Config{URLs: []string{url}})
	require.NoError(t, err)
	for _, m := range c.send {
		require.NoError(t, p.Send(t.Context(), m, nil))
	}
	require.NoError(t, p.Close(t.Context()))
	require.Equal(t, int64(len(c.send)), p.Stats().Confirmed)
}

// causal is the ledger of chains.
type causal struct {
	mu         sync.Mutex
	parent     map[string]string
	effects    map[string]int
	inversions int
}

func (c *causal) effect(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.effects[id]++
	if parent := c.parent[id]; parent != "" && c.effects[parent] == 0 {
		c.inversions++
	}
}

func (c *causal) distinct() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.effects)
}

// Ten thousand events of three queues, shuffled, doubled and late: with the gate no event is handled before
// its parent, and none is missing, whoever is cut off meanwhile. Without it the same events are out of
// order, so the count can fail.
func TestTheGateKeepsCausalOrder(t *testing.T) {
	t.Parallel()
	for name, open := range gateStores() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inversions, stats := runChains(t, open(t), 3334)
			assert.Zero(t, inversions)
			assert.Positive(t, stats.Held)
			assert.Zero(t, stats.Orphaned)
		})
	}
	t.Run("without a gate", func(t *testing.T) {
		t.Parallel()
		inversions, _ := runChains(t, nil, 334)
		assert.Positive(t, inversions)
	})
}

func runChains(t *testing.T, store worker.GateStore, n int) (inversions int, stats worker.Stats) {
	t.Helper()
	url := brokertest.URL(t)
	seed := rand.Uint64()
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var queues []string
	var resources topology.Resources
	for i := range 3 {
		q := brokertest.Name(t, fmt.Sprint("gate", i))
		queues = append(queues, q)
		more := topology.Default().QueueResources(q)
		resources.Queues = append(resources.Queues, more.Queues...)
	}
	declare(t, url, resources)
	c := makeChains(t, queues, n, random)
	c.publish(t, url)
	ledger := &causal{parent: c.parent, effects: map[string]int{}}
	link := brokertest.Proxy(t, url)
	var workers []*running
	for i, q := range append(queues, queues[1]) { // two compete for the second
		config := worker.Config{
			URLs: []string{url}, Queue: q, Concurrency: 16, Prefetch: 100, ConnectionName: fmt.Sprint("gate ", i),
			Retry: []time.Duration{100 * time.Millisecond},
		}
		if store != nil {
			config.Gate = &worker.Gate{Store: store, Group: "shop"}
		}
		if i == 2 {
			config.URLs = []string{link.URL()}
		}
		workers = append(workers, start(t, config, func(_ context.Context, d *worker.Delivery) error {
			ledger.effect(d.Event.ID)
			return nil
		}))
	}
	await := func(n int) {
		t.Helper()
		const slow = 5 * time.Minute // SQLite under the race detector
		require.Eventually(t, func() bool { return ledger.distinct() >= n }, slow, 10*time.Millisecond, "%d of %d events", ledger.distinct(), n)
	}
	await(len(c.ids) / 4)
	link.Cut()
	await(len(c.ids))
	for _, w := range workers {
		require.NoError(t, w.end())
		s := w.Stats()
		stats.Held += s.Held
		stats.Released += s.Released
		stats.Orphaned += s.Orphaned
	}
	if store != nil {
		left, err := store.Holding(t.Context(), "shop")
		require.NoError(t, err)
		assert.Zero(t, left, "an event is left behind")
	}
	return ledger.inversions, stats
}

// An event whose parent does not come is dead-lettered; and one whose parent is of a type that the group
// does not handle does not wait for it.
func TestTheGateGivesUpOrphans(t *testing.T) {
	t.Parallel()
	for name, open := range gateStores() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := brokertest.URL(t)
			q, _ := queue(t, url)
			mine, err := event.New("mine", "test", nil)
			require.NoError(t, err)
			theirs, err := event.New("theirs", "test", nil)
			require.NoError(t, err)
			p, err := publisher.Open(t.Context(), publisher.Config{URLs: []string{url}})
			require.NoError(t, err)
			for _, parent := range []event.Event{mine, theirs} {
				child, err := event.Caused(parent, "child", "test", map[string]string{"of": parent.Type})
				require.NoError(t, err)
				require.NoError(t, p.Publish(t.Context(), publisher.Message{Event: child, To: publisher.ToQueue(q), Headers: map[string]any{"tenant": "acme"}}))
			}
			require.NoError(t, p.Close(t.Context()))
			handled := newEffects()
			w := start(t, worker.Config{
				URLs: []string{url}, Queue: q,
				Gate: &worker.Gate{Store: open(t), Types: []string{"mine", "child"}, Wait: 200 * time.Millisecond},
			}, func(_ context.Context, d *worker.Delivery) error {
				handled.add(string(d.Event.Data))
				return nil
			})
			eventually(t, func() bool { return w.Stats().Orphaned == 1 }, "the orphan waits on")
			require.NoError(t, w.end())
			assert.Equal(t, map[string]int{`{"of":"theirs"}`: 1}, handled.ids)
			seen := 0
			_, err = lettersOf(url).Visit(t.Context(), topology.DeadLetterQueue(q), func(l *worker.Letter) (worker.Action, error) {
				seen++
				assert.JSONEq(t, `{"of":"mine"}`, string(l.Event.Data))
				assert.Equal(t, worker.ReasonOrphan, l.Failure.Reason)
				assert.Equal(t, q, l.Failure.Queue)
				assert.Contains(t, l.Failure.Error, mine.ID)
				assert.Equal(t, map[string]any{"tenant": "acme"}, l.Headers)
				return worker.Redrive(q), nil
			})
			require.NoError(t, err)
			assert.Equal(t, 1, seen)
		})
	}
}

// What a gate holds in memory goes back to its queue when the worker ends in order.
func TestTheGateInMemoryGivesBackWhatItHolds(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q, _ := queue(t, url)
	parent, err := event.New("t", "test", nil)
	require.NoError(t, err)
	child, err := event.Caused(parent, "t", "test", nil)
	require.NoError(t, err)
	p, err := publisher.Open(t.Context(), publisher.Config{URLs: []string{url}})
	require.NoError(t, err)
	require.NoError(t, p.Publish(t.Context(), publisher.Message{Event: child, To: publisher.ToQueue(q)}))
	require.NoError(t, p.Close(t.Context()))
	w := start(t, worker.Config{URLs: []string{url}, Queue: q, Gate: &worker.Gate{Store: worker.NewGateMemory(0)}}, newEffects().handle)
	eventually(t, func() bool { return w.Stats().Held == 1 }, "the child is not held")
	ch := channel(t, url)
	eventually(t, func() bool { return depth(t, ch, q) == 0 }, "the child is not acknowledged")
	require.NoError(t, w.end())
	assert.Equal(t, 1, depth(t, ch, q))
}

// What was held survives the worker on SQLite, also where it had been marked and not yet sent on.
func TestAGateOnSQLiteGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q, _ := queue(t, url)
	path := filepath.Join(t.TempDir(), "gate.db")
	parent, err := event.New("t", "test", nil)
	require.NoError(t, err)
	child, err := event.Caused(parent, "t", "test", nil)
	require.NoError(t, err)
	p, err := publisher.Open(t.Context(), publisher.Config{URLs: []string{url}})
	require.NoError(t, err)
	defer p.Close(t.Context())
	require.NoError(t, p.Publish(t.Context(), publisher.Message{Event: child, To: publisher.ToQueue(q)}))
	store, err := inbox.Open(t.Context(), inbox.Config{Path: path})
	require.NoError(t, err)
	handled := newEffects()
	config := worker.Config{URLs: []string{url}, Queue: q, Gate: &worker.Gate{Store: store}}
	w := start(t, config, handled.handle)
	eventually(t, func() bool { return w.Stats().Held == 1 }, "the child is not held")
	require.NoError(t, w.end())
	require.NoError(t, store.Close())

	store, err = inbox.Open(t.Context(), inbox.Config{Path: path})
	require.NoError(t, err)
	defer store.Close()
	config.Gate = &worker.Gate{Store: store}
	require.NoError(t, p.Publish(t.Context(), publisher.Message{Event: parent, To: publisher.ToQueue(q)}))
	w = start(t, config, handled.handle)
	eventually(t, func() bool { return handled.distinct() == 2 }, "the child is left behind")
	require.NoError(t, w.end())
	assert.Equal(t, int64(1), w.Stats().Released)
}

func TestAGateIsChecked(t *testing.T) {
	t.Parallel()
	for want, config := range map[string]worker.Config{
		"a gate needs a store":           {Queue: "q", Gate: &worker.Gate{}},
		"a gate is for a queue":          {Topic: "t", Gate: &worker.Gate{Store: worker.NewGateMemory(0)}},
		"gate wait -1s is less than 1ms": {Queue: "q", Gate: &worker.Gate{Store: worker.NewGateMemory(0), Wait: -time.Second}},
	} {
		config.URLs = []string{"amqp://localhost"}
		_, err := worker.New(config, newEffects().handle)
		require.ErrorContains(t, err, want)
	}
}
