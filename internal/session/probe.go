package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

var (
	// ErrPermission reports that the user may not declare, write or read.
	ErrPermission = errors.New("permission missing")
	// ErrBlocked reports that the broker blocks publishing, for an alarm.
	ErrBlocked = errors.New("broker blocks publishing")
)

// RoundTrip publishes one message to a queue of its own, which is gone afterwards, waits for its
// confirm, and receives it. It tells how long that took from publish to receipt.
func (s *Session) RoundTrip(ctx context.Context) (time.Duration, error) {
	stop := context.AfterFunc(ctx, s.Abort) // a blocked connection answers nothing
	defer stop()
	took, err := s.roundTrip(ctx)
	var reply *amqp.Error
	switch {
	case err == nil:
		return took, nil
	case s.blocked.Load():
		reason, _ := s.Blocked()
		return 0, fmt.Errorf("%w: %s", ErrBlocked, reason)
	case ctx.Err() != nil:
		return 0, fmt.Errorf("no answer in time: %w", context.Cause(ctx))
	case errors.As(err, &reply) && reply.Code == amqp.AccessRefused:
		return 0, fmt.Errorf("%w: %w", ErrPermission, err)
	default:
		return 0, err
	}
}

func (s *Session) roundTrip(ctx context.Context) (time.Duration, error) {
	ch, err := s.Channel()
	if err != nil {
		return 0, err
	}
	q, err := ch.QueueDeclare("", false, true, true, false, nil)
	if err != nil {
		return 0, fmt.Errorf("declare a temporary queue: %w", err)
	}
	if err := ch.Confirm(false); err != nil {
		return 0, fmt.Errorf("ask for publisher confirms: %w", err)
	}
	received, err := ch.ConsumeWithContext(ctx, q.Name, "", true, true, false, false, nil)
	if err != nil {
		return 0, fmt.Errorf("read from it: %w", err)
	}
	began := time.Now()
	confirm, err := ch.PublishWithDeferredConfirm("", q.Name, true, false, amqp.Publishing{Body: []byte("evdemo")})
	if err != nil {
		return 0, fmt.Errorf("write to it: %w", err)
	}
	if acked, err := confirm.WaitContext(ctx); err != nil || !acked {
		return 0, errors.Join(errors.New("the message was not confirmed"), err)
	}
	select {
	case _, ok := <-received:
		if !ok {
			return 0, errors.New("the message did not come back")
		}
		return time.Since(began), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
