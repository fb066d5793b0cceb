package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop/chaos"
	"github.com/evdemo/evdemo/internal/shop/check"
	"github.com/evdemo/evdemo/internal/shop/service"
)

const shopProveLong = `Run the shop under faults, and prove that every order comes to its right end all the same.

Every part runs as a process of its own, some of them twice, so that they compete. While orders are placed,
processes are killed with SIGKILL and started again, all of them at once for a time, and so is the broker;
some are frozen for seconds, some are ended in good order. Three of a hundred orders are refused by each of
fraud, payment, inventory and shipping, and two of a hundred attempts fail in some parts, half of them when
all was done. Then the shop comes to rest and is ended, and a program that reads only the event store and
the sinks says what is wrong; so is what is left in a queue, or given up, and a part that ended by itself.
See "shop check".

Which process is killed when, counted in orders that are placed, is by --seed; so is which order is refused.

A private node of RabbitMQ is started for it, which needs an installed rabbitmq-server. With --url, and only
then, another broker is used, and not killed. --dir keeps the event store, the sinks and what the parts log;
without it they are in a temporary directory, which is removed unless something is wrong. --db has the event
store elsewhere, as in PostgreSQL; it must be empty.

--broken adds a worker that takes events of the queue shop.email and loses them: that must be found.

Broker: with --url, what is made begins with "prove-", and is removed at the end, also after Ctrl-C.
Database and sinks: written.

Exit codes: 0 all of it holds; 5 something does not; 2 wrong usage, or an event store that is not empty; 4
no broker or no database; 1 anything else, an interrupt included.`

const shopProveExample = `  evdemo shop prove --orders 200 --kills 8 --broker-kills 1
  evdemo shop prove --orders 200 --kills 8 --broker-kills 1 --saga orchestration --seed 7 -o json
  evdemo shop prove --orders 100 --kills 0 --broker-kills 0 --broken`

// Faults where nothing is said of them.
const (
	proveKills       = 20
	proveBrokerKills = 2
)

type shopProveOptions struct {
	db          string
	dir         string
	orders      int
	seed        uint64
	flow        string
	kills       int
	brokerKills int
	stepTimeout time.Duration
	broken      bool
	output      *output
}

// newShopProveCommand builds "shop prove". Tests pass run to look at what was parsed.
func newShopProveCommand(app *App, run func(context.Context, *App, *shopProveOptions) error) *cobra.Command {
	if run == nil {
		run = runShopProve
	}
	opts := &shopProveOptions{}
	cmd := &cobra.Command{
		Use:     "prove",
		Short:   "Kill parts and the broker, and prove that nothing is lost and nothing done twice",
		Long:    shopProveLong,
		Example: shopProveExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opts.check(app, cmd.Flags().Changed("broker-kills")); err != nil {
				return usageError(err)
			}
			return run(cmd.Context(), app, opts)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.db, "db", "", "event store: an SQLite file, or postgres://user@host:5432/name (default: shop.db in --dir)")
	flags.StringVar(&opts.dir, "dir", "", "directory for all that is made (default: a temporary one)")
	flags.IntVar(&opts.orders, "orders", chaos.DefaultOrders, "how many orders are placed")
	flags.Uint64Var(&opts.seed, "seed", 1, "seed of orders and faults")
	flags.StringVar(&opts.flow, "saga", string(service.Choreography), "who decides what comes next: choreography or orchestration")
	flags.IntVar(&opts.kills, "kills", proveKills, "how often a part is killed; where it ever is, all are once besides")
	flags.IntVar(&opts.brokerKills, "broker-kills", proveBrokerKills, "how often the broker is killed (with --url: 0)")
	flags.DurationVar(&opts.stepTimeout, "step-timeout", chaos.DefaultStepTimeout, "how long the coordinator waits for fraud, payment and inventory")
	flags.BoolVar(&opts.broken, "broken", false, "add a worker that loses events, to see that it is found out")
	opts.output = outputFlag(flags, "table", "json")
	return cmd
}

func (o *shopProveOptions) check(app *App, brokerKillsGiven bool) (err error) {
	if app.global.url != "" && !brokerKillsGiven {
		o.brokerKills = 0
	}
	flow := service.Flow(o.flow)
	if flow != service.Choreography && flow != service.Orchestration {
		err = errors.Join(err, fmt.Errorf("--saga %q: want %s or %s", o.flow, service.Choreography, service.Orchestration))
	}
	if o.orders < 1 || o.orders > chaos.MostOrders {
		err = errors.Join(err, fmt.Errorf("--orders %d: want 1 to %d", o.orders, chaos.MostOrders))
	}
	if o.kills < 0 || o.kills > chaos.MostKills {
		err = errors.Join(err, fmt.Errorf("--kills %d: want 0 to %d", o.kills, chaos.MostKills))
	}
	if o.brokerKills < 0 || o.brokerKills > chaos.MostKills {
		err = errors.Join(err, fmt.Errorf("--broker-kills %d: want 0 to %d", o.brokerKills, chaos.MostKills))
	}
	if app.global.url != "" && o.brokerKills > 0 {
		err = errors.Join(err, errors.New("--broker-kills is for a private node: the broker at --url is not ours to kill"))
	}
	if o.stepTimeout <= 0 {
		err = errors.Join(err, fmt.Errorf("--step-timeout %v: want more than 0", o.stepTimeout))
	}
	if o.db != "" {
		err = errors.Join(err, checkDatabase("--db", o.db))
	}
	return err
}

