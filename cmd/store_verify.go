package cmd

import (
	"bufio"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/audit"
)

const storeVerifyLong = `Walk through a whole event store, and name everything in it that is not as it must be.

Positions have no gaps, and times never go back; every event can be read and is valid; the versions of every
stream have no gaps and are in the order of the positions; snapshots are whole, at an event that is there,
and, those of "evdemo store state", equal to the state that the events give; checkpoints are not beyond the
log. Of an SQLite file, its pages and indexes are looked at as well.

Others may go on writing. Database: read.

Exit codes: 0 nothing was found; 2 wrong usage, or no event store there; 4 no database; 5 something was
found; 1 anything else, as an interrupt before the end.`

const storeVerifyExample = `  evdemo store verify --db orders.db
  evdemo store verify --db orders.db -o json`

type storeVerifyOptions struct {
	storeOptions

	output *output
}

// newStoreVerifyCommand builds "store verify". Tests pass run to look at what was parsed.
func newStoreVerifyCommand(app *App, run func(context.Context, *App, *storeVerifyOptions) error) *cobra.Command {
	if run == nil {
		run = runStoreVerify
	}
	opts := &storeVerifyOptions{}
	cmd := &cobra.Command{
		Use:     "verify",
		Short:   "Look for anything wrong in an event store",
		Long:    storeVerifyLong,
		Example: storeVerifyExample,
		Args:    requireNoArgs("db"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opts.check(); err != nil {
				return usageError(err)
			}
			return run(cmd.Context(), app, opts)
		},
	}
	opts.addFlags(cmd.Flags())
	opts.output = outputFlag(cmd.Flags(), "table", "json")
	return cmd
}

// verifyReport is the account of a verification. The findings are before it.
type verifyReport struct {
	Events      int64 `json:"events"`
	Streams     int64 `json:"streams"`
	Snapshots   int64 `json:"snapshots"`
	Compared    int64 `json:"snapshots_compared"`
	Checkpoints int64 `json:"checkpoints"`
	Found       int64 `json:"found"`
}

// findingLine is a finding in JSON.
type findingLine struct {
	Position int64  `json:"position,omitempty"`
	Stream   string `json:"stream,omitempty"`
	Problem  string `json:"problem"`
}

func runStoreVerify(ctx context.Context, app *App, opts *storeVerifyOptions) (err error) {
	store, err := opts.open(ctx, app)
	if err != nil {
		return interrupted(ctx, "anything was looked at", err)
	}
	defer closing(store, &err)
	head, err := store.Head(ctx)
	if err != nil {
		return interrupted(ctx, "anything was looked at", err)
	}
	bar := app.progress(int(head), "looking at events")
	out := bufio.NewWriter(app.Out)
	report := findings{out: out, json: opts.output.json()}
	v, err := store.Verify(ctx, report.found, eventstore.CheckSnapshots(audit.Fold()), eventstore.Progress(func(events int64) {
		if bar != nil {
			_ = bar.Set64(events)
		}
	}))
	if bar != nil {
		_ = bar.Finish()
	}
	if err = interrupted(ctx, "everything was looked at", err); err == nil {
		err = report.end(v)
	}
	if flushErr := out.Flush(); err == nil {
		err = flushErr
	}
	if err == nil && v.Findings > 0 {
		err = &exitError{exitClaim, fmt.Errorf("%s in %s", counted(v.Findings, "finding", "findings"), eventstore.Location(opts.db))}
	}
	return err
}

// findings writes what is found as it is found: in a store that is badly damaged it may be a lot.
type findings struct {
	out  *bufio.Writer
	json bool
	n    int
}

func (f *findings) found(one eventstore.Finding) {
	f.n++
	if !f.json {
		fmt.Fprintln(f.out, printable(one.String(), 10*widestText))
		return
	}
	f.begin()
	_ = writeJSON(f.out, findingLine(one)) // an error stays with the writer
}

func (f *findings) begin() {
	if f.n <= 1 {
		_, _ = f.out.WriteString(`{"findings":[` + "\n")
	} else {
		_, _ = f.out.WriteString(",")
	}
}

// end writes the account behind the findings.
func (f *findings) end(v eventstore.Verification) error {
	if !f.json {
		_, err := fmt.Fprintf(f.out, "looked at %s in %s, %s (%s compared), %s: %s\n", counted(v.Events, "event", "events"),
			counted(v.Streams, "stream", "streams"), counted(v.Snapshots, "snapshot", "snapshots"), thousands(v.Compared),
			counted(v.Checkpoints, "checkpoint", "checkpoints"), counted(v.Findings, "finding", "findings"))
		return err
	}
	if f.n == 0 {
		f.begin()
	}
	_, _ = f.out.WriteString(`],"verified":`)
	if err := writeJSON(f.out, verifyReport{
		Events: v.Events, Streams: v.Streams, Snapshots: v.Snapshots, Compared: v.Compared, Checkpoints: v.Checkpoints, Found: v.Findings,
	}); err != nil {
		return err
	}
	_, err := f.out.WriteString("}\n")
	return err
}
