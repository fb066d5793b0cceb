package scenario

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/stage"
)

// accounts are kept as rows, or as events; and beside that in plain lists, which all answers are compared with.
type accounts struct {
	s       *stage.Stage
	file    string
	db      *sql.DB           // has the table of balances
	store   *eventstore.Store // nil where there are only rows
	changes map[string][]accountChange
	moments []accountMoment
}

type accountChange struct {
	Amount int    `json:"amount"`
	Who    string `json:"who"`
}

// accountMoment is when a batch of changes was made, and how many each account then had.
type accountMoment struct {
	at      time.Time
	changes map[string]int
}

// accountState is what an account's events, or its row, say of it.
type accountState struct {
	Balance int
	Who     string // changed it last
}

func applyAccount(state accountState, r eventstore.Recorded) (accountState, error) {
	var change accountChange
	err := json.Unmarshal(r.Data, &change)
	return accountState{Balance: state.Balance + change.Amount, Who: change.Who}, err
}

func openAccounts(ctx context.Context, s *stage.Stage) (a *accounts, err error) {
	a = &accounts{s: s, file: filepath.Join(s.Dir, "accounts.db"), changes: map[string][]accountChange{}}
	if s.Fixed() {
		if a.store, err = eventstore.Open(ctx, eventstore.Config{DB: a.file}); err != nil {
			return nil, err
		}
		a.db = a.store.DB()
		s.OnClose(func(context.Context) error { return a.store.Close() })
		return a, nil
	}
	if a.db, err = sql.Open("sqlite", "file:"+a.file); err != nil {
		return nil, fmt.Errorf("open %s: %w", a.file, err)
	}
	s.OnClose(func(context.Context) error { return a.db.Close() })
	_, err = a.db.ExecContext(ctx, `CREATE TABLE balances (account TEXT PRIMARY KEY, balance BIGINT NOT NULL, changed_by TEXT NOT NULL)`)
	return a, err
}

// change makes a batch of changes, all or none.
func (a *accounts) change(ctx context.Context) error {
	batch := map[string][]accountChange{}
	for range accountBatch {
		account := accountBusy
		if a.s.Rand.IntN(5) == 0 {
			account = a.other()
		}
		who := []string{"anna", "ben", "cleo", "dora", "emil"}[a.s.Rand.IntN(5)]
		batch[account] = append(batch[account], accountChange{Amount: a.s.Rand.IntN(2000) - 900, Who: who})
	}
	keep := a.overwrite
	if a.store != nil {
		keep = a.append
	}
	at, err := keep(ctx, batch)
	moment := accountMoment{at: at, changes: map[string]int{}}
	for account, changes := range batch {
		a.changes[account] = append(a.changes[account], changes...)
	}
	for account, changes := range a.changes {
		moment.changes[account] = len(changes)
	}
	a.moments = append(a.moments, moment)
	return err
}

func (a *accounts) other() string { return fmt.Sprintf("account-%02d", 1+a.s.Rand.IntN(accountOthers)) }

// overwrite keeps changes as most programs do: a row for each account.
func (a *accounts) overwrite(ctx context.Context, batch map[string][]accountChange) (at time.Time, err error) {
	tx, err := a.db.BeginTx(ctx, nil)
	if err != nil {
		return at, err
	}
	defer func() { _ = tx.Rollback() }()
	for account, changes := range batch {
		for _, c := range changes {
			const change = `INSERT INTO balances VALUES ($1, $2, $3) ON CONFLICT (account) DO UPDATE SET balance = balance + $2, changed_by = $3`
			if _, err := tx.ExecContext(ctx, change, account, c.Amount, c.Who); err != nil {
				return at, err
			}
		}
	}
	return time.Now(), tx.Commit()
}

// append keeps each change as an event.
func (a *accounts) append(ctx context.Context, batch map[string][]accountChange) (at time.Time, err error) {
	var writes []eventstore.StreamWrite
	for _, account := range slices.Sorted(maps.Keys(batch)) { // so that a seed makes the same log
		var events []event.Event
		for _, c := range batch[account] {
			events = append(events, a.s.Event("account.changed", account, c))
		}
		writes = append(writes, eventstore.StreamWrite{Stream: account, Events: events})
	}
	appended, err := a.store.Append(ctx, writes...)
	return appended.RecordedAt, err
}

// past is what an account was like: from its events up to a version or moment; from its row, which knows no past, as it is now.
func (a *accounts) past(ctx context.Context, account string, then eventstore.LoadOption) (state accountState, err error) {
	if a.store == nil {
		err = a.db.QueryRowContext(ctx, `SELECT balance, changed_by FROM balances WHERE account = $1`, account).Scan(&state.Balance, &state.Who)
		return state, err
	}
	fold := eventstore.Fold[accountState]{Name: "account", Version: 1, Apply: applyAccount}
	loaded, err := eventstore.Load(ctx, a.store, account, fold, then)
	return loaded.Value, err
}

// truth is what an account was like after its first changes.
func (a *accounts) truth(account string, changes int) (state accountState) {
	for _, c := range a.changes[account][:changes] {
		state = accountState{Balance: state.Balance + c.Amount, Who: c.Who}
	}
	return state
}

// ask asks about the past, and counts the wrong answers.
func (a *accounts) ask(ctx context.Context) error {
	var balances, moments, who int
	for range accountQuestions {
		account, moment := a.other(), a.moments[a.s.Rand.IntN(len(a.moments)-1)]
		n := 1 + a.s.Rand.IntN(len(a.changes[account])-1) // not the last
		version, err := a.past(ctx, account, eventstore.AtVersion(int64(n)))
		if err != nil {
			return err
		}
		state, err := a.past(ctx, account, eventstore.AsOf(moment.at))
		if err != nil {
			return err
		}
		right := a.truth(account, n)
		if version.Balance != right.Balance {
			balances++
		}
		if version.Who != right.Who {
			who++
		}
		if state.Balance != a.truth(account, moment.changes[account]).Balance {
			moments++
		}
	}
	a.s.Count("balances", balances)
	a.s.Count("moments", moments)
	a.s.Count("who", who)
	return nil
}

// compare counts the accounts that have another balance in the table than they should.
func (a *accounts) compare(ctx context.Context, figure string) error {
	wrong := 0
	for account, changes := range a.changes {
		var balance int
		err := a.db.QueryRowContext(ctx, `SELECT balance FROM balances WHERE account = $1`, account).Scan(&balance)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if err != nil || balance != a.truth(account, len(changes)).Balance {
			wrong++
		}
	}
	a.s.Count(figure, wrong)
	return nil
}
