package cmd

import (
	"context"

	"github.com/spf13/cobra"
)

const topologyExportLong = `Write a topology as RabbitMQ's definitions JSON, for "rabbitmqctl import_definitions", for the import of
the management plugin, or for load_definitions in rabbitmq.conf. What was imported does not conflict with
"topology apply".

Broker: not needed.

Exit codes: 0 written; 2 wrong usage or mistakes in the file.`

type topologyExportOptions struct {
	topologyOptions

	vhost string
}

// newTopologyExportCommand builds "topology export". Tests pass run to look at what was parsed.
func newTopologyExportCommand(app *App, run func(context.Context, *App, *topologyExportOptions) error) *cobra.Command {
	if run == nil {
		run = runTopologyExport
	}
	opts := &topologyExportOptions{}
	cmd := &cobra.Command{
		Use:     "export",
		Short:   "Write RabbitMQ's definitions JSON",
		Long:    topologyExportLong,
		Example: "  evdemo topology export > definitions.json\n  evdemo topology export -f topology.yaml --vhost shop",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), app, opts) },
	}
	opts.addFlags(cmd)
	cmd.Flags().StringVar(&opts.vhost, "vhost", "/", "virtual host that the definitions are for; it must exist")
	return cmd
}

func runTopologyExport(_ context.Context, app *App, opts *topologyExportOptions) error {
	spec, err := app.loadSpec(opts.file)
	if err != nil {
		return err
	}
	definitions, err := spec.Resources().Definitions(opts.vhost)
	if err != nil {
		return err
	}
	_, err = app.Out.Write(definitions)
	return err
}
