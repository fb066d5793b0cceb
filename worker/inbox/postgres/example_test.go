package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/postgrestest"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox"
	"github.com/evdemo/evdemo/worker/inbox/postgres"
)

// An account is charged in the transaction that records the event. Delivered twice, it is charged once.
func Example() {
	ctx := context.Background()
	url, drop, err := postgrestest.Database(ctx) // such as postgres://shop@db.example/shop
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer func() { _ = drop(ctx) }()
	store, err := postgres.Open(ctx, postgres.Config{URL: url})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer store.Close()
	db, err := sql.Open("pgx", url) // the application's own
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, `CREATE TABLE charges (event text)`); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	handle := worker.Wrap(func(ctx context.Context, d *worker.Delivery) error {
		return inbox.Transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO charges VALUES ($1)`, d.Event.ID)
			return err
		})
	}, worker.Dedup(store))

	delivery := &worker.Delivery{Queue: "payments", Event: event.Event{Source: "shop", ID: "7"}}
	fmt.Fprintln(os.Stdout, "first:", handle(ctx, delivery))
	fmt.Fprintln(os.Stdout, "again:", errors.Is(handle(ctx, delivery), worker.ErrDuplicate))
	var charges int
	err = db.QueryRowContext(ctx, `SELECT count(*) FROM charges`).Scan(&charges)
	fmt.Fprintln(os.Stdout, "charges:", charges, err)
	// Output:
	// first: <nil>
	// again: true
	// charges: 1 <nil>
}
