package replay

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/feed"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/worker"
)

// Log is the log of a topic. Its places are offsets.
func Log(config worker.LogConfig) Source {
	return func(ctx context.Context, from Place, each func(context.Context, *Item) error) error {
		switch {
		case from.Next > 0 && from.Mark != "":
			config.From = worker.LogAfter(from.Next-1, from.Mark)
		case from.Next >= 0:
			config.From = worker.LogOffset(from.Next)
		}
		return worker.ReadLog(ctx, config, func(ctx context.Context, e *worker.Entry) error {
			return each(ctx, &Item{Delivery: e.Delivery, Message: e.Message(), At: e.Time(), Next: e.Offset + 1, Mark: e.Fingerprint})
		})
	}
}

// ErrShorter is wrapped by the error of a source of lines that has fewer than the place says.
var ErrShorter = errors.New("there are fewer lines than were replayed before")

// Lines are events and records, one a line. Their places are counts of those before.
func Lines(lines *feed.Lines) Source {
	return func(ctx context.Context, from Place, each func(context.Context, *Item) error) error {
		for next := int64(1); ctx.Err() == nil; next++ {
			m, err := lines.Next()
			if errors.Is(err, io.EOF) && next <= from.Next {
				return fmt.Errorf("%w: %d, not %d", ErrShorter, next-1, from.Next)
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if next <= from.Next {
				continue
			}
			d := delivery(m)
			item := &Item{Delivery: d, Message: m, At: lines.At(), Next: next}
			if item.At.IsZero() {
				item.At = d.Event.Time
			}
			if err := each(ctx, item); err != nil {
				return err
			}
		}
		return nil
	}
}

// delivery is a message as a handler sees it.
func delivery(m publisher.Message) *worker.Delivery {
	d := &worker.Delivery{
		Event: m.Event, Headers: m.Headers, Attempt: 1,
		Exchange: m.To.Exchange, RoutingKey: m.To.RoutingKey,
	}
	if m.Raw != nil {
		d.Event, d.Foreign = event.Decode(m.Raw.Message)
		d.Headers = m.Raw.Headers
	}
	return d
}
