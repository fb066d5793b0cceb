package eventstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Projection keeps a read model in the store's own database. Its checkpoint commits together with what it writes, so
// the read model has every event exactly once, whatever crashes.
type Projection struct {
	// Name names the projection among all that read the store, and Version its read model: raise it to have the model
	// built anew. An instance with a lower version ends with an error.
	Name    string
	Version int
	// Types are the event types that it reads, those that the log has, whatever Config.Upcast makes of them; none means
	// all.
	Types []string
	// Apply writes what an event means for the read model, through tx and no other way. It must not append through
	// [Store.Append]; [Store.AppendTx] with tx commits with the rest. An error ends the projection before the
	// event: nothing is skipped.
	Apply func(ctx context.Context, tx *sql.Tx, r Recorded) error
	// Reset makes the read model empty, before the first event of every Version. It makes its tables as well.
	Reset func(ctx context.Context, tx *sql.Tx) error
	// Batch is how many events one transaction has at most. Default 500. It has fewer where they take longer than a
	// quarter of a second.
	Batch int
	// Lease is how long the active instance may be silent before another takes over. Default 10 s.
	Lease time.Duration
	// CatchUp ends the projection once everything is applied that was in the log when it began, by this instance or by
	// another that is active.
	CatchUp bool
}

const (
	defaultBatch = 500
	// batchTime is when a transaction ends that has not come to the end of its batch: on SQLite everybody else waits
	// for it.
	batchTime = 250 * time.Millisecond
	// projectionNames begin with this, among those of leases and checkpoints.
	projectionNames = "projection/"
	// skipStep is how many events that are not its own a projection may pass before it notes that, and skipTime how long
	// it takes to.
	skipStep, skipTime = 1000, time.Second
)

// Projected is the checkpoint of the projection of a name: how far its read model has come, the zero Checkpoint where it has not
// begun. The model may have come further since.
func (s *Store) Projected(ctx context.Context, name string) (Checkpoint, error) {
	return s.Checkpoint(ctx, projectionNames+name)
}

func (p Projection) withDefaults() (Projection, error) {
	var mistakes []error
	if p.Name == "" {
		mistakes = append(mistakes, errors.New("Projection.Name is empty"))
	}
	if p.Apply == nil || p.Reset == nil {
		mistakes = append(mistakes, errors.New("Projection.Apply and Reset are both needed"))
	}
	if p.Batch < 0 || p.Lease < 0 {
		mistakes = append(mistakes, errors.New("Projection.Batch and Lease cannot be negative"))
	}
	p.Batch = cmp.Or(p.Batch, defaultBatch)
	return p, errors.Join(mistakes...)
}

// Project runs a projection until ctx ends, and returns ctx's error then. Of several instances under one name, in any
// number of processes, one is active at a time. While a PostgreSQL server is away it waits, for Config.RetryFor.
func (s *Store) Project(ctx context.Context, p Projection) error {
	p, err := p.withDefaults()
	if err != nil {
		return err
	}
	name := projectionNames + p.Name
	var caughtUp func(context.Context) (bool, error)
	if p.CatchUp {
		head, err := s.Head(ctx)
		if err != nil {
			return err
		}
		caughtUp = func(ctx context.Context) (bool, error) {
			c, err := s.Checkpoint(ctx, name)
			return c.Version == p.Version && c.Position >= head, err
		}
	}
	return s.LeadUnless(ctx, name, p.Lease, caughtUp, func(ctx context.Context, l *Lease) error {
		r := projecting{Projection: p, store: s, lease: l}
		if err := r.run(ctx); err != nil {
			return fmt.Errorf("projection %s: %w", p.Name, err)
		}
		return nil
	})
}

// projecting is a projection while it is the active one.
type projecting struct {
	Projection

	store *Store
	lease *Lease
	done  int64 // the position up to which everything is applied
	saved int64 // and that of the checkpoint
}

