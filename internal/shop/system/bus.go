package system

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/bus"
	"github.com/evdemo/evdemo/bus/rabbitmq"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/eventstore/relay"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/publisher"
)

// RelayName is the name of the relay's checkpoint in the store.
const RelayName = "shop"

// onRabbitMQ has the parts work on their queues, and publishes the log. All queues are declared before anything is
// published, those of parts that run elsewhere too: an event is in the queue of everybody who is to have it.
func (c *Config) onRabbitMQ(ctx context.Context, all, parts []part) (err error) {
	topology := spec(all).WithPrefix(c.Prefix)
	b, err := rabbitmq.Open(ctx, rabbitmq.Config{
		URLs: c.Broker.URLs, TLS: c.Broker.TLS, ConnectTimeout: c.Broker.ConnectTimeout,
		Name: "evdemo shop", Topology: &topology, Logger: c.Logger,
	})
	if err != nil {
		return unlessEnded(ctx, err)
	}
	defer func() {
		ended, cancel := context.WithCancel(context.WithoutCancel(ctx))
		cancel() // the relay has waited for its confirms
		_ = b.Close(ended)
	}()
	r, err := relay.New(relay.Config{Store: c.Store, Publisher: b, Name: RelayName, To: c.to, Logger: c.Logger})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.Run(ctx) })
	c.work(ctx, group, b, parts)
	return group.Wait()
}

// to says where the log's events go.
func (c *Config) to(r eventstore.Recorded) (publisher.Destination, error) {
	topic, ok := shop.Topic(r.Type)
	if !ok {
		return publisher.Destination{}, relay.ErrSkip
	}
	return publisher.ToTopic(c.Prefix + topic), nil
}

// inMemory has the parts work in this process, on what the log has.
func (c *Config) inMemory(ctx context.Context, parts []part) error {
	topology := spec(parts).WithPrefix(c.Prefix) // of those only: a queue that nobody works on would fill up
	b := bus.NewMemory(bus.Config{Topology: &topology, Logger: c.Logger})
	defer b.Close()
	group, ctx := errgroup.WithContext(ctx)
	ready := c.work(ctx, group, b, parts)
	group.Go(func() error {
		select {
		case <-ready:
			return unlessEnded(ctx, c.follow(ctx, b))
		case <-ctx.Done():
			return nil
		}
	})
	return group.Wait()
}

// work has each part work on its queue. The channel is closed once all do.
func (c *Config) work(ctx context.Context, group *errgroup.Group, b bus.Worker, parts []part) <-chan struct{} {
	ready := make(chan struct{})
	var waiting sync.WaitGroup
	waiting.Add(len(parts))
	for _, p := range parts {
		group.Go(func() error {
			options := bus.Options{Concurrency: c.Concurrency, DrainTimeout: c.DrainTimeout, Ready: sync.OnceFunc(waiting.Done)}
			defer options.Ready() // where it never comes to be
			if err := b.Work(ctx, c.Prefix+Queue(p.name), options, p.handle); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			return nil
		})
	}
	go func() {
		waiting.Wait()
		if c.Ready != nil && ctx.Err() == nil {
			c.Ready()
		}
		close(ready)
	}()
	return ready
}

// follow publishes the log from its beginning, to whoever is there.
func (c *Config) follow(ctx context.Context, b *bus.Memory) error {
	for r, err := range c.Store.Follow(ctx, eventstore.Query{}) {
		if err != nil {
			return err
		}
		destination, err := c.to(r)
		if errors.Is(err, relay.ErrSkip) {
			continue
		}
		err = b.Publish(ctx, publisher.Message{Event: r.Event, To: destination, Headers: relay.Headers(&r)})
		outcome, _ := errors.AsType[*publisher.OutcomeError](err)
		if err != nil && (outcome == nil || outcome.Outcome != publisher.Returned) { // that is for none of the parts that run here
			return err
		}
	}
	return nil
}
