package worker

import (
	"context"
	"errors"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/event/schema"
)

// EventReader gives an event as a handler understands it: checked, and brought to the version that is
// wanted. *schema.Reader is one.
type EventReader interface {
	Read(e event.Event) (event.Event, error)
}

// Schemas hands events to the handler as reader gives them. One that reader does not give is
// dead-lettered: with the reason version for a *schema.VersionError, and invalid for every other error. It
// is dead-lettered, and retried, as it came. A message that is no event goes to the handler as it is.
func Schemas(reader EventReader) Middleware {
	return func(next Handler) Handler {
		return func(ctx context.Context, d *Delivery) error {
			if d.Foreign != nil {
				return next(ctx, d)
			}
			e, err := reader.Read(d.Event)
			if _, version := errors.AsType[*schema.VersionError](err); version {
				return DeadLetter(ReasonVersion, err)
			}
			if err != nil {
				return DeadLetter(ReasonInvalid, err)
			}
			read := *d
			read.Event = e
			return next(ctx, &read)
		}
	}
}
