package cmd

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/topology"
)

const topologyApplyLong = `Create what is missing of a topology. Applying again changes nothing.

Broker: exchanges, queues and bindings are only ever added; nothing is changed or deleted. If anything
exists with other arguments nothing is created, and every difference is named.

Exit codes: 0 everything is there; 1 something conflicts, or another failure; 2 wrong usage or mistakes
in the file; 4 no broker.`

// newTopologyApplyCommand builds "topology apply". Tests pass run to look at what was parsed.
func newTopologyApplyCommand(app *App, run func(context.Context, *App, *topologyOptions) error) *cobra.Command {
	if run == nil {
		run = runTopologyApply
	}
	opts := &topologyOptions{}
	cmd := &cobra.Command{
		Use:     "apply",
		Short:   "Create what is missing",
		Long:    topologyApplyLong,
		Example: "  evdemo topology apply\n  evdemo topology apply -f topology.yaml",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), app, opts) },
	}
	opts.addFlags(cmd)
	opts.output = outputFlag(cmd.Flags(), "table", "json")
	return cmd
}

// runTopologyApply plans first, to tell afterwards what was new.
func runTopologyApply(ctx context.Context, app *App, opts *topologyOptions) error {
	resources, s, err := opts.open(ctx, app)
	if err != nil {
		return err
	}
	defer s.Close()
	plan, err := resources.Plan(ctx, s)
	if err == nil {
		err = resources.Apply(ctx, s)
	}
	if err != nil {
		return err
	}
	if opts.output.json() {
		return writeJSON(app.Out, newPlanReport(plan))
	}
	for _, change := range plan.Changes {
		if change.Action == topology.ActionCreate && !app.global.quiet {
			fmt.Fprintf(app.Out, "created %s %s\n", change.Kind, change.Name)
		}
	}
	fmt.Fprintf(app.Out, "%d created, %d kept, %d ensured\n",
		plan.Count(topology.ActionCreate), plan.Count(topology.ActionKeep), plan.Count(topology.ActionEnsure))
	return nil
}
