package worker

import "slices"

// Middleware puts something around a handler: a time limit, deduplication, measuring. What it
// returns must pass the inner handler's error on, or one that wraps it, wherever that error is to
// decide what becomes of the event.
type Middleware func(Handler) Handler

// Wrap gives a handler with middleware around it. The first is the outermost: it is entered first
// and left last.
func Wrap(handle Handler, around ...Middleware) Handler {
	for _, middleware := range slices.Backward(around) {
		handle = middleware(handle)
	}
	return handle
}
