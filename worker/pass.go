package worker

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/publisher"
)

const (
	// passPause is what an event waits for at least that could not be passed on.
	passPause = time.Second
	// maxInPlace is how long an event is kept in its place to be tried again. The broker ends the
	// channel of a consumer that does not answer for half an hour.
	maxInPlace = 10 * time.Minute
	// maxErrorBytes and maxStderrBytes bound what a dead letter tells, since all headers of a
	// message have to fit in one frame of the protocol.
	maxErrorBytes  = 2 << 10
	maxStderrBytes = 4 << 10
)

var errPassing = errors.New("the broker does not take it")

// passer publishes failed events to the queues where they are to go on. It has a connection of its
// own, so that an alarm, which blocks publishing, does not hold up consuming; and it has it from
// the first failure on.
type passer struct {
	config publisher.Config
	mu     sync.Mutex
	opened *publisher.Publisher
	closed bool
}

func newPasser(c Config) *passer {
	return &passer{config: publisher.Config{
		URLs: c.URLs, TLS: c.TLS, ConnectionName: shortString(c.ConnectionName + " (failed events)"),
		ConnectTimeout: c.ConnectTimeout, Window: max(publisher.DefaultWindow, 2*c.Prefetch), Logger: c.Logger,
	}}
}

// send publishes a message. done is called once where the error is nil.
func (p *passer) send(ctx context.Context, m publisher.Message, done func(publisher.Result)) error {
	to, err := p.open(ctx)
	if err != nil {
		return err
	}
	return to.Send(ctx, m, done)
}

func (p *passer) open(ctx context.Context) (*publisher.Publisher, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.opened != nil || p.closed {
		return p.opened, closedError(p.closed)
	}
	var err error
	p.opened, err = publisher.Open(ctx, p.config)
	return p.opened, err
}

func closedError(closed bool) error {
	if closed {
		return publisher.ErrClosed
	}
	return nil
}

// close gives up what is unconfirmed, at once: whoever wanted to wait for it has done so. The broker
// delivers the events again.
func (p *passer) close(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.opened == nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	_ = p.opened.Close(ctx)
}

// passage is one event on its way from the queue that it failed in to another.
type passage struct {
	*subscription
	ctx     context.Context // ends when the worker stops
	d       *Delivery
	verdict verdict
	raw     *publisher.Raw
	stay    bool // the other queue did not take it; it goes to the end of its own
}

// fail does with an event what the policy says. The event is acknowledged once the broker has
// confirmed that it is in the other queue, and at no other time. Where events are kept in order, one that
// is to be tried again stays where it is: fail gives that attempt.
func (sub *subscription) fail(ctx context.Context, d *Delivery, err error) (again *attempt) {
	sub.counts.failed.Add(1)
	if sub.config.Topic != "" {
		sub.logFailure(ctx, slog.LevelWarn, "handler failed; a listener has one attempt at an event", d, err)
		sub.ack(d.message.DeliveryTag)
		return nil
	}
	now := time.Now()
	v := sub.policy.decide(d.Attempt, err, now)
	if d.Foreign != nil && errors.Is(err, d.Foreign) {
		v = sub.policy.deadLetter(ReasonInvalid)
	}
	if v.reason != "" {
		sub.logFailure(ctx, slog.LevelError, "event is dead-lettered", d, err, slog.String("reason", string(v.reason)))
	} else {
		sub.logFailure(ctx, slog.LevelWarn, "handler failed; the event is tried again", d, err, slog.Duration("in", v.until(now).Round(time.Millisecond)))
	}
	if v.reason == "" && sub.inOrder(d) && v.until(now) <= maxInPlace {
		sub.counts.retried.Add(1)
		again = d.again(v.until(now))
		again.d.Attempt++
		if d.first.IsZero() {
			again.d.first = now.UTC()
		}
		return again
	}
	sub.pass(ctx, d, v, d.failedHeaders(v, err, sub.config.Name))
	return nil
}

// inOrder tells whether an event holds up others until it is done.
func (sub *subscription) inOrder(d *Delivery) bool {
	return sub.config.OrderedBy != nil && sub.config.OrderedBy(d) != ""
}

func (sub *subscription) logFailure(ctx context.Context, level slog.Level, message string, d *Delivery, err error, more ...slog.Attr) {
	attributes := append([]slog.Attr{
		slog.String("id", d.Event.ID), slog.String("type", d.Event.Type), slog.String("queue", d.Queue),
		slog.Int("attempt", d.Attempt), slog.Any("error", err),
	}, more...)
	sub.config.Logger.LogAttrs(ctx, level, message, attributes...)
}

// pass sends an event on, and returns when it is under way.
func (sub *subscription) pass(ctx context.Context, d *Delivery, v verdict, headers map[string]any) {
	p := &passage{subscription: sub, ctx: ctx, d: d, verdict: v, raw: rawMessage(d.message, headers)}
	sub.handlers.Add(1)
	sub.inHand.Add(1)
	p.send()
}

