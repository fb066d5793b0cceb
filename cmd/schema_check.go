package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/event/schema"
	"github.com/evdemo/evdemo/internal/feed"
)

const schemaCheckLong = `Check the events of a file against the schemas of their types and versions. The file holds what "publish
--file" takes; - is standard input. Each fault is named with its line, the JSON Pointer to the value, and
the rule that it breaks. Events of a type without a schema are counted; --strict makes them a fault.

Broker: not needed.

Exit codes: 0 all that have a schema adhere to it; 2 wrong usage, faults in the file, or in the schemas.`

const schemaCheckExample = `  evdemo schema check examples/orders.jsonl
  evdemo schema check examples/orders.jsonl --schema examples/schemas --strict
  evdemo publish --count 100 --dry-run | evdemo schema check -`

type schemaCheckOptions struct {
	registryOptions

	file, eventType string
	strict          bool
	output          *output
}

// newSchemaCheckCommand builds "schema check". Tests pass run to look at what was parsed.
func newSchemaCheckCommand(app *App, run func(context.Context, *App, *schemaCheckOptions) error) *cobra.Command {
	if run == nil {
		run = runSchemaCheck
	}
	opts := &schemaCheckOptions{}
	cmd := &cobra.Command{
		Use:     "check FILE",
		Short:   "Check events against the schemas of their types",
		Long:    schemaCheckLong,
		Example: schemaCheckExample,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return usageError(errors.New("say which file: evdemo schema check orders.jsonl, or - for standard input"))
			}
			opts.file = args[0]
			return run(cmd.Context(), app, opts)
		},
	}
	opts.addFlags(cmd.Flags())
	cmd.Flags().StringVar(&opts.eventType, "type", "", "type of events that do not say it themselves")
	cmd.Flags().BoolVar(&opts.strict, "strict", false, "an event of a type without a schema is a fault")
	opts.output = outputFlag(cmd.Flags(), "table", "json")
	return cmd
}

// checkReport is the account of a check: Events = Valid + Invalid + Unknown.
type checkReport struct {
	Events  int64 `json:"events"`
	Valid   int64 `json:"valid"`
	Invalid int64 `json:"invalid"`
	// Unknown counts events of a type without a schema, and messages that are no events.
	Unknown int64 `json:"unknown"`
}

func runSchemaCheck(ctx context.Context, app *App, opts *schemaCheckOptions) error {
	registry, err := opts.load()
	if err != nil {
		return err
	}
	var report checkReport
	check := func(e event.Event) error {
		err := registry.Check(e)
		if errors.Is(err, schema.ErrUnknownType) && !opts.strict {
			report.Unknown++
			return nil
		}
		if err == nil {
			report.Valid++
		}
		return err
	}
	lines, closeFile, err := opts.open(ctx, app, check)
	if err != nil {
		return usageError(err)
	}
	defer closeFile()
	for ctx.Err() == nil {
		m, err := lines.Next()
		if errors.Is(err, io.EOF) {
			return opts.report(app, report)
		}
		report.Events++
		var line *feed.LineError
		switch {
		case errors.As(err, &line):
			if report.Invalid++; report.Invalid <= namedAtMost {
				fmt.Fprintln(app.Err, err)
			}
		case err != nil:
			return err
		case m.Raw != nil:
			report.Unknown++
		}
	}
	return errors.New("interrupted before everything was checked")
}

func (o *schemaCheckOptions) open(ctx context.Context, app *App, check feed.Check) (*feed.Lines, func(), error) {
	defaults := event.Defaults{Type: o.eventType}
	if o.file == "-" {
		return feed.NewLines("standard input", feed.UntilDone(ctx, app.In), defaults, check), func() {}, nil
	}
	file, err := feed.Stream(ctx, o.file, defaults, check)
	if err != nil {
		return nil, nil, err
	}
	return file.Lines, func() { _ = file.Close() }, nil
}

func (o *schemaCheckOptions) report(app *App, r checkReport) error {
	var err error
	if o.output.json() {
		err = writeJSON(app.Out, r)
	} else {
		_, err = fmt.Fprintf(app.Out, "checked %s  valid %s  invalid %s  without a schema %s\n",
			thousands(r.Events), thousands(r.Valid), thousands(r.Invalid), thousands(r.Unknown))
	}
	if err == nil && r.Invalid > 0 {
		err = usageErrorf("%s of %s events do not adhere to their schema", thousands(r.Invalid), thousands(r.Events))
	}
	return err
}
