package cmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/internal/localbroker"
)

const brokerStartLong = `Start the private RabbitMQ node and print its URL, once a client can log in. That takes 5 to 15 s. A node
that runs already is left as it is, and its URL is printed. It keeps running until "evdemo broker stop",
and has its queues and messages, and its ports where they are free, when it is started again.

Broker: a new node has nothing in it but the user guest.

Exit codes: 0 it runs; 1 it does not, and the error says what to do: install rabbitmq-server, for one; 2
wrong usage.`

type brokerStartOptions struct {
	port, managementPort int
	server               string
}

// newBrokerStartCommand builds "broker start". Tests pass run to look at what was parsed.
func newBrokerStartCommand(app *App, run func(context.Context, *App, brokerStartOptions) error) *cobra.Command {
	if run == nil {
		run = runBrokerStart
	}
	var opts brokerStartOptions
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Start the node and print its URL",
		Long:  brokerStartLong,
		Example: "  evdemo broker start\n  evdemo broker start --port 5680 --management-port 15680\n" +
			"  AMQP_URL=$(evdemo broker start) go test ./...",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), app, opts) },
	}
	flags := cmd.Flags()
	flags.IntVar(&opts.port, "port", 0, "AMQP port (default: the one it had before, or a free one)")
	flags.IntVar(&opts.managementPort, "management-port", 0, "port of the management API and its web page (default: as for --port)")
	flags.StringVar(&opts.server, "rabbitmq-server", "", "rabbitmq-server to run (default: the one on PATH or where packages put it)")
	return cmd
}

func runBrokerStart(ctx context.Context, app *App, opts brokerStartOptions) error {
	dir, err := localbroker.StateDir(app.LookupEnv)
	if err != nil {
		return err
	}
	if opts.server == "" {
		if opts.server, err = localbroker.Find(); err != nil {
			return err
		}
	}
	if !app.global.quiet {
		fmt.Fprintf(app.Err, "starting RabbitMQ in %s\n", dir)
	}
	config := localbroker.Config{
		Dir: dir, Port: opts.port, ManagementPort: opts.managementPort, Server: opts.server, Detached: true,
	}
	if app.global.verbose {
		config.Logger = app.Logger()
	}
	node, err := localbroker.Start(ctx, config)
	switch {
	case errors.Is(err, localbroker.ErrAlreadyRunning):
		if err := opts.compare(node); err != nil {
			return err
		}
		if !app.global.quiet {
			fmt.Fprintf(app.Err, "it runs already, as process %d\n", node.PID())
		}
	case err != nil:
		return err
	case !app.global.quiet:
		fmt.Fprintf(app.Err, "its web page is %s (guest, guest); \"evdemo broker stop\" stops it\n", node.ManagementURL())
	}
	_, err = fmt.Fprintln(app.Out, node.URL())
	return err
}

// compare refuses a node that runs already and has other ports than were asked for.
func (o brokerStartOptions) compare(node *localbroker.Node) error {
	if o.port != 0 && o.port != node.Port() || o.managementPort != 0 && o.managementPort != node.ManagementPort() {
		return fmt.Errorf("it runs already with AMQP port %d and management port %d: stop it first with \"evdemo broker stop\"",
			node.Port(), node.ManagementPort())
	}
	return nil
}
