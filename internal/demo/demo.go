// Package demo runs the suite's two-minute tour: the shop, as real processes on a real broker, one of them killed in the
// middle, and a verdict by a ledger kept outside of them. Where nothing is installed it runs within one process, on a bus in
// memory.
package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/ledger"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/service"
	"github.com/evdemo/evdemo/internal/shop/system"
	"github.com/evdemo/evdemo/internal/stage"
)

const (
	orders    = 300
	perSecond = 150 // orders, so that a person can follow
	// latency is that of a payment, so that the services are busy when one is killed.
	latency = 40 * time.Millisecond
	// concurrency is how many payments each process has in hand.
	concurrency = 2
	patience    = 15 * time.Second // without a new effect, before the tour gives up
	longest     = 2 * time.Minute  // for the event store, on the slowest machine
	strayEvents = 20               // that the stray worker of the broken tour loses

	victim    = "payment-2"
	broadcast = "broadcast" // the listener that is in no group
)

// Config says where and how to run the tour. With Memory it is within this process, on a bus in memory: parts are goroutines, and
// only the event store is durable.
type Config struct {
	stage.Config
	// Broken adds a worker that takes events and loses them, which the ledger must show.
	Broken bool
	// Live redraws a table on the screen, as on a terminal.
	Live bool
}

// run is one tour under way.
type run struct {
	Config
	stage  *stage.Stage
	store  *eventstore.Store
	db     string
	sinks  string
	ledger *ledger.Ledger
	venue  venue
	screen *screen
	killed bool
	began  time.Time
	// watched is the position of the last event that is in the ledger.
	watched atomic.Int64
}

// venue is where a tour takes place: a broker with processes, or this process alone.
type venue interface {
	// start starts all parts of the shop and whoever listens, and waits until all get their events.
	start(ctx context.Context) error
	// kill ends one part that handles payments as a crash would, and says so.
	kill(ctx context.Context) error
	// end ends all parts in good order, and tells who has handled how many payments.
	end(ctx context.Context) ([]ledger.Member, error)
}

// others are the parts of the shop besides payment.
func others() []string {
	services := slices.DeleteFunc(service.Names(service.Choreography), func(name string) bool { return name == service.Payment })
	return append(services, system.SinkNames()...)
}

// consumers are the consumers of every order, in the order in which they are shown.
func (r *run) consumers() []string {
	names := []string{service.Fraud, service.Payment, service.Inventory, service.Shipping, service.Loyalty, service.Email, service.SMS, service.Push}
	if !r.Memory {
		names = append(names, broadcast)
	}
	return names
}

// Run runs the tour and removes everything that it made, also where it fails or ctx ends. The report's Holds says whether the
// ledger proves the claims.
func Run(ctx context.Context, config Config) (report Report, err error) {
	r := &run{Config: config, ledger: ledger.New(), began: time.Now()}
	if r.Screen == nil {
		r.Screen = io.Discard
	}
	r.screen = &screen{run: r, to: r.Screen}
	r.Screen = r.screen
	if r.stage, err = stage.Open(ctx, r.Config.Config); err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, r.stage.Close(ctx)) }()
	r.db, r.sinks = filepath.Join(r.stage.Dir, "shop.db"), filepath.Join(r.stage.Dir, "sinks")
	if r.store, err = eventstore.Open(ctx, eventstore.Config{DB: r.db, BusyTimeout: longest, Logger: r.Logger}); err != nil {
		return report, err
	}
	r.stage.OnClose(func(context.Context) error { return r.store.Close() })
	r.venue = &processes{run: r}
	if r.Memory {
		r.venue = &memory{run: r}
	}
	return r.do(ctx)
}

