package cmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/eventstore/relay"
	"github.com/evdemo/evdemo/publisher"
)

const storeRelayLong = `Publish the log of an event store to RabbitMQ, in its order, and go on with what is appended: the log is the
outbox. It runs until SIGINT or SIGTERM, or with --catch-up until all is published that was there.

Every event is confirmed before the checkpoint passes it, and of what is behind the checkpoint no more than
--window events are ever sent: a relay that is killed leaves nothing out, and its successor sends a window
again at most, under the same ids. An event that is returned, since nothing is bound, or refused is not
passed over: the relay says so, stands still and tries again. Headers say where an event is in the store:
eventstore-stream, eventstore-version and eventstore-position.

Of several relays with one --name one is active and the others stand by. Another name has a checkpoint of
its own, in the event store. --from says where a name without a checkpoint begins.

The topic or queue is declared if it is missing. Broker: writes to one exchange or queue. Database: read; the
checkpoint is written.

Exit codes: 0 done, also after SIGINT or SIGTERM, when all that was sent is confirmed; 2 wrong usage, or no
event store there; 3 something was not confirmed in time, or cannot be published at all; 4 no broker or no
database; 1 anything else.`

const storeRelayExample = `  evdemo store relay --db orders.db --topic orders
  evdemo store relay --db orders.db --queue payments --type order.created --name payments --from next
  evdemo store relay --db orders.db --topic orders --catch-up -o json`

type storeRelayOptions struct {
	storeOptions
	operateOptions

	topic, queue string
	name         string
	types        []string
	from         string
	window       int
	lease        time.Duration
	drainTimeout time.Duration
	catchUp      bool
	noDeclare    bool
	topology     string
	output       *output
	start        func(context.Context, *eventstore.Store) (after int64, err error) // from from
}

// newStoreRelayCommand builds "store relay". Tests pass run to look at what was parsed.
func newStoreRelayCommand(app *App, run func(context.Context, *App, *storeRelayOptions) error) *cobra.Command {
	if run == nil {
		run = runStoreRelay
	}
	opts := &storeRelayOptions{}
	cmd := &cobra.Command{
		Use:     "relay",
		Short:   "Publish an event store's log to RabbitMQ",
		Long:    storeRelayLong,
		Example: storeRelayExample,
		Args:    requireNoArgs("topic"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opts.check(); err != nil {
				return usageError(err)
			}
			return run(cmd.Context(), app, opts)
		},
	}
	flags := cmd.Flags()
	opts.storeOptions.addFlags(flags)
	flags.StringVar(&opts.topic, "topic", "", "topic to publish to")
	flags.StringVar(&opts.queue, "queue", "", "queue to publish to, instead of a topic")
	flags.StringVar(&opts.name, "name", relay.DefaultName, "name of the checkpoint; of several relays with one name one is active")
	flags.StringArrayVar(&opts.types, "type", nil, "only events of this type; may be repeated")
	flags.StringVar(&opts.from, "from", "first", "where to begin without a checkpoint: first, last, next, a position, or a TIME")
	flags.IntVar(&opts.window, "window", relay.DefaultWindow, "how many events may be sent that the checkpoint does not know of")
	flags.DurationVar(&opts.lease, "lease", eventstore.DefaultLease, "how long the active relay may be silent before another takes over")
	flags.DurationVar(&opts.drainTimeout, "drain-timeout", relay.DefaultDrainTimeout, "after an interrupt, how long to wait for confirms")
	flags.BoolVar(&opts.catchUp, "catch-up", false, "stop when all is published that is in the log now")
	flags.BoolVar(&opts.noDeclare, "no-declare", false, "do not declare the topic or queue")
	flags.StringVar(&opts.topology, "topology", "", "topology file that says how to declare (default: the built-in topology)")
	opts.operateOptions.addFlags(flags)
	opts.output = outputFlag(flags, "table", "json")
	return cmd
}

func (o *storeRelayOptions) check() (err error) {
	switch {
	case o.topic == "" && o.queue == "":
		return errors.New("say where to: --topic orders, or --queue payments")
	case o.topic != "" && o.queue != "":
		return errors.New("give --topic or --queue, not both")
	case o.name == "" || len(o.name) > maxName || printable(o.name, maxName) != o.name:
		return fmt.Errorf("--name %.40q: want 1 to %d bytes of text without control characters", o.name, maxName)
	case o.window < 1 || o.window > maxWindow:
		return fmt.Errorf("--window %d: want 1 to %d", o.window, maxWindow)
	case o.lease < time.Second:
		return fmt.Errorf("--lease %v: want 1s or more", o.lease)
	case o.drainTimeout < 0:
		return fmt.Errorf("--drain-timeout %v: want 0 or more", o.drainTimeout)
	}
	if err := errors.Join(o.storeOptions.check(), checkBrokerName("topic", o.topic), checkBrokerName("queue", o.queue)); err != nil {
		return err
	}
	o.start, err = parseStart(o.from)
	return err
}

// destination says where to, for people too.
func (o *storeRelayOptions) destination() (to func(eventstore.Recorded) (publisher.Destination, error), text string) {
	if o.queue != "" {
		return relay.ToQueue(o.queue), "queue " + o.queue
	}
	return relay.ToTopic(o.topic), "topic " + o.topic
}

