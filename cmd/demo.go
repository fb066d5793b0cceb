package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/examples"
	"github.com/evdemo/evdemo/internal/demo"
	"github.com/evdemo/evdemo/internal/scenario"
)

const demoLong = `Watch events fan out and be shared, with a worker killed in the middle, and see the account.

The demo applies the default topology under a prefix of its own; starts three workers on the queue
payments and three listeners on the topic orders (the groups email and analytics, and one broadcast) as
processes of their own; publishes 2,000 orders; kills one worker with SIGKILL in the middle; and ends
with a ledger that counts by event id what each process really printed.

--broken adds a stray worker that takes events and loses them: the ledger must show it, and the exit
code is then 5.

--broker memory needs nothing installed: workers and listeners are goroutines of this process, on a bus in
its memory, and the worker is cut off in mid-work instead of killed. Nothing is durable there. No broker is
dialled, and --url and the other flags of the connection are not used.

Broker: what the demo makes begins with "demo-", and is removed at the end, also after Ctrl-C. Nothing
else is touched.

Exit codes: 0 the ledger holds; 5 it does not; 2 wrong usage; 4 no broker; 1 anything else, an interrupt
included.`

const demoExample = `  evdemo demo
  evdemo demo --broken
  evdemo demo --broker memory
  evdemo demo list
  evdemo demo blocking --seed 7
  evdemo demo event-sourcing --broker memory -o json`

// The values of --broker.
const (
	brokerRabbitMQ = "rabbitmq"
	brokerMemory   = "memory"
)

type demoOptions struct {
	name   string // of a scenario; "": the tour
	broker string
	broken bool
	seed   uint64
	output *output

	part, partArgs string // of a scenario that has started this process
}

// newDemoCommand builds "demo". Tests pass run to look at what was parsed.
func newDemoCommand(app *App, run func(context.Context, *App, *demoOptions) error) *cobra.Command {
	if run == nil {
		run = runDemo
	}
	opts := &demoOptions{}
	cmd := &cobra.Command{
		Use:       "demo [SCENARIO | list | all]",
		Short:     "Watch it work, and break, with a verdict made of figures",
		Long:      demoLong,
		Example:   demoExample,
		Args:      cobra.MaximumNArgs(1),
		ValidArgs: append(scenario.Names(), demoList, demoAll),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.name = strings.Join(args, "")
			if err := opts.check(); err != nil {
				return err
			}
			return run(cmd.Context(), app, opts)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.broker, "broker", brokerRabbitMQ, "what to run on: rabbitmq, or memory, which needs nothing installed")
	flags.BoolVar(&opts.broken, "broken", false, "without a SCENARIO: add a worker that loses events, to see the ledger find out")
	flags.Uint64Var(&opts.seed, "seed", 0, "seed of what is random in a scenario (0: another one each time)")
	flags.StringVar(&opts.part, "part", "", "play a part of the scenario, which starts this process")
	flags.StringVar(&opts.partArgs, "part-args", "{}", "what the scenario tells the part, as JSON")
	_, _ = flags.MarkHidden("part"), flags.MarkHidden("part-args")
	opts.output = outputFlag(flags, "table", "json", "markdown")
	return cmd
}

func runDemo(ctx context.Context, app *App, opts *demoOptions) error {
	if opts.name != "" {
		return runScenarios(ctx, app, opts)
	}
	config, err := demoConfig(app, opts)
	if err != nil {
		return err
	}
	report, err := demo.Run(ctx, config)
	if err != nil {
		if ctx.Err() != nil && !errors.Is(err, demo.ErrLeftBehind) {
			return errors.New("interrupted; everything the demo made was removed")
		}
		return err
	}
	if opts.output.json() {
		err = writeJSON(app.Out, report)
	} else {
		printDemo(app, report)
	}
	if err == nil && !report.Holds {
		err = &exitError{exitClaim, errors.New("the ledger does not hold")}
	}
	return err
}

// demoConfig says what to run, and finds the broker where there is to be one.
func demoConfig(app *App, opts *demoOptions) (demo.Config, error) {
	config := demo.Config{
		Memory: opts.broker == brokerMemory, Events: examples.Orders, Broken: opts.broken,
		Screen: app.Out, Live: app.OutTerminal && !opts.output.json() && !app.global.quiet,
		Logger: app.Logger(), ConnectTimeout: app.global.connectTimeout,
	}
	switch {
	case app.global.quiet:
		config.Screen = io.Discard
	case opts.output.json():
		config.Screen = app.Err
	}
	if config.Memory {
		return config, nil
	}
	broker, err := app.broker()
	if err != nil {
		return config, err
	}
	config.URLs, config.TLS, config.Environment = broker.URLs, broker.TLS, app.childEnvironment(broker)
	if config.Executable, err = os.Executable(); err != nil {
		return config, fmt.Errorf("find evdemo itself: %w", err)
	}
	return config, nil
}

// childEnvironment leads child processes to the same broker. It goes through the environment, since
// arguments, and with them passwords, are for everyone on the machine to see. What the environment told
// this run is not for its children, which get all their flags from the demo.
func (a *App) childEnvironment(broker brokerSettings) []string {
	env := slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, envName("")) })
	g := &a.global
	flags := map[string]string{
		"url": strings.Join(broker.URLs, ","), "connect-timeout": g.connectTimeout.String(),
		"tls-ca": g.tlsCA, "tls-cert": g.tlsCert, "tls-key": g.tlsKey, "tls-insecure": strconv.FormatBool(g.tlsInsecure),
		"config": os.DevNull, // no profile either
	}
	for name, value := range flags {
		env = append(env, envName(name)+"="+value)
	}
	return env
}

func printDemo(app *App, r demo.Report) {
	t := table.NewWriter()
	t.SetOutputMirror(app.Out)
	t.SetStyle(table.StyleLight)
	t.AppendHeader(table.Row{"consumer", "events", "missing", "extra", "by"})
	for _, c := range r.Account.Consumers {
		var by []string
		for _, m := range c.Members {
			text := fmt.Sprintf("%s %s", m.Name, thousands(int64(m.Effects)))
			if m.Name == r.Killed {
				text += " (killed)"
			}
			by = append(by, text)
		}
		t.AppendRow(table.Row{c.Name, thousands(int64(c.Effects)), c.Missing, c.Extra, strings.Join(by, ", ")})
	}
	fmt.Fprintln(app.Out)
	t.Render()
	fmt.Fprintf(app.Out, "published %s  confirmed %s  redelivered %d  in %.1f s\n\n", thousands(int64(r.Account.Attempted)),
		thousands(int64(r.Account.Outcomes["confirmed"])), r.Redelivered, r.Seconds)
	fmt.Fprintf(app.Out, "Redelivered are events that %s had and could not acknowledge any more; extra are those of them that it\nhad handled already. That is what \"at least once\" means.\n\n", r.Killed)
	for _, c := range r.Claims {
		mark := "holds "
		if !c.Holds {
			mark = "FAILS "
		}
		fmt.Fprintf(app.Out, "%s %s (%s)\n", mark, c.Text, c.Figures)
	}
	if r.Holds {
		fmt.Fprintln(app.Out, "\nThe ledger holds: nothing was lost.")
	}
}
