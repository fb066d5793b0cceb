package cmd

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/topology"
)

const topologyLong = `Say what there is to be on the broker, and make it so.

A topology file names topics, their groups, their logs and the queues they feed. Without a file it is
the built-in topology, which "evdemo topology show -o yaml" prints:

  topics:
    orders:
      log: true              # or {max-age: 7d, max-size: 1GB}
      groups: [email, analytics]
      queues: [payments]     # a queue fed by this topic
  queues:
    payments:
      retry: [1s, 5s, 30s]   # delays between attempts; one retry tier each
      max-attempts: 5        # then to the dead-letter queue
      single-active: false   # true: one consumer at a time, the others stand by

"prefix: staging-" in front makes everything begin with it, the exchange events included. The group
email of orders has settings of its own under queues, as orders.email.

On the broker a topic is a fanout exchange bound to the fanout "events"; a queue is a quorum queue with
a dead-letter queue and one queue per retry tier; a log is a stream.`

// topologyOptions are the flags of every topology command.
type topologyOptions struct {
	file   string
	output *output
}

// newTopologyCommand builds "topology" with its subcommands.
func newTopologyCommand(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "topology",
		Short: "Show, plan, apply, delete, draw and export what there is to be on the broker",
		Long:  topologyLong,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newTopologyShowCommand(app, nil),
		newTopologyPlanCommand(app, nil),
		newTopologyApplyCommand(app, nil),
		newTopologyDeleteCommand(app, nil),
		newTopologyGraphCommand(app, nil),
		newTopologyExportCommand(app, nil),
	)
	return cmd
}

func (o *topologyOptions) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.file, "topology", "f", "", "topology file, or - for standard input (default: the built-in topology)")
}

// open loads the topology and dials the broker. The caller closes the session.
func (o *topologyOptions) open(ctx context.Context, app *App) (topology.Resources, *session.Session, error) {
	spec, err := app.loadSpec(o.file)
	if err != nil {
		return topology.Resources{}, nil, err
	}
	broker, err := app.broker()
	if err != nil {
		return topology.Resources{}, nil, err
	}
	config := session.Config{URLs: broker.URLs, TLS: broker.TLS, Name: "evdemo topology", Logger: app.Logger()}
	s, err := session.DialWithin(ctx, config, app.global.connectTimeout)
	return spec.Resources(), s, err
}
