package scenario

import (
	"context"
	"database/sql"
	"time"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/stage"
)

// accountMiddle is the event at which the first projection is killed, in the middle of a transaction.
const accountMiddle = 2750

// accountTable makes the table of balances from the log; another version makes it anew. Before, where given, is called for each event.
func accountTable(version int, before func(eventstore.Recorded)) eventstore.Projection {
	return eventstore.Projection{
		Name: "balances", Version: version, CatchUp: true, Lease: time.Second, // of one that was killed, for which the next one waits
		Reset: func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `DROP TABLE IF EXISTS balances; CREATE TABLE balances (account TEXT PRIMARY KEY, balance BIGINT NOT NULL)`)
			return err
		},
		Apply: func(ctx context.Context, tx *sql.Tx, r eventstore.Recorded) error {
			if before != nil {
				before(r)
			}
			change, err := applyAccount(accountState{}, r)
			if err != nil {
				return err
			}
			const add = `INSERT INTO balances VALUES ($1, $2) ON CONFLICT (account) DO UPDATE SET balance = balances.balance + $2`
			_, err = tx.ExecContext(ctx, add, r.Stream, change.Balance)
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
	return store.Project(ctx, accountTable(1, func(r eventstore.Recorded) {
		if r.Position == accountMiddle {
			p.Ready()
			<-ctx.Done()
		}
	}))
}

// killProjection starts a program that makes the table, kills it halfway, and goes on.
func (a *accounts) killProjection(ctx context.Context) error {
	program, err := a.s.StartPart(ctx, "projection", "project", nil, map[string]string{"db": a.file})
	if err != nil {
		return err
	}
	if err := program.Kill(); err != nil {
		return err
	}
	table := accountTable(1, nil)
	done, err := a.store.Projected(ctx, table.Name)
	if err != nil {
		return err
	}
	a.s.Say("A program makes the table of balances. It is killed with SIGKILL at event %d, when %d are in the table. Another one goes on behind these, with event %d.", accountMiddle, done.Position, done.Position+1)
	if err := a.store.Project(ctx, table); err != nil {
		return err
	}
	return a.compare(ctx, "killed")
}

// measureLoads measures how long it takes to load the busy account with a snapshot and without, and whether it is right.
func (a *accounts) measureLoads(ctx context.Context) error {
	const loads, every = 11, 1000
	if _, err := a.past(ctx, accountBusy, eventstore.SnapshotEvery(every)); err != nil { // which writes it
		return err
	}
	if err := a.change(ctx); err != nil {
		return err
	}
	right, wrong := a.truth(accountBusy, len(a.changes[accountBusy])), 0
	for figure, option := range map[string]eventstore.LoadOption{"all": eventstore.WithoutSnapshots(), "snapshot": eventstore.SnapshotEvery(every)} {
		took := stage.Times{}
		for range loads {
			began := time.Now()
			state, err := a.past(ctx, accountBusy, option)
			if err != nil {
				return err
			}
			took.Add(time.Since(began))
			if state != right {
				wrong++
			}
		}
		a.s.Measure(figure, took.Quantile(0.5))
	}
	a.s.Count("loads", wrong)
	return nil
}
