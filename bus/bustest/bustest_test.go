package bustest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"go.uber.org/goleak"

	"github.com/evdemo/evdemo/bus"
	"github.com/evdemo/evdemo/bus/bustest"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// mutant is a bus with a fault.
type mutant struct {
	bus.Bus
	publish func(ctx context.Context, m publisher.Message) error
	handler func(worker.Handler) worker.Handler
	options func(bus.Options) bus.Options
}

func (m mutant) Publish(ctx context.Context, message publisher.Message) error {
	if m.publish != nil {
		return m.publish(ctx, message)
	}
	return m.Bus.Publish(ctx, message)
}

func (m mutant) Work(ctx context.Context, queue string, options bus.Options, handle worker.Handler) error {
	return m.Bus.Work(ctx, queue, m.adapt(options), m.wrap(handle))
}

func (m mutant) Listen(ctx context.Context, topic string, options bus.Options, handle worker.Handler) error {
	return m.Bus.Listen(ctx, topic, m.adapt(options), m.wrap(handle))
}

func (m mutant) wrap(handle worker.Handler) worker.Handler {
	if m.handler == nil {
		return handle
	}
	return m.handler(handle)
}

func (m mutant) adapt(options bus.Options) bus.Options {
	if m.options == nil {
		return options
	}
	return m.options(options)
}

// mutants are buses that each break a promise, with the check that must find it.
func mutants() map[string]struct {
	of     func(b bus.Bus) mutant
	caught string
} {
	return map[string]struct {
		of     func(b bus.Bus) mutant
		caught string
	}{
		"loses every tenth event": {func(b bus.Bus) mutant {
			var count atomic.Int64
			return mutant{Bus: b, publish: func(ctx context.Context, m publisher.Message) error {
				if count.Add(1)%10 == 0 {
					return nil
				}
				return b.Publish(ctx, m)
			}}
		}, "everybody gets every event"},
		"publishes everything twice": {func(b bus.Bus) mutant {
			return mutant{Bus: b, publish: func(ctx context.Context, m publisher.Message) error {
				return errors.Join(b.Publish(ctx, m), b.Publish(ctx, m))
			}}
		}, "workers compete"},
		"takes a failure for success": {func(b bus.Bus) mutant {
			return mutant{Bus: b, handler: func(handle worker.Handler) worker.Handler {
				return func(ctx context.Context, d *worker.Delivery) error {
					_ = worker.Recover()(handle)(ctx, d)
					return nil
				}
			}}
		}, "a failed event comes again"},
		"takes a panic for success": {func(b bus.Bus) mutant {
			return mutant{Bus: b, handler: func(handle worker.Handler) worker.Handler {
				return func(ctx context.Context, d *worker.Delivery) error {
					defer func() { _ = recover() }()
					return handle(ctx, d)
				}
			}}
		}, "what is given up is a dead letter with its reason"},
		"forgets RetryAfter": {func(b bus.Bus) mutant {
			return mutant{Bus: b, handler: func(handle worker.Handler) worker.Handler {
				return func(ctx context.Context, d *worker.Delivery) error {
					if err := handle(ctx, d); err != nil {
						return fmt.Errorf("without what it wraps: %v", err) //nolint:errorlint // on purpose
					}
					return nil
				}
			}}
		}, "RetryAfter is honoured"},
		"confirms what nobody wants": {func(b bus.Bus) mutant {
			return mutant{Bus: b, publish: func(ctx context.Context, m publisher.Message) error {
				_ = b.Publish(ctx, m)
				return nil
			}}
		}, "what nobody wants is returned"},
		"drops headers": {func(b bus.Bus) mutant {
			return mutant{Bus: b, handler: func(handle worker.Handler) worker.Handler {
				return func(ctx context.Context, d *worker.Delivery) error {
					d.Headers = nil
					return handle(ctx, d)
				}
			}}
		}, "an event comes as it was published"},
		"mixes a queue up": {func(b bus.Bus) mutant {
			return mutant{Bus: b, options: func(o bus.Options) bus.Options {
				o.Concurrency = 8
				return o
			}, handler: func(handle worker.Handler) worker.Handler {
				return func(ctx context.Context, d *worker.Delivery) error {
					if len(d.Event.Data)%2 == 0 {
						<-time.After(time.Millisecond)
					}
					return handle(ctx, d)
				}
			}}
		}, "a queue keeps its order"},
		"does not know the past": {func(b bus.Bus) mutant {
			return mutant{Bus: b, options: func(o bus.Options) bus.Options {
				o.From = nil
				return o
			}}
		}, "a listener can begin in the past"},
		"gives up handlers at once": {func(b bus.Bus) mutant {
			return mutant{Bus: b, options: func(o bus.Options) bus.Options {
				o.DrainTimeout = time.Millisecond
				return o
			}}
		}, "what is in hand at the end is finished"},
	}
}

// Every fault is found by the check that is there for it: the suite can fail.
func TestTheSuiteFindsFaults(t *testing.T) {
	t.Parallel()
	for name, m := range mutants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checks := bustest.Checks()
			i := slices.IndexFunc(checks, func(c bustest.Check) bool { return c.Name == m.caught })
			if !assert.GreaterOrEqual(t, i, 0, "no such check") {
				return
			}
			env := bustest.NewEnv()
			env.Bus = m.of(bus.NewMemory(bus.Config{Topology: &env.Spec}))
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			assert.Error(t, checks[i].Do(ctx, env), "the fault is not found")
		})
	}
}