func runShopProve(ctx context.Context, app *App, opts *shopProveOptions) error {
	config, err := opts.config(app)
	if err != nil {
		return err
	}
	report, err := chaos.Run(ctx, config)
	switch {
	case errors.Is(err, chaos.ErrUsed):
		return usageError(err)
	case err != nil && ctx.Err() != nil && !errors.Is(err, chaos.ErrLeftBehind):
		return errors.New("interrupted; every process that was started has ended")
	case err != nil:
		return explainStore(err)
	}
	if opts.output.json() {
		err = writeJSON(app.Out, report)
	} else {
		printProof(app, report)
	}
	if err == nil && !report.Holds {
		err = &exitError{exitClaim, errors.New("the proof does not hold")}
	}
	return err
}

// config says what to prove, and finds the broker where one was named.
func (o *shopProveOptions) config(app *App) (chaos.Config, error) {
	config := chaos.Config{
		Dir: o.dir, DB: o.db, Flow: service.Flow(o.flow), Orders: o.orders, Seed: o.seed, Kills: o.kills, BrokerKills: o.brokerKills,
		StepTimeout: o.stepTimeout, Broken: o.broken, ConnectTimeout: app.global.connectTimeout,
		Screen: app.Out, Live: app.OutTerminal && !o.output.json() && !app.global.quiet, Logger: app.proofLogger(),
		Check: func(ctx context.Context, store *eventstore.Store, sinks string, found func(check.Finding)) (check.Report, error) {
			return checkShop(ctx, store, sinks, check.Elsewhere{}, found)
		},
		Environment: func(url string) []string { return app.childEnvironment(brokerSettings{URLs: []string{url}}) },
	}
	switch {
	case app.global.quiet:
		config.Screen = io.Discard
	case o.output.json():
		config.Screen = app.Err
	}
	if app.global.url == "" {
		return config, nil
	}
	broker, err := app.broker()
	config.URLs, config.TLS = broker.URLs, broker.TLS
	return config, err
}

// proofLogger keeps to itself what is on the screen anyway, unless --verbose.
func (a *App) proofLogger() *slog.Logger {
	if a.global.verbose {
		return a.Logger()
	}
	return slog.New(slog.DiscardHandler)
}

func printProof(app *App, r chaos.Report) {
	n := func(n int) string { return thousands(int64(n)) }
	t := newTable(app.Out, "", "")
	t.ResetHeaders()
	for _, row := range [][2]string{
		{"orders placed", n(r.Placed)},
		{"shipped, cancelled, open", n(r.Shipped) + ", " + n(r.Cancelled) + ", " + n(r.Open)},
		{"events in the store", thousands(r.Events)},
		{"charged, refunded", fmt.Sprintf("%s, %s cents", n(r.Charged), n(r.Refunded))},
		{"parts killed", fmt.Sprintf("%s times, of %d processes; frozen %s times, ended %s times", n(r.Kills), r.Processes, n(r.Freezes), n(r.Stops))},
		{"broker killed", fmt.Sprintf("%s times, %s", n(r.BrokerKills), r.Broker)},
		{"known to a sink before", thousands(r.Again) + ", by those parts that lived to tell"},
		{"failed attempts", thousands(r.Failed) + ", by the same"},
		{"given up", n(r.DeadLetters)},
	} {
		t.AppendRow([]any{row[0], row[1]})
	}
	fmt.Fprintln(app.Out)
	t.Render()
	for _, s := range r.Sinks {
		fmt.Fprintf(app.Out, "%s: %s %s compared with the log, %s wrong\n", s.Sink, n(s.Count), s.What, n(s.Wrong))
	}
	for _, f := range r.First {
		fmt.Fprintln(app.Out, f)
	}
	for _, rule := range slices.Sorted(maps.Keys(r.Findings)) {
		fmt.Fprintf(app.Out, "broken %d times: %s\n", r.Findings[rule], rule)
	}
	if r.Holds {
		fmt.Fprintf(app.Out, "It holds: every order came to its right end, in %.0f s.\n", r.Seconds)
	}
}
