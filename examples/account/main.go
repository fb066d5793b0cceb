// Account keeps bank accounts as events: nothing is stored but what happened, and everything else is made from that.
//
//	go run ./examples/account deposit ada 100
//	go run ./examples/account withdraw ada 30
//	go run ./examples/account balance ada
//	go run ./examples/account top
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
)

// account is the state of one account; change is what its events have as data.
type (
	account struct{ Balance, Changes int }
	change  struct{ Amount int }
)

func accounts() eventstore.Fold[account] {
	return eventstore.Fold[account]{Name: "account", Version: 1, Apply: func(a account, r eventstore.Recorded) (account, error) {
		amount, err := signed(r)
		return account{a.Balance + amount, a.Changes + 1}, err
	}}
}

// signed is what an event adds to the balance.
func signed(r eventstore.Recorded) (int, error) {
	var c change
	if err := json.Unmarshal(r.Data, &c); err != nil {
		return 0, err
	}
	if r.Type == "account.withdrawn" {
		return -c.Amount, nil
	}
	return c.Amount, nil
}

func main() {
	db := flag.String("db", "accounts.db", "SQLite `file` or postgres:// URL")
	asOf := flag.String("as-of", "", "show the balance at this `time` (RFC 3339)")
	flag.Parse()
	if err := run(context.Background(), *db, *asOf, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "account:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, db, asOf string, args []string) (err error) {
	store, err := eventstore.Open(ctx, eventstore.Config{DB: db})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	switch {
	case len(args) == 3 && (args[0] == "deposit" || args[0] == "withdraw"):
		amount, err := strconv.Atoi(args[2])
		if err != nil || amount <= 0 {
			return fmt.Errorf("%q is no amount", args[2])
		}
		return book(ctx, store, args[0], "account-"+args[1], amount)
	case len(args) == 2 && args[0] == "balance":
		return balance(ctx, store, "account-"+args[1], asOf)
	case len(args) == 1 && args[0] == "top":
		return top(ctx, store)
	default:
		return errors.New("usage: account [-db FILE] deposit NAME AMOUNT | withdraw NAME AMOUNT | balance NAME | top")
	}
}

// book decides from the account's state. If somebody else books at the same moment, it decides again.
func book(ctx context.Context, store *eventstore.Store, what, stream string, amount int) error {
	decide := func(a eventstore.State[account]) ([]event.Event, error) {
		kind := "account.deposited"
		if what == "withdraw" {
			kind = "account.withdrawn"
			if a.Value.Balance < amount {
				return nil, fmt.Errorf("%s has %d, and cannot give %d", stream, a.Value.Balance, amount)
			}
		}
		e, err := event.New(kind, "bank", change{amount})
		return []event.Event{e}, err
	}
	appended, err := eventstore.Update(ctx, store, stream, accounts(), decide, eventstore.SnapshotEvery(100))
	if err == nil {
		fmt.Printf("%s: %s %d, version %d\n", stream, what, amount, appended.Versions[0])
	}
	return err
}

func balance(ctx context.Context, store *eventstore.Store, stream, asOf string) error {
	var options []eventstore.LoadOption
	if asOf != "" {
		moment, err := time.Parse(time.RFC3339Nano, asOf)
		if err != nil {
			return err
		}
		options = append(options, eventstore.AsOf(moment))
	}
	state, err := eventstore.Load(ctx, store, stream, accounts(), options...)
	if err == nil {
		fmt.Printf("%s: %d after %d changes\n", stream, state.Value.Balance, state.Value.Changes)
	}
	return err
}

// top keeps a table of balances, which only sees the events that are new since the last time.
func top(ctx context.Context, store *eventstore.Store) error {
	err := store.Project(ctx, eventstore.Projection{
		Name: "balances", Version: 1, CatchUp: true,
		Reset: func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `DROP TABLE IF EXISTS balances; CREATE TABLE balances (account TEXT PRIMARY KEY, balance BIGINT NOT NULL)`)
			return err
		},
		Apply: func(ctx context.Context, tx *sql.Tx, r eventstore.Recorded) error {
			amount, err := signed(r)
			if err != nil {
				return err
			}
			const add = `INSERT INTO balances VALUES ($1, $2) ON CONFLICT (account) DO UPDATE SET balance = balances.balance + $2`
			_, err = tx.ExecContext(ctx, add, r.Stream, amount)
			return err
		},
	})
	if err != nil {
		return err
	}
	var name string
	var amount int
	row := store.DB().QueryRowContext(ctx, `SELECT account, balance FROM balances ORDER BY balance DESC, account LIMIT 1`)
	if err := row.Scan(&name, &amount); errors.Is(err, sql.ErrNoRows) {
		return errors.New("there are no accounts yet")
	} else if err != nil {
		return err
	}
	fmt.Printf("%s: %d, more than anybody else\n", name, amount)
	return nil
}