func (p *projecting) run(ctx context.Context) error {
	if err := p.begin(ctx); err != nil {
		return err
	}
	passed := mark{position: p.done}
	for idle := time.Now(); ; {
		changed := p.store.signal.next()
		end, err := p.store.advance(ctx, passed)
		if err == nil {
			err = p.advance(ctx, end.position)
		}
		if errors.Is(err, ErrRewound) { // the checkpoint went back with the log
			if err = p.begin(ctx); err == nil {
				passed = mark{position: p.done}
				continue
			}
		}
		if err != nil {
			return err
		}
		passed = end
		if p.CatchUp || p.done-p.saved >= skipStep || time.Since(idle) > skipTime {
			if idle, err = time.Now(), p.note(ctx); err != nil || p.CatchUp {
				return err
			}
		}
		if err := p.store.await(ctx, changed); err != nil {
			p.noteLast(ctx)
			return err
		}
	}
}

// begin finds out where to go on, and empties the read model of another version.
func (p *projecting) begin(ctx context.Context) error {
	c, err := p.store.Checkpoint(ctx, p.lease.name)
	if err != nil {
		return err
	}
	if c.Version > p.Version {
		return fmt.Errorf("its read model is kept by version %d, and this one is %d: give it another name, or a higher version", c.Version, p.Version)
	}
	head, err := p.store.Head(ctx)
	if err == nil && c.Version == p.Version && c.Position > head {
		err = fmt.Errorf("its checkpoint is at position %d, beyond the last, %d: raise its version to build it anew: %w", c.Position, head, ErrRewound)
	}
	if err != nil {
		return err
	}
	if p.done, p.saved = c.Position, c.Position; c.Version == p.Version && c.Position > 0 {
		return nil
	}
	p.done, p.saved = 0, 0
	return p.lease.transact(ctx, func(tx *sql.Tx) error {
		if err := p.Reset(ctx, tx); err != nil {
			return fmt.Errorf("reset: %w", err)
		}
		return p.lease.save(ctx, tx, Checkpoint{Version: p.Version})
	})
}

// advance applies everything up to and with head.
func (p *projecting) advance(ctx context.Context, head int64) error {
	for p.done < head {
		batch, bytes := make([]Recorded, 0, p.Batch), 0
		q := Query{After: p.done, Through: head, Types: p.Types, Limit: p.Batch}
		for r, err := range p.store.Read(ctx, q) {
			if err != nil {
				return err
			}
			batch = append(batch, r)
			if bytes += len(r.Data); bytes > pageBytes {
				break
			}
		}
		through := head
		if len(batch) == p.Batch || bytes > pageBytes {
			through = batch[len(batch)-1].Position
		}
		if len(batch) == 0 {
			p.done = through
			continue
		}
		done, err := p.apply(ctx, batch, through)
		if err != nil {
			return err
		}
		p.done, p.saved = done, done
	}
	return nil
}

// apply applies as much of a batch as the time for it allows, and saves the checkpoint, both or neither. Done is the
// position up to which everything is applied: through, where that is the whole batch.
func (p *projecting) apply(ctx context.Context, batch []Recorded, through int64) (done int64, err error) {
	err = p.lease.transact(ctx, func(tx *sql.Tx) error {
		before, err := checkpointIn(ctx, tx, p.lease.name)
		if err != nil {
			return err
		}
		if before.Position > p.done && before.Position <= through { // committed without our hearing of it
			done = before.Position
			return nil
		}
		if before != (Checkpoint{Version: p.Version, Position: p.saved}) {
			return elsewhere(before, p.saved)
		}
		done = through
		for i, began := 0, time.Now(); i < len(batch); i++ {
			if i > 0 && time.Since(began) > batchTime {
				done = batch[i-1].Position
				break
			}
			if err := p.Apply(ctx, tx, batch[i]); err != nil {
				return fmt.Errorf("apply event %s at position %d: %w", batch[i].ID, batch[i].Position, err)
			}
		}
		return p.lease.save(ctx, tx, Checkpoint{Version: p.Version, Position: done})
	})
	return done, err
}

// noteLast is note at the end. Where it fails some events are looked at again, that is all.
func (p *projecting) noteLast(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = p.note(ctx)
}

// note saves the checkpoint behind events that are not the projection's own.
func (p *projecting) note(ctx context.Context) error {
	if p.done == p.saved {
		return nil
	}
	err := p.lease.Advance(ctx, Checkpoint{Version: p.Version, Position: p.saved}, Checkpoint{Version: p.Version, Position: p.done})
	if err == nil {
		p.saved = p.done
	}
	return err
}
