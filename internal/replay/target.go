package replay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/worker"
)

// Publish sends everything to one place, marked as replayed; see [worker.Replayed].
func Publish(p *publisher.Publisher, to publisher.Destination) Target {
	return func(ctx context.Context, item *Item, done func(error)) error {
		m := marked(item.Message, time.Now())
		m.To = to
		err := p.Send(ctx, m, func(r publisher.Result) {
			switch {
			case r.Outcome == publisher.Confirmed:
				done(nil)
			case r.Err != nil:
				done(fmt.Errorf("%s: %w", r.Outcome, r.Err))
			default:
				done(errors.New(r.Outcome.String()))
			}
		})
		if errors.Is(err, publisher.ErrInvalid) { // it cannot get through, like others that do not
			done(err)
			return nil
		}
		return err
	}
}

// marked is a message as it was on the wire, but for its headers. How long it may wait in a queue was
// said for another time, and holds no longer.
func marked(m publisher.Message, at time.Time) publisher.Message {
	raw := publisher.Raw{}
	if m.Raw != nil {
		raw = *m.Raw
	} else {
		raw.Message = m.Event.Encode()
	}
	raw.Expiration = 0
	headers := worker.Replayed(raw.Headers, at)
	maps.Copy(headers, m.Headers)
	delete(headers, "CC") // else it would go to those queues, too
	delete(headers, "BCC")
	raw.Headers = headers
	return publisher.Message{Raw: &raw, To: m.To}
}

// Handle hands everything to a handler, one after the other. Once ctx has ended, the handler that is running
// has so long left.
func Handle(handle worker.Handler, drainTimeout time.Duration) Target {
	return func(ctx context.Context, item *Item, done func(error)) error {
		handling, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		defer context.AfterFunc(ctx, func() { time.AfterFunc(drainTimeout, cancel) })()
		d := *item.Delivery
		d.Replayed = time.Now()
		done(handle(handling, &d))
		return nil
	}
}
