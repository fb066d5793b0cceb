package cmd

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/event/schema"
)

const schemaDiffLong = `Compare two versions of an event type, and say what that means:

  full      readers of either version read data of the other
  backward  readers of the newer version read data of the older
  forward   readers of the older version read data of the newer
  breaking  neither

Each change is named, with the side that it breaks. Data is taken to have the members that its schema
names, and no others: adding one that may be absent breaks nothing, unless the older version allows no
more. What cannot be told is taken for breaking.

Broker: not needed.

Exit codes: 0 compared; 2 wrong usage, a type or version that is not known, or mistakes in the schemas;
5 what --require asks for does not hold.`

const schemaDiffExample = `  evdemo schema diff order.created 1 2
  evdemo schema diff order.created 1 2 --require backward
  evdemo schema diff order.created 2 3 --schema examples/schemas -o json`

type schemaDiffOptions struct {
	registryOptions

	eventType    string
	older, newer int
	require      string
	output       *output
}

// newSchemaDiffCommand builds "schema diff". Tests pass run to look at what was parsed.
func newSchemaDiffCommand(app *App, run func(context.Context, *App, *schemaDiffOptions) error) *cobra.Command {
	if run == nil {
		run = runSchemaDiff
	}
	opts := &schemaDiffOptions{}
	cmd := &cobra.Command{
		Use:     "diff TYPE OLDER NEWER",
		Short:   "Compare two versions of an event type",
		Long:    schemaDiffLong,
		Example: schemaDiffExample,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := opts.check(args); err != nil {
				return usageError(err)
			}
			return run(cmd.Context(), app, opts)
		},
	}
	opts.addFlags(cmd.Flags())
	cmd.Flags().StringVar(&opts.require, "require", "", "what must hold: backward, forward or full")
	opts.output = outputFlag(cmd.Flags(), "table", "json")
	return cmd
}

func (o *schemaDiffOptions) check(args []string) error {
	if len(args) != 3 {
		return errors.New("say what to compare: a type and two versions, as in order.created 1 2")
	}
	o.eventType = args[0]
	var err, err2 error
	o.older, err = parseVersion(args[1])
	o.newer, err2 = parseVersion(args[2])
	switch schema.Compatibility(o.require) {
	case "", schema.Backward, schema.Forward, schema.Full:
		return errors.Join(err, err2)
	default:
		return fmt.Errorf("--require %.40q: want backward, forward or full", o.require)
	}
}

func parseVersion(text string) (int, error) {
	version, err := strconv.Atoi(text)
	if err != nil || version < 1 {
		return 0, fmt.Errorf("version %.40q: want a number from 1 up", text)
	}
	return version, nil
}

func runSchemaDiff(_ context.Context, app *App, opts *schemaDiffOptions) error {
	registry, err := opts.load()
	if err != nil {
		return err
	}
	diff, err := registry.Diff(opts.eventType, opts.older, opts.newer)
	if err != nil {
		return unknownSchema(registry, err)
	}
	if opts.output.json() {
		err = writeJSON(app.Out, diff)
	} else {
		err = printDiff(app, opts, diff)
	}
	if asked := schema.Compatibility(opts.require); err == nil && asked != "" && !diff.Compatibility.Satisfies(asked) {
		return &exitError{exitClaim, fmt.Errorf("%s %d -> %d is %s, not %s", opts.eventType, opts.older, opts.newer, diff.Compatibility, asked)}
	}
	return err
}

func printDiff(app *App, opts *schemaDiffOptions, diff schema.Diff) error {
	if _, err := fmt.Fprintf(app.Out, "%s %d -> %d: %s\n", printable(opts.eventType, widestText), opts.older, opts.newer, diff.Compatibility); err != nil || len(diff.Changes) == 0 {
		return err
	}
	t := newTable(app.Out, "where", "change", "breaks")
	for _, change := range diff.Changes {
		where := change.Pointer
		if where == "" {
			where = "the data"
		}
		t.AppendRow(table.Row{printable(where, widestText), printable(change.What, widestText), breaks(change)})
	}
	t.Render()
	return nil
}

// breaks says which readers a change breaks.
func breaks(change schema.Change) string {
	switch {
	case change.BreaksBackward && change.BreaksForward:
		return "both"
	case change.BreaksBackward:
		return "newer readers of older data"
	case change.BreaksForward:
		return "older readers of newer data"
	default:
		return "nobody"
	}
}
