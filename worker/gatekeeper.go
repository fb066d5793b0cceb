package worker

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/feed"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
)

const (
	// gateSweep is how often a gate is asked for what waits too long, and for what was left behind.
	gateSweep = time.Second
	// gateEnd bounds how long the end of a worker waits for the broker to take what is being sent on.
	gateEnd = 10 * time.Second
)

// gatekeeper runs a gate for a worker.
type gatekeeper struct {
	*Worker
	gate *Gate

	mu      sync.Mutex
	ready   []Held            // to be sent on
	sent    []Held            // confirmed, and to be forgotten
	flying  sync.WaitGroup    // on their way
	flights map[heldKey]int64 // their latest claims
	stayed  int               // could not be sent on
	wake    chan struct{}     // holds one
	stopped chan struct{}     // closed when run has ended
}

func newGatekeeper(w *Worker) *gatekeeper {
	return &gatekeeper{Worker: w, gate: w.config.Gate, wake: make(chan struct{}, 1), stopped: make(chan struct{}), flights: map[heldKey]int64{}}
}

// hold holds an event back whose parent has not been handled. It may be acknowledged then.
func (k *gatekeeper) hold(ctx context.Context, d *Delivery) (held bool, err error) {
	parent := k.gate.parentOf(d)
	if parent == "" {
		return false, nil
	}
	raw := rawMessage(d.message, d.waitingHeaders(verdict{}))
	message, err := feed.AppendRecord(nil, feed.Record{Message: publisher.Message{Raw: raw}})
	if err != nil {
		return false, err
	}
	held, err = k.gate.Store.Hold(ctx, k.gate.Group, Held{
		Source: d.Event.Source, ID: d.Event.ID, Parent: parent, Queue: d.Queue, Until: time.Now().Add(k.gate.Wait), Message: message,
	})
	if err != nil {
		return false, fmt.Errorf("hold event %s until %s is handled: %w", d.Event.ID, parent, err)
	}
	return held, nil
}

// mark notes that an event has been handled, and has what waits for it sent on.
func (k *gatekeeper) mark(ctx context.Context, d *Delivery) error {
	if d.Foreign != nil {
		return nil //nolint:nilerr // what is no event is nobody's parent, which is no fault
	}
	ready, err := k.gate.Store.Mark(ctx, k.gate.Group, d.Event.ID)
	if err != nil {
		return fmt.Errorf("event %s was handled, but that cannot be remembered, and it will be handled again: %w", d.Event.ID, err)
	}
	if len(ready) > 0 {
		k.mu.Lock()
		k.ready = append(k.ready, ready...)
		k.mu.Unlock()
		k.poke()
	}
	return nil
}

func (k *gatekeeper) poke() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// run sends on what may go until ctx ends, which is when the last handler has ended.
func (k *gatekeeper) run(ctx context.Context) {
	defer close(k.stopped)
	tick := time.NewTicker(min(gateSweep, k.gate.Wait))
	defer tick.Stop()
	for {
		select {
		case <-k.wake:
			k.sendReady(ctx)
			k.forget(ctx)
		case <-tick.C:
			k.sweep(ctx)
		case <-ctx.Done():
			k.finish(ctx)
			return
		}
	}
}

// finish sends on what is ready, and gives back what would be lost with the process. It ends when the
// passer does, at the latest.
func (k *gatekeeper) finish(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	k.sendReady(ctx)
	k.flying.Wait()
	k.forget(ctx)
	if k.gate.Store.Durable() {
		return
	}
	k.mu.Lock()
	k.stayed = 0
	k.mu.Unlock()
	began, never := time.Now(), time.Now().Add(10*365*24*time.Hour)
	for { // what has been claimed since it began is not claimed again
		held, err := k.gate.Store.Claim(ctx, k.gate.Group, never, time.Since(began))
		if err != nil || len(held) == 0 {
			break
		}
		for i := range held {
			held[i].Ready = true
		}
		k.send(ctx, held)
		k.flying.Wait()
		k.forget(ctx)
	}
	if k.stayed > 0 {
		k.config.Logger.Error("events that were held in memory could not be given back, and end with it", slog.Int("events", k.stayed))
	}
}

func (k *gatekeeper) sendReady(ctx context.Context) {
	k.mu.Lock()
	ready := k.ready
	k.ready = nil
	k.mu.Unlock()
	k.send(ctx, ready)
}

