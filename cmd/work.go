package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/evdemo/evdemo/internal/pglink"
	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox"
)

const workLong = `Compete for the events of a queue: each goes to one of its workers.

Without --exec or --http the built-in handler prints one line per event and simulates work (--latency,
--fail-rate).

--exec runs a command for each event: data on standard input (--exec-input cloudevent: the whole event
in JSON), attributes in the environment: EVDEMO_ID, EVDEMO_SOURCE, EVDEMO_TYPE, EVDEMO_SUBJECT,
EVDEMO_TIME, EVDEMO_DATACONTENTTYPE, EVDEMO_DATASCHEMA, EVDEMO_ATTEMPT, EVDEMO_REDELIVERED,
EVDEMO_QUEUE, EVDEMO_REPLAYED, EVDEMO_EXT_NAME, EVDEMO_HEADER_NAME, TRACEPARENT. It is split into words
as a shell would, and run without one unless --shell is given. Its exit code decides: 0 done; 65
dead-letter now; anything else retry. Its output is passed on (with -q, only its standard error). --http
posts each event to a URL in the CloudEvents HTTP binding: 2xx done; 429 and 503 retry, and honour
Retry-After; other 4xx dead-letter now; anything else retry. --sign-secret-file signs the requests as
Standard Webhooks do.

An event is acknowledged after it was handled; if the worker dies before, the broker gives it to another
one. A failed event, also one that took longer than --timeout, waits in a retry tier (--retry) and comes
again, after between half and all of the delay. After --max-attempts, or at once where trying again does
not help, it goes to the queue's dead-letter queue, with the reason in its headers: see "evdemo dlq". So
does a message that is no event, unless --accept-raw is given. An event that kills its worker every time
gets there after 20 deliveries.

--schema DIR checks each event whose type has a schema there: one that does not adhere to it is
dead-lettered with the reason invalid. --schema-version TYPE=N names the version that the handler
understands. Events of newer versions go to it where the schemas are compatible, see "evdemo schema
diff", and are dead-lettered with the reason version where they are not. Older versions must be
compatible, each with the next: where one is not, that is said at start.

--dedup FILE remembers in a SQLite database which events have been handled, --dedup postgres://user@host/name
in one that workers on several machines share, "--dedup memory" in this process, up to 100,000 of them for
an hour. A duplicate is acknowledged and not handled. What a killed worker had in hand waits until its
--dedup-lease in the file has run out. A password that is not in the URL comes from PGPASSWORD or ~/.pgpass.

--ordered-by subject keeps the events of one subject in order while those of others go on, up to
--concurrency at a time. A failed one is tried again in its place. Across workers a queue with
"single-active: true" in the topology keeps the order. --causal FILE holds an event back until its parent
(parentid) has been handled: it is kept in the file, sent to its queue again then, and dead-lettered with
the reason orphan after --causal-wait. Workers with one --causal-group and one file are in order together.
In place of FILE, postgres://user@host/name is for workers on several machines.

The queue, its retry tiers and its dead-letter queue are declared if they are missing. One that exists
with other arguments is an error that names them; --no-declare consumes it as it is.

Exit codes: 0 done, also after SIGINT or SIGTERM; 2 wrong usage, a command that cannot be run, a file
that cannot be used; 3 events in hand did not finish within --drain-timeout, they are delivered again; 4
no broker, or no database; 1 anything else. Events that were retried or dead-lettered are in the summary
and change nothing about that.`

const workExample = `  evdemo work --queue payments
  evdemo work --queue payments --latency 50ms --concurrency 4 --name alice
  evdemo work --queue payments --fail-rate 0.1 --retry 1s,5s,30s --max-attempts 5 --count 100
  evdemo work --queue payments --exec 'jq .order_id' --concurrency 4 --timeout 10s
  evdemo work --queue payments --exec 'jq -e .amount > /dev/null || exit 65' --shell
  evdemo work --queue payments --http http://localhost:8080/payments --timeout 5s
  evdemo work --queue payments --dedup handled.db --metrics-addr 127.0.0.1:9090
  evdemo work --queue payments --schema examples/schemas --schema-version order.created=1
  evdemo work --queue payments --ordered-by data.user_id --concurrency 8
  evdemo work --queue payments --causal shop.db --causal-group shop --causal-wait 1m
  evdemo work --queue payments --idle-timeout 2s -q -o json`

type workOptions struct {
	consumeOptions
	handlerOptions
	readOptions
	orderOptions

	queue       string
	concurrency int
	retry       string
	schedule    []time.Duration // from retry; nil where it is not given
	maxAttempts int
	timeout     time.Duration
	acceptRaw   bool
	dedup       string
	dedupLease  time.Duration
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
			opts.given = cmd.Flags().Changed
			if err := opts.check(); err != nil {
				return usageError(err)
			}
			return run(cmd.Context(), app, opts)
		},
	}
	opts.addFlags(cmd.Flags())
	return cmd
}

