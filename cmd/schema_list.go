package cmd

import (
	"context"
	"strconv"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
)

const schemaListLong = `List event types with the versions that have a schema, and what each version means for readers of the
one before: full, backward (readers of the newer read the older), forward (readers of the older read
the newer) or breaking.

Broker: not needed.

Exit codes: 0 listed; 2 wrong usage or mistakes in the schemas.`

type schemaListOptions struct {
	registryOptions

	output *output
}

// newSchemaListCommand builds "schema list". Tests pass run to look at what was parsed.
func newSchemaListCommand(app *App, run func(context.Context, *App, *schemaListOptions) error) *cobra.Command {
	if run == nil {
		run = runSchemaList
	}
	opts := &schemaListOptions{}
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List event types and their versions",
		Long:    schemaListLong,
		Example: "  evdemo schema list\n  evdemo schema list --schema examples/schemas -o json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), app, opts) },
	}
	opts.addFlags(cmd.Flags())
	opts.output = outputFlag(cmd.Flags(), "table", "json")
	return cmd
}

// listedSchema is one version of an event type.
type listedSchema struct {
	Type    string `json:"type"`
	Version int    `json:"version"`
	// Follows is the version before, Compatibility what lies between.
	Follows       int    `json:"follows,omitempty"`
	Compatibility string `json:"compatibility,omitempty"`
}

func runSchemaList(_ context.Context, app *App, opts *schemaListOptions) error {
	registry, err := opts.load()
	if err != nil {
		return err
	}
	listed := []listedSchema{}
	for _, eventType := range registry.Types() {
		before := 0
		for _, version := range registry.Versions(eventType) {
			l := listedSchema{Type: eventType, Version: version, Follows: before}
			if before > 0 {
				diff, err := registry.Diff(eventType, before, version)
				if err != nil {
					return err
				}
				l.Compatibility = string(diff.Compatibility)
			}
			listed = append(listed, l)
			before = version
		}
	}
	if opts.output.json() {
		return writeJSON(app.Out, listed)
	}
	t := newTable(app.Out, "type", "version", "with the one before")
	for _, l := range listed {
		t.AppendRow(table.Row{printable(l.Type, widestText), strconv.Itoa(l.Version), l.Compatibility})
	}
	t.Render()
	return nil
}
