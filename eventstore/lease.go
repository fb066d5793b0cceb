package eventstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
)

// DefaultLease is how long the active process may be silent before another takes over.
const DefaultLease = 10 * time.Second

const (
	minLease = 20 * time.Millisecond
	// maxLook is how long a lease that was released may wait for its next holder.
	maxLook = 250 * time.Millisecond
)

// Lease is held by the active one of several processes that could all do the same work. Nobody's clock is trusted:
// others take over when the holder's row has not changed for the whole lease by their own clock, and the holder
// stops some time before that by its own.
type Lease struct {
	store    *Store
	name     string
	owner    string
	duration time.Duration

	mu      sync.Mutex
	renewed time.Time // when the last renewal that succeeded began
	open    int       // transactions of ours that hold the lease's row: nobody takes it meanwhile
	lost    chan struct{}
}

// Lost gives a channel that is closed when the lease is lost. Fn's ctx ends then as well, unless it has ended before: what
// fn finishes after that still has the lease, until this is closed.
func (l *Lease) Lost() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// Lead waits until this process is the active one under a name and runs fn, whose ctx ends when that is over: with
// cause [ErrLeaseLost] where the lease could not be renewed in time. Then Lead waits for its turn again. What fn
// returns otherwise ends Lead, which releases the lease: the next process begins within a quarter of a second.
//
// A process that is stopped for longer than the lease, by a debugger or a swap, may for a moment go on beside its
// successor. [Lease.Save] is what it cannot do then.
func (s *Store) Lead(ctx context.Context, name string, lease time.Duration, fn func(context.Context, *Lease) error) error {
	return s.LeadUnless(ctx, name, lease, nil, fn)
}

// LeadUnless is [Store.Lead], which also ends, with nil, when over says so while the lease is another's: there is nothing
// left to do that needs it.
func (s *Store) LeadUnless(
	ctx context.Context, name string, lease time.Duration, over func(context.Context) (bool, error), fn func(context.Context, *Lease) error,
) error {
	lease = cmp.Or(lease, DefaultLease)
	if lease < minLease {
		return fmt.Errorf("lease %s: %s is too short, the least is %s", name, lease, minLease)
	}
	l := &Lease{store: s, name: name, owner: uuid.NewString(), duration: lease}
	for {
		if ours, err := l.acquire(ctx, over); err != nil {
			return fmt.Errorf("wait for the lease %s: %w", name, err)
		} else if !ours {
			return nil
		}
		if lost, err := l.hold(ctx, fn); !lost {
			return err
		}
		s.config.Logger.Warn("event store: lease lost to another process, or not renewed in time", "name", name)
	}
}

// hold runs fn while it renews the lease, and releases that. Lost tells that fn ended because it was lost.
func (l *Lease) hold(ctx context.Context, fn func(context.Context, *Lease) error) (lost bool, err error) {
	defer l.release(ctx) // after a panic too
	gone := make(chan struct{})
	l.mu.Lock()
	l.lost = gone
	l.mu.Unlock()
	working, stop := context.WithCancelCause(ctx)
	lasting, end := context.WithCancel(context.WithoutCancel(ctx)) // until fn has returned
	var renewer sync.WaitGroup
	renewer.Go(func() {
		if l.renew(lasting) {
			close(gone)
			stop(ErrLeaseLost)
		}
	})
	defer renewer.Wait()
	defer end()
	defer stop(nil)
	err = fn(working, l)
	lost = errors.Is(err, ErrLeaseLost) || err != nil && errors.Is(context.Cause(working), ErrLeaseLost)
	return lost && ctx.Err() == nil, err
}

