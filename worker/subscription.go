package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/evdemo/evdemo/internal/session"
)

// steady is how long a subscription lives before the loss of it is the first one again.
const steady = 5 * time.Second

// subscription is one consumer on one channel.
type subscription struct {
	*Worker
	session   *session.Session
	queue     string
	channel   *amqp.Channel
	acks      *acks
	intake    atomic.Pointer[intake]
	taking    sync.Mutex // held while an event comes into its lane
	changing  sync.Mutex // held while one consumer takes the place of another, and for their end
	stopping  bool
	closed    <-chan *amqp.Error
	cancelled <-chan string // the broker has ended the consumer
	loops     sync.WaitGroup
	ended     chan struct{} // closed when the last loop has ended
}

// intake is one consumer.
type intake struct {
	tag        string
	deliveries <-chan amqp.Delivery
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
		Worker: w, session: s, channel: ch, queue: w.config.Queue, ended: make(chan struct{}),
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
	sub.closed = ch.NotifyClose(make(chan *amqp.Error, 1))
	sub.cancelled = ch.NotifyCancel(make(chan string, 1))
	sub.acks = newAcks(ch, config.Prefetch, min(max(config.Prefetch/2, 1), maxAckBatch), config.AckInterval)
	if sub.isolates() {
		return sub.take(consumerTag(config.ConnectionName, ""), 1)
	}
	return sub.takeAll()
}

func (sub *subscription) takeAll() error {
	return sub.take(consumerTag(sub.config.ConnectionName, " ahead"), sub.config.Prefetch)
}

// consumerTag is the tag of one of a worker's consumers. When the worker dies the broker puts back what
// they had in hand in the order of their tags, and what is sent ahead comes behind the first event.
func consumerTag(name, suffix string) string {
	const longest = 240
	return name[:min(len(name), longest)] + suffix
}

// take starts a consumer, from which everything comes from now on.
func (sub *subscription) take(tag string, prefetch int) error {
	if err := sub.channel.Qos(prefetch, 0, false); err != nil {
		return fmt.Errorf("set prefetch %d: %w", prefetch, err)
	}
	deliveries, err := sub.channel.Consume(sub.queue, tag, false, false, false, false, nil)
	if err != nil {
		return fmt.Errorf("consume from %s: %w", sub.queue, err)
	}
	sub.intake.Store(&intake{tag, deliveries})
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
	sub.startLoop(ctx, sub.lead)
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
	sub.changing.Lock()
	sub.stopping = true
	err := sub.channel.Cancel(sub.intake.Load().tag, false)
	sub.changing.Unlock()
	silent.Stop()
	if err != nil || sub.channel.IsClosed() {
		return
	}
	_ = sub.acks.flush()
	moment := linger
	select {
	case <-sub.ended:
		if sub.inHand.Load() > 0 { // failed events that the broker does not take yet
			sub.requeueUnstarted(nil)
			moment = lingerLonger
		}
	case <-time.After(patience):
		sub.requeueUnstarted(sub.ended)
		moment = lingerLonger
	}
	_ = sub.drain()
	_ = sub.acks.flush()
	select {
	case <-time.After(moment):
	case <-sub.session.Done():
	}
}

// requeueUnstarted gives back one by one what the broker has sent ahead, until enough is closed: from
// then on the end of the channel is quicker. It takes no longer than running handlers may.
func (sub *subscription) requeueUnstarted(enough <-chan struct{}) {
	given := 0
	late := time.After(sub.config.DrainTimeout)
	for m := range sub.intake.Load().deliveries {
		if sub.acks.requeue(m.DeliveryTag) != nil {
			return
		}
		if given++; given%giveBackAtOnce != 0 {
			continue
		}
		select {
		case <-time.After(giveBackEvery):
		case <-enough:
			return
		case <-late:
			return
		}
	}
}

// startLoop runs a loop in one of the worker's slots.
func (sub *subscription) startLoop(ctx context.Context, loop func(context.Context)) {
	sub.handlers.Add(1)
	sub.loops.Go(func() {
		defer sub.handlers.Done()
		select {
		case sub.slots <- struct{}{}: // waits where handlers of a lost connection still run
		case <-ctx.Done():
			return
		}
		defer func() { <-sub.slots }()
		loop(ctx)
	})
}

// lead is the first loop. It starts the others once the broker may send ahead.
func (sub *subscription) lead(ctx context.Context) {
	var first *amqp.Delivery
	if sub.isolates() {
		var ok bool
		if first, ok = sub.openUp(ctx); !ok {
			return
		}
	}
	var proceed func()
	if first != nil {
		proceed = sub.prepare(ctx, first)
	}
	for range sub.config.Concurrency - 1 {
		sub.startLoop(ctx, sub.loop)
	}
	if proceed != nil {
		proceed()
	}
	sub.loop(ctx)
}

// prepare gives what is to be done with an event that no loop has received. What comes behind it must not
// overtake it.
func (sub *subscription) prepare(ctx context.Context, m *amqp.Delivery) (proceed func()) {
	if sub.config.OrderedBy != nil {
		return sub.enter(ctx, m)
	}
	return func() { sub.handleOne(ctx, m) }
}

// loop handles one event after the other.
func (sub *subscription) loop(ctx context.Context) {
	if sub.config.OrderedBy != nil {
		sub.orderedLoop(ctx)
		return
	}
	for sub.takeTicket(ctx) {
		m, ok := sub.receive(ctx)
		if !ok {
			sub.returnTicket()
			return
		}
		sub.handleOne(ctx, &m)
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
	deliveries := sub.intake.Load().deliveries
	select {
	case m, ok = <-deliveries: // the usual case under load, cheaper than the select below
		return m, ok
	default:
	}
	select {
	case m, ok = <-deliveries:
		return m, ok
	case <-ctx.Done():
		return m, false
	}
}

// shortString cuts a name to what AMQP 0-9-1 can carry.
func shortString(s string) string { return s[:min(len(s), 255)] }
