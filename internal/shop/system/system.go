// Package system runs the order system: its services and sinks, all in one process or some in each, on RabbitMQ or in memory.
package system

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop/service"
	"github.com/evdemo/evdemo/internal/shop/sink"
	"github.com/evdemo/evdemo/worker"
)

// DefaultConcurrency is how many events each part has in hand at a time.
const DefaultConcurrency = 32

// Config says what to run. Store is required.
type Config struct {
	Store *eventstore.Store
	// Flow is service.Choreography unless it is set. A store keeps to the flow that it began with.
	Flow service.Flow
	// Names are the services and sinks to run. Default: all.
	Names []string
	// Sinks are those that run here. They stay the caller's, who closes them once Run has returned. The queues of all sinks
	// are declared, whoever runs them, so that they miss nothing.
	Sinks *Sinks
	// Down are services and sinks that do not run although they are named; their events wait.
	Down []string
	// Faults are made on purpose.
	Faults Faults
	// Broker is the RabbitMQ to run on. Nil means in memory: see [Run].
	Broker *Broker
	// Prefix is what the names of topics and queues begin with, so that several shops can be on one RabbitMQ. Default: none.
	Prefix string
	// Concurrency is how many events each part has in hand at a time. Default 32.
	Concurrency int
	// StepTimeout is that of service.Config, DrainTimeout that of worker.Config.
	StepTimeout, DrainTimeout time.Duration
	// Logger receives what fails. Default: nothing is logged.
	Logger *slog.Logger
	// Ready, if set, is called once all parts get their events.
	Ready func()
}

// Broker says which RabbitMQ, as in worker.Config.
type Broker struct {
	URLs           []string
	TLS            *tls.Config
	ConnectTimeout time.Duration
}

var (
	// ErrFlow is wrapped where a store's orders are in another flow.
	ErrFlow = errors.New("the orders of this store are in another flow")
	// ErrName is wrapped where there is no service and no sink with a name.
	ErrName = errors.New("there is no such service or sink")
)

// part is a service or a sink, ready to be run.
type part struct {
	name   string
	topics []string
	handle worker.Handler
	run    func(context.Context) error
	count  *counts
}

type counts struct{ handled, again, failed atomic.Int64 }

// Count is what a part has done.
type Count struct {
	Name string `json:"name"`
	// Handled counts events that were handled. Those that the part has no interest in are not counted.
	Handled int64 `json:"handled"`
	// Again counts those of them that were known already to a sink.
	Again int64 `json:"again"`
	// Failed counts attempts that failed.
	Failed int64 `json:"failed"`
}

