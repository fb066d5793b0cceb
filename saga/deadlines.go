package saga

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/eventstore"
)

// deadlinesVersion is that of the table of deadlines.
const deadlinesVersion = 1

// Run watches the deadlines of steps until ctx ends, and returns ctx's error then; another error where the database is away for
// longer than the store's RetryFor. A deadline that passed while nobody ran is met with when somebody runs again. Where no step
// has a Timeout there is nothing to do but wait for the end of ctx.
//
// The deadlines are in a table of the store's database, evdemo_saga_deadlines, which is kept like any projection.
func (c *Coordinator) Run(ctx context.Context) error {
	if !c.timeouts {
		<-ctx.Done()
		return ctx.Err()
	}
	if err := c.prepare(ctx); err != nil {
		return cmp.Or(ctx.Err(), err)
	}
	tick := time.NewTicker(c.config.Poll)
	defer tick.Stop()
	for seen := int64(0); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		var err error
		if seen, err = c.catchUp(ctx, seen); err != nil {
			return cmp.Or(ctx.Err(), err)
		}
		if err := c.expireAll(ctx); err != nil && ctx.Err() == nil { // the next tick tries again
			c.config.Logger.Warn("deadlines of a saga cannot be looked after", slog.String("saga", c.definition.Name), slog.Any("error", err))
		}
	}
}

// catchUp brings the table up to the end of the log, unless that is where this process has seen it, or there is nothing for the
// table behind its checkpoint. A projection that runs all the time would have a transaction for every few events, most of them
// about steps that are over by the next tick.
func (c *Coordinator) catchUp(ctx context.Context, seen int64) (head int64, err error) {
	head, err = c.config.Store.Head(ctx)
	if err != nil || head == seen {
		return head, err
	}
	p := c.deadlines()
	p.CatchUp = true
	done, err := c.config.Store.Projected(ctx, p.Name)
	if err != nil {
		return seen, err
	}
	news := done.Version != p.Version || done.Position > head
	for _, err := range c.config.Store.Read(ctx, eventstore.Query{After: done.Position, Types: p.Types, Limit: 1}) {
		if err != nil {
			return seen, err
		}
		news = true
	}
	if news {
		err = c.config.Store.Project(ctx, p)
	}
	return head, err
}

// prepare makes the table, so that it is there to be looked at before the projection has its turn. Of processes that make the
// same table at the same time PostgreSQL has one fail; it finds the table when it tries again.
func (c *Coordinator) prepare(ctx context.Context) (err error) {
	for range 5 {
		if err = c.makeTable(ctx); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("make the table of deadlines: %w", err)
	}
	return nil
}

func (c *Coordinator) makeTable(ctx context.Context) error {
	for _, statement := range []string{
		`CREATE TABLE IF NOT EXISTS evdemo_saga_deadlines (
			saga TEXT NOT NULL, instance TEXT NOT NULL, deadline BIGINT NOT NULL, PRIMARY KEY (saga, instance))`,
		`CREATE INDEX IF NOT EXISTS evdemo_saga_deadlines_due ON evdemo_saga_deadlines (saga, deadline, instance)`,
	} {
		if _, err := c.config.Store.DB().ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// deadlines is the projection: one row for each instance that waits.
func (c *Coordinator) deadlines() eventstore.Projection {
	prefix := c.Stream("")
	return eventstore.Projection{
		Name: "saga-" + c.definition.Name + "-deadlines", Version: deadlinesVersion, Lease: c.config.Lease,
		Types: []string{TypeStepStarted, TypeStepFailed, TypeCompleted}, // a step that is done is followed by one of them
		Reset: func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `DELETE FROM evdemo_saga_deadlines WHERE saga = $1`, c.definition.Name)
			return err
		},
		Apply: func(ctx context.Context, tx *sql.Tx, r eventstore.Recorded) error {
			instance, ours := strings.CutPrefix(r.Stream, prefix)
			if !ours {
				return nil
			}
			var p Progress
			if err := json.Unmarshal(r.Data, &p); err != nil {
				return err
			}
			if p.Deadline == nil {
				_, err := tx.ExecContext(ctx, `DELETE FROM evdemo_saga_deadlines WHERE saga = $1 AND instance = $2`, c.definition.Name, instance)
				return err
			}
			const set = `INSERT INTO evdemo_saga_deadlines VALUES ($1, $2, $3) ON CONFLICT (saga, instance) DO UPDATE SET deadline = $3`
			_, err := tx.ExecContext(ctx, set, c.definition.Name, instance, p.Deadline.UnixMicro())
			return err
		},
	}
}

const (
	// duePage is how many instances are looked at before the table is looked at again, and expiring how many at a time: they
	// share the wait for the disk.
	duePage, expiring = 256, 16
)

// waiting is a row of the table.
type waiting struct {
	instance string
	deadline int64 // in microseconds
}

// expireAll has all steps fail whose deadlines have passed by now. One that cannot is reported, and keeps no other waiting.
func (c *Coordinator) expireAll(ctx context.Context) error {
	var (
		now  = time.Now().UnixMicro()
		last waiting
		mu   sync.Mutex
		errs []error
	)
	for ctx.Err() == nil {
		due, err := c.due(ctx, now, last)
		if err != nil || len(due) == 0 {
			return errors.Join(append(errs, err)...)
		}
		var group errgroup.Group
		group.SetLimit(expiring)
		for _, w := range due {
			group.Go(func() error {
				if err := c.expire(ctx, w.instance); err != nil {
					mu.Lock()
					defer mu.Unlock()
					errs = append(errs, fmt.Errorf("instance %s: %w", w.instance, err))
				}
				return nil
			})
		}
		_ = group.Wait() // the errors are in errs
		last = due[len(due)-1]
	}
	return ctx.Err()
}

// due are the next instances whose deadline has passed, in the order of their deadlines. The table may be a little behind.
func (c *Coordinator) due(ctx context.Context, now int64, after waiting) (all []waiting, err error) {
	const query = `SELECT instance, deadline FROM evdemo_saga_deadlines
		WHERE saga = $1 AND deadline <= $2 AND (deadline > $3 OR deadline = $3 AND instance > $4) ORDER BY deadline, instance LIMIT $5`
	rows, err := c.config.Store.DB().QueryContext(ctx, query, c.definition.Name, now, after.deadline, after.instance, duePage)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var w waiting
		if err := rows.Scan(&w.instance, &w.deadline); err != nil {
			return nil, err
		}
		all = append(all, w)
	}
	return all, rows.Err()
}
