package worker

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// maxRetryWait bounds a single wait of [Retry].
const maxRetryWait = 10 * time.Second

// Retry tries again in place what fails for a moment only: a dropped connection to a database, a
// lock that is taken, a service that is being restarted. It calls the handler up to attempts times,
// the first call included, and waits in between for a random time: from 0 to initial after the first
// call, to twice as much after each further one, at most to 10 s or to initial where that is longer.
// It returns the handler's last error.
//
// All of that is one attempt for the worker: Delivery.Attempt stays, and nothing is counted. The
// event keeps its slot of Config.Concurrency and its place in the prefetch meanwhile, and events
// behind it wait, which is what keeps their order. So give it waits that add up to less than a
// second or so. What takes longer to pass belongs to the worker's own policy, Config.Retry: there
// the event waits on the broker, holds up nobody, and a worker that ends forgets nothing.
//
// Not tried again are [Permanent] and [RetryAfter], which say themselves what is to be done, ErrSkip,
// ErrRequeue, ErrDuplicate, and panics; and nothing is once the context has ended. Where [Timeout] is
// around Retry its limit is for all calls together, and where it is inside it is for each.
func Retry(attempts int, initial time.Duration) Middleware {
	return func(next Handler) Handler {
		return func(ctx context.Context, d *Delivery) error {
			err := next(ctx, d)
			if err == nil || attempts < 2 || !momentary(err) {
				return err
			}
			delays := retryDelays(initial)
			for n := 1; n < attempts && momentary(err) && pause(ctx, delays.NextBackOff()); n++ {
				if err = next(ctx, d); err == nil {
					return nil
				}
			}
			return err
		}
	}
}

// retryDelays is exponential with full jitter. The library draws from 0 to twice its interval.
func retryDelays(initial time.Duration) *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{
		InitialInterval: max(initial/2, 1), MaxInterval: max(initial, maxRetryWait) / 2,
		Multiplier: 2, RandomizationFactor: 1,
	}
}

// momentary tells whether trying again at once may help.
func momentary(err error) bool {
	var (
		permanent *permanentError
		after     *retryAfterError
		panicked  *PanicError
	)
	return !errors.As(err, &permanent) && !errors.As(err, &after) && !errors.As(err, &panicked) &&
		!errors.Is(err, ErrSkip) && !errors.Is(err, ErrRequeue) && !errors.Is(err, ErrDuplicate)
}

// pause waits; false means that ctx has ended.
func pause(ctx context.Context, wait time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
