package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/evdemo/evdemo/internal/session"
)

// steady is how long a subscription lives before the loss of it is the first one again.
const steady = 5 * time.Second

// subscription is one consumer on one channel.
type subscription struct {
	*Worker
	session    *session.Session
	queue      string
	tag        string
	channel    *amqp.Channel
	acks       *acks
	deliveries <-chan amqp.Delivery
	closed     <-chan *amqp.Error
	cancelled  <-chan string // the broker has ended the consumer
	loops      sync.WaitGroup
	ended      chan struct{} // closed when the last loop has ended
}

// consume consumes over one session, with a new subscription each time the broker ends one.
func (w *Worker) consume(ctx context.Context, s *session.Session) error {
	defer w.subscribed.Store(false)
	delays := session.NewBackOff()
	for {
		sub, err := w.subscribe(ctx, s)
		if err == nil {
			began := time.Now()
			if err = sub.run(ctx); time.Since(began) > steady {
				delays.Reset()
			}
		} else if fatal := setupError(err); fatal != nil && s.Err() == nil && ctx.Err() == nil {
			return fatal
		}
		w.subscribed.Store(false)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case s.Err() != nil:
			return s.Err()
		}
		w.config.Logger.Warn("broker ended the subscription; subscribing again",
			slog.String("from", w.from()), slog.Any("error", err))
		select {
		case <-time.After(delays.NextBackOff()):
		case <-ctx.Done():
		}
	}
}

func (w *Worker) from() string { return w.config.Queue + w.config.Topic }

// setupError gives the error that ends Run where subscribing again cannot help; nil where it may.
func setupError(err error) error {
	var reply *amqp.Error
	if !errors.As(err, &reply) {
		return err
	}
	switch reply.Code {
	case amqp.NotFound:
		missing := strings.HasPrefix(reply.Reason, "NOT_FOUND - no queue") || strings.HasPrefix(reply.Reason, "NOT_FOUND - no exchange")
		if !missing { // the queue is there, and its node or its leader is not
			return nil
		}
		return fmt.Errorf("%w: %w", ErrQueueGone, err)
	case amqp.AccessRefused, amqp.ResourceLocked, amqp.NotAllowed:
		return fmt.Errorf("%w: %w", ErrRefused, err)
	case amqp.PreconditionFailed, amqp.NotImplemented:
		return err
	default:
		return nil
	}
}

// subscribe declares what is to be declared and starts a consumer.
func (w *Worker) subscribe(ctx context.Context, s *session.Session) (*subscription, error) {
	// A broker that is silent answers none of the calls below. Nothing is in hand on this session
	// yet, or it is given back by the broker: at the end of ctx nobody waits for it.
	defer context.AfterFunc(ctx, s.Abort)()
	if err := w.config.Declare.Apply(ctx, s); err != nil {
		return nil, err
	}
	ch, err := s.Channel()
	if err != nil {
		return nil, err
	}
	sub := &subscription{
		Worker: w, session: s, channel: ch, queue: w.config.Queue, tag: shortString(w.config.ConnectionName),
		ended: make(chan struct{}),
	}
	if err := sub.start(); err != nil {
		_ = ch.Close()
		return nil, err
	}
	w.noteSubscribed()
	return sub, nil
}

func (sub *subscription) start() error {
	ch, config := sub.channel, &sub.config
	if config.Topic != "" {
		q, err := ch.QueueDeclare("", false, true, true, false, nil)
		if err != nil {
			return fmt.Errorf("declare the listener's own queue: %w", err)
		}
		if err := ch.QueueBind(q.Name, "", config.Topic, false, nil); err != nil {
			return fmt.Errorf("bind the listener's queue to topic %s: %w", config.Topic, err)
		}
		sub.queue = q.Name
	}
	if err := ch.Qos(config.Prefetch, 0, false); err != nil {
		return fmt.Errorf("set prefetch %d: %w", config.Prefetch, err)
	}
	sub.closed = ch.NotifyClose(make(chan *amqp.Error, 1))
	sub.cancelled = ch.NotifyCancel(make(chan string, 1))
	sub.acks = newAcks(ch, config.Prefetch, min(max(config.Prefetch/2, 1), maxAckBatch), config.AckInterval)
	var err error
	sub.deliveries, err = ch.Consume(sub.queue, sub.tag, false, false, false, false, nil)
	if err != nil {
		return fmt.Errorf("consume from %s: %w", sub.queue, err)
	}
	return nil
}

// noteSubscribed counts subscriptions and tells a listener what it has missed.
func (w *Worker) noteSubscribed() {
	now := time.Now()
	if !w.subscribedAt.IsZero() {
		w.counts.reconnects.Add(1)
		if w.config.Topic != "" {
			w.config.Logger.Warn("listener was away; what was published meanwhile was not seen",
				slog.String("topic", w.config.Topic), slog.Time("from", w.lostAt), slog.Time("to", now))
		}
	}
	w.config.Logger.Info("consuming", slog.String("from", w.from()))
	w.subscribedAt = now
	w.touch()
	w.subscribed.Store(true)
}

// run handles what comes until ctx, the channel or the consumer ends. Handlers that are still
// running when the channel is lost run on, and so do those of a consumer that the broker has
// ended, whose channel stays open for their acknowledgements. At the end of ctx they are waited
// for.
func (sub *subscription) run(ctx context.Context) error {
	for range sub.config.Concurrency {
		sub.loops.Add(1)
		sub.handlers.Add(1)
		go sub.loop(ctx)
	}
	go func() { // ends with the last loop
		defer close(sub.ended)
		sub.loops.Wait()
	}()
	var err error
	select {
	case <-sub.cancelled:
		err = errCancelled
		sub.handlers.Go(func() {
			<-sub.ended
			sub.finish()
			_ = sub.channel.Close()
		})
	case reply := <-sub.closed:
		if reply != nil {
			err = reply
		}
		sub.finish()
	case <-ctx.Done():
		sub.giveBack()
		sub.finish()
	}
	sub.lostAt = time.Now()
	return err
}

