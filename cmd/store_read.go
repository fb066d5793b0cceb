package cmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/journal"
)

const storeReadLong = `Print the events of a stream, or of the whole log, in their order.

Conditions go together: an event must meet each. --as-of reads what the log had in it at that time.
--correlation reads a flow: the events with that correlationid, and the one with that id that began it.

-o jsonl prints each event on a line, with its place: {"position", "stream", "version", "recorded_at",
"event"}. The event is exact, and "evdemo store append" takes these lines back, into the same streams. "jq -c
.event" makes them lines for "evdemo publish". -o json is an array of the same. A table shows the beginning
of the data only.

What is appended while it reads is not read. Database: read.

Exit codes: 0 printed, also where there is nothing; 2 wrong usage, or no event store there; 4 no database;
1 anything else, as an interrupt before the end, or an event that is damaged.`

const storeReadExample = `  evdemo store read order-1 --db orders.db
  evdemo store read --db orders.db --type order.paid --after 100 --limit 10
  evdemo store read --db orders.db --as-of 1h --backwards --limit 3 -o jsonl
  evdemo store read --db orders.db -o jsonl > orders.jsonl`

// queryOptions are the flags of commands that read events.
type queryOptions struct {
	stream               string
	types                []string
	subject, correlation string
	after                int64
}

func (o *queryOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringArrayVar(&o.types, "type", nil, "only events of this type; may be repeated")
	flags.StringVar(&o.subject, "subject", "", "only events with this subject")
	flags.StringVar(&o.correlation, "correlation", "", "only the flow with this correlation id")
	flags.Int64Var(&o.after, "after", 0, "only events after this position")
}

// check takes the stream from the arguments, if there is one.
func (o *queryOptions) check(args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("one stream at most, not %d", len(args))
	}
	if len(args) == 1 {
		if o.stream = args[0]; o.stream == "" {
			return errors.New("the stream's name is empty")
		}
	}
	return notNegative("--after", o.after)
}

func notNegative(flag string, n int64) error {
	if n < 0 {
		return fmt.Errorf("%s %d: want 0 or more", flag, n)
	}
	return nil
}

func (o *queryOptions) query() eventstore.Query {
	return eventstore.Query{Stream: o.stream, Types: o.types, Subject: o.subject, Correlation: o.correlation, After: o.after}
}

type storeReadOptions struct {
	storeOptions
	queryOptions

	fromVersion, toVersion, through int64
	asOf                            string
	given                           func(flag string) bool
	backwards                       bool
	limit                           int
	output                          *output

	moment time.Time // from asOf
}

// newStoreReadCommand builds "store read". Tests pass run to look at what was parsed.
func newStoreReadCommand(app *App, run func(context.Context, *App, *storeReadOptions) error) *cobra.Command {
	if run == nil {
		run = runStoreRead
	}
	opts := &storeReadOptions{}
	cmd := &cobra.Command{
		Use:     "read [STREAM]",
		Short:   "Print the events of a stream, or of the whole log",
		Long:    storeReadLong,
		Example: storeReadExample,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.given = cmd.Flags().Changed
			if err := opts.check(args); err != nil {
				return usageError(err)
			}
			return run(cmd.Context(), app, opts)
		},
	}
	flags := cmd.Flags()
	opts.storeOptions.addFlags(flags)
	opts.queryOptions.addFlags(flags)
	flags.Int64Var(&opts.through, "through", 0, "only events up to and with this position (0: no limit)")
	flags.Int64Var(&opts.fromVersion, "from-version", 0, "only from this version of STREAM on (0: no limit)")
	flags.Int64Var(&opts.toVersion, "to-version", 0, "only up to and with this version of STREAM (0: no limit)")
	flags.StringVar(&opts.asOf, "as-of", "", "only what had been appended at this TIME")
	flags.BoolVar(&opts.backwards, "backwards", false, "the last event first")
	flags.IntVar(&opts.limit, "limit", 0, "so many events at most (0: all)")
	opts.output = outputFlag(flags, "table", "json", "jsonl")
	return cmd
}

