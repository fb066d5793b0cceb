package demo

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/worker"
)

// limit bounds what a test waits for; glance is how often it looks.
const (
	limit  = 60 * time.Second
	glance = time.Millisecond
)

// board is a screen that one goroutine reads while another writes.
type board struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *board) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *board) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// inMemory is a demo of so many events that needs nothing.
func inMemory(events int, screen *board) Config {
	var sample bytes.Buffer
	for i := range events {
		fmt.Fprintf(&sample, `{"specversion":"1.0","id":"event-%d","source":"s","type":"t"}`+"\n", i)
	}
	return Config{Memory: true, Events: sample.Bytes(), Screen: screen}
}

func TestMemoryHolds(t *testing.T) {
	t.Parallel()
	const events = 600
	var screen board
	report, err := Run(t.Context(), inMemory(events, &screen))
	require.NoError(t, err)
	assert.True(t, report.Holds, "%+v", report.Claims)
	assert.Len(t, report.Claims, 5)
	assert.Equal(t, victim, report.Killed)
	assert.Positive(t, report.Redelivered, "the killed worker was busy")
	a := report.Account
	assert.Equal(t, map[string]int{"confirmed": events}, a.Outcomes)
	assert.Zero(t, a.Unaccounted)
	require.Len(t, a.Consumers, 4)
	for _, c := range a.Consumers {
		assert.Equal(t, []int{events, 0}, []int{c.Effects, c.Missing}, c.Name)
	}
	workers := a.Consumers[3]
	require.Len(t, workers.Members, 3)
	total := 0
	for _, m := range workers.Members {
		total += m.Effects
	}
	assert.Equal(t, events+workers.Extra, total)
	assert.Less(t, workers.Members[1].Effects, workers.Members[0].Effects, "it was killed in the middle")
	assert.Equal(t, 1, strings.Count(screen.String(), "nothing is durable"), &screen)
	assert.Contains(t, screen.String(), "Killed worker-2.\n")
	assert.NotContains(t, screen.String(), "\x1b", "this is no terminal")
}

// A proof that cannot fail proves nothing.
func TestMemoryDoesNotHold(t *testing.T) {
	t.Parallel()
	var screen board
	config := inMemory(300, &screen)
	config.Broken = true
	report, err := Run(t.Context(), config)
	require.NoError(t, err)
	assert.False(t, report.Holds)
	for i, c := range report.Claims {
		assert.Equal(t, i < 4, c.Holds, "%+v", c)
	}
	assert.Equal(t, []int{295, 5}, []int{report.Account.Consumers[3].Effects, report.Account.Consumers[3].Missing})
	assert.Contains(t, screen.String(), "Gave up waiting: nothing more came for 3s.\n")
}

func TestMemoryInterrupted(t *testing.T) {
	t.Parallel()
	for _, moment := range []string{"No broker", "3 workers compete", "Publishing", "Killed"} {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			var screen board
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			watched := make(chan struct{})
			go func() {
				defer close(watched)
				defer interrupt()
				assert.Eventually(t, func() bool { return strings.Contains(screen.String(), moment) }, limit, glance)
			}()
			report, err := Run(ctx, inMemory(2000, &screen))
			<-watched
			require.ErrorIs(t, err, context.Canceled)
			assert.False(t, report.Holds)
		})
	}
}

func TestMemoryBadSample(t *testing.T) {
	t.Parallel()
	config := inMemory(1, &board{})
	config.Events = append(config.Events, `{"specversion":"1.0","id":"a","source":"s"}`...)
	_, err := Run(t.Context(), config)
	require.ErrorContains(t, err, "sample event 2: ")
}

func TestMemoryLiveTable(t *testing.T) {
	t.Parallel()
	var screen board
	config := inMemory(300, &screen)
	config.Live = true
	_, err := Run(t.Context(), config)
	require.NoError(t, err)
	shown := screen.String()
	assert.Contains(t, shown, "\x1b[8A\x1b[J", "eight lines are drawn anew")
	assert.Regexp(t, `    worker-2 [█·]+ +\d+  killed\n`, shown[strings.LastIndex(shown, "\x1b[J"):])
}

