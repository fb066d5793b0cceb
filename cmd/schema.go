package cmd

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/evdemo/evdemo/event/schema"
)

const schemaLong = `Look into the schemas of event types, check events against them, and compare versions.

A directory has a JSON Schema for each version of each event type: order.created.v1.json. Other .json
files in it are there for $ref. Without --schema the schemas of the sample orders are meant, which the
program has in itself.

"publish --schema DIR" checks before anything is sent, "work --schema DIR" before anything is handled.`

func newSchemaCommand(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "List, show, check and compare the schemas of event types",
		Long:  schemaLong,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newSchemaListCommand(app, nil),
		newSchemaShowCommand(app, nil),
		newSchemaCheckCommand(app, nil),
		newSchemaDiffCommand(app, nil),
	)
	return cmd
}

// registryOptions say which schemas are meant.
type registryOptions struct{ schemas string }

func (o *registryOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.schemas, "schema", builtinSchemas, "directory with the schemas, or builtin")
}

func (o *registryOptions) load() (*schema.Registry, error) {
	registry, err := loadSchemas(o.schemas)
	if err != nil {
		return nil, usageError(err)
	}
	return registry, nil
}
