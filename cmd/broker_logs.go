package cmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/internal/localbroker"
)

const brokerLogsLong = `Print the end of the log of the private RabbitMQ node, whether it runs or not.

Exit codes: 0 printed; 1 there is none; 2 wrong usage.`

type brokerLogsOptions struct {
	lines  int
	follow bool
}

// newBrokerLogsCommand builds "broker logs". Tests pass run to look at what was parsed.
func newBrokerLogsCommand(app *App, run func(context.Context, *App, brokerLogsOptions) error) *cobra.Command {
	if run == nil {
		run = runBrokerLogs
	}
	var opts brokerLogsOptions
	cmd := &cobra.Command{
		Use:     "logs",
		Short:   "Print the node's log",
		Long:    brokerLogsLong,
		Example: "  evdemo broker logs -n 100\n  evdemo broker logs -f",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.lines < 0 {
				return usageErrorf("--lines %d: want 0 or more", opts.lines)
			}
			return run(cmd.Context(), app, opts)
		},
	}
	cmd.Flags().IntVarP(&opts.lines, "lines", "n", 20, "how many lines, of the last mebibyte")
	cmd.Flags().BoolVarP(&opts.follow, "follow", "f", false, "go on with what is written from then on, until interrupted")
	return cmd
}

func runBrokerLogs(ctx context.Context, app *App, opts brokerLogsOptions) error {
	dir, err := localbroker.StateDir(app.LookupEnv)
	if err != nil {
		return err
	}
	node, err := localbroker.Load(dir)
	if errors.Is(err, localbroker.ErrNotRunning) {
		return fmt.Errorf("no node was started in %s yet: start one with \"evdemo broker start\"", dir)
	}
	if err != nil {
		return err
	}
	if opts.follow {
		err = localbroker.Follow(ctx, app.Out, node.LogFile(), opts.lines)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("there is no log: %w", err)
		}
		return err
	}
	lines, err := localbroker.Tail(node.LogFile(), opts.lines)
	for _, line := range lines {
		if _, err := fmt.Fprintln(app.Out, line); err != nil {
			return err
		}
	}
	return err
}