// renew renews the lease until ctx ends, or the lease is lost.
func (l *Lease) renew(ctx context.Context) (lost bool) {
	tick := time.NewTicker(l.duration / 4)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
		deadline, held := l.deadline()
		if held {
			continue
		}
		attempt, cancel := context.WithDeadline(ctx, deadline)
		began := time.Now()
		err := l.store.transact(attempt, func(tx *sql.Tx) error { return l.renewIn(attempt, tx) })
		cancel()
		if err == nil {
			l.noteRenewed(began)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		deadline, held = l.deadline() // it may have waited behind a transaction of ours
		if errors.Is(err, ErrLeaseLost) || !held && !time.Now().Before(deadline) {
			return true
		}
	}
}

// deadline is when the lease must have been renewed. Held tells that it is held by a transaction under way, however
// long that takes.
func (l *Lease) deadline() (deadline time.Time, held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.renewed.Add(l.duration * 3 / 4), l.open > 0
}

// transact runs fn in a transaction that holds the lease, which is renewed when it is committed. It is made again while
// a PostgreSQL server is away.
func (l *Lease) transact(ctx context.Context, fn func(tx *sql.Tx) error) error {
	return retry(ctx, l.store.database, l.store.config.RetryFor, func() error {
		var before time.Time
		noted := false
		err := l.store.transact(ctx, func(tx *sql.Tx) error {
			if err := l.renewIn(ctx, tx); err != nil {
				return err
			}
			err := l.holding(func() error { return fn(tx) })
			before, noted = l.noteRenewed(time.Now()), true // before the others can see it
			return err
		})
		if err != nil && noted {
			l.noteRenewed(before)
		}
		return err
	})
}

// holding runs fn while a transaction holds the lease's row.
func (l *Lease) holding(fn func() error) error {
	count := func(n int) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.open += n
	}
	count(1)
	defer count(-1) // after a panic too
	return fn()
}

func (l *Lease) noteRenewed(at time.Time) (before time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, l.renewed = l.renewed, at
	return before
}

// renewIn renews the lease in a transaction, which keeps every other process from taking it until it has ended.
func (l *Lease) renewIn(ctx context.Context, tx *sql.Tx) error {
	const renew = `UPDATE evdemo_store_leases SET renewed = renewed + 1 WHERE name = $1 AND owner = $2`
	ours, err := inserted(tx.ExecContext(ctx, renew, l.name, l.owner))
	if err != nil {
		return err
	}
	if !ours {
		return fmt.Errorf("lease %s: %w", l.name, ErrLeaseLost)
	}
	return nil
}

