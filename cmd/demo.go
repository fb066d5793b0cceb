package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/evdemo/evdemo/internal/demo"
	"github.com/evdemo/evdemo/internal/scenario"
	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/internal/stage"
)

const demoLong = `Watch an order system work, and break, on a real broker, with a verdict made of figures.

Without a SCENARIO it is the tour. Customers place 300 orders; fraud, payment, inventory, shipping, loyalty
and notifications hear of them over topics, each in a queue of its own (fan-out), and three payment
processes share one queue (work queue). One of those is killed with SIGKILL in the middle. The tour ends
with a ledger that counts by order what each part has really done, and with the verdict of "shop check".
--broken adds a stray worker that takes payments and loses them: the ledger must show it.

With the name of a SCENARIO one lesson is played twice: broken on purpose, so that its fault shows, and then
as it should be. It ends with a table of figures, a ledger and claims, which hold or do not. "list" lists
the scenarios, "all" plays all of them, and -o markdown makes a document of that.

--broker memory needs nothing installed: the tour's parts are goroutines of this process then, and payment
is cut off in mid-work instead of killed. Of the scenarios only those can be played that need no broker.
What is made up at random is by --seed; when a process is hit in its work, and how long a back-off is, is
not. Scenarios that kill a broker start a node of their own, which needs an installed rabbitmq-server.

Broker: what the demo makes begins with "demo-", and is removed at the end, also after Ctrl-C. Nothing
else is touched. A second Ctrl-C ends the demo at once: its processes end with it, and queues and exchanges
that begin with "demo-" stay, and directories that begin with "evdemo-demo-" where temporary files are. They
can be deleted.

Exit codes: 0 all claims hold; 5 one does not, or a fault has not shown; 2 wrong usage; 4 no broker; 1
anything else, an interrupt included.`

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
	ctx, stop := whileRead(ctx, app)
	defer stop()
	var err error
	if opts.name != "" {
		err = runScenarios(ctx, app, opts)
	} else {
		err = runTour(ctx, app, opts)
	}
	if errors.Is(err, session.ErrUnreachable) {
		err = fmt.Errorf("%w; \"evdemo broker start\" starts a RabbitMQ, and \"evdemo doctor\" says what is wrong with one", err)
	}
	return err
}

// whileRead gives a context that also ends when the output cannot be written any more, as where it is piped to "head". Without
// that the process would end at once, by a signal, and leave everything behind.
func whileRead(ctx context.Context, app *App) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if out, ok := app.Out.(*checkedWriter); ok {
		signal.Ignore(syscall.SIGPIPE)
		out.onFailure(cancel)
	}
	return ctx, cancel
}

func runTour(ctx context.Context, app *App, opts *demoOptions) error {
	shared, err := stageConfig(app, opts, true)
	if err != nil {
		return err
	}
	report, err := demo.Run(ctx, demo.Config{
		Config: shared, Broken: opts.broken, Live: app.draws() && !opts.output.json() && !app.global.quiet,
	})
	if err != nil {
		if ctx.Err() != nil && !errors.Is(err, stage.ErrLeftBehind) {
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

// draws tells whether there is a terminal on which a table can be drawn again and again.
func (a *App) draws() bool {
	const columns, rows = 60, 20
	if terminal, _ := a.LookupEnv("TERM"); !a.OutTerminal || terminal == "dumb" {
		return false
	}
	width, height, err := term.GetSize(int(os.Stdout.Fd()))
	return err == nil && width >= columns && height >= rows
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
	t.AppendHeader(table.Row{"part", "orders done", "missing", "extra", "done by"})
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
	fmt.Fprintln(app.Out, "\nThe ledger: how many orders each part has done, by what it stored or printed. Missing: never done; extra: done again.")
	t.Render()
	fmt.Fprintf(app.Out, "placed %s  shipped %s  cancelled %s  events stored %s  in %.1f s, seed %d\n\n", thousands(int64(r.Account.Attempted)),
		thousands(int64(r.Check.Shipped)), thousands(int64(r.Check.Cancelled)), thousands(r.Check.Events), r.Seconds, r.Seed)
	for _, c := range r.Claims {
		mark := "holds "
		if !c.Holds {
			mark = "FAILS "
		}
		fmt.Fprintf(app.Out, "%s %s (%s)\n", mark, c.Text, c.Figures)
	}
	if r.Holds {
		fmt.Fprintln(app.Out, "\nThe ledger holds: nothing was lost, and nothing was done twice.\n\nNext: evdemo demo list")
	}
}
