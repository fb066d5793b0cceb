//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/evdemo/evdemo/bus"
	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/event/schema"
	"github.com/evdemo/evdemo/examples"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
)

// checking measures how many sample orders are checked against their schema, beside decoding their data.
func (b *bare) checking(context.Context) (p pair, err error) {
	registry, err := schema.Load(examples.Schemas())
	if err != nil {
		return p, err
	}
	var orders []event.Event
	for line := range bytes.Lines(examples.Orders) {
		e, err := event.Parse(line, event.Defaults{})
		if err != nil {
			return p, err
		}
		orders = append(orders, e)
	}
	if p.bare, err = each(orders, func(e event.Event) error {
		var data any
		return json.Unmarshal(e.Data, &data)
	}); err != nil {
		return p, err
	}
	p.ours, err = each(orders, registry.Check)
	return p, err
}

// each calls do for all events again and again for half a second.
func each(events []event.Event, do func(event.Event) error) (perSecond float64, err error) {
	began, n := time.Now(), 0
	for ; time.Since(began) < 500*time.Millisecond; n += len(events) {
		for _, e := range events {
			if err := do(e); err != nil {
				return 0, err
			}
		}
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

// subscribers is how many get everything that the bus in memory is given.
const subscribers = 4

// fanningOut measures the bus in memory with four groups, beside four buffered channels that get a pointer
// each.
func (b *bare) fanningOut(ctx context.Context) (p pair, err error) {
	events := 5 * b.config.events
	e, err := event.New("order.created", "bench", b.data)
	if err != nil {
		return p, err
	}
	message := publisher.Message{Event: e, To: publisher.ToTopic("orders")}
	p.bare = channels(&message, events)
	p.ours, err = memory(ctx, message, events)
	return p, err
}

func channels(message *publisher.Message, events int) (perSecond float64) {
	var outlets [subscribers]chan *publisher.Message
	var receiving sync.WaitGroup
	for i := range outlets {
		outlets[i] = make(chan *publisher.Message, bus.DefaultHistory)
		receiving.Go(func() {
			for range outlets[i] {
			}
		})
	}
	began := time.Now()
	for range events {
		for _, outlet := range outlets {
			outlet <- message
		}
	}
	for _, outlet := range outlets {
		close(outlet)
	}
	receiving.Wait()
	return float64(events) / time.Since(began).Seconds()
}

func memory(ctx context.Context, message publisher.Message, events int) (perSecond float64, err error) {
	spec := topology.Spec{Topics: map[string]topology.Topic{"orders": {Log: &topology.Log{}}}}
	m := bus.NewMemory(bus.Config{Topology: &spec})
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var left atomic.Int64
	left.Store(int64(subscribers * events))
	ended, ready := make(chan error, subscribers), make(chan struct{}, subscribers)
	for i := range subscribers {
		options := bus.Options{Group: fmt.Sprint("group-", i), Ready: func() { ready <- struct{}{} }}
		go func() {
			ended <- m.Listen(ctx, "orders", options, func(context.Context, *worker.Delivery) error {
				if left.Add(-1) == 0 {
					stop()
				}
				return nil
			})
		}()
		<-ready
	}
	began := time.Now()
	for range events {
		if err := m.Publish(ctx, message); err != nil {
			return 0, err
		}
	}
	var errs []error
	for range subscribers {
		errs = append(errs, <-ended)
	}
	return float64(events) / time.Since(began).Seconds(), errors.Join(errs...)
}

// ordering measures a worker that keeps the order of a single key, the worst case, beside one that does not.
func (b *bare) ordering(ctx context.Context) (p pair, err error) {
	queue, err := b.newQueue()
	if err != nil {
		return p, err
	}
	for _, way := range []struct {
		perSecond *float64
		flags     []string
	}{{&p.bare, nil}, {&p.ours, []string{"--ordered-by", "source"}}} {
		if _, err := b.publish(queue, b.config.events); err != nil {
			return p, err
		}
		report, _, err := b.evdemo(ctx, append([]string{
			"work", "--queue", queue, "--no-declare", "--concurrency", "8",
			"--count", fmt.Sprint(b.config.events), "--prefetch", fmt.Sprint(b.config.window),
		}, way.flags...)...)
		if err != nil {
			return p, err
		}
		*way.perSecond = perSecond(report)
	}
	return p, b.deleteQueue(queue)
}

// reading measures listening from the beginning of a log, beside a loop that reads the stream.
func (b *bare) reading(ctx context.Context) (p pair, err error) {
	ch, err := b.conn.Channel()
	if err != nil {
		return p, err
	}
	b.queues++
	topic := fmt.Sprintf("evdemo-bench-log-%d", b.queues)
	stream := topology.LogStream(topic)
	if _, err := ch.QueueDeclare(stream, true, false, false, false, amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeStream}); err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, b.deleteQueue(stream)) }()
	if _, err := b.publish(stream, b.config.events); err != nil {
		return p, err
	}
	if p.bare, err = b.consume(stream, b.config.events, amqp.Table{"x-stream-offset": "first"}); err != nil {
		return p, err
	}
	report, _, err := b.evdemo(ctx, "listen", "--topic", topic, "--no-declare", "--from", "first", "--count", fmt.Sprint(b.config.events))
	p.ours = perSecond(report)
	return p, errors.Join(err, ch.Close())
}
