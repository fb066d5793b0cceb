package worker_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/link"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
)

// bySubject orders events by their subjects.
func bySubject(d *worker.Delivery) string { return d.Event.Subject }

// sequences publishes n events of each of some keys, mixed: the k-th of a key has the data k.
func sequences(t *testing.T, url, queue string, keys, n int) {
	t.Helper()
	p, err := publisher.Open(t.Context(), publisher.Config{URLs: []string{url}})
	require.NoError(t, err)
	for i := range n {
		for key := range keys {
			e, err := event.New("step", "test", i)
			require.NoError(t, err)
			e.Subject = fmt.Sprintf("key-%d", key)
			require.NoError(t, p.Send(t.Context(), publisher.Message{Event: e, To: publisher.ToQueue(queue)}, nil))
		}
	}
	require.NoError(t, p.Close(t.Context()))
	require.Equal(t, int64(keys*n), p.Stats().Confirmed)
}

// steps is the ledger of the effects of sequences.
type steps struct {
	mu       sync.Mutex
	running  map[string]bool
	done     map[string][]string // by key, in the order of their effects
	overlaps int
	most     int // keys at a time
}

func newSteps() *steps { return &steps{running: map[string]bool{}, done: map[string][]string{}} }

func (s *steps) begin(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[key] {
		s.overlaps++
	}
	s.running[key] = true
	s.most = max(s.most, len(s.running))
}

func (s *steps) end(key, step string, effect bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, key)
	if effect {
		s.done[key] = append(s.done[key], step)
	}
}

// firsts are the effects of a key without those that are there a second time.
func (s *steps) firsts(key string) (firsts []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[string]bool{}
	for _, step := range s.done[key] {
		if !seen[step] {
			firsts = append(firsts, step)
		}
		seen[step] = true
	}
	return firsts
}

func (s *steps) all() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, done := range s.done {
		seen := map[string]bool{}
		for _, step := range done {
			seen[step] = true
		}
		n += len(seen)
	}
	return n
}

// requireOrder requires that every key's effects, without repetitions, are in the order of publishing.
func (s *steps) requireOrder(t *testing.T, keys, n int) {
	t.Helper()
	var want []string
	for i := range n {
		want = append(want, fmt.Sprint(i))
	}
	for key := range keys {
		require.Equal(t, want, s.firsts(fmt.Sprintf("key-%d", key)), "key %d", key)
	}
}

// Events of one key are handled one after the other, in the order of the queue, also where some fail and
// are tried again; those of other keys go on meanwhile.
func TestOrderedBy(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q, _ := queue(t, url)
	const keys, n = 20, 30
	sequences(t, url, q, keys, n)
	seed := rand.Uint64()
	t.Log("seed", seed)
	var chance sync.Mutex
	random := rand.New(rand.NewPCG(seed, 0))
	ledger := newSteps()
	w := start(t, worker.Config{
		URLs: []string{url}, Queue: q, Concurrency: 8, OrderedBy: bySubject,
		Retry: []time.Duration{20 * time.Millisecond}, MaxAttempts: 1000, IdleTimeout: 2 * time.Second,
	}, func(_ context.Context, d *worker.Delivery) error {
		key := d.Event.Subject
		ledger.begin(key)
		chance.Lock()
		fails, pause := random.IntN(10) == 0, time.Duration(random.IntN(2000))*time.Microsecond
		chance.Unlock()
		<-time.After(pause)
		ledger.end(key, string(d.Event.Data), !fails)
		if fails {
			return errors.New("by chance")
		}
		return nil
	})
	require.NoError(t, w.wait())
	ledger.requireOrder(t, keys, n)
	assert.Zero(t, ledger.overlaps, "events of one key were in hand at once")
	assert.Greater(t, ledger.most, 3, "keys did not go on at once")
	stats := w.Stats()
	assert.Equal(t, int64(keys*n), stats.Handled)
	assert.Positive(t, stats.Failed)
	assert.Equal(t, stats.Failed, stats.Retried)
	assert.Equal(t, stats.Delivered, stats.Handled+stats.Failed)
}

