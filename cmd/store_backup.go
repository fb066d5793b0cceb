package cmd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/eventstore"
)

const storeBackupLong = `Copy an event store, as it is at one moment, while others go on writing.

TARGET is an SQLite file that does not exist yet, or the URL of a PostgreSQL database without events; a store
may be copied from one kind to the other. The copy is a store again, with equal positions, versions and
times, and with the checkpoints of those that read it. From file to file everything is copied, tables of other
programs too. A file appears once it is whole and on the disk; what was interrupted leaves nothing, and what
was killed a folder .evdemo-backup-* beside TARGET, to be deleted.

Database: read, and TARGET is written.

Exit codes: 0 copied; 2 wrong usage, no event store there, or a TARGET that has something in it; 4 no
database; 1 anything else.`

const storeBackupExample = `  evdemo store backup copy.db --db orders.db
  evdemo store backup copy.db --db postgres://shop@localhost/shop -o json`

type storeBackupOptions struct {
	storeOptions

	target string
	output *output
}

// newStoreBackupCommand builds "store backup". Tests pass run to look at what was parsed.
func newStoreBackupCommand(app *App, run func(context.Context, *App, *storeBackupOptions) error) *cobra.Command {
	if run == nil {
		run = runStoreBackup
	}
	opts := &storeBackupOptions{}
	cmd := &cobra.Command{
		Use:     "backup TARGET",
		Short:   "Copy an event store while others write to it",
		Long:    storeBackupLong,
		Example: storeBackupExample,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := opts.check(args); err != nil {
				return usageError(err)
			}
			return run(cmd.Context(), app, opts)
		},
	}
	opts.addFlags(cmd.Flags())
	opts.output = outputFlag(cmd.Flags(), "table", "json")
	return cmd
}

func (o *storeBackupOptions) check(args []string) error {
	if len(args) != 1 || args[0] == "" {
		return errors.New("say where to: evdemo store backup copy.db")
	}
	o.target = args[0]
	return errors.Join(o.storeOptions.check(), checkDatabase("TARGET", o.target))
}

// backupReport is the account of a backup.
type backupReport struct {
	Target  string  `json:"target"`
	Events  int64   `json:"events"`
	Seconds float64 `json:"seconds"`
}

func runStoreBackup(ctx context.Context, app *App, opts *storeBackupOptions) (err error) {
	store, err := opts.open(ctx, app)
	if err != nil {
		return interrupted(ctx, "anything was copied", err)
	}
	defer closing(store, &err)
	began := time.Now()
	events, err := store.Backup(ctx, opts.target)
	if err != nil {
		return interrupted(ctx, "everything was copied; there is no backup", fmt.Errorf("copy to %s: %w", eventstore.Location(opts.target), err))
	}
	report := backupReport{Target: eventstore.Location(opts.target), Events: events, Seconds: time.Since(began).Seconds()}
	if opts.output.json() {
		return writeJSON(app.Out, report)
	}
	_, err = fmt.Fprintf(app.Out, "copied %s to %s in %.2f s\n", counted(events, "event", "events"), report.Target, report.Seconds)
	return err
}
