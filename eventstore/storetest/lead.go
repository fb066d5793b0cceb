package storetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/eventstore"
)

func leaseChecks() []Check {
	return []Check{
		{"of many one leads at a time", true, oneLeads},
		{"a lease that is given up is taken soon", true, leaseReleased},
		{"a lease is kept for as long as it takes", true, leaseKept},
		{"a holder that is silent is superseded", true, leaseSuperseded},
		{"leases of other names are others", false, leasesApart},
		{"a checkpoint is saved with its transaction", true, checkpoints},
	}
}

// patientLease is one that nobody loses on a busy machine, and longLease one that is worth not waiting for.
const (
	patientLease = time.Minute
	longLease    = 4 * time.Second
)

func oneLeads(c *C) {
	var leading, turns atomic.Int64
	var crowd errgroup.Group
	for i := range 6 {
		crowd.Go(func() error {
			return c.store(i).Lead(c.Ctx, "x", 200*time.Millisecond, func(ctx context.Context, l *eventstore.Lease) error {
				if n := leading.Add(1); n != 1 {
					return fmt.Errorf("%d lead at a time", n)
				}
				defer leading.Add(-1)
				rest(ctx, 10*time.Millisecond)
				if err := context.Cause(ctx); err != nil {
					return err
				}
				return l.SaveNow(ctx, eventstore.Checkpoint{Version: 1, Position: turns.Add(1)})
			})
		})
	}
	c.no(crowd.Wait())
	checkpoint, err := c.B.Checkpoint(c.Ctx, "x")
	c.no(err)
	c.equal("checkpoint", checkpoint, eventstore.Checkpoint{Version: 1, Position: turns.Load()})
	c.holds(turns.Load() >= 6, "%d turns, and six wanted one", turns.Load())
}

// leading holds a lease until it is told to end.
type leading struct {
	lease *eventstore.Lease
	ctx   context.Context //nolint:containedctx // what fn was given is what is looked at
	began chan struct{}
	end   chan error
	ended chan error
}

// lead leads with a store, and returns once that is so.
func (c *C) lead(s *eventstore.Store, name string, lease time.Duration) *leading {
	c.Helper()
	h := c.queue(s, name, lease)
	c.begun(h)
	return h
}

