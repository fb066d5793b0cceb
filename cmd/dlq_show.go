package cmd

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/internal/feed"
	"github.com/evdemo/evdemo/worker"
)

const dlqShowLong = `Show the dead letters of a queue, the oldest first, or count them by reason, type or error.

Nothing is taken away and no order changes. -o jsonl prints each letter as a line of JSON that "evdemo
publish --file" takes, with its failure.

Broker: reads one queue; each look counts as a delivery there, which dead-letter queues have no limit
for.

Exit codes: 0 shown; 2 wrong usage or a bad filter; 3 a letter that --id names is not there; 4 no
broker; 1 anything else, as where there is no such queue.`

const dlqShowExample = `  evdemo dlq show payments
  evdemo dlq show payments --filter 'failure.reason == "timeout" && data.amount > 50'
  evdemo dlq show payments --group-by error
  evdemo dlq show payments --limit 10 -o jsonl`

const (
	// maxGroups bounds the groups that are kept apart; what comes after them is one.
	maxGroups  = 1000
	widestText = 100
)

type dlqShowOptions struct {
	selectOptions

	groupBy string
	limit   int
	output  *output
}

// newDLQShowCommand builds "dlq show". Tests pass run to look at what was parsed.
func newDLQShowCommand(app *App, run func(context.Context, *App, *dlqShowOptions) error) *cobra.Command {
	if run == nil {
		run = runDLQShow
	}
	opts := &dlqShowOptions{}
	cmd := &cobra.Command{
		Use:     "show QUEUE",
		Short:   "Show dead letters, or count them by reason, type or error",
		Long:    dlqShowLong,
		Example: dlqShowExample,
		RunE: func(cmd *cobra.Command, args []string) error {
			err := opts.check(args, false)
			switch {
			case err != nil:
			case opts.groupBy != "" && !slices.Contains([]string{"reason", "type", "error"}, opts.groupBy):
				err = fmt.Errorf("--group-by %q: want reason, type or error", opts.groupBy)
			case opts.limit < 0:
				err = fmt.Errorf("--limit %d: want 0 or more", opts.limit)
			}
			if err != nil {
				return usageError(err)
			}
			return run(cmd.Context(), app, opts)
		},
	}
	flags := cmd.Flags()
	opts.addFlags(flags, false)
	flags.StringVar(&opts.groupBy, "group-by", "", "count the letters by reason, type or error")
	flags.IntVar(&opts.limit, "limit", 0, "show so many letters at most (0: all)")
	opts.output = outputFlag(flags, "table", "json", "jsonl")
	return cmd
}

func runDLQShow(ctx context.Context, app *App, opts *dlqShowOptions) error {
	if opts.groupBy != "" {
		return opts.group(ctx, app)
	}
	shown, selected := 0, 0
	var line []byte
	account, err := app.visit(ctx, opts.queue, nil, func(l *worker.Letter) (worker.Action, error) {
		ok, err := opts.selected(l)
		if err != nil || !ok {
			return worker.Keep(), filterError(err)
		}
		if selected++; opts.limit > 0 && shown == opts.limit {
			return worker.Keep(), nil
		}
		shown++
		if opts.output.json() {
			line, err = feed.AppendRecord(line[:0], feed.Record{Message: l.Message(), Failure: l.Failure})
		} else {
			line = appendLetter(line[:0], l)
		}
		if err == nil {
			_, err = app.Out.Write(append(line, '\n'))
		}
		return worker.Keep(), err
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(app.Err, "%s: %s dead letters", opts.queue, thousands(int64(account.Total)))
	if selected != account.Total {
		fmt.Fprintf(app.Err, ", %s selected", thousands(int64(selected)))
	}
	if shown != selected {
		fmt.Fprintf(app.Err, ", %s shown", thousands(int64(shown)))
	}
	fmt.Fprintln(app.Err)
	return opts.notFound()
}

// filterError makes a filter that cannot be worked out wrong usage.
func filterError(err error) error {
	if err == nil {
		return nil
	}
	return usageError(err)
}

// appendLetter writes a letter for people: when and why it was given up, what it is, and the error.
func appendLetter(b []byte, l *worker.Letter) []byte {
	f := l.Failure
	return fmt.Appendf(b, "%s  %s  attempts %d  %s  %s  %s", stamp(f.Last), known(f.Reason), f.Attempts,
		printable(l.Event.Type, widestText), printable(l.Event.ID, widestText), printable(firstLine(f.Error), widestText))
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// group counts the selected letters.
func (o *dlqShowOptions) group(ctx context.Context, app *App) error {
	counts := map[string]int{}
	_, err := app.visit(ctx, o.queue, nil, func(l *worker.Letter) (worker.Action, error) {
		ok, err := o.selected(l)
		if err != nil || !ok {
			return worker.Keep(), filterError(err)
		}
		key := o.key(l)
		if _, known := counts[key]; !known && len(counts) >= maxGroups {
			key = "(others)"
		}
		counts[key]++
		return worker.Keep(), nil
	})
	if err != nil {
		return err
	}
	if o.output.json() {
		return writeJSON(app.Out, counts)
	}
	keys := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		if n := counts[b] - counts[a]; n != 0 {
			return n
		}
		return strings.Compare(a, b)
	})
	t := newTable(app.Out, o.groupBy, "letters")
	for _, key := range keys {
		t.AppendRow(table.Row{key, thousands(int64(counts[key]))})
	}
	t.Render()
	return nil
}

func (o *dlqShowOptions) key(l *worker.Letter) string {
	switch o.groupBy {
	case "reason":
		return known(l.Failure.Reason)
	case "type":
		return printable(l.Event.Type, widestText)
	default:
		return printable(firstLine(l.Failure.Error), widestText)
	}
}
