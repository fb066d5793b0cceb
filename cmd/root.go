package cmd

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const rootLong = `evdemo publishes, works and listens on RabbitMQ.

The broker is found in this order: --url, AMQP_URL, the selected profile, a node started by
"evdemo broker start", amqp://guest:guest@localhost:5672/. Several URLs, separated by commas, are
the nodes of one cluster.

Every flag can be given as an environment variable: --connect-timeout is EVDEMO_CONNECT_TIMEOUT; an
empty one counts as not set. A flag beats the environment, the environment beats the profile. Profiles
stand in $XDG_CONFIG_HOME/evdemo/config.yaml (EVDEMO_CONFIG names another file).

Exit codes: 0 all of it was done; 1 something failed; 2 wrong usage or invalid input, nothing
was sent; 3 some events did not get through, the report names them; 4 the broker or the database
cannot be reached, or refuses the login; 5 a claim did not hold.

SIGINT and SIGTERM make a command finish what it has in hand, report, and exit with 0. A second
one ends it at once.`

const rootExample = `  evdemo demo
  evdemo publish --count 10
  evdemo doctor`

func newRootCommand(app *App) *cobra.Command {
	root := &cobra.Command{
		Use:           "evdemo",
		Short:         "Event-driven architecture on RabbitMQ: try it, break it, use it",
		Long:          rootLong,
		Example:       rootExample,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := app.settle(cmd.Flags()); err != nil {
				return err
			}
			app.started = true
			return nil
		},
	}
	app.global.addFlags(root.PersistentFlags())
	root.SetGlobalNormalizationFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "uri" {
			name = "url"
		}
		return pflag.NormalizedName(name)
	})
	root.AddCommand(
		newPublishCommand(app, nil),
		newWorkCommand(app, nil),
		newListenCommand(app, nil),
		newRecordCommand(app, nil),
		newReplayCommand(app, nil),
		newTraceCommand(app, nil),
		newStoreCommand(app),
		newShopCommand(app),
		newServeCommand(app, nil),
		newDLQCommand(app),
		newSchemaCommand(app),
		newTopologyCommand(app),
		newBrokerCommand(app),
		newDoctorCommand(app, nil),
		newDemoCommand(app, nil),
		newVersionCommand(app),
	)
	return root
}

// refuseUnknown adds the commands that cobra has of its own, which keep root's output as it is now, so
// that they refuse arguments that mean nothing. Left alone they answer with a help text and success.
func refuseUnknown(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "completion":
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		case "help":
			cmd.Args = func(_ *cobra.Command, args []string) error {
				found, rest, err := root.Find(args)
				if err == nil && len(rest) > 0 {
					err = fmt.Errorf("unknown command %q for %q", rest[0], found.CommandPath())
				}
				return err
			}
		}
	}
}

func (o *globalOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.url, "url", "", "broker URL, or several separated by commas: amqp://user:password@host:5672/vhost")
	flags.StringVar(&o.profile, "profile", "", "profile of the configuration file to use")
	flags.StringVar(&o.tlsCA, "tls-ca", "", "PEM file with the CA certificates to trust instead of the system's")
	flags.StringVar(&o.tlsCert, "tls-cert", "", "PEM file with the client certificate (mutual TLS)")
	flags.StringVar(&o.tlsKey, "tls-key", "", "PEM file with the client certificate's key")
	flags.BoolVar(&o.tlsInsecure, "tls-insecure", false, "do not verify the broker's certificate (anyone in between can read and change everything)")
	flags.BoolVarP(&o.quiet, "quiet", "q", false, "no line per event, only the report")
	flags.BoolVarP(&o.verbose, "verbose", "v", false, "log details")
	flags.StringVar(&o.logFormat, "log-format", "text", "format of the log on standard error: text or json")
	flags.DurationVar(&o.connectTimeout, "connect-timeout", 10*time.Second, "how long to try for the first connection; later ones are tried until stopped")
}