// queue waits for a lease with a store.
func (c *C) queue(s *eventstore.Store, name string, lease time.Duration) *leading {
	h := &leading{began: make(chan struct{}, 100), end: make(chan error, 1), ended: make(chan error, 1)}
	ctx, cancel := context.WithCancel(c.Ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.ended <- s.Lead(ctx, name, lease, func(ctx context.Context, l *eventstore.Lease) error {
			h.lease, h.ctx = l, ctx
			h.began <- struct{}{}
			select {
			case err := <-h.end:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	c.Cleanup(func() {
		cancel()
		<-done
	})
	return h
}

// begun waits until somebody leads.
func (c *C) begun(h *leading) {
	c.Helper()
	select {
	case <-h.began:
	case <-c.Ctx.Done():
		c.Fatalf("nobody leads: %v", c.Ctx.Err())
	}
}

func leaseReleased(c *C) {
	for _, outcome := range []error{nil, errOnPurpose} {
		h := c.lead(c.A, "x", longLease)
		next := c.queue(c.B, "x", longLease)
		rest(c.Ctx, 10*step)
		h.end <- outcome
		began := time.Now()
		if err := <-h.ended; !errors.Is(err, outcome) {
			c.Fatalf("Lead returns %v, and fn did %v", err, outcome)
		}
		c.begun(next)
		c.holds(time.Since(began) < longLease/2, "the next one waited for %s, as if the lease had run out", time.Since(began))
		next.end <- nil
		c.no(<-next.ended)
	}
	// A wait ends with its ctx, and so does the work.
	h := c.lead(c.A, "x", patientLease)
	ctx, cancel := context.WithTimeout(c.Ctx, 10*step)
	defer cancel()
	err := c.B.Lead(ctx, "x", patientLease, func(context.Context, *eventstore.Lease) error { return errOnPurpose })
	c.is("a wait whose ctx ends", err, context.DeadlineExceeded)
	h.end <- nil
	c.no(<-h.ended)
}

func leaseKept(c *C) {
	const lease = 400 * time.Millisecond
	h := c.lead(c.A, "x", lease)
	var taken atomic.Bool
	ctx, cancel := context.WithTimeout(c.Ctx, 4*lease)
	defer cancel()
	err := c.B.Lead(ctx, "x", lease, func(context.Context, *eventstore.Lease) error {
		taken.Store(true)
		return nil
	})
	if !taken.Load() {
		c.is("a wait for a lease that is kept", err, context.DeadlineExceeded)
		c.no(h.ctx.Err())
		return
	}
	// A machine that is too busy to renew it in time may lose it; the holder knows then.
	c.is("the holder's ctx", context.Cause(h.ctx), eventstore.ErrLeaseLost)
}

// leaseSuperseded has a holder that cannot renew: the row is another's, as if it had slept for too long. Then it is told
// so, cannot save, and waits for its next turn.
func leaseSuperseded(c *C) {
	const lease = 400 * time.Millisecond
	turns := 0
	var first *eventstore.Lease
	err := c.A.Lead(c.Ctx, "x", lease, func(ctx context.Context, l *eventstore.Lease) error {
		if turns++; turns == 2 {
			return l.SaveNow(ctx, eventstore.Checkpoint{Version: 1, Position: 2})
		}
		first = l
		c.no(l.SaveNow(ctx, eventstore.Checkpoint{Version: 1, Position: 1}))
		c.tamper(`UPDATE evdemo_store_leases SET owner = 'somebody', renewed = renewed + 1`)
		c.is("what the superseded one saves", l.SaveNow(ctx, eventstore.Checkpoint{Version: 1, Position: 9}), eventstore.ErrLeaseLost)
		<-ctx.Done()
		c.is("the cause", context.Cause(ctx), eventstore.ErrLeaseLost)
		return ctx.Err()
	})
	c.no(err)
	c.equal("turns", turns, 2)
	c.is("what the first one saves", first.SaveNow(c.Ctx, eventstore.Checkpoint{Version: 1, Position: 9}), eventstore.ErrLeaseLost)
	checkpoint, err := c.B.Checkpoint(c.Ctx, "x")
	c.no(err)
	c.equal("checkpoint", checkpoint, eventstore.Checkpoint{Version: 1, Position: 2})

	// A row that nobody renews is free after the lease, and not before.
	c.tamper(`UPDATE evdemo_store_leases SET owner = 'a dead process'`)
	began := time.Now()
	c.no(c.B.Lead(c.Ctx, "x", lease, func(context.Context, *eventstore.Lease) error { return nil }))
	c.holds(time.Since(began) >= lease, "taken over after %s", time.Since(began))
}

func leasesApart(c *C) {
	x, y := c.lead(c.A, "x", patientLease), c.lead(c.A, "y", patientLease)
	c.no(x.lease.SaveNow(c.Ctx, eventstore.Checkpoint{Position: 1}))
	c.no(y.lease.SaveNow(c.Ctx, eventstore.Checkpoint{Position: 2}))
	checkpoint, err := c.A.Checkpoint(c.Ctx, "x")
	c.no(err)
	c.equal("checkpoint", checkpoint, eventstore.Checkpoint{Position: 1})
}

func checkpoints(c *C) {
	none, err := c.B.Checkpoint(c.Ctx, "x")
	c.no(err)
	c.equal("no checkpoint", none, eventstore.Checkpoint{})
	h := c.lead(c.A, "x", patientLease)
	c.transact(func(tx *sql.Tx) { c.execute(tx, `CREATE TABLE mine (n bigint)`) })
	for i, commit := range []bool{true, false, true, false} {
		tx := c.begin()
		c.execute(tx, fmt.Sprintf(`INSERT INTO mine VALUES (%d)`, i))
		c.no(h.lease.Save(c.Ctx, tx, eventstore.Checkpoint{Version: 3, Position: int64(i)}))
		if !commit {
			c.no(tx.Rollback())
			continue
		}
		c.no(tx.Commit())
		saved, err := c.B.Checkpoint(c.Ctx, "x")
		c.no(err)
		c.equal("checkpoint", saved, eventstore.Checkpoint{Version: 3, Position: int64(i)})
	}
	saved, err := c.B.Checkpoint(c.Ctx, "x")
	c.no(err)
	c.equal("checkpoint", saved, eventstore.Checkpoint{Version: 3, Position: 2})
	c.equal("the rows beside it", c.number(c.raw(), `SELECT sum(n) FROM mine`), int64(2))
}