// A key whose event has failed waits, and takes no slot from the others.
func TestAKeyThatWaitsHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q, _ := queue(t, url)
	const keys, n = 4, 5
	sequences(t, url, q, keys, n)
	ledger := newSteps()
	w := start(t, worker.Config{
		URLs: []string{url}, Queue: q, Concurrency: 1, OrderedBy: bySubject, Retry: []time.Duration{time.Hour},
	}, func(_ context.Context, d *worker.Delivery) error {
		ledger.begin(d.Event.Subject)
		fails := d.Event.Subject == "key-0"
		ledger.end(d.Event.Subject, string(d.Event.Data), !fails)
		if fails {
			return errors.New("on purpose")
		}
		return nil
	})
	eventually(t, func() bool { return ledger.all() == (keys-1)*n }, "the other keys are held up")
	require.NoError(t, w.end(), "a key that waits holds up the end")
	ch := channel(t, url)
	eventually(t, func() bool { return depth(t, ch, q) == n }, "what waited is not back in the queue")
}

// What cannot be handled is dead-lettered after its last attempt, and its key goes on.
func TestADeadLetterIsOvertaken(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q, _ := queue(t, url)
	const n = 5
	sequences(t, url, q, 1, n)
	var attempts []string
	w := start(t, worker.Config{
		URLs: []string{url}, Queue: q, Concurrency: 4, OrderedBy: bySubject, IdleTimeout: time.Second,
		Retry: []time.Duration{10 * time.Millisecond}, MaxAttempts: 3,
	}, func(_ context.Context, d *worker.Delivery) error {
		attempts = append(attempts, fmt.Sprint(string(d.Event.Data), "/", d.Attempt))
		if string(d.Event.Data) == "2" {
			return errors.New("on purpose")
		}
		return nil
	})
	require.NoError(t, w.wait())
	assert.Equal(t, []string{"0/1", "1/1", "2/1", "2/2", "2/3", "3/1", "4/1"}, attempts)
	_, err := lettersOf(url).Visit(t.Context(), topology.DeadLetterQueue(q), func(l *worker.Letter) (worker.Action, error) {
		assert.Equal(t, worker.ReasonAttempts, l.Failure.Reason)
		assert.Equal(t, 3, l.Failure.Attempts)
		assert.True(t, l.Failure.First.Before(l.Failure.Last))
		return worker.Keep(), nil
	})
	require.NoError(t, err)
}

// An event that its handler gives back is handled again before those behind it, and no attempt is counted.
func TestARequeuedEventKeepsItsPlace(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q, _ := queue(t, url)
	sequences(t, url, q, 1, 3)
	var attempts []string
	w := start(t, worker.Config{URLs: []string{url}, Queue: q, Concurrency: 4, OrderedBy: bySubject, Limit: 3}, func(_ context.Context, d *worker.Delivery) error {
		attempts = append(attempts, fmt.Sprint(string(d.Event.Data), "/", d.Attempt))
		if len(attempts) == 2 {
			return worker.ErrRequeue
		}
		return nil
	})
	require.NoError(t, w.wait())
	assert.Equal(t, []string{"0/1", "1/1", "1/1", "2/1"}, attempts)
}

// A lost connection brings back what is still in hand: it must not be begun before that is done.
func TestOrderSurvivesLostConnections(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q, _ := queue(t, url)
	const keys, n = 6, 40
	sequences(t, url, q, keys, n)
	link := brokertest.Proxy(t, url)
	ledger := newSteps()
	var count sync.Mutex
	handled := 0
	w := start(t, worker.Config{
		URLs: []string{link.URL()}, Queue: q, Concurrency: 4, OrderedBy: bySubject,
	}, func(_ context.Context, d *worker.Delivery) error {
		ledger.begin(d.Event.Subject)
		<-time.After(3 * time.Millisecond)
		ledger.end(d.Event.Subject, string(d.Event.Data), true)
		count.Lock()
		defer count.Unlock()
		if handled++; handled%60 == 0 && handled < 200 {
			link.Cut()
		}
		return nil
	})
	eventually(t, func() bool { return ledger.all() == keys*n }, "not everything is handled")
	require.NoError(t, w.end())
	ledger.requireOrder(t, keys, n)
	assert.Zero(t, ledger.overlaps)
	assert.Positive(t, w.Stats().Reconnects)
}