// sweep sends on what others have left behind, and gives up what has waited too long.
func (k *gatekeeper) sweep(ctx context.Context) {
	for {
		due, err := k.gate.Store.Claim(ctx, k.gate.Group, time.Now(), GateLease)
		if err != nil && ctx.Err() == nil {
			k.config.Logger.Error("gate cannot be asked for what it holds", slog.Any("error", err))
		}
		k.send(ctx, due)
		k.forget(ctx)
		if len(due) < GateBatch {
			return
		}
	}
}

// send publishes events. Those that the broker does not confirm are claimed again, by this worker or
// another.
func (k *gatekeeper) send(ctx context.Context, held []Held) {
	for _, h := range held {
		if !k.takeOff(h) {
			continue
		}
		m, err := k.message(h)
		if err == nil {
			err = k.passer.send(ctx, m, func(r publisher.Result) { k.outcome(h, r) })
		}
		if err != nil {
			k.land(&h)
			k.logStays(h, err)
		}
	}
}

// takeOff notes that an event is on its way. One that is so already, and was claimed again since that takes
// long, is not sent a second time; it is forgotten by its latest claim.
func (k *gatekeeper) takeOff(h Held) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := heldKey{h.Queue, h.Source, h.ID}
	_, flying := k.flights[key]
	k.flights[key] = h.Claim
	if !flying {
		k.flying.Add(1)
	}
	return !flying
}

// land notes that an event is no longer on its way.
func (k *gatekeeper) land(h *Held) {
	defer k.flying.Done()
	k.mu.Lock()
	defer k.mu.Unlock()
	key := heldKey{h.Queue, h.Source, h.ID}
	h.Claim = k.flights[key]
	delete(k.flights, key)
}

// outcome is called with the outcome of a publish.
func (k *gatekeeper) outcome(h Held, r publisher.Result) {
	if r.Outcome != publisher.Confirmed {
		k.logStays(h, fmt.Errorf("%s: %w", r.Outcome, cmp.Or(r.Err, errPassing)))
		k.land(&h)
		return
	}
	k.flying.Add(1) // until it is among those to be forgotten
	defer k.flying.Done()
	k.land(&h)
	k.mu.Lock()
	k.sent = append(k.sent, h)
	k.mu.Unlock()
	k.poke()
}

// forget removes what was sent on from the store.
func (k *gatekeeper) forget(ctx context.Context) {
	k.mu.Lock()
	sent := k.sent
	k.sent = nil
	k.mu.Unlock()
	if err := k.gate.Store.Forget(context.WithoutCancel(ctx), k.gate.Group, sent); err != nil {
		k.config.Logger.Error("gate cannot forget what was sent on; it will be sent again", slog.Any("error", err))
		return
	}
	for _, h := range sent {
		if h.Ready {
			k.counts.released.Add(1)
			continue
		}
		k.counts.orphaned.Add(1)
		k.config.Logger.Error("event is dead-lettered", slog.String("id", h.ID), slog.String("queue", h.Queue),
			slog.String("reason", string(ReasonOrphan)), slog.Any("error", k.orphanError(h)))
	}
}

func (k *gatekeeper) logStays(h Held, err error) {
	k.mu.Lock()
	k.stayed++
	k.mu.Unlock()
	k.config.Logger.Warn("a held event could not be sent on; it is held on",
		slog.String("id", h.ID), slog.String("queue", h.Queue), slog.Any("error", err))
}

// message is a held event on its way: back to its queue where its parent has been handled, and otherwise to
// the dead letters.
func (k *gatekeeper) message(h Held) (publisher.Message, error) {
	m, err := feed.NewLines("held event", strings.NewReader(string(h.Message)), event.Defaults{}).Next()
	if err != nil {
		return m, err
	}
	m.To = publisher.ToQueue(h.Queue)
	if !h.Ready {
		m.To = publisher.ToQueue(topology.DeadLetterQueue(h.Queue))
		k.orphan(h, m.Raw.Headers)
	}
	return m, nil
}

// orphan adds to headers why an event is dead-lettered.
func (k *gatekeeper) orphan(h Held, headers map[string]any) {
	now := time.Now().UTC().Format(time.RFC3339Nano)
	if headers[headerFirstFailure] == nil {
		headers[headerFirstFailure] = now
	}
	headers[headerLastFailure] = now
	giveUp(headers, ReasonOrphan, k.orphanError(h), h.Queue, k.config.Name)
}

func (k *gatekeeper) orphanError(h Held) error {
	return fmt.Errorf("the event before it, %s, was not handled in time", h.Parent)
}
