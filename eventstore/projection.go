package eventstore

import (
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
	// built anew.
	Name    string
	Version int
	// Types are the event types that it reads; none means all.
	Types []string
	// Apply writes what an event means for the read model, through tx and no other way. It must not append through
	// [Store.Append]; [Store.AppendTx] with tx commits with the rest. An error ends the projection before the
	// event: nothing is skipped.
	Apply func(ctx context.Context, tx *sql.Tx, r Recorded) error
	// Reset makes the read model empty, before the first event of every Version. It makes its tables as well.
	Reset func(ctx context.Context, tx *sql.Tx) error
	// Batch is how many events one transaction has at most. Default 500.
	Batch int
	// Lease is how long the active instance may be silent before another takes over. Default 10 s.
	Lease time.Duration
	// CatchUp ends the projection once it has read what was in the log when it began.
	CatchUp bool
}

const (
	defaultBatch = 500
	// skipStep is how many events that are not its own a projection may pass before it notes that.
	skipStep = 1000
)

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
	orDefault(&p.Batch, defaultBatch)
	return p, errors.Join(mistakes...)
}

// Project runs a projection until ctx ends, and returns ctx's error then. Of several instances under one name, in any
// number of processes, one is active at a time. While a PostgreSQL server is away it waits, for Config.RetryFor.
func (s *Store) Project(ctx context.Context, p Projection) error {
	p, err := p.withDefaults()
	if err != nil {
		return err
	}
	return s.Lead(ctx, "projection/"+p.Name, p.Lease, func(ctx context.Context, l *Lease) error {
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
	for {
		changed := p.store.signal.next()
		head, err := p.store.Head(ctx)
		if err != nil {
			return err
		}
		if err := p.advance(ctx, head); err != nil {
			return err
		}
		if p.CatchUp {
			return p.note(ctx)
		}
		if err := p.store.await(ctx, changed); err != nil {
			return errors.Join(err, p.note(context.WithoutCancel(ctx)))
		}
	}
}

// begin finds out where to go on, and empties the read model of another version.
func (p *projecting) begin(ctx context.Context) error {
	c, err := p.store.Checkpoint(ctx, p.lease.name)
	if err != nil {
		return err
	}
	if p.done, p.saved = c.Position, c.Position; c.Version == p.Version && c.Position > 0 {
		return nil
	}
	p.done, p.saved = 0, 0
	return p.store.transactAgain(ctx, func(tx *sql.Tx) error {
		if err := p.Reset(ctx, tx); err != nil {
			return fmt.Errorf("reset: %w", err)
		}
		return p.lease.Save(ctx, tx, Checkpoint{Version: p.Version})
	})
}

// advance applies everything up to and with head.
func (p *projecting) advance(ctx context.Context, head int64) error {
	for p.done < head {
		batch := make([]Recorded, 0, p.Batch)
		q := Query{After: p.done, Through: head, Types: p.Types, Limit: p.Batch}
		for r, err := range p.store.Read(ctx, q) {
			if err != nil {
				return err
			}
			batch = append(batch, r)
		}
		through := head
		if len(batch) == p.Batch {
			through = batch[len(batch)-1].Position
		}
		if len(batch) > 0 {
			if err := p.apply(ctx, batch, through); err != nil {
				return err
			}
		}
		p.done = through
	}
	if p.done-p.saved >= skipStep {
		return p.note(ctx)
	}
	return nil
}

// apply applies a batch and saves the checkpoint, both or neither.
func (p *projecting) apply(ctx context.Context, batch []Recorded, through int64) error {
	err := p.store.transactAgain(ctx, func(tx *sql.Tx) error {
		before, err := checkpointIn(ctx, tx, p.lease.name)
		if err != nil || before.Position >= through { // committed without our hearing of it
			return err
		}
		if err := p.lease.Save(ctx, tx, Checkpoint{Version: p.Version, Position: through}); err != nil {
			return err
		}
		for _, r := range batch {
			if err := p.Apply(ctx, tx, r); err != nil {
				return fmt.Errorf("apply event %s at position %d: %w", r.ID, r.Position, err)
			}
		}
		return nil
	})
	if err == nil {
		p.saved = through
	}
	return err
}

// note saves the checkpoint behind events that are not the projection's own.
func (p *projecting) note(ctx context.Context) error {
	if p.done == p.saved {
		return nil
	}
	p.saved = p.done
	return p.lease.SaveNow(ctx, Checkpoint{Version: p.Version, Position: p.done})
}