// acquire waits for the lease, or until over says that it is not needed any more.
func (l *Lease) acquire(ctx context.Context, over func(context.Context) (bool, error)) (ours bool, err error) {
	pause := min(l.duration/4, maxLook)
	var seen int64
	var holder string
	var silent time.Duration
	for looked := time.Now(); ; {
		began := time.Now()
		var now leaseRow
		err := retry(ctx, l.store.database, l.store.config.RetryFor, func() (err error) {
			now, err = l.look(ctx)
			return err
		})
		if err != nil {
			return false, err
		}
		// A pause of this process is no silence of the other's.
		silent += min(time.Since(looked), 2*pause)
		looked = time.Now()
		if now.owner != holder || now.renewed != seen {
			holder, seen, silent = now.owner, now.renewed, 0
		}
		if now.owner == "" || silent >= l.duration {
			if ours, err := l.take(ctx, now); err != nil || ours {
				l.noteRenewed(began)
				return ours, err
			}
			continue
		}
		if over != nil {
			if over, err := over(ctx); err != nil || over {
				return false, err
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// leaseRow is a lease as the table has it. Without an owner it is free.
type leaseRow struct {
	owner   string
	renewed int64
}

func (l *Lease) look(ctx context.Context) (now leaseRow, err error) {
	const query = `SELECT owner, renewed FROM evdemo_store_leases WHERE name = $1`
	err = l.store.database.reads().QueryRowContext(ctx, query, l.name).Scan(&now.owner, &now.renewed)
	if errors.Is(err, sql.ErrNoRows) {
		return leaseRow{}, nil
	}
	return now, err
}

// take takes the lease, unless it has changed since it was looked at.
func (l *Lease) take(ctx context.Context, was leaseRow) (ours bool, err error) {
	const take = `INSERT INTO evdemo_store_leases VALUES ($1, $2, 1)
		ON CONFLICT (name) DO UPDATE SET owner = $2, renewed = evdemo_store_leases.renewed + 1
		WHERE evdemo_store_leases.owner = $3 AND evdemo_store_leases.renewed = $4`
	err = l.store.transactAgain(ctx, func(tx *sql.Tx) (err error) {
		ours, err = inserted(tx.ExecContext(ctx, take, l.name, l.owner, was.owner, was.renewed))
		return err
	})
	return ours && err == nil, err
}

// release gives the lease up. Where that fails it runs out.
func (l *Lease) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = l.store.transact(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE evdemo_store_leases SET owner = '' WHERE name = $1 AND owner = $2`, l.name, l.owner)
		return err
	})
}

// Checkpoint says how far a reader has come.
type Checkpoint struct {
	// Version is that of the reader's work: another one begins anew.
	Version int
	// Position is that of the last event that is done with.
	Position int64
}

// Checkpoint gives the checkpoint of a name, the zero Checkpoint where there is none.
func (s *Store) Checkpoint(ctx context.Context, name string) (c Checkpoint, err error) {
	err = retry(ctx, s.database, s.config.RetryFor, func() (err error) {
		c, err = checkpointIn(ctx, s.database.reads(), name)
		return err
	})
	return c, err
}

// checkpointIn reads a checkpoint, with a transaction or without.
func checkpointIn(ctx context.Context, in interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}, name string,
) (c Checkpoint, err error) {
	const query = `SELECT version, position FROM evdemo_store_checkpoints WHERE name = $1`
	err = in.QueryRowContext(ctx, query, name).Scan(&c.Version, &c.Position)
	if errors.Is(err, sql.ErrNoRows) {
		return Checkpoint{}, nil
	}
	return c, err
}

// Save saves the checkpoint of the lease's name in a transaction of [Store.DB], together with what else that does, and
// which must end within half the lease. Where the lease is another's meanwhile the error wraps [ErrLeaseLost], and the
// transaction must be rolled back.
func (l *Lease) Save(ctx context.Context, tx *sql.Tx, c Checkpoint) error {
	if err := l.renewIn(ctx, tx); err != nil {
		return err
	}
	return l.save(ctx, tx, c)
}

func (l *Lease) save(ctx context.Context, tx *sql.Tx, c Checkpoint) error {
	const save = `INSERT INTO evdemo_store_checkpoints VALUES ($1, $2, $3)
		ON CONFLICT (name) DO UPDATE SET version = $2, position = $3`
	_, err := tx.ExecContext(ctx, save, l.name, c.Version, c.Position)
	return err
}

// Advance saves the checkpoint in a transaction of its own, provided that it is still what it was: where it is another the
// error wraps [ErrRewound], as the database was put back meanwhile, and nothing is saved.
func (l *Lease) Advance(ctx context.Context, from, to Checkpoint) error {
	return l.transact(ctx, func(tx *sql.Tx) error {
		c, err := checkpointIn(ctx, tx, l.name)
		if err == nil && c != from && c != to { // which was committed without our hearing of it
			err = elsewhere(c, from.Position)
		}
		if err != nil {
			return err
		}
		return l.save(ctx, tx, to)
	})
}

// elsewhere says that the checkpoint is not where it was left.
func elsewhere(c Checkpoint, position int64) error {
	return fmt.Errorf("the checkpoint is at position %d and should be at %d: %w", c.Position, position, ErrRewound)
}

// SaveNow saves the checkpoint in a transaction of its own, whatever it was.
func (l *Lease) SaveNow(ctx context.Context, c Checkpoint) error {
	return l.transact(ctx, func(tx *sql.Tx) error { return l.save(ctx, tx, c) })
}
