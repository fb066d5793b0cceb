package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func (sub *subscription) handleOne(ctx context.Context, m *amqp.Delivery) {
	sub.handle(ctx, decode(sub.queue, m))
}

// handle handles an event and settles it, unless it is to be tried again in its place: then it gives that
// attempt.
func (sub *subscription) handle(ctx context.Context, d *Delivery) (again *attempt) {
	if !d.notBefore.IsZero() && sub.config.Topic == "" && sub.wait(ctx, d) {
		sub.returnTicket()
		return nil
	}
	sub.inHand.Add(1)
	defer sub.inHand.Add(-1)
	sub.counts.arrived(d)
	held, err := sub.hold(ctx, d)
	switch {
	case held:
		sub.counts.held.Add(1)
		sub.ack(d.message.DeliveryTag)
		sub.returnTicket()
		sub.touch()
		return nil
	case err != nil: // the worker stops while the gate's store fails
	case d.Foreign != nil && !sub.config.AcceptRaw:
		err = fmt.Errorf("message is no event: %w", d.Foreign)
	default:
		err = sub.callHandler(ctx, d)
	}
	if sub.keeper != nil && (err == nil || errors.Is(err, ErrSkip) || errors.Is(err, ErrDuplicate)) {
		err = cmp.Or(sub.mark(ctx, d), err)
	}
	again = sub.settle(ctx, d, err)
	sub.touch()
	return again
}

// callHandler calls the handler, again where a store failed before it had begun.
func (sub *subscription) callHandler(ctx context.Context, d *Delivery) error {
	for wait := passPause; ; wait = longer(wait) {
		err := sub.call(sub.handling, d) //nolint:contextcheck // handlers go on when the worker is told to stop
		fault, ok := errors.AsType[*storeError](err)
		if !ok {
			return err
		}
		if !sub.sitOut(ctx, wait, fault) {
			return ErrRequeue
		}
	}
}

// hold asks the gate, if there is one, whether an event has to wait.
func (sub *subscription) hold(ctx context.Context, d *Delivery) (held bool, err error) {
	if sub.keeper == nil {
		return false, nil
	}
	err = sub.insist(ctx, func(ctx context.Context) error {
		held, err = sub.keeper.hold(ctx, d)
		return err
	})
	return held, err
}

// mark tells the gate that an event has been handled.
func (sub *subscription) mark(ctx context.Context, d *Delivery) error {
	return sub.insist(ctx, func(ctx context.Context) error { return sub.keeper.mark(ctx, d) })
}

// insist asks the gate's store for as long as it takes. When the worker stops meanwhile the event is given
// back.
func (sub *subscription) insist(ctx context.Context, ask func(context.Context) error) error {
	for wait := passPause; ; wait = longer(wait) {
		err := ask(context.WithoutCancel(ctx))
		if err == nil {
			return nil
		}
		if !sub.sitOut(ctx, wait, err) {
			return ErrRequeue
		}
	}
}

// sitOut waits while a store fails: that it does, as on a full disk, is no event's fault. False means that the
// worker stops, or its session has ended.
func (sub *subscription) sitOut(ctx context.Context, wait time.Duration, fault error) bool {
	sub.config.Logger.Error("store fails; asking it again", slog.Duration("in", wait), slog.Any("error", fault))
	return pause(ctx, wait)
}

func longer(wait time.Duration) time.Duration { return min(2*wait, longestPause) }

// longestPause bounds the waits for a store that fails.
const longestPause = 10 * time.Second

// wait sends an event back to wait whose time has not come yet.
func (sub *subscription) wait(ctx context.Context, d *Delivery) bool {
	now := time.Now()
	left := d.notBefore.Sub(now)
	if left <= 0 || len(sub.policy.tiers) == 0 {
		return false
	}
	v := sub.policy.waitAtLeast(left, now)
	v.waiting = true
	sub.pass(ctx, d, v, d.waitingHeaders(v))
	return true
}

// settle does with a delivery what its handler's result asks for, unless it is to be tried again in its
// place: then it gives that attempt.
func (sub *subscription) settle(ctx context.Context, d *Delivery, err error) (again *attempt) {
	tag := d.message.DeliveryTag
	switch {
	case err == nil:
		sub.ack(tag)
		if n := sub.counts.handled.Add(1); n == int64(sub.config.Limit) {
			sub.stop(errLimit)
		}
		return nil
	case errors.Is(err, ErrSkip):
		sub.counts.skipped.Add(1)
		sub.ack(tag)
	case errors.Is(err, ErrDuplicate):
		sub.counts.duplicates.Add(1)
		sub.ack(tag)
	case errors.Is(err, ErrRequeue), sub.handling.Err() != nil: // the latter: the drain timeout has passed
		sub.counts.requeued.Add(1)
		if sub.inOrder(d) && ctx.Err() == nil { // in the queue it would be overtaken
			return d.again(passPause)
		}
		_ = sub.acks.requeue(tag) // on a lost connection the broker does it by itself
	default:
		if again = sub.fail(ctx, d, err); again != nil {
			return again
		}
	}
	sub.returnTicket()
	return nil
}

func (sub *subscription) ack(tag uint64) {
	if sub.acks.ack(tag) != nil {
		sub.counts.late.Add(1)
	}
}
