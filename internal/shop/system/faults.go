package system

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/evdemo/evdemo/worker"
)

// Faults is what is broken on purpose, by the names of services and sinks.
type Faults struct {
	// Slow is how long each event takes longer.
	Slow map[string]time.Duration
	// Fail is which part of the attempts fail: one half before anything is done, the other when all is done and nobody has
	// heard of it. They are tried again.
	Fail map[string]float64
	// Refuse is which part of the orders a service refuses for good: the card is declined, the article damaged.
	Refuse map[string]float64
	// Seed makes the same choices the next time.
	Seed uint64
}

// names are all parts that are broken.
func (f Faults) names() []string {
	names := slices.Concat(slices.Collect(maps.Keys(f.Slow)), slices.Collect(maps.Keys(f.Fail)), slices.Collect(maps.Keys(f.Refuse)))
	slices.Sort(names)
	return slices.Compact(names)
}

// errFault is why an attempt fails that is to fail.
var errFault = errors.New("this attempt was to fail")

// Around breaks the handling of a part.
func (f Faults) Around(name string) worker.Middleware {
	slow, fail := f.Slow[name], f.Fail[name]
	random := rand.New(rand.NewPCG(f.Seed, hash(name))) //nolint:gosec // faults, not secrets
	var mu sync.Mutex
	roll := func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return random.Float64()
	}
	return func(next worker.Handler) worker.Handler {
		if slow == 0 && fail == 0 {
			return next
		}
		return func(ctx context.Context, d *worker.Delivery) error {
			if slow > 0 {
				select {
				case <-time.After(slow):
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			chance := roll()
			if chance < fail/2 {
				return fmt.Errorf("before anything was done: %w", errFault)
			}
			err := next(ctx, d)
			if err == nil && chance < fail {
				return fmt.Errorf("after all was done: %w", errFault)
			}
			return err
		}
	}
}

// Refuses tells whether a service refuses an order: the same each time, whoever asks.
func (f Faults) Refuses(service, orderID string) bool {
	fraction := f.Refuse[service]
	return fraction > 0 && rand.New(rand.NewPCG(f.Seed, hash(service+"\x00"+orderID))).Float64() < fraction //nolint:gosec // faults, not secrets
}

func hash(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s))
	return h.Sum64()
}
