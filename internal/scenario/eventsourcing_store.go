package scenario

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strconv"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/stage"
)

// accountStore keeps each change of an account as an event, and the balances in a table that is made from them.
type accountStore struct {
	s     *stage.Stage
	db    string
	store *eventstore.Store
}

func openAccountStore(ctx context.Context, s *stage.Stage) (a *accountStore, err error) {
	a = &accountStore{s: s, db: filepath.Join(s.Dir, "accounts.db")}
	if a.store, err = eventstore.Open(ctx, eventstore.Config{DB: a.db}); err == nil {
		s.OnClose(func(context.Context) error { return a.store.Close() })
	}
	return a, err
}

func (a *accountStore) write(ctx context.Context, changes []accountChange) (at time.Time, err error) {
	streams := map[string][]event.Event{}
	for _, c := range changes {
		e := a.s.Event("account.changed", c.account, map[string]int{"amount": c.amount})
		e.Extensions = map[string]any{"authid": c.who}
		streams[c.account] = append(streams[c.account], e)
	}
	var writes []eventstore.StreamWrite
	for account, events := range streams {
		writes = append(writes, eventstore.StreamWrite{Stream: account, Events: events})
	}
	appended, err := a.store.Append(ctx, writes...)
	return appended.RecordedAt, err
}

func (a *accountStore) load(ctx context.Context, account string, options ...eventstore.LoadOption) (int, error) {
	fold := eventstore.Fold[int]{Name: "balance", Version: 1, Apply: func(balance int, r eventstore.Recorded) (int, error) {
		amount, err := accountAmount(r)
		return balance + amount, err
	}}
	state, err := eventstore.Load(ctx, a.store, account, fold, options...)
	return state.Value, err
}

func accountAmount(r eventstore.Recorded) (int, error) {
	var change struct{ Amount int }
	err := json.Unmarshal(r.Data, &change)
	return change.Amount, err
}

func (a *accountStore) balance(ctx context.Context, account string, n int) (int, error) {
	return a.load(ctx, account, eventstore.AtVersion(int64(n)))
}

func (a *accountStore) balanceAt(ctx context.Context, account string, at time.Time) (int, error) {
	return a.load(ctx, account, eventstore.AsOf(at))
}

// who asks "evdemo store history".
func (a *accountStore) who(ctx context.Context, account string, n int) (string, error) {
	version := strconv.Itoa(n)
	out, err := a.s.Do(ctx, "store", "history", account, "--db", a.db, "--from-version", version, "--to-version", version, "-o", "jsonl")
	if err != nil {
		return "", err
	}
	var told struct{ Who string }
	err = json.Unmarshal(out, &told)
	return told.Who, err
}

func (a *accountStore) forget(ctx context.Context) error { return forgetBalances(ctx, a.store.DB()) }

func (a *accountStore) balances(ctx context.Context) (map[string]int, error) {
	return readBalances(ctx, a.store.DB())
}