// A queue with a single active consumer keeps the order across workers, also where the active one is lost.
func TestOrderAcrossWorkers(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	name := brokertest.Name(t, "worker")
	resources := topology.Spec{Queues: map[string]topology.Queue{name: {SingleActive: true}}}.Resources()
	declare(t, url, resources)
	const keys, n = 5, 40
	sequences(t, url, name, keys, n)
	ledger := newSteps()
	var links []*link.Link
	var workers []*running
	for i := range 3 {
		link := brokertest.Proxy(t, url)
		links = append(links, link)
		handled := 0
		var mu sync.Mutex
		workers = append(workers, start(t, worker.Config{
			URLs: []string{link.URL()}, Queue: name, Concurrency: 4, OrderedBy: bySubject, Declare: resources,
			ConnectionName: fmt.Sprint("worker ", i),
		}, func(_ context.Context, d *worker.Delivery) error {
			<-time.After(2 * time.Millisecond)
			ledger.end(d.Event.Subject, string(d.Event.Data), true)
			mu.Lock()
			defer mu.Unlock()
			if handled++; handled == 60 {
				links[i].Cut()
			}
			return nil
		}))
	}
	eventually(t, func() bool { return ledger.all() == keys*n }, "not everything is handled")
	active := 0
	for _, w := range workers {
		require.NoError(t, w.end())
		if w.Stats().Handled > 0 {
			active++
		}
	}
	assert.Greater(t, active, 1, "one worker has done it all")
	ledger.requireOrder(t, keys, n)
}

func BenchmarkOrderedBy(b *testing.B) {
	url := brokertest.URL(b)
	for name, key := range map[string]func(*worker.Delivery) string{"Unordered": nil, "ById": func(d *worker.Delivery) string { return d.Event.ID }} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			q := brokertest.Name(b, "worker")
			consumeAll(b, url, q, worker.Config{URLs: []string{url}, Queue: q, Concurrency: 8, Prefetch: 300, OrderedBy: key})
		})
	}
}

// consumeAll measures how long a worker takes for b.N events that do nothing.
func consumeAll(b *testing.B, url, q string, config worker.Config) {
	b.Helper()
	resources := topology.Default().QueueResources(q)
	config.Declare, config.Limit = resources, b.N
	p, err := publisher.Open(b.Context(), publisher.Config{URLs: []string{url}, Declare: resources})
	require.NoError(b, err)
	for range b.N {
		e, err := event.New("step", "test", nil)
		require.NoError(b, err)
		require.NoError(b, p.Send(b.Context(), publisher.Message{Event: e, To: publisher.ToQueue(q)}, nil))
	}
	require.NoError(b, p.Close(b.Context()))
	w, err := worker.New(config, func(context.Context, *worker.Delivery) error { return nil })
	require.NoError(b, err)
	b.ResetTimer()
	require.NoError(b, w.Run(b.Context()))
	b.StopTimer()
	deleteAll(b, url, resources)
}

// An event that was never answered is handled alone, and comes to its end there, however often it fails,
// also where it is the last that may be handled.
func TestASuspectIsTriedAgainInItsPlace(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int][]string{
		3: {"0/1", "0/2", "0/3", "1/1", "2/1"},
		1: {"0/1", "0/2", "0/3"},
	} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			t.Parallel()
			url := brokertest.URL(t)
			q, _ := queue(t, url)
			sequences(t, url, q, 1, 3)
			ch := channel(t, url)
			require.NoError(t, ch.Qos(1, 0, false))
			for range 6 { // so often that it is suspect
				m, ok, err := ch.Get(q, false)
				require.NoError(t, err)
				require.True(t, ok)
				require.NoError(t, m.Nack(false, true))
			}
			var attempts []string
			w := start(t, worker.Config{
				URLs: []string{url}, Queue: q, Concurrency: 4, OrderedBy: bySubject, Limit: limit, Retry: []time.Duration{10 * time.Millisecond},
			}, func(_ context.Context, d *worker.Delivery) error {
				attempts = append(attempts, fmt.Sprint(string(d.Event.Data), "/", d.Attempt))
				if len(attempts) < 3 {
					return errors.New("on purpose")
				}
				return nil
			})
			require.NoError(t, w.wait())
			assert.Equal(t, want, attempts)
		})
	}
}
