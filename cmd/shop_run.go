package cmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop/service"
	"github.com/evdemo/evdemo/internal/shop/sink"
	"github.com/evdemo/evdemo/internal/shop/system"
	"github.com/evdemo/evdemo/worker"
)

const shopRunLong = `Run services and sinks of the shop until SIGINT or SIGTERM: all of them, or those that are named. Several
terminals may run some each, and more than one the same: then they compete.

Services: order, fraud, payment, inventory, shipping, loyalty, email, sms, push, and with --saga orchestration
the coordinator. Sinks: lake, analytics, search, crm, with --webhook webhooks and with --cache cache; one
process runs each.

With --saga choreography each service reacts to the one before it, and what failed is compensated by events.
With --saga orchestration a coordinator asks for one step after the other. The business is the same, and a
shop keeps the way that it was begun with.

On RabbitMQ each part has a queue, shop.NAME, which waits while the part is away. With --bus memory no broker
is needed: the parts follow the event store, from its beginning, and know what they have done.

--slow, --fail and --refuse break parts, and --down leaves some out. A failed attempt is tried again, after
0.2 s and then every 2 s, 20 times. Then the event is in the dead-letter queue: "evdemo dlq redrive shop.NAME"
sends it back.

Broker: the topics and queues of all parts are declared; events are published and consumed. Database: read and
written; it is made where there is none.

Exit codes: 0 after SIGINT or SIGTERM; 2 wrong usage; 4 no broker or no database; 1 anything else.`

const shopRunExample = `  evdemo shop run
  evdemo shop run payment shipping --saga orchestration
  evdemo shop run --bus memory --slow payment=2s --fail inventory=0.2 --refuse shipping=0.05 --down email`

type shopRunOptions struct {
	storeOptions
	faultOptions

	names        []string
	flow         string
	bus          string
	prefix       string
	concurrency  int
	stepTimeout  time.Duration
	drainTimeout time.Duration
	sinks        string
	analyticsDB  string
	crm          string
	cache        string
	webhooks     []string
	webhookTypes []string
	secret       string
	output       *output

	receivers []sink.Receiver // from webhooks, webhookTypes and secret
}

// newShopRunCommand builds "shop run". Tests pass run to look at what was parsed.
func newShopRunCommand(app *App, run func(context.Context, *App, *shopRunOptions) error) *cobra.Command {
	if run == nil {
		run = runShopRun
	}
	opts := &shopRunOptions{}
	cmd := &cobra.Command{
		Use:     "run [PART ...]",
		Short:   "Run services and sinks, all of them or those that are named",
		Long:    shopRunLong,
		Example: shopRunExample,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.names = args
			if err := opts.check(); err != nil {
				return usageError(err)
			}
			return run(cmd.Context(), app, opts)
		},
	}
	flags := cmd.Flags()
	opts.addShopFlags(flags)
	flags.StringVar(&opts.flow, "saga", string(service.Choreography), "who decides what comes next: choreography or orchestration")
	flags.StringVar(&opts.bus, "bus", "rabbitmq", "what carries the events: rabbitmq, or memory")
	flags.StringVar(&opts.prefix, "topic-prefix", "", "what the names of topics and queues begin with, for several shops on one broker")
	opts.faultOptions.addFlags(flags)
	flags.IntVar(&opts.concurrency, "concurrency", system.DefaultConcurrency, "how many events each part has in hand at a time")
	flags.DurationVar(&opts.stepTimeout, "step-timeout", time.Minute, "how long the coordinator waits for fraud, payment and inventory")
	flags.DurationVar(&opts.drainTimeout, "drain-timeout", worker.DefaultDrainTimeout, "after an interrupt, how long to wait for events in hand")
	flags.StringVar(&opts.sinks, "sinks", shopSinks, "folder of the sinks")
	flags.StringVar(&opts.analyticsDB, "analytics-db", "", "postgres:// URL of the analytics database (default: a file in the folder of the sinks)")
	flags.StringVar(&opts.crm, "crm", "", "URL of the CRM (default: a stand-in on loopback)")
	flags.StringVar(&opts.cache, "cache", "", "redis:// URL of the cache that \"serve --cache\" reads: orders that change are invalidated in it")
	flags.StringArrayVar(&opts.webhooks, "webhook", nil, "URL to which events are posted as signed webhooks; may be repeated")
	flags.StringArrayVar(&opts.webhookTypes, "webhook-type", nil, "only events of this type are posted; may be repeated")
	flags.StringVar(&opts.secret, "webhook-secret", "", "secret that signs the webhooks: whsec_ and base64 (better: EVDEMO_WEBHOOK_SECRET)")
	opts.output = outputFlag(flags, "table", "json")
	return cmd
}

