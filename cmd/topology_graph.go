package cmd

import (
	"context"

	"github.com/spf13/cobra"
)

const topologyGraphLong = `Draw a topology: as a tree for the terminal, as Mermaid for GitHub and for documents, or as DOT for
Graphviz. In the pictures the retry tiers of a queue are one node; dotted arrows are where a failed event
goes.

Broker: not needed.

Exit codes: 0 drawn; 2 wrong usage or mistakes in the file.`

type topologyGraphOptions struct {
	topologyOptions

	format string
}

// newTopologyGraphCommand builds "topology graph". Tests pass run to look at what was parsed.
func newTopologyGraphCommand(app *App, run func(context.Context, *App, *topologyGraphOptions) error) *cobra.Command {
	if run == nil {
		run = runTopologyGraph
	}
	opts := &topologyGraphOptions{}
	cmd := &cobra.Command{
		Use:     "graph",
		Short:   "Draw a topology as a tree, Mermaid or DOT",
		Long:    topologyGraphLong,
		Example: "  evdemo topology graph\n  evdemo topology graph --format mermaid\n  evdemo topology graph -f topology.yaml --format dot | dot -Tsvg > topology.svg",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch opts.format {
			case "tree", "mermaid", "dot":
				return run(cmd.Context(), app, opts)
			}
			return usageErrorf("--format %q: want tree, mermaid or dot", opts.format)
		},
	}
	opts.addFlags(cmd)
	cmd.Flags().StringVar(&opts.format, "format", "tree", "format: tree, mermaid, dot")
	return cmd
}

func runTopologyGraph(_ context.Context, app *App, opts *topologyGraphOptions) error {
	spec, err := app.loadSpec(opts.file)
	if err != nil {
		return err
	}
	switch opts.format {
	case "mermaid":
		return spec.Resources().WriteMermaid(app.Out)
	case "dot":
		return spec.Resources().WriteDOT(app.Out)
	default:
		return spec.Resources().WriteTree(app.Out)
	}
}
