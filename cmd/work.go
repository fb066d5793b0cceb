package cmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
)

const workLong = `Compete for the events of a queue: each goes to one of its workers.

The built-in handler prints one line per event and simulates work (--latency, --fail-rate). An event is
acknowledged after it was handled; if the worker dies before, the broker gives it to another one. A
failed event goes back to the queue and is delivered again; after 20 deliveries the broker moves it to
the queue's dead-letter queue.

The queue is declared if it is missing. One that exists with other arguments is an error that names
them; --no-declare consumes it as it is. A message that is no CloudEvent is handled all the same, with
what is known of it.

Exit codes: 0 done, also after SIGINT or SIGTERM; 2 wrong usage; 3 events in hand did not finish within
--drain-timeout, they are delivered again; 4 no broker; 1 anything else.`

const workExample = `  evdemo work --queue payments
  evdemo work --queue payments --latency 50ms --concurrency 4 --name alice
  evdemo work --queue payments --fail-rate 0.1 --count 100
  evdemo work --queue payments --idle-timeout 2s -q -o json`

type workOptions struct {
	consumeOptions

	queue       string
	concurrency int
	latency     time.Duration
	failRate    float64
	seed        uint64
	seeded      bool
}

// newWorkCommand builds "work". Tests pass run to look at what was parsed.
func newWorkCommand(app *App, run func(context.Context, *App, *workOptions) error) *cobra.Command {
	if run == nil {
		run = runWork
	}
	opts := &workOptions{}
	cmd := &cobra.Command{
		Use:     "work --queue QUEUE",
		Short:   "Handle the events of a queue, in competition with other workers",
		Long:    workLong,
		Example: workExample,
		Args:    requireNoArgs("queue"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.seeded = cmd.Flags().Changed("seed")
			if err := opts.check(); err != nil {
				return usageError(err)
			}
			return run(cmd.Context(), app, opts)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.queue, "queue", "", "queue to work on (required)")
	flags.IntVar(&opts.concurrency, "concurrency", 1, "how many events to handle at a time")
	flags.DurationVar(&opts.latency, "latency", 0, "how long the built-in handler takes for an event")
	flags.Float64Var(&opts.failRate, "fail-rate", 0, "share of deliveries that the built-in handler fails, 0 to 1")
	flags.Uint64Var(&opts.seed, "seed", 0, "seed for --fail-rate (default: a random one)")
	opts.addFlags(flags)
	return cmd
}

func (o *workOptions) check() error {
	switch {
	case o.queue == "":
		return errors.New("say which queue: --queue payments")
	case o.concurrency < 1:
		return fmt.Errorf("--concurrency %d: want at least 1", o.concurrency)
	case o.latency < 0:
		return fmt.Errorf("--latency %v: want 0 or more", o.latency)
	case !(o.failRate >= 0 && o.failRate <= 1):
		return fmt.Errorf("--fail-rate %v: want 0 to 1", o.failRate)
	}
	if err := checkBrokerName("queue", o.queue); err != nil {
		return err
	}
	return o.consumeOptions.check()
}

func runWork(ctx context.Context, app *App, opts *workOptions) error {
	config, err := opts.config(app, "work")
	if err != nil {
		return err
	}
	config.Queue = opts.queue
	config.Concurrency = opts.concurrency
	if config.Prefetch == 0 {
		config.Prefetch = min(2*opts.concurrency, maxPrefetch)
		if opts.latency == 0 {
			config.Prefetch = max(fastPrefetch, config.Prefetch)
		}
	}
	config.Declare, err = opts.declare(app, func(s topology.Spec) topology.Resources { return s.QueueResources(opts.queue) })
	if err != nil {
		return err
	}
	printer := newPrinter(app, &opts.consumeOptions)
	return opts.run(ctx, app, config, printer, opts.handler(app, printer))
}

// errSimulated is what --fail-rate fails with.
var errSimulated = errors.New("failed on purpose (--fail-rate)")

// handler is the built-in handler: it takes its time, fails its share, and prints.
func (o *workOptions) handler(app *App, printer *printer) worker.Handler {
	fails := o.failures(app)
	log := app.Logger()
	return func(ctx context.Context, d *worker.Delivery) error {
		if app.global.verbose {
			log.Debug("handling", slog.String("id", d.Event.ID), slog.Int("delivery", d.Attempt))
		}
		if o.latency > 0 {
			select {
			case <-time.After(o.latency):
			case <-ctx.Done():
				return worker.ErrRequeue
			}
		}
		if fails() {
			return errSimulated
		}
		return printer.print(d)
	}
}

// failures decides by chance which deliveries fail, by a seed that it tells.
func (o *workOptions) failures(app *App) func() bool {
	if o.failRate == 0 {
		return func() bool { return false }
	}
	if !o.seeded {
		o.seed = rand.Uint64() //nolint:gosec // a simulation
	}
	app.Logger().Info("failing by chance", "fail_rate", o.failRate, "seed", o.seed)
	chance := newChance(o.seed)
	return func() bool { return chance.float() < o.failRate }
}
