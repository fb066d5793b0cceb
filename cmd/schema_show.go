package cmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/event/schema"
)

const schemaShowLong = `Print the schema of an event type as it is: of the version given, or of the newest.

Broker: not needed.

Exit codes: 0 printed; 2 wrong usage, a type or version that is not known, or mistakes in the schemas.`

type schemaShowOptions struct {
	registryOptions

	eventType string
	version   int // 0: the newest
}

// newSchemaShowCommand builds "schema show". Tests pass run to look at what was parsed.
func newSchemaShowCommand(app *App, run func(context.Context, *App, *schemaShowOptions) error) *cobra.Command {
	if run == nil {
		run = runSchemaShow
	}
	opts := &schemaShowOptions{}
	cmd := &cobra.Command{
		Use:     "show TYPE [VERSION]",
		Short:   "Print the schema of an event type",
		Long:    schemaShowLong,
		Example: "  evdemo schema show order.created\n  evdemo schema show order.created 1 --schema examples/schemas",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usageError(errors.New("say which schema: a type, and a version if it is not the newest"))
			}
			opts.eventType = args[0]
			if len(args) == 2 {
				var err error
				if opts.version, err = parseVersion(args[1]); err != nil {
					return usageError(err)
				}
			}
			return run(cmd.Context(), app, opts)
		},
	}
	opts.addFlags(cmd.Flags())
	return cmd
}

func runSchemaShow(_ context.Context, app *App, opts *schemaShowOptions) error {
	registry, err := opts.load()
	if err != nil {
		return err
	}
	version := opts.version
	if versions := registry.Versions(opts.eventType); version == 0 && len(versions) > 0 {
		version = versions[len(versions)-1]
	}
	document, err := registry.Document(opts.eventType, version)
	if err != nil {
		return unknownSchema(registry, err)
	}
	_, err = app.Out.Write(document)
	return err
}

// unknownSchema says what there is.
func unknownSchema(registry *schema.Registry, err error) error {
	if errors.Is(err, schema.ErrUnknownType) {
		err = fmt.Errorf("%w; there are %q", err, registry.Types())
	}
	return usageError(err)
}
