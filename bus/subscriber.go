package bus

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
)

// batch is how many events a loop takes at a time at most.
const batch = 128

// subscriber is one call of Work or Listen.
type subscriber struct {
	bus     *Memory
	box     *box
	queue   *queue // nil for a listener without a group
	name    string // of the queue; of the topic for a listener
	options Options
	handle  worker.Handler
}

func (s *subscriber) run(ctx context.Context) error {
	handling, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	s.box.join(s.options.Concurrency)
	defer s.box.join(-s.options.Concurrency)
	loops := make([]*loop, s.options.Concurrency)
	ended := make(chan struct{})
	var running sync.WaitGroup
	for i := range loops {
		loops[i] = &loop{subscriber: s}
		running.Go(func() { loops[i].run(ctx, handling) })
	}
	go func() { // ends with the last loop
		defer close(ended)
		running.Wait()
	}()
	s.options.Ready()
	<-ctx.Done()
	select {
	case <-ended:
		return nil
	case <-time.After(s.options.DrainTimeout):
	}
	cancel()
	select {
	case <-ended:
	case <-time.After(giveUp):
	}
	late := false
	for _, l := range loops {
		late = l.abandon() || late
	}
	if late {
		return worker.ErrDrainTimeout
	}
	return nil
}

// loop handles one event after the other.
type loop struct {
	*subscriber
	delivery worker.Delivery

	mu        sync.Mutex
	taken     []entry // while a handler runs: its event, and those behind it
	abandoned bool    // the handler took too long: its result counts no more
}

func (l *loop) run(ctx, handling context.Context) {
	var room [batch]entry
	for {
		entries := l.box.take(ctx, room[:])
		if len(entries) == 0 {
			return
		}
		if l.queue == nil {
			l.tellMissed()
		}
		for ; len(entries) > 0; entries = entries[1:] {
			if ctx.Err() != nil {
				l.box.giveBack(entries)
				return
			}
			back := l.one(handling, entries)
			if l.abandoned { // what was taken has been given back
				return
			}
			if back {
				l.box.giveBack(entries)
				break
			}
		}
	}
}

// one handles the first of the entries and settles it, unless it is to be given back with those behind it.
func (l *loop) one(ctx context.Context, entries []entry) (back bool) {
	l.mu.Lock()
	l.taken = entries
	l.mu.Unlock()
	l.deliver(&entries[0])
	err := l.handle(ctx, &l.delivery)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken = nil
	if l.abandoned {
		return false
	}
	return l.settle(ctx, entries[0], err)
}

// abandon gives back what a handler that took too long has in hand, and what is behind that, and tells
// whether there was one.
func (l *loop) abandon() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.taken) == 0 {
		return false
	}
	l.abandoned = true
	if l.queue != nil {
		l.box.giveBack(l.taken)
	}
	return true
}

func (l *loop) deliver(e *entry) {
	m := e.message
	d := &l.delivery
	d.Event, d.Headers = m.Event, nil
	if len(m.Headers) > 0 {
		d.Headers = maps.Clone(m.Headers)
	}
	d.Queue, d.Exchange, d.RoutingKey = l.name, m.To.Exchange, m.To.RoutingKey
	if l.queue == nil {
		d.Queue = ""
	}
	d.Redelivered, d.Attempt, d.History = e.redelivered, 1, nil
	if e.history != nil {
		history := *e.history
		d.History = &history
		if history.Reason == "" {
			d.Attempt = history.Attempts + 1
		}
	}
}

// settle does with an event what its handler's result asks for, and tells whether that is to give it back.
func (s *subscriber) settle(ctx context.Context, e entry, err error) (back bool) {
	switch {
	case err == nil, errors.Is(err, worker.ErrSkip), errors.Is(err, worker.ErrDuplicate):
	case s.queue == nil:
		s.log(ctx, slog.LevelWarn, "handler failed; a listener has one attempt at an event", e, err)
	case errors.Is(err, worker.ErrRequeue), ctx.Err() != nil: // the latter: the drain timeout has passed
		return true
	default:
		s.fail(ctx, e, err)
	}
	return false
}

// fail has an event tried again, or gives it up.
func (s *subscriber) fail(ctx context.Context, e entry, err error) {
	now := time.Now().UTC()
	history := worker.Failure{First: now, Exchange: e.message.To.Exchange, RoutingKey: e.message.To.RoutingKey}
	if e.history != nil && e.history.Reason == "" {
		history = *e.history
	}
	history.Attempts++
	history.Last = now
	wait, reason := s.queue.policy.Decide(history.Attempts, err)
	e.history, e.redelivered = &history, false
	if reason == "" {
		s.log(ctx, slog.LevelWarn, "handler failed; the event is tried again", e, err, slog.Duration("in", wait.Round(time.Millisecond)))
		s.box.later(wait, e)
		return
	}
	history.Reason, history.Error, history.Queue = reason, err.Error(), s.queue.name
	s.log(ctx, slog.LevelError, "event is dead-lettered", e, err, slog.String("reason", string(reason)))
	if !s.bus.queue(topology.DeadLetterQueue(s.queue.name)).box.offer(e) {
		history.Attempts-- // it is given up once more, when there is room
		history.Reason = ""
		s.log(ctx, slog.LevelError, "the dead-letter queue is full; the event stays in its queue", e, err)
		s.box.later(fullPause, e)
	}
}

// fullPause is how long an event waits for which the dead-letter queue has no room.
const fullPause = time.Second

func (s *subscriber) log(ctx context.Context, level slog.Level, text string, e entry, err error, more ...slog.Attr) {
	attributes := append([]slog.Attr{
		slog.String("id", e.message.Event.ID), slog.String("type", e.message.Event.Type), slog.String("from", s.name), slog.Any("error", err),
	}, more...)
	s.bus.config.Logger.LogAttrs(ctx, level, text, attributes...)
}

// tellMissed says what a listener that was too slow has missed.
func (s *subscriber) tellMissed() {
	if missed := s.box.lost(); missed > 0 {
		s.bus.config.Logger.Warn("listener is too slow; the oldest events were not seen",
			slog.String("topic", s.name), slog.Int64("missed", missed))
	}
}