func (o *workOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.queue, "queue", "", "queue to work on (required)")
	flags.IntVar(&o.concurrency, "concurrency", 1, "how many events to handle at a time")
	flags.StringVar(&o.retry, "retry", "", "delays before further attempts, the last one for all that follow, or none (default: the topology's, 1s,5s,30s)")
	flags.IntVar(&o.maxAttempts, "max-attempts", 0, "attempts at an event before it is dead-lettered (default: the topology's, 5)")
	flags.DurationVar(&o.timeout, "timeout", 0, "how long one attempt may take (0: no limit; --http: 30s)")
	flags.BoolVar(&o.acceptRaw, "accept-raw", false, "handle messages that are no events too, instead of dead-lettering them")
	flags.StringVar(&o.dedup, "dedup", "", "handle each event once: a SQLite file that remembers which were handled, or postgres://user@host/name, or memory")
	flags.DurationVar(&o.dedupLease, "dedup-lease", inbox.DefaultLease, "how long a worker of the --dedup file that shows no life keeps others waiting for what it had in hand")
	o.orderOptions.addFlags(flags)
	o.readOptions.addFlags(flags)
	o.handlerOptions.addFlags(flags)
	o.consumeOptions.addFlags(flags)
}

func (o *workOptions) check() error {
	switch {
	case o.queue == "":
		return errors.New("say which queue: --queue payments")
	case o.concurrency < 1:
		return fmt.Errorf("--concurrency %d: want at least 1", o.concurrency)
	case o.maxAttempts < 0 || o.maxAttempts == 0 && o.given("max-attempts"):
		return fmt.Errorf("--max-attempts %d: want at least 1", o.maxAttempts)
	case o.given("schema") && o.schemas == "":
		return errEmptySchema
	case o.given("dedup") && o.dedup == "":
		return errors.New("--dedup is empty: want a file, postgres://user@host/name, or memory")
	case o.given("dedup-lease") && (o.dedup == "" || o.dedup == "memory" || pglink.IsURL(o.dedup)):
		return errors.New("--dedup-lease is for workers that share a file: add --dedup FILE")
	case o.dedupLease < inbox.MinLease:
		return fmt.Errorf("--dedup-lease %v: want at least %v", o.dedupLease, inbox.MinLease)
	case o.timeout < 0:
		return fmt.Errorf("--timeout %v: want 0 or more", o.timeout)
	}
	var err error
	if o.schedule, err = parseSchedule(o.retry); err != nil {
		return err
	}
	if err := checkBrokerName("queue", o.queue); err != nil {
		return err
	}
	return errors.Join(checkInbox("--dedup", o.dedup), o.orderOptions.check(o.given), o.readOptions.check(), o.handlerOptions.check(), o.consumeOptions.check())
}

func runWork(ctx context.Context, app *App, opts *workOptions) error {
	config, err := opts.workerConfig(app)
	if err != nil {
		return err
	}
	printer := newPrinter(app, &opts.consumeOptions)
	handler, closeHandler, err := opts.handler(app, printer, opts.concurrency)
	if err != nil {
		return usageError(err)
	}
	defer closeHandler()
	store, closeStore, err := openDedup(ctx, app, opts.dedup, opts.dedupLease)
	if err != nil {
		return err
	}
	defer func() {
		if err := closeStore(); err != nil {
			app.Logger().Error("close --dedup", "error", err)
		}
	}()
	gate, closeGate, err := opts.gate(ctx, app)
	if err != nil {
		return err
	}
	defer func() {
		if err := closeGate(); err != nil {
			app.Logger().Error("close --causal", "error", err)
		}
	}()
	if config.Gate = gate; gate != nil {
		group := cmp.Or(gate.Group, opts.queue)
		opts.holding = func(ctx context.Context) (int, error) { return gate.Store.Holding(ctx, group) }
	}
	reader, err := opts.reader()
	if err != nil {
		return usageError(err)
	}
	var around []worker.Middleware
	if reader != nil {
		around = append(around, worker.Schemas(reader))
	}
	if store != nil {
		around = append(around, worker.Dedup(store))
	}
	if opts.timeout > 0 {
		around = append(around, worker.Timeout(opts.timeout))
	}
	return opts.run(ctx, app, config, printer, worker.Wrap(handler, around...))
}

// workerConfig puts together what the flags and the topology say.
func (o *workOptions) workerConfig(app *App) (worker.Config, error) {
	config, err := o.config(app, "work")
	if err != nil {
		return config, err
	}
	spec, err := app.loadSpec(o.topology)
	if err != nil {
		return config, err
	}
	spec = o.policy(spec)
	queue := spec.Queue(o.queue)
	config.Queue, config.Concurrency = o.queue, o.concurrency
	config.Retry, config.MaxAttempts, config.AcceptRaw = queue.Retry, queue.MaxAttempts, o.acceptRaw
	config.Name = o.name
	if config.OrderedBy, err = orderKey(o.orderedBy); err != nil {
		return config, usageError(err)
	}
	if !o.noDeclare {
		config.Declare = spec.QueueResources(o.queue)
	}
	if config.Prefetch == 0 {
		switch {
		case o.exec != "" || o.http != "": // they may take no longer than an acknowledgement
			config.Prefetch = min(8*o.concurrency, maxPrefetch)
		case o.latency > 0:
			config.Prefetch = min(2*o.concurrency, maxPrefetch)
		default:
			config.Prefetch = min(max(fastPrefetch, 2*o.concurrency), maxPrefetch)
		}
	}
	return config, nil
}

// policy gives the topology with the retry policy of the flags.
func (o *workOptions) policy(spec topology.Spec) topology.Spec {
	queue := spec.Queue(o.queue)
	if o.schedule != nil {
		queue.Retry = o.schedule
	}
	if o.maxAttempts > 0 {
		queue.MaxAttempts = o.maxAttempts
	}
	spec.Queues = maps.Clone(spec.Queues)
	if spec.Queues == nil {
		spec.Queues = map[string]topology.Queue{}
	}
	spec.Queues[o.queue] = queue
	return spec
}
