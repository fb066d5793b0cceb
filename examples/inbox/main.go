// Inbox works a queue so that each event charges an account exactly once, however often it is
// delivered and whenever the program is killed: the charge and the record that the event has been handled
// are committed together.
//
//	go run ./examples/inbox -queue payments -db payments.db -idle-timeout 5s
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox"
)

func main() {
	url := flag.String("url", os.Getenv("AMQP_URL"), "the broker's `URL`; several, comma-separated, are one cluster")
	queue := flag.String("queue", "payments", "the queue to work")
	db := flag.String("db", "payments.db", "the SQLite `file` with the charges and the inbox")
	idle := flag.Duration("idle-timeout", 0, "end when nothing has come for so long; 0 is never")
	concurrency := flag.Int("concurrency", 32, "how many events are handled at a time")
	lease := flag.Duration("lease", 0, "how long events wait that a killed worker had in hand; 0 is 15s")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *url, *queue, *db, *idle, *lease, *concurrency); err != nil {
		fmt.Fprintln(os.Stderr, "inbox:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, url, queue, db string, idle, lease time.Duration, concurrency int) (err error) {
	store, err := inbox.Open(ctx, inbox.Config{Path: db, Lease: lease})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	const accounts = `CREATE TABLE IF NOT EXISTS charges (id TEXT NOT NULL, data BLOB)` // nothing unique: a second charge would show
	if _, err := store.DB().ExecContext(ctx, accounts); err != nil {
		return fmt.Errorf("make table charges: %w", err)
	}
	w, err := worker.New(worker.Config{
		URLs: strings.Split(url, ","), Queue: queue, Declare: topology.Default().QueueResources(queue),
		Concurrency: concurrency, IdleTimeout: idle,
	}, worker.Wrap(charge, worker.Dedup(store)))
	if err != nil {
		return err
	}
	err = w.Run(ctx)
	stats := w.Stats()
	fmt.Printf("delivered %d, handled %d, duplicates %d, failed %d\n", stats.Delivered, stats.Handled, stats.Duplicates, stats.Failed)
	return err
}

// charge has its effect by the store's transaction, as its last act.
func charge(ctx context.Context, d *worker.Delivery) error {
	return inbox.Transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO charges VALUES (?, ?)`, d.Event.ID, d.Event.Data)
		return err
	})
}
