package worker_test

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait for the broker.
const patience = 60 * time.Second

func exampleURL() string {
	if url := os.Getenv("AMQP_URL"); url != "" {
		return url
	}
	return "amqp://guest:guest@localhost:5672/"
}

// channel opens a plain channel, independent of the code under test.
func channel(t *testing.T, url string) *amqp.Channel {
	t.Helper()
	conn, err := amqp.Dial(url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	ch, err := conn.Channel()
	require.NoError(t, err)
	return ch
}

// queue declares a queue as the product does, with its dead-letter queue, and removes it with the
// test.
func queue(t *testing.T, url string) (name string, resources topology.Resources) {
	t.Helper()
	name = brokertest.Name(t, "worker")
	resources = topology.Default().QueueResources(name)
	declare(t, url, resources)
	return name, resources
}

func declare(t *testing.T, url string, resources topology.Resources) {
	t.Helper()
	conn, err := amqp.Dial(url)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, resources.Apply(t.Context(), conn))
	t.Cleanup(func() { deleteAll(t, url, resources) })
}

func deleteAll(tb testing.TB, url string, resources topology.Resources) {
	tb.Helper()
	if conn, err := amqp.Dial(url); err == nil {
		defer conn.Close()
		_ = resources.Delete(context.Background(), conn)
	}
}

// fill publishes n events to a queue and gives their ids.
func fill(t *testing.T, url, queue string, n int) []string {
	t.Helper()
	later := fillLater(t, url, queue, n)
	later.send(t)
	return later.ids
}

// filling are events that are still to be published.
type filling struct {
	ids  []string
	send func(*testing.T)
}

func fillLater(t *testing.T, url, queue string, n int) filling {
	t.Helper()
	events := make([]event.Event, n)
	ids := make([]string, n)
	for i := range n {
		e, err := event.New("order.created", "test", map[string]int{"n": i})
		require.NoError(t, err)
		events[i], ids[i] = e, e.ID
	}
	return filling{ids: ids, send: func(t *testing.T) {
		t.Helper()
		p, err := publisher.Open(t.Context(), publisher.Config{URLs: []string{url}})
		require.NoError(t, err)
		for _, e := range events {
			require.NoError(t, p.Send(t.Context(), publisher.Message{Event: e, To: publisher.ToQueue(queue)}, nil))
		}
		require.NoError(t, p.Close(t.Context()))
		require.Equal(t, int64(n), p.Stats().Confirmed)
	}}
}

// effects counts, by event id, what handlers did: the ledger of these tests.
type effects struct {
	mu  sync.Mutex
	ids map[string]int
	all int
}

func newEffects() *effects { return &effects{ids: map[string]int{}} }

func (e *effects) add(id string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ids[id]++
	e.all++
	return e.all
}

func (e *effects) distinct() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.ids)
}

// missing gives those of the ids that had no effect.
func (e *effects) missing(ids []string) (missing []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, id := range ids {
		if e.ids[id] == 0 {
			missing = append(missing, id)
		}
	}
	return missing
}

func (e *effects) handle(_ context.Context, d *worker.Delivery) error {
	e.add(d.Event.ID)
	return nil
}

// running is a worker that runs in the background until the test stops it.
type running struct {
	*worker.Worker
	stop context.CancelFunc
	done chan error
}

func start(t *testing.T, config worker.Config, handle worker.Handler) *running {
	t.Helper()
	w, err := worker.New(config, handle)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{Worker: w, stop: cancel, done: make(chan error, 1)}
	go func() { r.done <- w.Run(ctx) }()
	t.Cleanup(func() { _ = r.end() })
	return r
}

// end stops the worker and gives what Run returned.
func (r *running) end() error {
	r.stop()
	return r.wait()
}

func (r *running) wait() error {
	select {
	case err := <-r.done:
		r.done <- err
		return err
	case <-time.After(patience):
		return errors.New("the worker did not end")
	}
}

func eventually(t *testing.T, condition func() bool, format string, args ...any) {
	t.Helper()
	require.Eventually(t, condition, patience, 5*time.Millisecond, append([]any{format}, args...)...)
}

// depth is how many messages are ready in a queue; -1 where it cannot be told.
func depth(t *testing.T, ch *amqp.Channel, queue string) int {
	t.Helper()
	q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
	if !assert.NoError(t, err) {
		return -1
	}
	return q.Messages
}
