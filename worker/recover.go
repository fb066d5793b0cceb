package worker

import (
	"context"
	"runtime/debug"
)

// Recover turns a handler's panic into a *[PanicError]. A worker does that by itself for the whole
// of its handler; as middleware it lets what is around it, such as [Metrics], see the panic as the
// failure that it is.
func Recover() Middleware {
	return func(next Handler) Handler {
		return func(ctx context.Context, d *Delivery) (err error) {
			defer func() {
				if v := recover(); v != nil {
					err = &PanicError{Value: v, Stack: debug.Stack()}
				}
			}()
			return next(ctx, d)
		}
	}
}
