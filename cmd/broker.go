package cmd

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/internal/localbroker"
)

const brokerLong = `Run a private RabbitMQ node on this machine, from the installed rabbitmq-server. It listens on loopback
only, on ports of its own, and has nothing to do with RabbitMQ as a system service. Its data and logs
stand in $XDG_STATE_HOME/evdemo/broker (~/.local/state/evdemo/broker), or in broker under
EVDEMO_STATE_DIR.

While it runs, the other commands find it without being told, unless --url, AMQP_URL or a profile names
another broker.`

// newBrokerCommand builds "broker" with its subcommands.
func newBrokerCommand(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "broker",
		Short: "Start, stop and look at a private RabbitMQ node on this machine",
		Long:  brokerLong,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newBrokerStartCommand(app, nil),
		newBrokerStopCommand(app, nil),
		newBrokerStatusCommand(app, nil),
		newBrokerURLCommand(app, nil),
		newBrokerLogsCommand(app, nil),
	)
	return cmd
}

// runningBroker finds the node, or says how to get one.
func runningBroker(app *App) (*localbroker.Node, error) {
	dir, err := localbroker.StateDir(app.LookupEnv)
	if err != nil {
		return nil, err
	}
	node, err := localbroker.Running(dir)
	if errors.Is(err, localbroker.ErrNotRunning) {
		return nil, fmt.Errorf("%w: start one with \"evdemo broker start\"", err)
	}
	return node, err
}
