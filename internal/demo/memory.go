package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/evdemo/evdemo/bus"
	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
)

// memoryPatience is shorter than patience: within a process nothing is under way for long.
const memoryPatience = 3 * time.Second

// memory is a venue within this process, where everybody is goroutines on a bus in memory.
type memory struct {
	*run
	bus    *bus.Memory
	events []event.Event
}

func (m *memory) prepare(context.Context) (remove func(context.Context) error, err error) {
	for line := range bytes.Lines(m.Events) {
		e, err := event.Parse(line, event.Defaults{})
		if err != nil {
			return nil, fmt.Errorf("sample event %d: %w", len(m.events)+1, err)
		}
		m.events = append(m.events, e)
	}
	spec := topology.Default().WithPrefix(m.prefix)
	m.bus = bus.NewMemory(bus.Config{Topology: &spec, Logger: m.Logger})
	m.screen.say("No broker: workers and listeners are goroutines of this process, on a bus in its memory; nothing is durable.")
	return func(context.Context) error { m.bus.Close(); return nil }, nil
}

func (m *memory) start(ctx context.Context, role part) (actor, error) {
	ctx, cut := context.WithCancel(context.WithoutCancel(ctx))
	g := &goroutine{part: role, cut: cut, consuming: make(chan struct{}), ended: make(chan struct{})}
	options := bus.Options{Group: role.group, DrainTimeout: childGrace, Ready: func() { close(g.consuming) }}
	if role.name == victim {
		options.DrainTimeout = time.Nanosecond // so that its end is a crash: what it has in hand goes to others
	}
	go func() { // end waits for it
		defer close(g.ended)
		if role.queue != "" {
			g.err = m.bus.Work(ctx, m.prefix+role.queue, options, g.handle)
		} else {
			g.err = m.bus.Listen(ctx, m.prefix+topic, options, g.handle)
		}
	}()
	return g, nil
}

func (m *memory) publish(ctx context.Context) error {
	limiter := rate.NewLimiter(publishRate, publishRate/100)
	for i := 0; i < len(m.events) && limiter.Wait(ctx) == nil; i++ { // which fails when ctx has ended
		e, outcome := m.events[i], publisher.Confirmed
		err := m.bus.Publish(ctx, publisher.Message{Event: e, To: publisher.ToTopic(m.prefix + topic)})
		if other, ok := errors.AsType[*publisher.OutcomeError](err); ok {
			outcome = other.Outcome
		} else if err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		m.ledger.Outcome(e.ID, outcome.String())
	}
	return nil
}

// goroutine is a consumer on the bus in memory, with one handler at a time.
type goroutine struct {
	part
	cut       context.CancelFunc
	consuming chan struct{} // closed when it consumes
	ended     chan struct{} // closed when it has ended
	err       error         // valid once ended is closed

	mu      sync.Mutex
	handled int
	again   int // redeliveries
	killed  bool
}

// handle works on one event and then has its effect. One that is killed meanwhile has none, and gives the
// event back.
func (g *goroutine) handle(ctx context.Context, d *worker.Delivery) error {
	if d.Redelivered {
		g.mu.Lock()
		g.again++
		g.mu.Unlock()
	}
	if g.latency > 0 {
		select {
		case <-time.After(g.latency):
		case <-ctx.Done():
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.killed || ctx.Err() != nil {
		return worker.ErrRequeue
	}
	if g.effect != nil {
		g.effect(d.Event.ID)
	}
	if g.handled++; g.handled == g.limit {
		g.cut()
	}
	return nil
}

func (g *goroutine) awaitConsuming(ctx context.Context) error {
	select {
	case <-g.consuming:
		return nil
	case <-g.ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-g.consuming: // and has ended since
		return nil
	default:
		return fmt.Errorf("%s did not start: %w", g.name, g.err)
	}
}

// kill cuts the consumer off. Once it has returned there is no further effect.
func (g *goroutine) kill() {
	g.mu.Lock()
	g.killed = true
	g.mu.Unlock()
	g.cut()
}

func (g *goroutine) stop() { g.cut() }

// end waits for the consumer, which heeds its context.
func (g *goroutine) end() (redelivered int) {
	<-g.ended
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.killed {
		return 0 // what it has seen it has taken with it
	}
	return g.again
}