func runStoreRelay(ctx context.Context, app *App, opts *storeRelayOptions) (err error) {
	store, err := opts.open(ctx, app)
	if err != nil {
		return interrupted(ctx, "the event store was open", err)
	}
	defer closing(store, &err)
	watched, err := opts.watch(ctx, app)
	if err != nil {
		return err
	}
	defer watched.close(ctx)
	p, err := opts.openPublisher(ctx, app, watched)
	if err != nil && ctx.Err() != nil {
		return errors.New("interrupted before there was a connection")
	}
	if err != nil {
		return err
	}
	defer func() {
		ended, cancel := context.WithCancel(context.WithoutCancel(ctx))
		cancel() // confirms have been waited for
		_ = p.Close(ended)
	}()
	config := relay.Config{
		Store: store, Publisher: p, Name: opts.name, Types: opts.types, Window: opts.window, Lease: opts.lease,
		DrainTimeout: max(opts.drainTimeout, 1), CatchUp: opts.catchUp, Logger: app.Logger(),
	}
	var where string
	config.To, where = opts.destination()
	if config.From, err = opts.start(ctx, store); err != nil {
		return interrupted(ctx, "it was known where to begin", err)
	}
	r, err := relay.New(config)
	if err != nil {
		return usageError(err)
	}
	if err := watched.serve(ctx, p.Ready, p.Collector(), r.Collector()); err != nil {
		return err
	}
	app.Logger().Info("relaying", slog.String("db", eventstore.Location(opts.db)), slog.String("to", where), slog.String("name", opts.name))
	began := time.Now()
	err = r.Run(ctx)
	return opts.report(ctx, app, store, r.Stats(), time.Since(began), err)
}

// openPublisher connects a publisher that declares what is to be published to.
func (o *storeRelayOptions) openPublisher(ctx context.Context, app *App, watched *watched) (*publisher.Publisher, error) {
	broker, err := app.broker()
	if err != nil {
		return nil, err
	}
	config := publisher.Config{
		URLs: broker.URLs, TLS: broker.TLS, ConnectionName: "evdemo store relay " + o.name,
		ConnectTimeout: app.global.connectTimeout, Window: o.window, Logger: app.Logger(), TracerProvider: watched.tracer,
	}
	if !o.noDeclare {
		spec, err := app.loadSpec(o.topology)
		if err != nil {
			return nil, err
		}
		if o.queue != "" {
			config.Declare = spec.QueueResources(o.queue)
		} else {
			config.Declare = spec.TopicResources(o.topic)
		}
	}
	return openPublisher(ctx, app, config, o.queue != "")
}

// relayReport is the account of a relay.
type relayReport struct {
	Name      string `json:"name"`
	Published int64  `json:"published"`
	Skipped   int64  `json:"skipped"`
	Returned  int64  `json:"returned"`
	Nacked    int64  `json:"nacked"`
	Unknown   int64  `json:"unknown"`
	Repeated  int64  `json:"repeated"`
	// Position is the checkpoint, and Behind how many events of the log are behind it.
	Position  int64   `json:"position"`
	Behind    int64   `json:"behind"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_second"`
}

func (r relayReport) text() string {
	parts := []string{fmt.Sprintf("%s: published %s", printable(r.Name, widestText), thousands(r.Published))}
	for _, more := range []struct {
		name  string
		count int64
	}{{"passed over", r.Skipped}, {"returned", r.Returned}, {"nacked", r.Nacked}, {"unknown", r.Unknown}, {"sent again", r.Repeated}} {
		if more.count > 0 {
			parts = append(parts, more.name+" "+thousands(more.count))
		}
	}
	parts = append(parts, fmt.Sprintf("checkpoint %d", r.Position), "behind "+thousands(r.Behind),
		fmt.Sprintf("in %.2f s (%s per second)", r.Seconds, thousands(int64(r.PerSecond))))
	return strings.Join(parts, "  ")
}

// report prints the account and gives the run's error.
func (o *storeRelayOptions) report(ctx context.Context, app *App, store *eventstore.Store, stats relay.Stats, took time.Duration, err error) error {
	r := relayReport{
		Name: o.name, Published: stats.Published, Skipped: stats.Skipped, Returned: stats.Returned, Nacked: stats.Nacked,
		Unknown: stats.Unknown, Repeated: stats.Repeated, Seconds: took.Seconds(),
	}
	if r.Seconds > 0 {
		r.PerSecond = float64(r.Published) / r.Seconds
	}
	looking, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if lag, lagErr := relay.LagOf(looking, store, o.name); lagErr == nil {
		r.Position, r.Behind = lag.Position, lag.Events()
	}
	var printErr error
	if o.output.json() {
		printErr = writeJSON(app.Out, r)
	} else {
		_, printErr = fmt.Fprintln(app.Out, r.text())
	}
	_, unpublishable := errors.AsType[*relay.EventError](err)
	switch {
	case err == nil:
		return printErr
	case unpublishable, errors.Is(err, relay.ErrDrainTimeout):
		return &exitError{exitIncomplete, oneLine{err}}
	case errors.Is(err, relay.ErrBeyondLog):
		return usageError(err)
	default:
		return explainStore(err)
	}
}
