package worker

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Timeout gives each attempt at an event at most limit: its context ends then, and an error that the
// handler returns afterwards wraps [ErrTimeout]. A handler that returns nil all the same has done its
// work, and its event is acknowledged.
//
// Nothing can end a handler that does not heed its context. It keeps its slot, and its event stays
// unacknowledged, until it returns by itself: a second attempt beside the first would do the work
// twice.
func Timeout(limit time.Duration) Middleware {
	return func(next Handler) Handler {
		over := fmt.Errorf("%w of %v", ErrTimeout, limit)
		return func(ctx context.Context, d *Delivery) error {
			ctx, cancel := context.WithTimeoutCause(ctx, limit, over)
			defer cancel()
			err := next(ctx, d)
			if err != nil && errors.Is(context.Cause(ctx), ErrTimeout) && !errors.Is(err, ErrTimeout) {
				return fmt.Errorf("%w: %w", over, err)
			}
			return err
		}
	}
}
