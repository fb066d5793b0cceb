package cmd

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/topology"
)

const topologyPlanLong = `Say what "topology apply" would do: what would be created, what is there as it is wanted, and what is
there with other arguments, each with the value it has and the value that is wanted. A binding cannot be
looked up over AMQP: it counts as "create" where one of its ends would be created, else as "ensure",
which changes nothing if it is there.

Broker: nothing is created or changed. The broker logs one line per object that is missing or differs.

Exit codes: 0 nothing conflicts; 1 something does, or another failure; 2 wrong usage or mistakes in the
file; 4 no broker.`

// newTopologyPlanCommand builds "topology plan". Tests pass run to look at what was parsed.
func newTopologyPlanCommand(app *App, run func(context.Context, *App, *topologyOptions) error) *cobra.Command {
	if run == nil {
		run = runTopologyPlan
	}
	opts := &topologyOptions{}
	cmd := &cobra.Command{
		Use:     "plan",
		Short:   "Say what would be created and what conflicts",
		Long:    topologyPlanLong,
		Example: "  evdemo topology plan\n  evdemo topology plan -f topology.yaml -o json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), app, opts) },
	}
	opts.addFlags(cmd)
	opts.output = outputFlag(cmd.Flags(), "table", "json")
	return cmd
}

func runTopologyPlan(ctx context.Context, app *App, opts *topologyOptions) error {
	resources, s, err := opts.open(ctx, app)
	if err != nil {
		return err
	}
	defer s.Close()
	plan, err := resources.Plan(ctx, s)
	if err != nil {
		return err
	}
	if opts.output.json() {
		if err := writeJSON(app.Out, newPlanReport(plan)); err != nil {
			return err
		}
		return conflicts(plan)
	}
	if !app.global.quiet {
		printPlan(app.Out, plan)
	}
	fmt.Fprintf(app.Out, "%d to create, %d to keep, %d to ensure, %d in conflict\n",
		plan.Count(topology.ActionCreate), plan.Count(topology.ActionKeep),
		plan.Count(topology.ActionEnsure), plan.Count(topology.ActionConflict))
	if app.global.quiet {
		return plan.Err()
	}
	return conflicts(plan)
}

// conflicts is the error of a plan whose details have been printed.
func conflicts(plan topology.Plan) error {
	n := plan.Count(topology.ActionConflict)
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d in conflict: keep what is there and take other names, or save what is in it, delete it and apply again", n)
}

// planReport is a plan for machines.
type planReport struct {
	topology.Plan
	Create   int `json:"create"`
	Keep     int `json:"keep"`
	Ensure   int `json:"ensure"`
	Conflict int `json:"conflict"`
}

func newPlanReport(plan topology.Plan) planReport {
	return planReport{
		Plan:     plan,
		Create:   plan.Count(topology.ActionCreate),
		Keep:     plan.Count(topology.ActionKeep),
		Ensure:   plan.Count(topology.ActionEnsure),
		Conflict: plan.Count(topology.ActionConflict),
	}
}

func printPlan(w io.Writer, plan topology.Plan) {
	t := newTable(w, "action", "kind", "name", "type", "differs")
	for _, change := range plan.Changes {
		t.AppendRow(table.Row{change.Action, change.Kind, change.Name, change.Type, differenceLines(change)})
	}
	t.Render()
}

func differenceLines(change topology.Change) string {
	var lines []string
	for _, difference := range change.Differences {
		lines = append(lines, difference.String())
	}
	if change.Incomplete {
		lines = append(lines, "more may differ")
	}
	return strings.Join(lines, "\n")
}