func (o *shopRunOptions) check() error {
	err := o.storeOptions.check()
	flow := service.Flow(o.flow)
	switch {
	case flow != service.Choreography && flow != service.Orchestration:
		err = errors.Join(err, fmt.Errorf("--saga %q: want %s or %s", o.flow, service.Choreography, service.Orchestration))
	case o.bus != "rabbitmq" && o.bus != "memory":
		err = errors.Join(err, fmt.Errorf("--bus %q: want rabbitmq or memory", o.bus))
	case o.concurrency < 1 || o.concurrency > 1000:
		err = errors.Join(err, fmt.Errorf("--concurrency %d: want 1 to 1000", o.concurrency))
	case o.stepTimeout <= 0:
		err = errors.Join(err, fmt.Errorf("--step-timeout %v: want more than 0", o.stepTimeout))
	case o.drainTimeout < 0:
		err = errors.Join(err, fmt.Errorf("--drain-timeout %v: want 0 or more", o.drainTimeout))
	}
	if len(o.webhooks) > 0 && o.secret == "" {
		err = errors.Join(err, errors.New("--webhook needs a secret to sign with: set EVDEMO_WEBHOOK_SECRET to whsec_ and 24 bytes or more of base64"))
	}
	o.receivers = nil
	for _, url := range o.webhooks {
		o.receivers = append(o.receivers, sink.Receiver{URL: url, Secret: o.secret, Types: o.webhookTypes})
	}
	if o.sinks == "" {
		err = errors.Join(err, errors.New("--sinks: want a folder"))
	}
	if o.analyticsDB != "" {
		err = errors.Join(err, checkDatabase("--analytics-db", o.analyticsDB))
	}
	if err := errors.Join(err, o.faultOptions.check()); err != nil {
		return err
	}
	return system.CheckNames(flow, o.faults, slices.Concat(o.names, o.down)...)
}

// closeSinks is how long the sinks may take to finish their files. What is not finished then, is the next time.
const closeSinks = 30 * time.Second

// sinkConfig says which sinks run here, and where they are.
func (o *shopRunOptions) sinkConfig(app *App) system.SinkConfig {
	names := system.SinkNames()
	if len(o.receivers) > 0 {
		names = append(names, sink.WebhooksName)
	}
	if o.cache != "" {
		names = append(names, sink.CacheName)
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		return slices.Contains(o.down, name) || len(o.names) > 0 && !slices.Contains(o.names, name)
	})
	return system.SinkConfig{
		Places: sink.Places{Dir: o.sinks}, Names: names, AnalyticsDB: o.analyticsDB, CRMURL: o.crm, CacheURL: o.cache, Receivers: o.receivers, Logger: app.Logger(),
	}
}

// unlessTold is an error of what began while nobody had told it to end. A service that is told to end while it begins has
// nothing to report, and that is no failure.
func unlessTold(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // see above
	}
	return explainStore(err)
}

func runShopRun(ctx context.Context, app *App, opts *shopRunOptions) (err error) {
	store, err := opts.create(ctx, app)
	if err != nil {
		return unlessTold(ctx, err)
	}
	defer closing(store, &err)
	sinks, err := system.OpenSinks(ctx, opts.sinkConfig(app))
	if err != nil {
		return unlessTold(ctx, err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeSinks)
		defer cancel()
		err = errors.Join(err, sinks.Close(closing))
	}()
	config := system.Config{
		Sinks: sinks, Store: store, Prefix: opts.prefix, Flow: service.Flow(opts.flow), Names: opts.names, Down: opts.down, Faults: opts.faults,
		Concurrency: opts.concurrency, StepTimeout: opts.stepTimeout, DrainTimeout: opts.drainTimeout, Logger: app.Logger(),
		Ready: func() {
			app.Logger().Info("the shop is open", slog.String("db", eventstore.Location(opts.db)), slog.String("saga", opts.flow), slog.String("bus", opts.bus))
		},
	}
	if opts.bus == "rabbitmq" {
		broker, err := app.broker()
		if err != nil {
			return err
		}
		config.Broker = &system.Broker{URLs: broker.URLs, TLS: broker.TLS, ConnectTimeout: app.global.connectTimeout}
	}
	counts, err := system.Run(ctx, config)
	if errors.Is(err, system.ErrFlow) {
		return usageError(err)
	}
	if err == nil || slices.ContainsFunc(counts, func(c system.Count) bool { return c.Handled+c.Failed > 0 }) {
		return errors.Join(opts.report(app, counts), explainStore(err))
	}
	return explainStore(err)
}

// report tells what each part has done.
func (o *shopRunOptions) report(app *App, counts []system.Count) error {
	if o.output.json() {
		return writeJSON(app.Out, counts)
	}
	t := newTable(app.Out, "part", "handled", "known before", "failed attempts")
	for _, c := range counts {
		t.AppendRow(table.Row{c.Name, thousands(c.Handled), thousands(c.Again), thousands(c.Failed)})
	}
	t.Render()
	return nil
}
