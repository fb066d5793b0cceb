package topology

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Channels opens channels on one connection. [*amqp.Connection] satisfies it. The channels must
// be new and open, and the connection must not be one that recovers by itself (amqp.Config's
// Recovery).
type Channels interface {
	Channel() (*amqp.Channel, error)
}

const (
	// upWithin bounds the wait for a queue that exists and has no leader yet.
	upWithin     = 10 * time.Second
	upCheckEvery = 100 * time.Millisecond
)

// client makes one call after the other, on one channel for as long as the broker leaves it
// open: it closes the channel with every refusal.
type client struct {
	conn     Channels
	ch       *amqp.Channel
	creating bool // what is missing is to be created anyway
}

// withClient runs work, which makes calls that know no context, and returns when it is done or
// ctx ends. A call that ctx's end leaves behind ends when the broker answers it or its connection
// ends, and nothing is sent after it.
func withClient[T any](ctx context.Context, conn Channels, work func(*client) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	if err := ctx.Err(); err != nil {
		return none, context.Cause(ctx)
	}
	done := make(chan result, 1)
	go func() {
		c := &client{conn: conn}
		defer c.close()
		value, err := work(c)
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
}

func (c *client) close() {
	if c.ch != nil && !c.ch.IsClosed() {
		// Closing fails only with the connection, which takes the channel along.
		_ = c.ch.Close()
	}
	c.ch = nil
}

// do makes one call, on a new channel if the last call was refused.
func (c *client) do(ctx context.Context, call func(*amqp.Channel) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if c.ch == nil || c.ch.IsClosed() {
		ch, err := c.conn.Channel()
		if err != nil {
			return fmt.Errorf("open a channel: %w", err)
		}
		c.ch = ch
	}
	err := call(c.ch)
	if err != nil {
		c.close()
	}
	return err
}

// doOnceUp makes one call like do, and again while its object exists and cannot be reached: for a
// moment after a broker has started, its streams and quorum queues have no leader.
func (c *client) doOnceUp(ctx context.Context, call func(*amqp.Channel) error) error {
	for deadline := time.Now().Add(upWithin); ; {
		err := c.do(ctx, call)
		if !isDown(err) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-time.After(upCheckEvery):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// isDown says whether the broker's answer is that an object exists and its node or leader does
// not answer. RabbitMQ has no code of its own for that.
func isDown(err error) bool {
	reply, ok := errors.AsType[*amqp.Error](err)
	return ok && reply.Code == amqp.NotFound && strings.Contains(reply.Reason, "is down or inaccessible")
}

// declare declares an exchange or a queue as it stands, with errors as they come. Another program may have declared the queue
// just now, and its leader not be there yet.
func (c *client) declare(ctx context.Context, d declaration) error {
	return c.doOnceUp(ctx, func(ch *amqp.Channel) error {
		if d.kind == KindExchange {
			return ch.ExchangeDeclare(d.name, d.exchangeType, d.durable, d.autoDelete, d.internal, false, d.args)
		}
		_, err := ch.QueueDeclare(d.name, d.durable, d.autoDelete, false, false, d.args)
		return err
	})
}

// inspect says whether an object exists and, of a queue, what is in it. A queue that is locked
// exists.
func (c *client) inspect(ctx context.Context, kind Kind, name string) (State, error) {
	state := State{Kind: kind, Name: name}
	err := c.doOnceUp(ctx, func(ch *amqp.Channel) error {
		if kind == KindExchange {
			return ch.ExchangeDeclarePassive(name, fanout, true, false, false, false, nil)
		}
		queue, err := ch.QueueDeclarePassive(name, true, false, false, false, nil)
		state.Messages, state.Consumers = queue.Messages, queue.Consumers
		return err
	})
	switch {
	case isMissing(err, kind):
		return state, nil
	case hasCode(err, amqp.ResourceLocked):
		state.Exists, state.Locked = true, true
		return state, nil
	case err != nil:
		return state, explain("look for", kind, name, false, err)
	}
	state.Exists = true
	return state, nil
}

// bind makes one binding. Making it again changes nothing.
func (c *client) bind(ctx context.Context, b Binding) error {
	err := c.do(ctx, func(ch *amqp.Channel) error {
		if b.To == KindExchange {
			return ch.ExchangeBind(b.Destination, "", b.Source, false, nil)
		}
		return ch.QueueBind(b.Destination, "", b.Source, false, nil)
	})
	if err != nil {
		return explain("make", KindBinding, b.String(), false, err)
	}
	return nil
}

// explain puts what was tried in front of an error, and makes the broker's 403 an AccessError.
func explain(verb string, kind Kind, name string, exists bool, err error) error {
	if hasCode(err, amqp.AccessRefused) {
		return &AccessError{Kind: kind, Name: name, Exists: exists, verb: verb, err: err}
	}
	return fmt.Errorf("%s %s %s: %w", verb, kind, name, err)
}

func hasCode(err error, code int) bool {
	refusal, ok := errors.AsType[*amqp.Error](err)
	return ok && refusal.Code == code
}

// isMissing tells an object that does not exist from one whose node is down: both are a 404.
func isMissing(err error, kind Kind) bool {
	refusal, ok := errors.AsType[*amqp.Error](err)
	return ok && refusal.Code == amqp.NotFound &&
		strings.HasPrefix(refusal.Reason, "NOT_FOUND - no "+string(kind)+" '")
}