// Events that nobody takes, and a bus that takes none, are told from those that are confirmed.
func TestMemoryOutcomes(t *testing.T) {
	t.Parallel()
	m, remove := prepared(t, 3)
	require.NoError(t, m.publish(t.Context()))
	assert.Equal(t, map[string]int{"confirmed": 3}, m.ledger.Account().Outcomes)
	m.prefix = "elsewhere."
	require.NoError(t, m.publish(t.Context()))
	assert.Equal(t, map[string]int{"confirmed": 3, "returned": 3}, m.ledger.Account().Outcomes)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, m.publish(ended))
	assert.Equal(t, map[string]int{"confirmed": 3, "returned": 3}, m.ledger.Account().Outcomes, "nothing more was sent")
	require.NoError(t, remove(t.Context()))
	require.ErrorIs(t, m.publish(t.Context()), publisher.ErrClosed)
}

// prepared is a venue with so many events to publish.
func prepared(t *testing.T, events int) (*memory, func(context.Context) error) {
	t.Helper()
	m := &memory{run: newRun(inMemory(events, &board{}))}
	remove, err := m.prepare(t.Context())
	require.NoError(t, err)
	return m, remove
}

// What a killed worker has in hand goes to another, and the killed one has no effect from then on.
func TestKilledWorkerGivesBack(t *testing.T) {
	t.Parallel()
	for _, latency := range []time.Duration{0, time.Millisecond, time.Hour} {
		t.Run(latency.String(), func(t *testing.T) {
			t.Parallel()
			const events = 200
			m, _ := prepared(t, 0)
			fill(t, m, events)
			var before, after atomic.Int64 // effects of the victim
			var killed atomic.Bool
			took := make(chan struct{}, events)
			count := func(string) {
				if killed.Load() {
					after.Add(1)
				}
				before.Add(1)
				took <- struct{}{}
			}
			first, err := m.start(t.Context(), part{name: victim, queue: queue, latency: latency, effect: count})
			require.NoError(t, err)
			require.NoError(t, first.awaitConsuming(t.Context()))
			if latency < time.Hour {
				<-took
			} else {
				require.Eventually(t, func() bool { return m.bus.Depth(m.prefix+queue) < events }, limit, glance)
			}
			first.kill()
			killed.Store(true)
			assert.Zero(t, first.end(), "a crash tells nothing")

			var rest atomic.Int64
			second, err := m.start(t.Context(), part{name: "worker-1", queue: queue, effect: func(string) { rest.Add(1) }})
			require.NoError(t, err)
			assert.Eventually(t, func() bool { return rest.Load()+before.Load() == events }, limit, glance, "%d and %d", before.Load(), rest.Load())
			second.stop()
			redelivered := second.end()
			assert.Zero(t, after.Load())
			if latency > 0 {
				assert.Positive(t, redelivered)
			}
			assert.EqualValues(t, events, rest.Load()+before.Load(), "once each")
		})
	}
}

// fill publishes events to the queue.
func fill(t *testing.T, m *memory, events int) {
	t.Helper()
	for range events {
		e, err := event.New("t", "s", []byte("{}"))
		require.NoError(t, err)
		require.NoError(t, m.bus.Publish(t.Context(), publisher.Message{Event: e, To: publisher.ToQueue(m.prefix + queue)}))
	}
}

// A handler that is through with its work when it is killed has no effect either, and no attempt is counted.
func TestKilledHandlerHasNoEffect(t *testing.T) {
	t.Parallel()
	g := &goroutine{part: part{effect: func(string) { t.Error("an effect") }}, cut: func() {}}
	g.kill()
	require.ErrorIs(t, g.handle(t.Context(), &worker.Delivery{}), worker.ErrRequeue)
}

// A worker with a limit takes that many events and no more.
func TestLimitOfWorker(t *testing.T) {
	t.Parallel()
	m, _ := prepared(t, 0)
	fill(t, m, 200)
	stray, err := m.start(t.Context(), part{name: "stray", queue: queue, limit: 5})
	require.NoError(t, err)
	require.NoError(t, stray.awaitConsuming(t.Context()))
	assert.Zero(t, stray.end())
	assert.Equal(t, 195, m.bus.Depth(m.prefix+queue))
}

func TestConsumerThatDoesNotStart(t *testing.T) {
	t.Parallel()
	g := &goroutine{part: part{name: "email"}, consuming: make(chan struct{}), ended: make(chan struct{}), err: worker.ErrNoLog}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, g.awaitConsuming(ctx), context.Canceled)
	close(g.ended)
	require.EqualError(t, g.awaitConsuming(t.Context()), "email did not start: "+worker.ErrNoLog.Error())
}
