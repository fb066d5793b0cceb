package inbox

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"time"
)

// owner is this store among those that share the file, and what it knows of the others. It is the
// writer's goroutine's alone.
//
// Leases are not compared by the clock on the wall: an owner is dead once its row has not changed for the
// whole of its lease by the clock of the one who looks, and of the time between two looks no more counts
// than there should be. So neither a step of the wall clock nor a pause of the whole machine takes a claim
// away from a process that lives.
type owner struct {
	id       int64
	lease    time.Duration
	renewed  time.Time
	resigned bool
	looked   time.Time // the last time
	seen     map[int64]sighting
}

// sighting is another owner's last renewal, and for how long it has been silent since.
type sighting struct {
	renewed int64
	silent  time.Duration
}

// enroll makes a row for a new owner.
func enroll(ctx context.Context, tx *sql.Tx, lease time.Duration) (id int64, err error) {
	const insert = `INSERT INTO evdemo_inbox_owners (lease_ms, renewed) VALUES (?, ?) RETURNING id`
	err = tx.QueryRowContext(ctx, insert, lease.Milliseconds(), time.Now().UnixNano()).Scan(&id)
	return id, err
}

// renewIfDue renews the lease unless that was just done: the writer comes by every third of it. An owner that was taken for dead is back
// with that, without its claims.
func (o *owner) renewIfDue(ctx context.Context, do *statements) error {
	now := time.Now()
	if o.resigned || now.Sub(o.renewed) < o.lease/6 {
		return nil
	}
	if _, err := do.renew.ExecContext(ctx, o.id, o.lease.Milliseconds(), now.UnixNano()); err != nil {
		return fmt.Errorf("renew lease: %w", err)
	}
	o.renewed = now
	return nil
}

// look looks at the other owners, and dismisses the dead.
func (o *owner) look(ctx context.Context, do *statements) error {
	others, err := do.otherOwners(ctx, o.id)
	if err != nil {
		return err
	}
	now := time.Now()
	elapsed := min(now.Sub(o.looked), o.lease/3)
	o.looked = now
	seen := make(map[int64]sighting, len(others))
	for _, other := range others {
		last, known := o.seen[other.id]
		last.silent += elapsed
		if !known || last.renewed != other.renewed {
			last = sighting{renewed: other.renewed}
		}
		if seen[other.id] = last; last.silent <= other.lease {
			continue
		}
		if err := do.dismiss(ctx, other.id); err != nil {
			return err
		}
	}
	o.seen = seen
	return nil
}

// releaseLater notes a claim that could not be given up. It stays the process's own: it keeps other
// processes waiting until it is.
func (w *writer) releaseLater(key claimKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed[key] = struct{}{}
}

// forgetFailed is for a claim that is about to be made again.
func (w *writer) forgetFailed(key claimKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.failed, key)
}

// releaseFailed gives up those claims. A claim that is made again meanwhile comes after this in the writer's
// order.
func (w *writer) releaseFailed(ctx context.Context) ([]claimKey, error) {
	w.mu.Lock()
	failed := slices.Collect(maps.Keys(w.failed))
	w.mu.Unlock()
	for _, key := range failed {
		if err := w.do.releaseEvent(ctx, key, w.owner.id); err != nil {
			return nil, err
		}
	}
	return failed, nil
}
