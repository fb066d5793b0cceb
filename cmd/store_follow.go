package cmd

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/eventstore"
)

const storeFollowLong = `Print the events of a stream, or of the whole log, and go on with those that are appended, until SIGINT or
SIGTERM, --count or --idle-timeout.

Without --from and --after it begins with the next event. --after N goes on behind an event that was seen
before: its position stands on each line, and on standard error at the end. Positions are in the order of the
commits, so no event comes late and is missed.

-o json and jsonl print the lines of "evdemo store read -o jsonl". Database: read.

Exit codes: 0 done, also after SIGINT or SIGTERM; 2 wrong usage, or no event store there; 4 no database; 1
anything else, as a log that does not have what was read before: it was restored from a backup.`

const storeFollowExample = `  evdemo store follow --db orders.db
  evdemo store follow order-1 --db orders.db --from first --count 3
  evdemo store follow --db orders.db --after 1 --type order.paid -o jsonl --idle-timeout 1s`

type storeFollowOptions struct {
	storeOptions
	queryOptions

	from        string
	count       int
	idleTimeout time.Duration
	output      *output

	given func(flag string) bool
	start func(context.Context, *eventstore.Store) (after int64, err error) // from them
}

// newStoreFollowCommand builds "store follow". Tests pass run to look at what was parsed.
func newStoreFollowCommand(app *App, run func(context.Context, *App, *storeFollowOptions) error) *cobra.Command {
	if run == nil {
		run = runStoreFollow
	}
	opts := &storeFollowOptions{}
	cmd := &cobra.Command{
		Use:     "follow [STREAM]",
		Short:   "Print events as they are appended",
		Long:    storeFollowLong,
		Example: storeFollowExample,
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
	flags.StringVar(&opts.from, "from", "", "where to begin: first, last, next, a position, or a TIME (default: next)")
	flags.IntVar(&opts.count, "count", 0, "stop after so many events (0: no limit)")
	flags.DurationVar(&opts.idleTimeout, "idle-timeout", 0, "stop when no event has come for so long (0: never)")
	opts.output = outputFlag(flags, "table", "json", "jsonl")
	return cmd
}

func (o *storeFollowOptions) check(args []string) error {
	err := errors.Join(o.storeOptions.check(), o.queryOptions.check(args), notNegative("--count", int64(o.count)))
	switch {
	case err != nil:
		return err
	case o.idleTimeout < 0:
		return fmt.Errorf("--idle-timeout %v: want 0 or more", o.idleTimeout)
	case o.from != "" && o.given("after"):
		return errors.New("give --from or --after, not both")
	case o.given("after"):
		o.start = startAfter(o.after)
		return nil
	}
	o.start, err = parseStart(o.from)
	return err
}

func startAfter(position int64) func(context.Context, *eventstore.Store) (int64, error) {
	return func(context.Context, *eventstore.Store) (int64, error) { return position, nil }
}

// parseStart gives what finds the position after which to begin.
func parseStart(from string) (func(context.Context, *eventstore.Store) (int64, error), error) {
	switch from {
	case "", "next":
		return func(ctx context.Context, s *eventstore.Store) (int64, error) { return s.Head(ctx) }, nil
	case "first":
		return startAfter(0), nil
	case "last":
		return func(ctx context.Context, s *eventstore.Store) (int64, error) {
			head, err := s.Head(ctx)
			return max(head-1, 0), err
		}, nil
	}
	if position, err := strconv.ParseInt(from, 10, 64); err == nil {
		if position < 1 {
			return nil, fmt.Errorf("--from %d: positions are counted from 1", position)
		}
		return func(ctx context.Context, s *eventstore.Store) (int64, error) {
			head, err := s.Head(ctx)
			if err == nil && position > head+1 {
				err = usageError(fmt.Errorf("--from %d: the log ends at position %d", position, head))
			}
			return position - 1, err
		}, nil
	}
	at, err := parseMoment("--from", from)
	if err != nil {
		return nil, fmt.Errorf("%w, or first, last, next, or a position", err)
	}
	return func(ctx context.Context, s *eventstore.Store) (int64, error) {
		return s.PositionAt(ctx, at.Add(-time.Microsecond)) // what was appended at that very time is wanted
	}, nil
}

func runStoreFollow(ctx context.Context, app *App, opts *storeFollowOptions) (err error) {
	store, err := opts.open(ctx, app)
	if err != nil {
		return interrupted(ctx, "the event store was open", err)
	}
	defer closing(store, &err)
	q := opts.query()
	if q.After, err = opts.start(ctx, store); err != nil {
		return interrupted(ctx, "it was known where to begin", err)
	}
	app.Logger().Info("following", slog.String("db", eventstore.Location(opts.db)), slog.Int64("after", q.After))
	q.Limit = opts.count
	seen, err := opts.follow(ctx, app, store, q)
	if !app.global.quiet || err == nil {
		fmt.Fprintf(app.Err, "followed %s", counted(seen.events, "event", "events"))
		if seen.events > 0 {
			fmt.Fprintf(app.Err, ", the last at position %d", seen.position)
		}
		fmt.Fprintln(app.Err)
	}
	return err
}

type followed struct{ events, position int64 }

// follow prints events until there is enough, or nobody wants any more.
func (o *storeFollowOptions) follow(ctx context.Context, app *App, store *eventstore.Store, q eventstore.Query) (seen followed, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	idle := time.AfterFunc(time.Hour, stop)
	defer idle.Stop()
	caughtUp := false
	watch := func() {
		if idle.Stop(); caughtUp && o.idleTimeout > 0 {
			idle.Reset(o.idleTimeout)
		}
	}
	idle.Stop()
	var line []byte
	for r, err := range catchUp(ctx, store, q, func() { caughtUp = true; watch() }) {
		if err != nil {
			if ctx.Err() != nil {
				return seen, nil
			}
			return seen, explainStore(err)
		}
		idle.Stop()
		if line, err = appendRecorded(line[:0], r, o.output.json()); err != nil {
			return seen, err
		}
		if !app.global.quiet {
			if _, err := app.Out.Write(append(line, '\n')); err != nil {
				return seen, fmt.Errorf("print events: %w", err)
			}
		}
		seen.events, seen.position = seen.events+1, r.Position
		watch()
	}
	return seen, nil
}

// catchUp gives what is there, calls then, and follows. Reading what is there may take its time, and is no silence.
func catchUp(ctx context.Context, store *eventstore.Store, q eventstore.Query, then func()) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		there := q
		var err error
		if there.Through, err = store.Head(ctx); err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		given := 0
		if there.Through > q.After {
			for r, err := range store.Read(ctx, there) {
				if given++; !yield(r, err) || err != nil || given == q.Limit {
					return
				}
			}
		}
		then()
		q.After = max(q.After, there.Through)
		if q.Limit > 0 {
			q.Limit -= given
		}
		for r, err := range store.Follow(ctx, q) {
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}
