//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/evdemo/evdemo/event"
)

// bodySize is the size of an event's data.
const bodySize = 300

// bare is the client library with nothing around it.
type bare struct {
	config  config
	conn    *amqp.Connection
	message amqp.Publishing
	data    []byte
	queues  int
}

func newBare(c config) (*bare, error) {
	conn, err := amqp.Dial(c.url)
	if err != nil {
		return nil, fmt.Errorf("no broker: %w", err)
	}
	b := &bare{config: c, conn: conn}
	b.data = append([]byte(`{"pad":"`), bytes.Repeat([]byte("x"), bodySize-10)...)
	b.data = append(b.data, `"}`...)
	e, err := event.New("order.created", "bench", b.data)
	if err != nil {
		return nil, err
	}
	// The same message that evdemo sends, made once: the broker has the same work with both.
	m := e.Encode()
	m.Headers["evdemo-seq"] = int64(1)
	b.message = amqp.Publishing{
		Headers: m.Headers, ContentType: m.ContentType, DeliveryMode: amqp.Persistent,
		MessageId: m.MessageID, Timestamp: m.Timestamp, Type: m.Type, Body: m.Body,
	}
	return b, nil
}

func (b *bare) close() error { return b.conn.Close() }

func (b *bare) server() string {
	return fmt.Sprintf("%v %v", b.conn.Properties["product"], b.conn.Properties["version"])
}

func (b *bare) newQueue() (string, error) {
	ch, err := b.conn.Channel()
	if err != nil {
		return "", err
	}
	b.queues++
	name := fmt.Sprintf("evdemo-bench-%d-%d", os.Getpid(), b.queues)
	_, err = ch.QueueDeclare(name, true, false, false, false, amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum})
	return name, errors.Join(err, ch.Close())
}

func (b *bare) deleteQueue(name string) error {
	ch, err := b.conn.Channel()
	if err != nil {
		return err
	}
	_, err = ch.QueueDelete(name, false, false, false)
	return errors.Join(err, ch.Close())
}

// publishing measures one round of publishing, each way into a fresh queue.
func (b *bare) publishing(ctx context.Context) (p pair, err error) {
	queue, err := b.newQueue()
	if err != nil {
		return p, err
	}
	if p.bare, err = b.publish(queue, b.config.events); err != nil {
		return p, err
	}
	if err := b.deleteQueue(queue); err != nil {
		return p, err
	}
	if queue, err = b.newQueue(); err != nil {
		return p, err
	}
	report, _, err := b.evdemo(ctx, "publish", "--queue", queue, "--no-declare", "--type", "order.created", "--source", "bench",
		"--data", string(b.data), "--count", fmt.Sprint(b.config.events), "--window", fmt.Sprint(b.config.window))
	if err != nil {
		return p, err
	}
	p.ours = perSecond(report)
	return p, b.deleteQueue(queue)
}

// publish is the bare loop: a window of publishes, each waited for in order.
func (b *bare) publish(queue string, events int) (perSecond float64, err error) {
	conn, err := amqp.Dial(b.config.url)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	ch, err := conn.Channel()
	if err != nil {
		return 0, err
	}
	if err := ch.Confirm(false); err != nil {
		return 0, err
	}
	window := make(chan *amqp.DeferredConfirmation, b.config.window)
	failed := make(chan int, 1)
	go func() {
		n := 0
		for confirm := range window {
			if !confirm.Wait() {
				n++
			}
		}
		failed <- n
	}()
	began := time.Now()
	for range events {
		confirm, err := ch.PublishWithDeferredConfirm("", queue, true, false, b.message)
		if err != nil {
			return 0, err
		}
		window <- confirm
	}
	close(window)
	if n := <-failed; n > 0 {
		return 0, fmt.Errorf("%d of %d events not confirmed", n, events)
	}
	return float64(events) / time.Since(began).Seconds(), nil
}

// working measures one round of consuming, each way from a queue filled for it.
func (b *bare) working(ctx context.Context) (p pair, err error) {
	queue, err := b.newQueue()
	if err != nil {
		return p, err
	}
	if _, err := b.publish(queue, b.config.events); err != nil {
		return p, err
	}
	if p.bare, err = b.consume(queue, b.config.events, nil); err != nil {
		return p, err
	}
	if _, err := b.publish(queue, b.config.events); err != nil {
		return p, err
	}
	report, _, err := b.evdemo(ctx, "work", "--queue", queue, "--no-declare",
		"--count", fmt.Sprint(b.config.events), "--prefetch", fmt.Sprint(b.config.window))
	if err != nil {
		return p, err
	}
	p.ours = perSecond(report)
	return p, b.deleteQueue(queue)
}

// consume is the bare loop: acknowledge every hundredth delivery with multiple.
func (b *bare) consume(queue string, events int, arguments amqp.Table) (perSecond float64, err error) {
	conn, err := amqp.Dial(b.config.url)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	ch, err := conn.Channel()
	if err != nil {
		return 0, err
	}
	if err := ch.Qos(b.config.window, 0, false); err != nil {
		return 0, err
	}
	began := time.Now()
	deliveries, err := ch.Consume(queue, "", false, false, false, false, arguments)
	if err != nil {
		return 0, err
	}
	for n := 1; n <= events; n++ {
		d, ok := <-deliveries
		if !ok {
			return 0, errors.New("consumer ended")
		}
		if n%100 == 0 || n == events {
			if err := d.Ack(true); err != nil {
				return 0, err
			}
		}
	}
	return float64(events) / time.Since(began).Seconds(), nil
}

// writeFile writes events as JSONL.
func (b *bare) writeFile(path string, events int) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	for range events {
		e, err := event.New("order.created", "bench", b.data)
		if err != nil {
			return err
		}
		line, err := e.MarshalJSON()
		if err != nil {
			return err
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return w.Flush()
}