func (r *run) do(ctx context.Context) (report Report, err error) {
	for _, name := range r.consumers() {
		r.ledger.Expect(name, name)
	}
	if err := r.venue.start(ctx); err != nil {
		return report, err
	}
	watching, unwatch := context.WithCancel(ctx)
	var both sync.WaitGroup
	watched, placed := make(chan error, 1), make(chan error, 1)
	both.Go(func() { watched <- r.watch(watching) })
	both.Go(func() { placed <- r.place(watching) })
	var payments []ledger.Member
	if err = r.killInTheMiddle(ctx, placed); err == nil {
		payments, err = r.venue.end(ctx)
	}
	if err == nil {
		err = r.awaitWatch(ctx)
	}
	unwatch()
	both.Wait()
	if err := errors.Join(err, <-watched); err != nil {
		return report, err
	}
	return r.report(ctx, payments)
}

// place places the orders as customers do. Each is an event in the event store, and nobody is waited for.
func (r *run) place(ctx context.Context) error {
	ticker := time.NewTicker(time.Second / perSecond)
	defer ticker.Stop()
	for range orders {
		write, err := shop.Placed(shop.Sample(r.stage.Rand))
		if err != nil {
			return err
		}
		id := write.Events[0].Subject
		r.ledger.Attempt(id)
		if _, err := r.store.Append(ctx, write); err != nil {
			return fmt.Errorf("place an order: %w", err)
		}
		r.ledger.Outcome(id, stored)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// stored is the outcome of an order that is in the event store.
const stored = "stored"

// watch enters into the ledger what the event store says that each part has done, until ctx ends.
func (r *run) watch(ctx context.Context) error {
	for e, err := range r.store.Follow(ctx, eventstore.Query{}) {
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("follow the event store: %w", err)
		}
		if part := doneBy(e); part != "" {
			r.ledger.Effect(part, part, e.Subject)
		}
		r.watched.Store(e.Position)
	}
	return nil
}

// awaitWatch waits until all is in the ledger that the event store has: nothing is appended any more.
func (r *run) awaitWatch(ctx context.Context) error {
	head, err := r.store.Head(ctx)
	if err != nil {
		return err
	}
	return r.stage.Await(ctx, "that all events are read", longest, func() bool { return r.watched.Load() >= head })
}

// doneBy is the part of the shop that tells of its work on an order by an event; "" where it tells of something else.
func doneBy(e eventstore.Recorded) string {
	switch e.Type {
	case shop.FraudCleared, shop.FraudSuspected:
		return service.Fraud
	case shop.PaymentProcessed, shop.PaymentFailed:
		return service.Payment
	case shop.InventoryReserved, shop.InventoryRejected:
		return service.Inventory
	case shop.OrderShipped, shop.OrderCancelled:
		return service.Shipping
	case shop.LoyaltyAwarded:
		return service.Loyalty
	case shop.NotificationSent:
		var told shop.Notification
		_ = json.Unmarshal(e.Data, &told) // what has no channel is told to nobody
		return told.Channel
	}
	return ""
}

// killInTheMiddle kills one payment service when a third of the payments is done, and waits until every consumer is done or
// patience is at its end.
func (r *run) killInTheMiddle(ctx context.Context, placed <-chan error) error {
	r.stage.Say("Customers place %d orders, %d a second. An order is an event: a note of what has happened. Each part reacts to events that it hears of, and tells by others what it has done; nobody calls anybody.", orders, perSecond)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	var placing error
	all, effects, since := false, 0, time.Now()
	for !all || !r.killed || !r.done() {
		select {
		case placing = <-placed:
			all, placed = true, nil
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if placing != nil {
			return placing
		}
		if n := r.effects(); n > effects {
			effects, since = n, time.Now()
		}
		if time.Since(since) > patience {
			r.stage.Say("Gave up waiting: nothing more came for %v.", patience)
			return nil
		}
		r.screen.draw()
		if n, _ := r.ledger.Done(service.Payment); !r.killed && n >= orders/3 {
			r.killed = true
			if err := r.venue.kill(ctx); err != nil {
				return err
			}
		}
	}
	r.screen.draw()
	return nil
}

// done tells whether every consumer has had as many effects as there are orders.
func (r *run) done() bool { return r.effects() == orders*len(r.consumers()) }

// effects counts the orders with an effect over all consumers.
func (r *run) effects() (n int) {
	for _, name := range r.consumers() {
		distinct, _ := r.ledger.Done(name)
		n += distinct
	}
	return n
}
