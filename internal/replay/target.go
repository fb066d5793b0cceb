package replay

import (
	"context"
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
		return p.Send(ctx, m, func(r publisher.Result) {
			if r.Outcome == publisher.Confirmed {
				done(nil)
				return
			}
			done(&publisher.OutcomeError{ID: m.ID(), Outcome: r.Outcome, Err: r.Err})
		})
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
	raw.Headers = headers
	return publisher.Message{Raw: &raw, To: m.To}
}

// Handle hands everything to a handler, one after the other. Each gets as many attempts as the handler
// itself takes.
func Handle(handle worker.Handler) Target {
	return func(ctx context.Context, item *Item, done func(error)) error {
		err := handle(context.WithoutCancel(ctx), item.Delivery)
		done(err)
		return nil
	}
}
