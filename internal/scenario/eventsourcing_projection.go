package scenario

import (
	"context"
	"database/sql"
	"time"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/stage"
)

const (
	// accountLease is how long a projection that was killed keeps the next one waiting.
	accountLease = time.Second
	// accountMiddle is the event at which it is killed, in the middle of a transaction.
	accountMiddle    = 2750
	accountTableName = "balances"
)

// accountBalances makes the table of balances from the log. Another version makes it anew. Before is called before each event.
func accountBalances(version int, before func(eventstore.Recorded)) eventstore.Projection {
	return eventstore.Projection{
		Name: accountTableName, Version: version, CatchUp: true, Lease: accountLease,
		Reset: func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `DROP TABLE IF EXISTS balances; CREATE TABLE balances (account TEXT PRIMARY KEY, balance BIGINT NOT NULL)`)
			return err
		},
		Apply: func(ctx context.Context, tx *sql.Tx, r eventstore.Recorded) error {
			before(r)
			amount, err := accountAmount(r)
			if err != nil {
				return err
			}
			const add = `INSERT INTO balances VALUES ($1, $2) ON CONFLICT (account) DO UPDATE SET balance = balances.balance + $2`
			_, err = tx.ExecContext(ctx, add, r.Stream, amount)
			return err
		},
	}
}

// accountPart makes the table of balances, gets stuck in the middle, and waits for what befalls it.
func accountPart(ctx context.Context, p *stage.Player) error {
	store, err := eventstore.Open(ctx, eventstore.Config{DB: p.Args["db"], Existing: true})
	if err != nil {
		return err
	}
	defer store.Close()
	return store.Project(ctx, accountBalances(1, func(r eventstore.Recorded) {
		if r.Position == accountMiddle {
			p.Ready()
			<-ctx.Done()
		}
	}))
}

// killProjection starts a program that makes the table, and kills it halfway.
func (a *accountStore) killProjection(ctx context.Context) error {
	program, err := a.s.StartPart(ctx, "projection", "project", nil, map[string]string{"db": a.db})
	if err != nil {
		return err
	}
	program.Kill()
	done, err := a.store.Projected(ctx, accountTableName)
	a.s.Say("A program makes the table of balances. It is killed with SIGKILL at event %d, when %d are in the table. Another program goes on behind these.", accountMiddle, done.Position)
	return err
}

// project makes the table, or goes on with it, up to the last event.
func (a *accountStore) project(ctx context.Context, version int) error {
	return a.store.Project(ctx, accountBalances(version, func(eventstore.Recorded) {}))
}

// measureLoads measures how long it takes to load the busy account with a snapshot and without, and whether it is right.
func (a *accountStore) measureLoads(ctx context.Context, truth *accountTruth) error {
	const loads, every = 11, 1000
	if _, err := a.load(ctx, accountBusy, eventstore.SnapshotEvery(every)); err != nil { // which writes it
		return err
	}
	if err := truth.write(ctx, a); err != nil {
		return err
	}
	right, wrong := truth.now()[accountBusy], 0
	for figure, options := range map[string][]eventstore.LoadOption{"all": {eventstore.WithoutSnapshots()}, "snapshot": {eventstore.SnapshotEvery(every)}} {
		took := stage.Times{}
		for range loads {
			began := time.Now()
			balance, err := a.load(ctx, accountBusy, options...)
			if err != nil {
				return err
			}
			took.Add(time.Since(began))
			if balance != right {
				wrong++
			}
		}
		a.s.Measure(figure, took.Quantile(0.5))
	}
	a.s.Count("loads", wrong)
	return nil
}