func (o *storeReadOptions) check(args []string) error {
	if err := errors.Join(o.storeOptions.check(), o.queryOptions.check(args), notNegative("--through", o.through),
		notNegative("--from-version", o.fromVersion), notNegative("--to-version", o.toVersion), notNegative("--limit", int64(o.limit))); err != nil {
		return err
	}
	switch {
	case o.stream == "" && (o.fromVersion > 0 || o.toVersion > 0):
		return errors.New("versions are those of a stream: name it, or use --after and --through")
	case o.toVersion > 0 && o.toVersion < o.fromVersion:
		return fmt.Errorf("--from-version %d is behind --to-version %d", o.fromVersion, o.toVersion)
	case o.through > 0 && o.through <= o.after:
		return fmt.Errorf("nothing is after %d and up to %d", o.after, o.through)
	}
	var err error
	if o.given("as-of") {
		o.moment, err = parseMoment("--as-of", o.asOf)
	}
	return err
}

func (o *storeReadOptions) query() eventstore.Query {
	q := o.queryOptions.query()
	q.FromVersion, q.ToVersion, q.Through = o.fromVersion, o.toVersion, o.through
	q.AsOf, q.Backwards, q.Limit = o.moment, o.backwards, o.limit
	return q
}

func runStoreRead(ctx context.Context, app *App, opts *storeReadOptions) (err error) {
	store, err := opts.open(ctx, app)
	if err != nil {
		return interrupted(ctx, "anything was read", err)
	}
	defer closing(store, &err)
	out := newListWriter(app.Out, opts.output)
	var line []byte
	for r, err := range store.Read(ctx, opts.query()) {
		if err != nil {
			return errors.Join(interrupted(ctx, "everything was read", err), out.flush())
		}
		if line, err = appendRecorded(line[:0], r, opts.output.json()); err == nil {
			err = out.add(line)
		}
		if err != nil {
			return err
		}
	}
	if err := out.end(); err != nil {
		return err
	}
	if !app.global.quiet {
		fmt.Fprintln(app.Err, counted(int64(out.count), "event", "events"))
	}
	return nil
}

// counted is a number of things in words.
func counted(n int64, one, many string) string {
	switch n {
	case 0:
		return "no " + many
	case 1:
		return "1 " + one
	default:
		return thousands(n) + " " + many
	}
}

// appendRecorded writes a recorded event, as JSON or for people: where and when it is, what it is, and the
// beginning of its data.
func appendRecorded(b []byte, r eventstore.Recorded, asJSON bool) ([]byte, error) {
	if asJSON {
		return journal.AppendLine(b, r)
	}
	return fmt.Appendf(b, "%6d  %s  %s@%d  %s  %s  %s", r.Position, moment(r.RecordedAt), printable(r.Stream, widestText), r.Version,
		printable(r.Type, widestText), printable(r.ID, widestText), printable(string(r.Data[:min(len(r.Data), 4*widestText)]), widestText)), nil
}

// listWriter writes lines: as they are, or as the elements of a JSON array.
type listWriter struct {
	out   *bufio.Writer
	array bool
	count int
}

func newListWriter(out io.Writer, format *output) *listWriter {
	return &listWriter{out: bufio.NewWriterSize(out, 64<<10), array: format.value == "json"}
}

func (w *listWriter) add(line []byte) error {
	switch {
	case w.array && w.count == 0:
		_, _ = w.out.WriteString("[\n") // its error is the next one's too
	case w.array:
		_, _ = w.out.WriteString(",\n")
	}
	w.count++
	_, err := w.out.Write(line)
	if !w.array && err == nil {
		err = w.out.WriteByte('\n')
	}
	return err
}

// end ends an array, and flushes.
func (w *listWriter) end() error {
	switch {
	case w.array && w.count == 0:
		_, _ = w.out.WriteString("[]\n")
	case w.array:
		_, _ = w.out.WriteString("\n]\n")
	}
	return w.flush()
}

func (w *listWriter) flush() error { return w.out.Flush() }
