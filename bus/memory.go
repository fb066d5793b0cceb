package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
)

// DefaultHistory is how many events a topic's log, a queue, a group and a listener hold in memory.
const DefaultHistory = 100_000

// Config says what a [Memory] is made of. The zero value has the default topology.
type Config struct {
	// Topology are the topics, groups and queues that there are, with their retries. A topic has a history
	// where it has a log there. Default: topology.Default.
	Topology *topology.Spec
	// History is how many events each queue, each group, each listener and each topic's log hold at most,
	// the latest. It bounds the memory: a queue or a group that is full makes Publish wait, which is the
	// back-pressure; a listener that is full misses the oldest, which is counted and logged. Default
	// 100,000.
	History int
	// Logger receives failures of handlers and what listeners miss. Default: nothing is logged.
	Logger *slog.Logger
}

// Memory is an event bus in the memory of one process. Nothing of it is durable: it ends with the process.
// Beyond the contract it bounds its memory; see Config.History. Make it with [NewMemory].
type Memory struct {
	config Config
	spec   topology.Spec

	mu     sync.RWMutex // of the maps
	topics map[string]*topic
	queues map[string]*queue

	closed atomic.Bool
}

// topic is a topic with those who get its events.
type topic struct {
	order chan struct{} // holds one while an event goes to everybody, so that all have the same order
	mu    sync.Mutex    // of what follows; never held while somebody waits
	log   *history      // nil where the topology gives it none
	boxes []*box        // of queues, groups and listeners
}

// queue is a queue, or a group, with its policy.
type queue struct {
	name   string
	box    *box
	policy worker.Policy
}

