package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/ledger"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/service"
	"github.com/evdemo/evdemo/internal/shop/sink"
	"github.com/evdemo/evdemo/internal/shop/system"
	"github.com/evdemo/evdemo/worker"
)

// memory is a venue within this process, where everybody is goroutines on a bus in memory.
type memory struct {
	*run
	others  *player
	payment *player
	before  int // payments that were made when the first one was cut off
	reading []*reader
}

// reader is a sink that counts what it has handled.
type reader struct {
	sink.Sink
	handled atomic.Int64
}

func (r *reader) Handle(ctx context.Context, d *worker.Delivery) error {
	err := r.Sink.Handle(ctx, d)
	if err == nil {
		r.handled.Add(1)
	}
	return err
}

// player is some parts of the shop.
type player struct {
	cut   context.CancelFunc
	ended chan struct{}
	err   error // valid once ended is closed
}

func (m *memory) start(ctx context.Context) (err error) {
	sinks, err := system.OpenSinks(ctx, system.SinkConfig{Places: sink.Places{Dir: m.sinks}, Names: system.SinkNames(), Logger: m.Logger})
	if err != nil {
		return err
	}
	for i, one := range sinks.All {
		m.reading = append(m.reading, &reader{Sink: one})
		sinks.All[i] = m.reading[i]
	}
	if m.others, err = m.play(ctx, system.Config{Names: others(), Sinks: sinks, DrainTimeout: 10 * time.Second}, sinks.Close); err != nil {
		return err
	}
	if m.payment, err = m.play(ctx, paying(), nil); err != nil {
		return err
	}
	m.stage.Say("No broker: the parts of a shop are goroutines of this process, on a bus in its memory. Each has a queue of its own, and hears of every " +
		"order (that is called fan-out).")
	return nil
}

// paying is the payment service. Its end is a crash: what it has in hand is not finished.
func paying() system.Config {
	return system.Config{
		Names: []string{service.Payment}, Concurrency: 3 * concurrency, DrainTimeout: time.Nanosecond,
		Faults: system.Faults{Slow: map[string]time.Duration{service.Payment: latency}},
	}
}

func (m *memory) kill(ctx context.Context) (err error) {
	m.before, _ = m.ledger.Done(service.Payment)
	if err := m.payment.end(); err != nil && !errors.Is(err, worker.ErrDrainTimeout) {
		return err
	}
	m.stage.Say("Cut payment off in the middle of its work, and started another one. It goes through all orders, and knows which are paid.")
	m.payment, err = m.play(ctx, paying(), nil)
	return err
}

func (m *memory) end(ctx context.Context) ([]ledger.Member, error) {
	if err := m.awaitReaders(ctx); err != nil {
		return nil, err
	}
	for _, p := range []*player{m.payment, m.others} {
		if err := p.end(); err != nil && !errors.Is(err, worker.ErrDrainTimeout) {
			return nil, err
		}
	}
	all, _ := m.ledger.Done(service.Payment)
	return []ledger.Member{{Name: victim, Effects: m.before}, {Name: "its successor", Effects: all - m.before}}, nil
}

// play has parts play, and waits until they get their events. The end of ctx does not end them, the stage's does.
func (m *memory) play(ctx context.Context, config system.Config, closing func(context.Context) error) (*player, error) {
	playing, cut := context.WithCancel(context.WithoutCancel(ctx))
	p := &player{cut: cut, ended: make(chan struct{})}
	ready := make(chan struct{})
	config.Store, config.Logger, config.Ready = m.store, m.Logger, func() { close(ready) }
	go func() { // end waits for it
		defer close(p.ended)
		_, p.err = system.Run(playing, config)
		if closing != nil {
			p.err = errors.Join(p.err, closing(context.WithoutCancel(ctx)))
		}
	}()
	m.stage.OnClose(func(context.Context) error { _ = p.end(); return nil })
	select {
	case <-ready:
		return p, nil
	case <-p.ended:
		return nil, fmt.Errorf("the shop did not start: %w", p.err)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *player) end() error {
	p.cut()
	<-p.ended
	return p.err
}

// awaitReaders waits until the sinks have all that is in the event store. What they do not have the verdict finds.
func (m *memory) awaitReaders(ctx context.Context) error {
	published := map[string]int64{} // by topic
	for e, err := range m.store.Read(ctx, eventstore.Query{}) {
		if err != nil {
			return err
		}
		if topic, ok := shop.Topic(e.Type); ok {
			published[topic]++
		}
	}
	_ = m.stage.Await(ctx, "that the sinks have all", patience, func() bool {
		return !slices.ContainsFunc(m.reading, func(r *reader) bool {
			wanted := int64(0)
			for _, topic := range sink.Topics(r.Name()) {
				wanted += published[topic]
			}
			return r.handled.Load() < wanted
		})
	})
	return ctx.Err()
}
