// Package rabbitmq is the contract of package bus on RabbitMQ. It puts packages publisher, worker and
// topology together, and adds nothing to them: who needs more of what they have uses them.
package rabbitmq

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/evdemo/evdemo/bus"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
)

// Config says which broker. URLs are needed; everything else has a useful zero value.
type Config struct {
	// URLs, TLS, ConnectTimeout and Logger are as in [worker.Config].
	URLs           []string
	TLS            *tls.Config
	ConnectTimeout time.Duration
	Logger         *slog.Logger
	// Name begins the names of connections. Default "evdemo bus".
	Name string
	// Topology is declared when the bus is opened, and says how queues retry. Default: topology.Default.
	Topology *topology.Spec
}

// Bus is a [bus.Bus] on RabbitMQ. One connection publishes, and each subscriber has its own.
type Bus struct {
	config    Config
	spec      topology.Spec
	publisher *publisher.Publisher
}

// Open connects, and declares the topology. The error is as that of publisher.Open.
func Open(ctx context.Context, config Config) (*Bus, error) {
	if config.Name == "" {
		config.Name = "evdemo bus"
	}
	b := &Bus{config: config, spec: topology.Default()}
	if config.Topology != nil {
		b.spec = *config.Topology
	}
	var err error
	b.publisher, err = publisher.Open(ctx, publisher.Config{
		URLs: config.URLs, TLS: config.TLS, ConnectTimeout: config.ConnectTimeout, Logger: config.Logger,
		ConnectionName: config.Name, Declare: b.spec.Resources(),
	})
	if err != nil {
		return nil, fmt.Errorf("open bus: %w", err)
	}
	return b, nil
}

// Publish implements [bus.Publisher]. An exchange that is not there returns nothing: the broker closes the
// channel over it, and the outcome is publisher.Unknown once ctx has ended.
func (b *Bus) Publish(ctx context.Context, m publisher.Message) error {
	return b.publisher.Publish(ctx, m)
}

// Send publishes without waiting for the outcome: see [publisher.Publisher.Send]. A relay (package eventstore/relay) can
// publish to the bus by it.
func (b *Bus) Send(ctx context.Context, m publisher.Message, done func(publisher.Result)) error {
	return b.publisher.Send(ctx, m, done)
}

// Close waits for the outcome of what is being published, at most until ctx ends. Subscribers end with their
// contexts.
func (b *Bus) Close(ctx context.Context) error { return b.publisher.Close(ctx) }

// Work implements [bus.Worker].
func (b *Bus) Work(ctx context.Context, queue string, options bus.Options, handle worker.Handler) error {
	if options.Group != "" || options.From != nil {
		return errors.New("work: Group and From are a listener's")
	}
	config := b.worker("work "+queue, options)
	config.Queue = queue
	if topology.DeadLetterQueue(topology.WorkQueue(queue)) != queue { // a dead-letter queue is declared with the queue that it is of
		settings := b.spec.Queue(queue)
		config.Retry, config.MaxAttempts = settings.Retry, settings.MaxAttempts
		config.Declare = b.spec.QueueResources(queue)
	}
	return run(ctx, config, options, handle)
}

// Listen implements [bus.Listener].
func (b *Bus) Listen(ctx context.Context, topic string, options bus.Options, handle worker.Handler) error {
	switch {
	case options.Group != "" && options.From != nil:
		return errors.New("listen: a group has a place of its own: give one of Group and From")
	case options.From != nil:
		return b.listenFrom(ctx, topic, options, handle)
	}
	config := b.worker("listen "+topic, options)
	if options.Group == "" {
		config.Topic, config.Declare = topic, b.spec.TopicResources(topic)
		return run(ctx, config, options, handle)
	}
	config.Queue = topology.GroupQueue(topic, options.Group)
	settings := b.spec.Queue(config.Queue)
	config.Retry, config.MaxAttempts = settings.Retry, settings.MaxAttempts
	config.Declare = b.spec.GroupResources(topic, options.Group)
	return run(ctx, config, options, handle)
}

func (b *Bus) worker(name string, options bus.Options) worker.Config {
	return worker.Config{
		URLs: b.config.URLs, TLS: b.config.TLS, ConnectTimeout: b.config.ConnectTimeout, Logger: b.config.Logger,
		ConnectionName: b.config.Name + " " + name, Concurrency: options.Concurrency, DrainTimeout: options.DrainTimeout,
	}
}

func run(ctx context.Context, config worker.Config, options bus.Options, handle worker.Handler) error {
	w, err := worker.New(config, handle)
	if err != nil {
		return err
	}
	if options.Ready == nil {
		return w.Run(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	told := make(chan struct{})
	go func() {
		defer close(told)
		tick := time.NewTicker(readyTick)
		defer tick.Stop()
		for !w.Ready() {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
		options.Ready()
	}()
	err = w.Run(ctx)
	cancel()
	<-told
	return err
}

// readyTick is how often a worker is asked whether it consumes.
const readyTick = 5 * time.Millisecond

// listenFrom reads the topic's log. As everywhere, a listener has one attempt at an event.
func (b *Bus) listenFrom(ctx context.Context, topic string, options bus.Options, handle worker.Handler) error {
	config := worker.LogConfig{
		URLs: b.config.URLs, TLS: b.config.TLS, ConnectTimeout: b.config.ConnectTimeout, Logger: b.config.Logger,
		ConnectionName: b.config.Name + " listen " + topic, Topic: topic, Declare: b.spec.TopicResources(topic),
		From: *options.From, Follow: true,
		Subscribed: func(on bool) {
			if on && options.Ready != nil {
				options.Ready()
				options.Ready = nil
			}
		},
	}
	drain := options.DrainTimeout
	if drain <= 0 {
		drain = worker.DefaultDrainTimeout
	}
	handle = worker.Recover()(handle)
	return worker.ReadLog(ctx, config, func(ctx context.Context, e *worker.Entry) error {
		err := within(ctx, drain, func(ctx context.Context) error { return handle(ctx, e.Delivery) })
		if errors.Is(err, worker.ErrDrainTimeout) {
			return err
		}
		if err != nil && config.Logger != nil {
			config.Logger.Warn("handler failed; a listener has one attempt at an event",
				slog.String("id", e.Event.ID), slog.String("topic", topic), slog.Any("error", err))
		}
		return nil
	})
}

// within calls handle. Once ctx has ended that has so long left, and a moment more once its own context has
// ended.
func within(ctx context.Context, drain time.Duration, handle func(context.Context) error) error {
	const moment = 100 * time.Millisecond
	handling, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- handle(handling) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(drain):
	}
	cancel()
	select {
	case err := <-done:
		return err
	case <-time.After(moment):
		return worker.ErrDrainTimeout
	}
}
