package cmd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/evdemo/evdemo/internal/pglink"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox"
	"github.com/evdemo/evdemo/worker/inbox/postgres"
)

// inboxStore is what --dedup and --causal name.
type inboxStore interface {
	worker.DedupStore
	worker.GateStore
	Close() error
}

// checkInbox finds what would be taken for a file and was meant as something else.
func checkInbox(flag, name string) error {
	if name == "" || name == "memory" {
		return nil
	}
	return checkDatabase(flag, name)
}

// openInbox opens the store that a flag names: a SQLite file, with a lease, or a database on PostgreSQL.
func openInbox(ctx context.Context, app *App, flag, name string, lease time.Duration) (store inboxStore, err error) {
	if pglink.IsURL(name) {
		store, err = postgres.Open(ctx, postgres.Config{URL: name, Logger: app.Logger()})
	} else {
		store, err = inbox.Open(ctx, inbox.Config{Path: name, Lease: lease})
	}
	if err == nil {
		return store, nil
	}
	err = oneLine{fmt.Errorf("%s: %w", flag, err)}
	if errors.Is(err, postgres.ErrUnavailable) {
		return nil, &exitError{exitUnreachable, err}
	}
	return nil, usageError(err)
}
