package cmd

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/internal/filter"
	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
)

const listenLong = `Listen to a topic and print its events.

Without --group the listener sees everything published from now on, and leaves nothing behind: its
queue is its own and gone when it leaves. With --group it is a member of a durable subscription: the
group misses nothing while nobody is there, and its members compete. With --from it reads the topic's
log from there, which takes nothing away, and goes on live; it misses nothing while its connection is
lost.

--filter is an expression over the event: id, source, type, subject, time, datacontenttype, dataschema,
extensions, headers and data. What it rejects is not printed; it is acknowledged all the same, and
counted. So on a group, another member does not get it either.

The topic (and the group's queue) is declared if it is missing.

Exit codes: 0 done, also after SIGINT or SIGTERM; 2 wrong usage or a bad filter; 4 no broker; 1 anything
else.`

const listenExample = `  evdemo listen --topic orders
  evdemo listen --topic orders --group email
  evdemo listen --topic orders --filter 'type == "order.created" && data.amount > 50'
  evdemo listen --topic orders --from 1h
  evdemo listen --topic orders --count 10 -o json`

type listenOptions struct {
	consumeOptions
	spanOptions

	topic, group, filter string
}

// newListenCommand builds "listen". Tests pass run to look at what was parsed.
func newListenCommand(app *App, run func(context.Context, *App, *listenOptions) error) *cobra.Command {
	if run == nil {
		run = runListen
	}
	opts := &listenOptions{}
	cmd := &cobra.Command{
		Use:     "listen --topic TOPIC",
		Short:   "Print every event of a topic, alone or as a member of a group",
		Long:    listenLong,
		Example: listenExample,
		Args:    requireNoArgs("topic"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opts.check(); err != nil {
				return usageError(err)
			}
			return run(cmd.Context(), app, opts)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.topic, "topic", "", "topic to listen to (required)")
	flags.StringVar(&opts.group, "group", "", "group to be a member of")
	opts.addFromFlag(flags, "read the topic's log from there")
	flags.StringVar(&opts.filter, "filter", "", "print only events for which this expression holds")
	opts.addFlags(flags)
	return cmd
}

func (o *listenOptions) check() error {
	if o.topic == "" {
		return errors.New("say which topic: --topic orders")
	}
	name, flag := o.topic, "topic"
	if o.group != "" {
		name, flag = topology.GroupQueue(o.topic, o.group), "group"
	}
	if err := checkBrokerName(flag, name); err != nil {
		return err
	}
	if o.from != "" && o.group != "" {
		return errors.New("--from reads the topic's log; a group has its own place: give one of --from and --group")
	}
	return errors.Join(o.spanOptions.check(), o.consumeOptions.check())
}

func runListen(ctx context.Context, app *App, opts *listenOptions) error {
	matches, err := filter.Compile(opts.filter)
	if err != nil {
		return usageError(err)
	}
	if opts.from != "" {
		return listenFrom(ctx, app, opts, matches)
	}
	config, err := opts.config(app, "listen")
	if err != nil {
		return err
	}
	if config.Prefetch == 0 {
		config.Prefetch = fastPrefetch
	}
	config.Declare, err = opts.declare(app, opts.resources)
	if err != nil {
		return err
	}
	if opts.group == "" {
		config.Topic = opts.topic
	} else {
		config.Queue = topology.GroupQueue(opts.topic, opts.group)
	}
	config.AcceptRaw = true // what is there is printed
	f := &filtering{picker: filter.NewPicker(matches, app.Logger()), printer: newPrinter(app, &opts.consumeOptions)}
	return opts.run(ctx, app, config, f.printer, f.handle)
}

// listenFrom reads the topic's log.
func listenFrom(ctx context.Context, app *App, opts *listenOptions, matches *filter.Filter) error {
	t := &tail{picker: filter.NewPicker(matches, app.Logger()), count: opts.count, idle: opts.idleTimeout}
	var err error
	if t.config, err = app.logConfig(opts.topic, "listen "+opts.name); err != nil {
		return err
	}
	if t.config.Declare, err = opts.declare(app, opts.resources); err != nil {
		return err
	}
	t.config.From, t.config.Follow = opts.start, true
	watched, err := opts.watch(ctx, app)
	if err != nil {
		return err
	}
	defer watched.close(ctx)
	if err := watched.serve(ctx, t.ready.Load); err != nil {
		return err
	}
	printer := newPrinter(app, &opts.consumeOptions)
	printer.stop = func() {}
	began := time.Now()
	err = t.run(ctx, func(e *worker.Entry) error {
		if printer.print(e.Delivery) != nil {
			return printer.failure()
		}
		return nil
	})
	if t.stats.Delivered > 0 || err == nil {
		opts.summarise(ctx, app, t.stats, time.Since(began))
	}
	return explainLog(explainConflict(err))
}

func (o *listenOptions) resources(s topology.Spec) topology.Resources {
	if o.group != "" {
		return s.GroupResources(o.topic, o.group)
	}
	return s.TopicResources(o.topic)
}

// filtering prints what a filter lets through.
type filtering struct {
	picker  *filter.Picker
	printer *printer
}

func (f *filtering) handle(_ context.Context, d *worker.Delivery) error {
	if !f.picker.Picks(d.Event, d.Headers) {
		return worker.ErrSkip
	}
	return f.printer.print(d)
}
