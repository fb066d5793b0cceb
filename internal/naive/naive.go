// Package naive does with RabbitMQ what people do first, with the client library and nothing around it: it is what the
// scenarios show broken. Nothing else may use it.
package naive

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/evdemo/evdemo/event"
)

// Consumer is a consumer as it stands in many a first program.
type Consumer struct {
	URL, Queue string
	TLS        *tls.Config
	// AutoAck has the broker forget each event as soon as it is sent.
	AutoAck bool
	// Prefetch is how many events the broker may send ahead where they are acknowledged; 0: all of them.
	Prefetch int
	// Ready is called once it consumes.
	Ready func()
}

// Run handles events one after the other until ctx ends. An event that fails is given back to the queue at once.
func (c Consumer) Run(ctx context.Context, handle func(event.Event) error) error {
	conn, channel, err := open(c.URL, c.TLS)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := channel.Qos(c.Prefetch, 0, false); err != nil {
		return err
	}
	deliveries, err := channel.ConsumeWithContext(ctx, c.Queue, "", c.AutoAck, false, false, false, nil)
	if err != nil {
		return err
	}
	c.Ready()
	for d := range deliveries {
		e, err := event.Decode(event.Message{
			Headers: d.Headers, ContentType: d.ContentType, MessageID: d.MessageId, Timestamp: d.Timestamp, Type: d.Type, Body: d.Body,
		})
		if err != nil {
			return err
		}
		err = handle(e)
		switch {
		case c.AutoAck:
		case err != nil:
			err = d.Nack(false, true)
		default:
			err = d.Ack(false)
		}
		if err != nil && !c.AutoAck {
			return err
		}
	}
	return nil
}

// Publisher publishes, without confirms unless it is told to. Its zero value is not usable: set URL and Queue.
type Publisher struct {
	URL, Queue string
	// Transient events are kept in memory only.
	Transient bool
	// Confirms has each event confirmed before Publish returns.
	Confirms bool

	conn    *amqp.Connection
	channel *amqp.Channel
}

// Publish hands an event to the connection, of which there is a new one after an error. Without Confirms nil says little.
func (p *Publisher) Publish(ctx context.Context, e event.Event) (err error) {
	if p.channel == nil {
		if p.conn, p.channel, err = open(p.URL, nil); err == nil && p.Confirms {
			err = p.channel.Confirm(false)
		}
		if err != nil {
			p.Close()
			return err
		}
	}
	m := e.Encode()
	mode := amqp.Persistent
	if p.Transient {
		mode = amqp.Transient
	}
	ctx, cancel := context.WithTimeout(ctx, confirmLimit)
	defer cancel()
	confirm, err := p.channel.PublishWithDeferredConfirmWithContext(ctx, "", p.Queue, false, false, amqp.Publishing{
		Headers: m.Headers, ContentType: m.ContentType, DeliveryMode: mode, MessageId: m.MessageID, Timestamp: m.Timestamp,
		Type: m.Type, Body: m.Body,
	})
	if err == nil && p.Confirms {
		err = confirmed(ctx, confirm)
	}
	if err != nil {
		p.Close()
	}
	return err
}

// confirmLimit is how long a publisher waits for the broker.
const confirmLimit = time.Second

func confirmed(ctx context.Context, confirm *amqp.DeferredConfirmation) error {
	ok, err := confirm.WaitContext(ctx)
	if err == nil && !ok {
		err = errors.New("the broker has not taken it")
	}
	return err
}

// Close closes the connection, if there is one.
func (p *Publisher) Close() {
	if p.conn != nil {
		_ = p.conn.Close()
	}
	p.conn, p.channel = nil, nil
}

// Declare declares a durable classic queue, as tutorials do.
func Declare(url string, security *tls.Config, queue string) error {
	conn, channel, err := open(url, security)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = channel.QueueDeclare(queue, true, false, false, false, amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeClassic}) // the usual default
	return err
}

func open(url string, security *tls.Config) (*amqp.Connection, *amqp.Channel, error) {
	conn, err := amqp.DialConfig(url, amqp.Config{TLSClientConfig: security, Dial: amqp.DefaultDial(5 * time.Second), Properties: amqp.Table{"connection_name": "evdemo demo (naive)"}})
	if err != nil {
		return nil, nil, fmt.Errorf("connect: %w", err)
	}
	channel, err := conn.Channel()
	if err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	return conn, channel, nil
}