var errCancelled = errors.New("the queue was deleted, or its node went down")

// finish acknowledges what can be acknowledged and counts what cannot.
func (sub *subscription) finish() {
	_ = sub.acks.flush()
	sub.counts.late.Add(int64(sub.acks.close()))
}

const (
	// answerLimit bounds the wait for a broker that does not answer while the worker stops.
	answerLimit = 2 * time.Second
	// For a quorum queue the broker takes 32 settlements ahead of what the queue has applied. It
	// puts the others off, and forgets them if the channel ends meanwhile: then events that were
	// handled would be delivered again. So events are given back few at a time, and the last
	// acknowledgements get a moment before the channel is closed.
	giveBackAtOnce = 16
	giveBackEvery  = 10 * time.Millisecond
	linger         = 50 * time.Millisecond
	lingerLonger   = 500 * time.Millisecond // where many were given back before them
	// patience is how long running handlers may take before the events behind them are given
	// back one by one. Where they are faster, the end of the channel gives back all at once.
	patience = 100 * time.Millisecond
)

// giveBack ends the consumer, gives back what no handler has begun so that other workers get it,
// waits for running handlers, and acknowledges what they finished. On a lost connection there is
// nothing to give back.
func (sub *subscription) giveBack() {
	silent := time.AfterFunc(answerLimit, sub.session.Abort)
	err := sub.channel.Cancel(sub.tag, false)
	silent.Stop()
	if err != nil || sub.channel.IsClosed() {
		return
	}
	_ = sub.acks.flush()
	moment := linger
	select {
	case <-sub.ended:
	case <-time.After(patience):
		sub.requeueUnstarted()
		moment = lingerLonger
	}
	_ = sub.drain()
	_ = sub.acks.flush()
	select {
	case <-time.After(moment):
	case <-sub.session.Done():
	}
}

// requeueUnstarted gives back one by one what the broker has sent ahead.
func (sub *subscription) requeueUnstarted() {
	given := 0
	for m := range sub.deliveries {
		if sub.acks.requeue(m.DeliveryTag) != nil {
			return
		}
		if given++; given%giveBackAtOnce == 0 {
			<-time.After(giveBackEvery)
		}
	}
}

// loop handles one event after the other, in one of the worker's slots.
func (sub *subscription) loop(ctx context.Context) {
	defer sub.handlers.Done()
	defer sub.loops.Done()
	select {
	case sub.slots <- struct{}{}: // waits where handlers of a lost connection still run
	case <-ctx.Done():
		return
	}
	defer func() { <-sub.slots }()
	for sub.takeTicket(ctx) {
		m, ok := sub.receive(ctx)
		if !ok {
			sub.returnTicket()
			return
		}
		sub.handleOne(&m)
	}
}

// takeTicket waits until one more event may be started; false means that none will.
func (sub *subscription) takeTicket(ctx context.Context) bool {
	if sub.tickets == nil {
		return true
	}
	select {
	case <-sub.tickets:
		return true
	case <-ctx.Done():
		return false
	}
}

func (sub *subscription) returnTicket() {
	if sub.tickets != nil {
		sub.tickets <- struct{}{}
	}
}

func (sub *subscription) receive(ctx context.Context) (m amqp.Delivery, ok bool) {
	if ctx.Err() != nil {
		return m, false
	}
	select {
	case m, ok = <-sub.deliveries: // the usual case under load, cheaper than the select below
		return m, ok
	default:
	}
	select {
	case m, ok = <-sub.deliveries:
		return m, ok
	case <-ctx.Done():
		return m, false
	}
}

func (sub *subscription) handleOne(m *amqp.Delivery) {
	sub.inHand.Add(1)
	d := decode(sub.queue, m)
	sub.counts.arrived(d)
	err := call(sub.handling, sub.handle, d)
	sub.settle(m.DeliveryTag, d, err)
	sub.touch()
	sub.inHand.Add(-1)
}

// settle does with a delivery what its handler's result asks for.
func (sub *subscription) settle(tag uint64, d *Delivery, err error) {
	switch {
	case err == nil:
		sub.ack(tag)
		if n := sub.counts.handled.Add(1); n == int64(sub.config.Limit) {
			sub.stop(errLimit)
		}
		return
	case errors.Is(err, ErrSkip):
		sub.counts.skipped.Add(1)
		sub.ack(tag)
	case errors.Is(err, ErrRequeue):
		sub.counts.requeued.Add(1)
		_ = sub.acks.requeue(tag) // on a lost connection the broker does it by itself
	default:
		sub.counts.failed.Add(1)
		sub.config.Logger.Warn("handler failed; the event goes back to its queue",
			slog.String("id", d.Event.ID), slog.String("type", d.Event.Type), slog.String("queue", d.Queue),
			slog.Int("attempt", d.Attempt), slog.Any("error", err))
		_ = sub.acks.requeue(tag)
	}
	sub.returnTicket()
}

func (sub *subscription) ack(tag uint64) {
	if sub.acks.ack(tag) != nil {
		sub.counts.late.Add(1)
	}
}

// shortString cuts a name to what AMQP 0-9-1 can carry.
func shortString(s string) string { return s[:min(len(s), 255)] }
