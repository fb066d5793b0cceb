package cmd

import (
	"context"
	"fmt"
	"math"

	"github.com/spf13/cobra"
	"golang.org/x/time/rate"

	"github.com/evdemo/evdemo/worker"
)

const dlqRedriveLong = `Send dead letters back to the queue that they failed in, or to another (--to).

A letter starts afresh there, with its attempts at zero; a header counts its redrives. It is published
with a confirm first and taken out of the dead-letter queue after that: a crash in between makes a
duplicate, never a loss. The set is fixed when the command starts: what fails again and comes straight
back is not taken twice. What is not selected stays where it is. So does a letter that its queue does
not take; it is named.

Broker: publishes to the queues of origin, takes from the dead-letter queue.

Exit codes: 0 all selected letters were sent back, or as many as there was time for before SIGINT or
SIGTERM: the report tells; 2 wrong usage or a bad filter, nothing was sent; 3 some were not sent back,
or a letter that --id names is not there; 4 no broker; 1 anything else.`

const dlqRedriveExample = `  evdemo dlq redrive payments --all
  evdemo dlq redrive payments --filter 'failure.reason == "timeout"' --rate 50
  evdemo dlq redrive payments --id 0197a3b4-5c6d-7e8f-9a0b-1c2d3e4f5a6b --dry-run
  evdemo dlq redrive payments --all --to payments-repaired`

type dlqRedriveOptions struct {
	selectOptions

	rate   float64
	to     string
	dryRun bool
	output *output
}

// newDLQRedriveCommand builds "dlq redrive". Tests pass run to look at what was parsed.
func newDLQRedriveCommand(app *App, run func(context.Context, *App, *dlqRedriveOptions) error) *cobra.Command {
	if run == nil {
		run = runDLQRedrive
	}
	opts := &dlqRedriveOptions{}
	cmd := &cobra.Command{
		Use:     "redrive QUEUE",
		Short:   "Send dead letters back to where they came from",
		Long:    dlqRedriveLong,
		Example: dlqRedriveExample,
		RunE: func(cmd *cobra.Command, args []string) error {
			err := opts.check(args, true)
			switch {
			case err != nil:
			case !(opts.rate >= 0) || math.IsInf(opts.rate, 0):
				err = fmt.Errorf("--rate %v: want 0 or more", opts.rate)
			case cmd.Flags().Changed("to") && opts.to == "":
				err = fmt.Errorf("--to is empty: want a queue")
			case opts.to == opts.queue:
				err = fmt.Errorf("--to %s is where the letters are", opts.to)
			default:
				err = checkBrokerName("to", opts.to)
			}
			if err != nil {
				return usageError(err)
			}
			return run(cmd.Context(), app, opts)
		},
	}
	flags := cmd.Flags()
	opts.addFlags(flags, true)
	flags.Float64Var(&opts.rate, "rate", 0, "letters per second at most (0: no limit)")
	flags.StringVar(&opts.to, "to", "", "queue to send them to (default: each to the one that it failed in)")
	flags.BoolVar(&opts.dryRun, "dry-run", false, "show what would be sent where, and leave it")
	opts.output = outputFlag(flags, "table", "json")
	return cmd
}

// wouldRedrive is a line of a dry run for machines.
type wouldRedrive struct {
	ID     string        `json:"id"`
	Type   string        `json:"type"`
	Reason worker.Reason `json:"reason"`
	To     string        `json:"to"`
}

// print shows what would be sent where.
func (o *dlqRedriveOptions) print(app *App, l *worker.Letter, to string) error {
	if o.output.json() {
		return writeJSON(app.Out, wouldRedrive{l.Event.ID, l.Event.Type, l.Failure.Reason, to})
	}
	_, err := fmt.Fprintf(app.Out, "%s -> %s\n", appendLetter(nil, l), printable(to, widestText))
	return err
}

func runDLQRedrive(ctx context.Context, app *App, opts *dlqRedriveOptions) error {
	limit := rate.NewLimiter(rate.Inf, 1)
	if opts.rate > 0 {
		limit = rate.NewLimiter(rate.Limit(opts.rate), 1)
	}
	named := 0
	failed := func(l *worker.Letter, err error) {
		if named++; named <= namedAtMost {
			fmt.Fprintf(app.Err, "not sent back: event %s (%s): %v\n", printable(l.Event.ID, widestText), printable(l.Event.Type, widestText), err)
		}
	}
	would := 0
	account, err := app.visit(ctx, opts.queue, failed, func(l *worker.Letter) (worker.Action, error) {
		ok, err := opts.selected(l)
		if err != nil || !ok {
			return worker.Keep(), filterError(err)
		}
		to := opts.to
		if to == "" {
			to = l.Failure.OriginQueue(opts.queue)
		}
		if opts.dryRun {
			would++
			return worker.Keep(), opts.print(app, l, to)
		}
		return worker.Redrive(to), limit.Wait(ctx)
	})
	if opts.dryRun && err == nil {
		fmt.Fprintf(app.Err, "%s of %s dead letters would be sent back\n", thousands(int64(would)), thousands(int64(account.Total)))
		return opts.notFound()
	}
	return opts.report(app, opts.output, account, "sent back", account.Redriven, err)
}
