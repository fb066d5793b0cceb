package chaos

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop"
)

// together is how many orders are stored at once.
const together = 10

// storm places all orders, and does all faults meanwhile.
func (r *run) storm(ctx context.Context) error {
	victims := r.crew.victims()
	faults := schedule(&r.Config, len(victims))
	if node, ours := r.broker.(*private); ours && r.BrokerKills > 0 {
		if err := node.awaitDurable(ctx, r.resources); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.place(ctx) })
	group.Go(func() error { return r.breakThings(ctx, victims, faults) })
	return group.Wait()
}

// place places the orders, and waits where too many are under way.
func (r *run) place(ctx context.Context) error {
	random := rand.New(rand.NewPCG(r.Seed, 0)) //nolint:gosec // sample data, not secrets
	for placed := 0; placed < r.Orders; {
		n := min(together, r.Orders-placed, r.Ahead)
		err := await(ctx, func() bool { return placed+n-int(r.progress.ended.Load()) <= r.Ahead })
		if err != nil {
			return err
		}
		writes := make([]eventstore.StreamWrite, n)
		for i := range writes {
			order := shop.Sample(random)
			order.OrderID = fmt.Sprintf("order-%d-%06d", r.Seed, placed+i+1) // so that the same ones are refused each time
			if writes[i], err = shop.Placed(order); err != nil {
				return err
			}
		}
		if _, err := r.store.Append(ctx, writes...); err != nil {
			return fmt.Errorf("place orders: %w", err)
		}
		placed += n
		r.progress.placed.Store(int64(placed))
	}
	return nil
}

// breakThings does each fault when it is due, whether those before it are over or not, and returns when all are over.
func (r *run) breakThings(ctx context.Context, victims []*process, faults []fault) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		var breaking sync.Mutex // the broker
		for _, f := range faults {
			if err := await(ctx, func() bool { return int(r.progress.placed.Load()) >= f.placed }); err != nil {
				return err
			}
			if !pause(ctx, nil, f.after) {
				return context.Cause(ctx)
			}
			r.breakOne(ctx, group, victims, f, &breaking)
		}
		return nil
	})
	return group.Wait()
}

// breakOne begins a fault, in the group.
func (r *run) breakOne(ctx context.Context, group *errgroup.Group, victims []*process, f fault, breaking *sync.Mutex) {
	switch f.kind {
	case killBroker:
		group.Go(func() error {
			breaking.Lock()
			defer breaking.Unlock()
			return r.crashBroker(ctx, f.lasts)
		})
	case killAll:
		r.screen.say("Killing all parts at once.")
		for _, victim := range victims {
			group.Go(func() error { return victim.suffer(ctx, f) })
		}
	case kill, stop, freeze:
		group.Go(func() error { return victims[f.target].suffer(ctx, f) })
	}
}

// suffer has a fault done to a process, and waits until it is over.
func (p *process) suffer(ctx context.Context, f fault) error {
	over := make(chan struct{})
	select {
	case p.faults <- ordered{f, func() { close(over) }}:
	case <-p.crew.ended:
		return p.crew.failure()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	<-over
	return nil
}

func (r *run) crashBroker(ctx context.Context, away time.Duration) error {
	r.screen.say("Killing the broker.")
	began := time.Now()
	if err := r.broker.crash(ctx, away); err != nil {
		return fmt.Errorf("kill the broker, and start it again: %w", err)
	}
	r.tally.add(killBroker)
	r.screen.say("The broker is back, after %.1f s.", time.Since(began).Seconds())
	return nil
}

// calm is how long nothing may have happened before a shop is at rest: longer than an event waits for its next attempt.
const calm = 3 * time.Second

// rest waits until the shop has come to rest: all orders have ended, all that is in the log is published, the queues are
// empty, and nothing is appended any more.
func (r *run) rest(ctx context.Context) error {
	for {
		err := await(ctx, func() bool { return r.progress.ended.Load() >= int64(r.Orders) && r.progress.still() >= r.calm })
		if err != nil {
			return err
		}
		left, err := r.left(ctx)
		if err != nil && ctx.Err() == nil {
			r.Logger.Warn("cannot tell whether the shop is at rest", slog.Any("error", err))
		}
		if err == nil && left == 0 && r.progress.still() >= r.calm {
			return nil
		}
		if !pause(ctx, nil, lookFar) {
			return context.Cause(ctx)
		}
	}
}
