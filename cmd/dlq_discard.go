package cmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/worker"
)

const dlqDiscardLong = `Discard dead letters for good.

It asks first, unless --yes is given. "evdemo dlq export" keeps a copy of what is about to go. What is
not selected stays where it is, and so does what arrives while the command runs.

Broker: takes from the dead-letter queue.

Exit codes: 0 the selected letters are gone, or as many as there was time for before SIGINT or SIGTERM:
the report tells; 2 wrong usage or a bad filter; 3 a letter that --id names is not there; 4 no broker; 1
anything else.`

const dlqDiscardExample = `  evdemo dlq discard payments --all
  evdemo dlq discard payments --filter 'failure.reason == "invalid"' --yes`

type dlqDiscardOptions struct {
	selectOptions

	yes    bool
	output *output
}

// newDLQDiscardCommand builds "dlq discard". Tests pass run to look at what was parsed.
func newDLQDiscardCommand(app *App, run func(context.Context, *App, *dlqDiscardOptions) error) *cobra.Command {
	if run == nil {
		run = runDLQDiscard
	}
	opts := &dlqDiscardOptions{}
	cmd := &cobra.Command{
		Use:     "discard QUEUE",
		Short:   "Discard dead letters for good",
		Long:    dlqDiscardLong,
		Example: dlqDiscardExample,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := opts.check(args, true); err != nil {
				return usageError(err)
			}
			if !opts.yes && !app.InTerminal {
				return usageError(errors.New("there is no terminal to ask on: give --yes to discard without asking"))
			}
			return run(cmd.Context(), app, opts)
		},
	}
	flags := cmd.Flags()
	opts.addFlags(flags, true)
	flags.BoolVar(&opts.yes, "yes", false, "do not ask")
	opts.output = outputFlag(flags, "table", "json")
	return cmd
}

func runDLQDiscard(ctx context.Context, app *App, opts *dlqDiscardOptions) error {
	if !opts.yes {
		if err := opts.ask(ctx, app); err != nil {
			return err
		}
	}
	account, err := app.visit(ctx, opts.queue, nil, func(l *worker.Letter) (worker.Action, error) {
		ok, err := opts.selected(l)
		if err != nil || !ok {
			return worker.Keep(), filterError(err)
		}
		return worker.Discard(), nil
	})
	return opts.report(app, opts.output, account, "discarded", account.Discarded, err)
}

// ask asks whether the letters may go. It is an error if the answer is not yes.
func (o *dlqDiscardOptions) ask(ctx context.Context, app *App) error {
	which := "all dead letters"
	if !o.all {
		which = "the selected dead letters"
	}
	return confirm(ctx, app, fmt.Sprintf("Discard %s of %s for good?", which, o.queue), "nothing was discarded")
}
