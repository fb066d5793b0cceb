package cmd

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

const brokerURLLong = `Print the URL of the private RabbitMQ node.

Exit codes: 0 it runs; 1 it does not; 2 wrong usage.`

// newBrokerURLCommand builds "broker url". Tests pass run to look at what was parsed.
func newBrokerURLCommand(app *App, run func(context.Context, *App) error) *cobra.Command {
	if run == nil {
		run = runBrokerURL
	}
	return &cobra.Command{
		Use:     "url",
		Short:   "Print the node's URL",
		Long:    brokerURLLong,
		Example: "  AMQP_URL=$(evdemo broker url) ./my-service",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), app) },
	}
}

func runBrokerURL(_ context.Context, app *App) error {
	node, err := runningBroker(app)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(app.Out, node.URL())
	return err
}
