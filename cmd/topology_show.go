package cmd

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/topology"
)

const topologyShowLong = `List the exchanges, queues and bindings of a topology with their arguments. -o yaml prints the topology
in the form of a file, to begin one of your own.

Broker: not needed.

Exit codes: 0 printed; 2 wrong usage, or mistakes in the file, all of which are named with their place.`

// newTopologyShowCommand builds "topology show". Tests pass run to look at what was parsed.
func newTopologyShowCommand(app *App, run func(context.Context, *App, *topologyOptions) error) *cobra.Command {
	if run == nil {
		run = runTopologyShow
	}
	opts := &topologyOptions{}
	cmd := &cobra.Command{
		Use:     "show",
		Short:   "List what a topology is made of",
		Long:    topologyShowLong,
		Example: "  evdemo topology show\n  evdemo topology show -o yaml > topology.yaml\n  evdemo topology show -f topology.yaml -o json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), app, opts) },
	}
	opts.addFlags(cmd)
	opts.output = outputFlag(cmd.Flags(), "table", "json", "yaml")
	return cmd
}

func runTopologyShow(_ context.Context, app *App, opts *topologyOptions) error {
	spec, err := app.loadSpec(opts.file)
	if err != nil {
		return err
	}
	switch opts.output.value {
	case "json":
		return writeJSON(app.Out, spec.Resources())
	case "yaml":
		_, err := app.Out.Write(spec.YAML())
		return err
	}
	printResources(app.Out, spec.Resources())
	return nil
}

func printResources(w io.Writer, r topology.Resources) {
	t := newTable(w, "kind", "name", "type", "role", "arguments")
	for _, exchange := range r.Exchanges {
		t.AppendRow(table.Row{topology.KindExchange, exchange.Name, exchange.Type, exchange.Role, ""})
	}
	for _, queue := range r.Queues {
		t.AppendRow(table.Row{topology.KindQueue, queue.Name, queue.Type(), queue.Role, argumentLines(queue)})
	}
	for _, binding := range r.Bindings {
		t.AppendRow(table.Row{topology.KindBinding, binding.String(), "", "", ""})
	}
	t.Render()
}

// argumentLines has one argument per line, in the order of their names, without the type, which
// has a column of its own.
func argumentLines(queue topology.QueueDef) string {
	var lines []string
	for name, value := range queue.Arguments {
		if name != "x-queue-type" {
			lines = append(lines, fmt.Sprintf("%s: %v", name, quoted(value)))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// quoted makes an empty text visible.
func quoted(value any) any {
	if value == "" {
		return `""`
	}
	return value
}

func newTable(w io.Writer, header ...any) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.SetStyle(table.StyleLight)
	t.AppendHeader(header)
	return t
}
