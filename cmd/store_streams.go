package cmd

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/eventstore"
)

const storeStreamsLong = `List the streams of an event store, in the order of their names: version, which is the number of their events,
when the first of them was appended, and the last.

It costs a few steps for each stream, however many events there are. Database: read.

Exit codes: 0 listed, also where there are none; 2 wrong usage, or no event store there; 4 no database; 1
anything else, as an interrupt before the end.`

const storeStreamsExample = `  evdemo store streams --db orders.db
  evdemo store streams --db orders.db --prefix order- --limit 10 -o json`

type storeStreamsOptions struct {
	storeOptions

	prefix, after string
	limit         int
	output        *output
}

// newStoreStreamsCommand builds "store streams". Tests pass run to look at what was parsed.
func newStoreStreamsCommand(app *App, run func(context.Context, *App, *storeStreamsOptions) error) *cobra.Command {
	if run == nil {
		run = runStoreStreams
	}
	opts := &storeStreamsOptions{}
	cmd := &cobra.Command{
		Use:     "streams",
		Short:   "List the streams of an event store",
		Long:    storeStreamsLong,
		Example: storeStreamsExample,
		Args:    requireNoArgs("prefix"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := opts.check()
			if err == nil {
				err = notNegative("--limit", int64(opts.limit))
			}
			if err != nil {
				return usageError(err)
			}
			return run(cmd.Context(), app, opts)
		},
	}
	flags := cmd.Flags()
	opts.addFlags(flags)
	flags.StringVar(&opts.prefix, "prefix", "", "only streams whose names begin with this")
	flags.StringVar(&opts.after, "after", "", "only streams whose names come after this one")
	flags.IntVar(&opts.limit, "limit", 0, "so many streams at most (0: all)")
	opts.output = outputFlag(flags, "table", "json", "jsonl")
	return cmd
}

// streamLine is a stream in JSON.
type streamLine struct {
	Stream  string    `json:"stream"`
	Version int64     `json:"version"`
	First   time.Time `json:"first_recorded_at"`
	Last    time.Time `json:"last_recorded_at"`
}

func runStoreStreams(ctx context.Context, app *App, opts *storeStreamsOptions) (err error) {
	store, err := opts.open(ctx, app)
	if err != nil {
		return interrupted(ctx, "anything was read", err)
	}
	defer closing(store, &err)
	out := newListWriter(app.Out, opts.output)
	for info, err := range store.Streams(ctx, opts.prefix, opts.after) {
		if err != nil {
			return interrupted(ctx, "all were listed", err)
		}
		line, err := opts.line(info, out.count == 0)
		if err == nil {
			err = out.add(line)
		}
		if err != nil {
			return err
		}
		if out.count == opts.limit {
			break
		}
	}
	if out.count == 0 && !opts.output.json() {
		fmt.Fprintln(app.Err, "no streams")
	}
	return out.end()
}

// line writes a stream. The name is the last column, since it may be long.
func (o *storeStreamsOptions) line(info eventstore.StreamInfo, first bool) ([]byte, error) {
	if o.output.json() {
		return json.Marshal(streamLine{Stream: info.Stream, Version: info.Version, First: info.First, Last: info.Last})
	}
	var b []byte
	if first {
		b = fmt.Appendf(b, "%9s  %-27s  %-27s  %s\n", "version", "first", "last", "stream")
	}
	return fmt.Appendf(b, "%9s  %s  %s  %s", thousands(info.Version), moment(info.First), moment(info.Last), printable(info.Stream, maxStreamName)), nil
}

// maxStreamName is the most that a stream's name has.
const maxStreamName = 1000