// Run runs the parts until ctx ends, drains them, and tells what each has done.
//
// On RabbitMQ the topology is declared, and the store's log is published by a relay, one among all processes that run parts
// of the shop. In memory the events come straight from the log. A bus in memory remembers nothing, so then each run begins
// with the first event of the log: parts know what they have done.
func Run(ctx context.Context, config Config) ([]Count, error) {
	all, err := config.parts()
	if err != nil {
		return nil, err
	}
	parts, err := config.choose(all)
	if err != nil {
		return nil, err
	}
	if err := KeepFlow(ctx, config.Store, config.Flow); err != nil {
		if ctx.Err() != nil { // nothing has begun
			err = nil
		}
		return nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, p := range parts {
		if p.run != nil {
			group.Go(func() error { return unlessEnded(ctx, p.run(ctx)) })
		}
	}
	group.Go(func() error { return config.Sinks.Run(ctx) })
	if config.Broker != nil {
		group.Go(func() error { return config.onRabbitMQ(ctx, all, parts) })
	} else {
		group.Go(func() error { return config.inMemory(ctx, parts) })
	}
	err = group.Wait()
	done := make([]Count, len(parts))
	for i, p := range parts {
		done[i] = Count{Name: p.name, Handled: p.count.handled.Load(), Again: p.count.again.Load(), Failed: p.count.failed.Load()}
	}
	return done, err
}

// unlessEnded is an error that is not the end of ctx.
func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// parts are all services and sinks.
func (c *Config) parts() ([]part, error) {
	if c.Flow == "" {
		c.Flow = service.Choreography
	}
	if c.Concurrency <= 0 {
		c.Concurrency = DefaultConcurrency
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Sinks == nil {
		c.Sinks = &Sinks{}
	}
	services, err := service.All(service.Config{Store: c.Store, Flow: c.Flow, Refuse: c.Faults.Refuses, StepTimeout: c.StepTimeout})
	if err != nil {
		return nil, err
	}
	parts := make([]part, 0, len(services)+len(SinkNames()))
	for _, s := range services {
		parts = append(parts, newPart(s.Name, service.Topics(s.Name), only(s.Types, c.Faults.Around(s.Name)(s.Handle)), s.Run))
	}
	here := map[string]sink.Sink{}
	for _, one := range c.Sinks.All {
		here[one.Name()] = one
	}
	names := SinkNames()
	for _, name := range []string{sink.WebhooksName, sink.CacheName} {
		if here[name] != nil {
			names = append(names, name)
		}
	}
	for _, name := range names {
		if one := here[name]; one != nil {
			parts = append(parts, newPart(name, sink.Topics(name), c.Faults.Around(name)(one.Handle), nil))
		} else {
			parts = append(parts, part{name: name, topics: sink.Topics(name)})
		}
	}
	return parts, nil
}

// only skips what a service does not react to.
func only(types []string, handle worker.Handler) worker.Handler {
	return func(ctx context.Context, d *worker.Delivery) error {
		if !slices.Contains(types, d.Event.Type) {
			return worker.ErrSkip
		}
		return handle(ctx, d)
	}
}

// newPart makes a part that counts what it does.
func newPart(name string, topics []string, handle worker.Handler, run func(context.Context) error) part {
	count := &counts{}
	counted := func(ctx context.Context, d *worker.Delivery) error {
		err := handle(ctx, d)
		switch {
		case err == nil:
			count.handled.Add(1)
		case errors.Is(err, worker.ErrDuplicate):
			count.handled.Add(1)
			count.again.Add(1)
		case errors.Is(err, worker.ErrSkip):
		default:
			count.failed.Add(1)
		}
		return err
	}
	return part{name: name, topics: topics, handle: counted, run: run, count: count}
}

// CheckNames tells whether there are services and sinks with these names and with those of the faults. The error wraps ErrName,
// and lists them all.
func CheckNames(flow service.Flow, faults Faults, names ...string) error {
	known := slices.Concat(service.Names(flow), SinkNames(), []string{sink.WebhooksName, sink.CacheName})
	for _, name := range slices.Concat(names, faults.names()) {
		if !slices.Contains(known, name) {
			return fmt.Errorf("%q: %w: want some of %s", name, ErrName, strings.Join(known, ", "))
		}
	}
	return nil
}

// choose gives the parts that are to run here.
func (c *Config) choose(all []part) ([]part, error) {
	if err := CheckNames(c.Flow, c.Faults, slices.Concat(c.Names, c.Down)...); err != nil {
		return nil, err
	}
	var parts []part
	for _, p := range all {
		wanted := len(c.Names) == 0 || slices.Contains(c.Names, p.name)
		if wanted && p.handle != nil && !slices.Contains(c.Down, p.name) {
			parts = append(parts, p)
		}
	}
	return parts, nil
}

// opened is the data of the event with which a shop begins.
type opened struct {
	Flow service.Flow `json:"flow"`
}

// KeepFlow notes down the flow of a store, or compares it: what was begun in one cannot end in the other.
func KeepFlow(ctx context.Context, store *eventstore.Store, flow service.Flow) error {
	e, err := event.New("shop.opened", "shop", opened{flow})
	if err != nil {
		return err
	}
	_, err = store.Append(ctx, eventstore.StreamWrite{Stream: "shop", Expect: eventstore.NoStream, Events: []event.Event{e}})
	if _, there := errors.AsType[*eventstore.ConflictError](err); !there {
		return err
	}
	for r, err := range store.Read(ctx, eventstore.Query{Stream: "shop", Limit: 1}) {
		var was opened
		if err == nil {
			err = json.Unmarshal(r.Data, &was)
		}
		if err != nil {
			return err
		}
		if was.Flow != flow {
			return fmt.Errorf("%w: %s, not %s", ErrFlow, was.Flow, flow)
		}
	}
	return nil
}