// NewMemory makes a bus.
func NewMemory(config Config) *Memory {
	if config.History <= 0 {
		config.History = DefaultHistory
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Memory{config: config, spec: topology.Default(), topics: map[string]*topic{}, queues: map[string]*queue{}}
	if config.Topology != nil {
		m.spec = *config.Topology
	}
	for name := range m.spec.Queues {
		m.queue(name)
	}
	for name, t := range m.spec.Topics {
		of := m.topic(name)
		if t.Log != nil {
			of.log = newHistory(config.History)
		}
		for _, group := range t.Groups {
			m.feed(of, topology.GroupQueue(name, group))
		}
		for _, q := range t.Queues {
			m.feed(of, q)
		}
	}
	return m
}

// topic gives a topic, and makes it where there is none.
func (m *Memory) topic(name string) *topic {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.topics[name]
	if t == nil {
		t = &topic{order: make(chan struct{}, 1)}
		m.topics[name] = t
	}
	return t
}

// queue gives a queue, and makes it where there is none.
func (m *Memory) queue(name string) *queue {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := m.queues[name]
	if q == nil {
		settings := m.spec.Queue(name)
		q = &queue{
			name: name, box: newBox(m.config.History, false),
			policy: worker.Policy{Retry: settings.Retry, MaxAttempts: settings.MaxAttempts},
		}
		m.queues[name] = q
	}
	return q
}

// feed has a topic's events go to a queue, from now on.
func (m *Memory) feed(t *topic, name string) *queue {
	q := m.queue(name)
	t.mu.Lock()
	defer t.mu.Unlock()
	if !slices.Contains(t.boxes, q.box) {
		t.boxes = append(slices.Clone(t.boxes), q.box)
	}
	return q
}

// Publish implements [Publisher]. It waits while a queue or a group that is to have the event is full: where
// ctx ends first the outcome is publisher.Unknown, since others may have it. So a handler that publishes to
// what it works on itself may wait for itself. The event's data and extensions are shared with all
// subscribers and must not be changed afterwards; headers are copied. A message that is no event cannot be
// published.
func (m *Memory) Publish(ctx context.Context, message publisher.Message) error {
	if m.closed.Load() {
		return publisher.ErrClosed
	}
	if err := check(&message); err != nil {
		return fmt.Errorf("%w: event %s: %w", publisher.ErrInvalid, message.ID(), err)
	}
	if len(message.Headers) > 0 {
		message.Headers = maps.Clone(message.Headers)
	}
	m.mu.RLock()
	t, q := m.topics[message.To.Exchange], m.queues[message.To.RoutingKey]
	m.mu.RUnlock()
	var err error
	switch {
	case message.To.Exchange == "" && q != nil:
		err = q.box.push(ctx, entry{message: &message})
	case message.To.Exchange != "" && t != nil:
		var wanted bool
		if wanted, err = t.publish(ctx, &message); err == nil && !wanted {
			return returned(message)
		}
	default:
		return returned(message)
	}
	if err != nil {
		return &publisher.OutcomeError{ID: message.ID(), Outcome: publisher.Unknown, Err: err}
	}
	return nil
}

func check(m *publisher.Message) error {
	if m.Raw != nil {
		return errors.New("a raw message has no place in memory")
	}
	for name := range m.Headers {
		if err := publisher.CheckHeaderName(name); err != nil {
			return err
		}
	}
	return m.Event.Validate()
}

func returned(m publisher.Message) error {
	return &publisher.OutcomeError{ID: m.ID(), Outcome: publisher.Returned, Err: fmt.Errorf("%s: nobody is there", m.To)}
}

// publish gives an event to everybody, and tells whether there is anybody.
func (t *topic) publish(ctx context.Context, m *publisher.Message) (wanted bool, err error) {
	select {
	case t.order <- struct{}{}:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	defer func() { <-t.order }()
	t.mu.Lock() // who joins now has the event from the log, or comes after it
	if t.log != nil {
		t.log.append(m)
	}
	boxes, wanted := t.boxes, t.log != nil || len(t.boxes) > 0
	t.mu.Unlock()
	for _, b := range boxes {
		if err := b.push(ctx, entry{message: m}); err != nil {
			return true, err
		}
	}
	return wanted, nil
}

// Work implements [Worker].
func (m *Memory) Work(ctx context.Context, name string, options Options, handle worker.Handler) error {
	if options.Group != "" || options.From != nil {
		return errors.New("work: Group and From are a listener's")
	}
	q := m.queue(name)
	s := &subscriber{bus: m, box: q.box, queue: q, name: name, options: options.withDefaults(), handle: worker.Recover()(handle)}
	return s.run(ctx)
}

// Listen implements [Listener].
func (m *Memory) Listen(ctx context.Context, name string, options Options, handle worker.Handler) error {
	t := m.topic(name)
	s := &subscriber{bus: m, options: options.withDefaults(), handle: worker.Recover()(handle)}
	switch {
	case options.Group != "" && options.From != nil:
		return errors.New("listen: a group has a place of its own: give one of Group and From")
	case options.Group != "":
		s.name = topology.GroupQueue(name, options.Group)
		s.queue = m.feed(t, s.name)
		s.box = s.queue.box
		return s.run(ctx)
	case options.From != nil && t.log == nil:
		return fmt.Errorf("listen to topic %s from %s: %w", name, options.From, worker.ErrNoLog)
	}
	s.name, s.box = name, newBox(m.config.History, true)
	defer t.join(s.box, options.From)()
	return s.run(ctx)
}

// join has a topic's events go to a box until it leaves; those of its history first.
func (t *topic) join(b *box, from *worker.LogPosition) (leave func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if from != nil {
		for _, m := range t.log.since(*from) {
			b.again(entry{message: m})
		}
	}
	t.boxes = append(slices.Clone(t.boxes), b)
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.boxes = slices.DeleteFunc(slices.Clone(t.boxes), func(other *box) bool { return other == b })
	}
}

// Close fails what is published from now on, and what waits to be. Subscribers end with their contexts.
func (m *Memory) Close() {
	m.closed.Store(true)
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, q := range m.queues {
		q.box.close()
	}
}

// Depth is how many events wait in a queue, or in a group under the name of its queue; those in hand, and
// those that wait to be tried again, are not counted.
func (m *Memory) Depth(queue string) int {
	m.mu.RLock()
	q := m.queues[queue]
	m.mu.RUnlock()
	if q == nil {
		return 0
	}
	q.box.mu.Lock()
	defer q.box.mu.Unlock()
	return q.box.n
}

// history is the latest events of a topic.
type history struct {
	most int
	ring []*publisher.Message // as large as it had to be
	next int64                // the offset of the next event
}

func newHistory(most int) *history { return &history{most: most} }

func (h *history) append(m *publisher.Message) {
	if len(h.ring) < h.most {
		h.ring = append(h.ring, m)
	} else {
		h.ring[h.next%int64(h.most)] = m
	}
	h.next++
}

// since gives the events from a place on.
func (h *history) since(from worker.LogPosition) (events []*publisher.Message) {
	first := h.next - int64(len(h.ring))
	at, isTime := from.Time()
	switch offset, isOffset := from.Offset(); {
	case isOffset:
		first = max(offset, first)
	case from == worker.LogLast():
		first = max(first, h.next-1)
	case from == worker.LogNext():
		first = h.next
	}
	for offset := first; offset < h.next; offset++ {
		m := h.ring[offset%int64(h.most)]
		if !isTime || m.Event.Time.IsZero() || !m.Event.Time.Before(at) {
			events = append(events, m)
		}
	}
	return events
}

func (o Options) withDefaults() Options {
	if o.Concurrency < 1 {
		o.Concurrency = 1
	}
	if o.From != nil {
		o.Concurrency = 1
	}
	if o.DrainTimeout <= 0 {
		o.DrainTimeout = worker.DefaultDrainTimeout
	}
	if o.Ready == nil {
		o.Ready = func() {}
	}
	return o
}

// giveUp is what handlers that heed their context get after the drain timeout.
const giveUp = 100 * time.Millisecond