// send publishes the event to the queue that it is to go to: with the wait where that is a tier, and
// without one in every other place, where it would be lost after it.
func (p *passage) send() {
	queue := p.verdict.queue
	p.raw.Expiration = p.verdict.wait
	if p.stay {
		queue, p.raw.Expiration = p.d.Queue, 0
	}
	err := p.passer.send(p.handling, publisher.Message{Raw: p.raw, To: publisher.ToQueue(queue)}, p.settle)
	if err != nil {
		go p.failed(err)
	}
}

// settle is called with the outcome of a publish.
func (p *passage) settle(r publisher.Result) {
	switch r.Outcome {
	case publisher.Confirmed:
		p.ack(p.d.message.DeliveryTag)
		p.count()
		p.end()
	case publisher.Unknown: // the worker ends; the broker delivers the event again
		p.end()
	default:
		err := r.Err
		if err == nil {
			err = errPassing
		}
		go p.failed(err) // a publisher's callback must not publish
	}
}

func (p *passage) count() {
	switch {
	case p.verdict.waiting:
	case p.stay || p.verdict.reason == "":
		p.counts.retried.Add(1)
	default:
		p.counts.deadLettered.Add(1)
	}
}

// failed is for an event that the other queue does not take, because it is not there or is full: it
// waits here, and goes to the end of its own queue. Where that fails too, the broker gets it back
// as it is.
func (p *passage) failed(err error) {
	again := !p.stay && !errors.Is(err, publisher.ErrInvalid)
	p.config.Logger.Error("a failed event could not be passed on; it stays in its queue",
		slog.String("id", p.d.Event.ID), slog.String("queue", p.d.Queue), slog.String("to", p.verdict.queue), slog.Any("error", err))
	select {
	case <-time.After(max(p.verdict.wait, passPause)):
	case <-p.ctx.Done():
		again = false
	case <-p.session.Done():
		again = false
	}
	if again {
		p.stay = true
		p.send()
		return
	}
	_ = p.acks.requeue(p.d.message.DeliveryTag) // on a lost connection the broker does it by itself
	p.end()
}

func (p *passage) end() {
	p.touch()
	p.inHand.Add(-1)
	p.handlers.Done()
}

// failedHeaders are the headers of an event that has failed once more.
func (d *Delivery) failedHeaders(v verdict, err error, worker string) map[string]any {
	now := time.Now().UTC()
	first := d.first
	if first.IsZero() {
		first = now
	}
	headers := d.origin()
	headers[headerAttempts] = int64(d.Attempt)
	headers[headerFirstFailure] = first.Format(time.RFC3339Nano)
	headers[headerLastFailure] = now.Format(time.RFC3339Nano)
	if !v.notBefore.IsZero() {
		headers[headerNotBefore] = v.notBefore.UTC().Format(time.RFC3339Nano)
	}
	if v.reason == "" {
		return headers
	}
	giveUp(headers, v.reason, err, d.Queue, worker)
	if command, ok := errors.AsType[*CommandError](err); ok {
		headers[headerExitCode] = int64(command.ExitCode)
		stderr := command.Stderr[max(0, len(command.Stderr)-maxStderrBytes):]
		headers[headerStderr] = clean(string(stderr), maxStderrBytes)
	}
	return headers
}

// giveUp adds to headers why an event of a queue is dead-lettered, and by whom.
func giveUp(headers map[string]any, reason Reason, err error, queue, worker string) {
	headers[headerReason] = string(reason)
	headers[headerError] = clean(err.Error(), maxErrorBytes)
	headers[headerQueue] = queue
	headers[headerWorker] = worker
}

// origin are the message's headers without the history of its failures, and with the place that it
// was published to at first.
func (d *Delivery) origin() map[string]any {
	headers := Cleared(d.message.Headers)
	headers[headerExchange], headers[headerRoutingKey] = d.Exchange, d.RoutingKey
	return headers
}

// waitingHeaders are those of an event whose time has not come yet: as they were.
func (d *Delivery) waitingHeaders(v verdict) map[string]any {
	headers := d.origin()
	headers[headerAttempts] = int64(d.Attempt - 1)
	for _, name := range []string{headerFirstFailure, headerLastFailure} {
		if at := text(d.message.Headers, name); at != "" {
			headers[name] = at
		}
	}
	if !v.notBefore.IsZero() {
		headers[headerNotBefore] = d.notBefore.Format(time.RFC3339Nano)
	}
	return headers
}

// clean makes text of at most so many bytes that every client can read.
func clean(s string, most int) string {
	return strings.ToValidUTF8(s[:min(len(s), most)], "\ufffd")
}

// rawMessage is a message as it was delivered, with other headers.
func rawMessage(m *amqp.Delivery, headers map[string]any) *publisher.Raw {
	return &publisher.Raw{
		Message: event.Message{
			Headers: headers, Body: m.Body,
			MessageID: m.MessageId, Type: m.Type, CorrelationID: m.CorrelationId,
			ContentType: m.ContentType, ContentEncoding: m.ContentEncoding,
			AppID: m.AppId, Timestamp: m.Timestamp,
		},
		ReplyTo: m.ReplyTo, Priority: m.Priority,
	}
}
