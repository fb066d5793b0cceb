package cmd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/internal/localbroker"
)

const brokerStopLong = `Stop the private RabbitMQ node and wait until it has ended. Its queues and messages stay for the next
start. With --remove it is killed at once instead, and they are deleted.

Broker: clients are disconnected.

Exit codes: 0 it does not run any more, or did not; 1 it had to be killed, or could not be; 2 wrong usage.`

// stopLimit is how long the node may take to end in good order.
const stopLimit = 30 * time.Second

// newBrokerStopCommand builds "broker stop". Tests pass run to look at what was parsed.
func newBrokerStopCommand(app *App, run func(ctx context.Context, app *App, remove bool) error) *cobra.Command {
	if run == nil {
		run = runBrokerStop
	}
	var remove bool
	cmd := &cobra.Command{
		Use:     "stop",
		Short:   "Stop the node",
		Long:    brokerStopLong,
		Example: "  evdemo broker stop\n  evdemo broker stop --remove",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), app, remove) },
	}
	cmd.Flags().BoolVar(&remove, "remove", false, "kill the node at once and delete its data and logs")
	return cmd
}

func runBrokerStop(ctx context.Context, app *App, remove bool) error {
	dir, err := localbroker.StateDir(app.LookupEnv)
	if err != nil {
		return err
	}
	said := "no node was running"
	node, err := localbroker.Load(dir)
	switch {
	case errors.Is(err, localbroker.ErrNotRunning):
	case err != nil:
		return err
	default:
		if node.Alive() {
			said = "stopped"
		}
		if err := stopNode(ctx, node, remove); err != nil {
			return err
		}
	}
	if !app.global.quiet {
		fmt.Fprintln(app.Err, said)
	}
	return nil
}

func stopNode(ctx context.Context, node *localbroker.Node, remove bool) error {
	if remove {
		return node.Remove() //nolint:contextcheck // it takes none, so that nothing stands in its way
	}
	ctx, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	return node.Stop(ctx)
}
