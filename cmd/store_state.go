package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/audit"
)

const storeStateLong = `Print what the events of a stream amount to, now or at an earlier moment, as JSON:
{"stream", "version", "position", "recorded_at", "state"}.

The state is an object into which the data of each event is merged, in their order, as a JSON Merge Patch
(RFC 7396): members replace those of the same name, objects are merged, and null removes. Data that is no
object becomes the member named as the event's type; null, and no data, change nothing. Numbers keep their
digits. The fold is named evdemo.merge.

A snapshot that is there is used. --snapshots N writes one where at least N events had to be merged; the
default writes none. -o jsonl prints a single line. Database: read, and written with --snapshots.

Exit codes: 0 printed; 2 wrong usage, no event store there, or a version that the stream does not have; 4 no
database; 1 anything else, as a stream that has no events, or had none then.`

const storeStateExample = `  evdemo store state order-1 --db orders.db
  evdemo store state order-1 --db orders.db --at-version 2 -o jsonl
  evdemo store state order-1 --db orders.db --as-of 2026-01-02T15:04:05Z
  evdemo store state order-1 --db orders.db --snapshots 100`

type storeStateOptions struct {
	storeOptions

	stream    string
	atVersion int64
	asOf      string
	snapshots int
	output    *output

	moment time.Time // from asOf
	given  func(flag string) bool
}

// newStoreStateCommand builds "store state". Tests pass run to look at what was parsed.
func newStoreStateCommand(app *App, run func(context.Context, *App, *storeStateOptions) error) *cobra.Command {
	if run == nil {
		run = runStoreState
	}
	opts := &storeStateOptions{}
	cmd := &cobra.Command{
		Use:     "state STREAM",
		Short:   "Print what the events of a stream amount to, now or then",
		Long:    storeStateLong,
		Example: storeStateExample,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.given = cmd.Flags().Changed
			if err := opts.check(args); err != nil {
				return usageError(err)
			}
			return run(cmd.Context(), app, opts)
		},
	}
	flags := cmd.Flags()
	opts.addFlags(flags)
	flags.Int64Var(&opts.atVersion, "at-version", 0, "the state behind this version (default: the last)")
	flags.StringVar(&opts.asOf, "as-of", "", "the state at this TIME (default: now)")
	flags.IntVar(&opts.snapshots, "snapshots", 0, "write a snapshot if at least so many events were merged (0: never)")
	opts.output = outputFlag(flags, "json", "jsonl")
	return cmd
}

func (o *storeStateOptions) check(args []string) (err error) {
	if o.stream, err = oneStream(args, "state"); err != nil {
		return err
	}
	if err := errors.Join(o.storeOptions.check(), notNegative("--snapshots", int64(o.snapshots))); err != nil {
		return err
	}
	switch {
	case o.given("at-version") && o.atVersion < 1:
		return fmt.Errorf("--at-version %d: versions are counted from 1", o.atVersion)
	case o.given("at-version") && o.given("as-of"):
		return errors.New("give --at-version or --as-of, not both")
	case o.given("as-of"):
		o.moment, err = parseMoment("--as-of", o.asOf)
	}
	return err
}

// streamState is a state in JSON.
type streamState struct {
	Stream     string      `json:"stream"`
	Version    int64       `json:"version"`
	Position   int64       `json:"position"`
	RecordedAt time.Time   `json:"recorded_at"`
	State      audit.State `json:"state"`
}

func runStoreState(ctx context.Context, app *App, opts *storeStateOptions) (err error) {
	store, err := opts.open(ctx, app)
	if err != nil {
		return interrupted(ctx, "the state was known", err)
	}
	defer closing(store, &err)
	state, err := eventstore.Load(ctx, store, opts.stream, audit.Fold(), opts.options()...)
	if err != nil {
		return interrupted(ctx, "the state was known", err)
	}
	if state.Version == 0 {
		return opts.nothing(ctx, store)
	}
	encoder := json.NewEncoder(app.Out)
	encoder.SetEscapeHTML(false)
	if opts.output.value == "json" {
		encoder.SetIndent("", "  ")
	}
	return encoder.Encode(streamState{
		Stream: opts.stream, Version: state.Version, Position: state.Position, RecordedAt: state.RecordedAt, State: state.Value,
	})
}

func (o *storeStateOptions) options() (options []eventstore.LoadOption) {
	if o.atVersion > 0 {
		options = append(options, eventstore.AtVersion(o.atVersion))
	}
	if !o.moment.IsZero() {
		options = append(options, eventstore.AsOf(o.moment))
	}
	if o.snapshots > 0 {
		options = append(options, eventstore.SnapshotEvery(o.snapshots))
	}
	return options
}

// nothing says why there is no state.
func (o *storeStateOptions) nothing(ctx context.Context, store *eventstore.Store) error {
	if !o.moment.IsZero() {
		for first, err := range store.Read(ctx, eventstore.Query{Stream: o.stream, Limit: 1}) {
			if err != nil {
				return explainStore(err)
			}
			return fmt.Errorf("stream %s had no events at %s: its first was appended at %s", printable(o.stream, widestText), moment(o.moment), moment(first.RecordedAt))
		}
	}
	return noStream(o.stream)
}

func noStream(stream string) error {
	return fmt.Errorf(`stream %s has no events; "evdemo store streams" tells which have`, printable(stream, widestText))
}
