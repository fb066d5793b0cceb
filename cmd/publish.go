package cmd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/internal/orders"
	"github.com/evdemo/evdemo/publisher"
)

const (
	defaultTopic = "orders"
	maxWindow    = 1 << 20 // the publisher's own limit
)

const publishLong = `Publish events to a topic, to a queue, or to any exchange.

Without further flags one made-up order.created goes to the topic orders. --data sends an event with
the data given, --file sends one event per line (JSONL): CloudEvents JSON; or the names event_id, type,
data, timestamp and source; or, with --type, bare data. Every line is checked before the first is
sent; --stream sends as it reads, and names and skips what is no event. Where input is piped and none
of --data, --file, --count and --type is given, it is read like --file -.

A line may also be a record, a whole message as dlq export writes it: {"event": CLOUDEVENT} or {"raw":
MESSAGE}, with "headers", "exchange" and "routing_key". It goes where it says, unless --topic, --queue
or --raw-exchange is given; what it names is not declared, and it is returned where that is missing.

--schema DIR checks events whose type has a schema there, see "evdemo schema". A fault is named with its
line, the JSON Pointer to the value and the rule that it breaks, and nothing is sent. A raw message is no
event, and is not checked.

Events are persistent, mandatory and confirmed. Each has an outcome: confirmed (the broker has it),
returned (no queue wanted it), nacked (the broker refused it) or unknown. After a lost connection what
is unconfirmed is sent again under the same id: it may arrive twice, and is never lost silently. Every
event that is not confirmed is named on standard error, and the exit code is 3 if there is any.

The topic or queue is declared if it is missing. Broker: writes to one exchange, and to those that
records name; exchanges, queues and bindings are only ever added.

Exit codes: 0 every event confirmed; 2 wrong usage or invalid input, nothing was sent; 3 some events
were not confirmed; 4 no broker; 1 anything else.`

const publishExample = `  evdemo publish
  evdemo publish --count 1000 --rate 50
  evdemo publish --type user.created --data '{"user_id": 123}'
  evdemo publish --queue payments --file examples/orders.jsonl
  evdemo publish --topic orders --file examples/orders.jsonl -o json
  evdemo publish --topic orders --file examples/orders.jsonl --schema examples/schemas
  evdemo publish --queue payments --file examples/records.jsonl
  evdemo publish --count 3 --seed 1 --dry-run`

type publishOptions struct {
	operateOptions

	topic, queue            string
	rawExchange, routingKey string

	eventType, source, subject string
	data, contentType          string
	file                       string
	stream                     bool
	count                      int
	rate                       float64
	headers                    []string
	seed                       uint64

	schemaOptions

	noDeclare    bool
	topology     string
	window       int
	drainTimeout time.Duration
	dryRun       bool
	outcomes     string
	output       *output

	given  func(flag string) bool
	header map[string]any
}

// newPublishCommand builds "publish". Tests pass run to look at what was parsed.
func newPublishCommand(app *App, run func(context.Context, *App, *publishOptions) error) *cobra.Command {
	if run == nil {
		run = runPublish
	}
	opts := &publishOptions{}
	cmd := &cobra.Command{
		Use:     "publish",
		Short:   "Publish events and tell the outcome of each",
		Long:    publishLong,
		Example: publishExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.given = cmd.Flags().Changed
			if err := opts.check(); err != nil {
				return usageError(err)
			}
			return run(cmd.Context(), app, opts)
		},
	}
	opts.addFlags(cmd)
	return cmd
}

func (o *publishOptions) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.topic, "topic", defaultTopic, "topic to publish to; given, it goes before what records say")
	flags.StringVar(&o.queue, "queue", "", "queue to publish to, instead of a topic")
	flags.StringVar(&o.rawExchange, "raw-exchange", "", "exchange of any type to publish to, as it is, instead of a topic")
	flags.StringVar(&o.routingKey, "routing-key", "", "routing key for --raw-exchange")
	flags.StringVar(&o.eventType, "type", "", "type of events that do not say it themselves (made-up events: "+orders.Type+")")
	flags.StringVar(&o.source, "source", "", "source of events that do not say it themselves (default evdemo)")
	flags.StringVar(&o.subject, "subject", "", "subject of events that do not say it themselves")
	flags.StringVar(&o.data, "data", "", "data of the event: JSON, @FILE, or - for standard input")
	flags.StringVar(&o.contentType, "content-type", "", "content type of --data, which then need not be JSON")
	flags.StringVar(&o.file, "file", "", "JSONL file with one event or record per line, or - for standard input")
	flags.BoolVar(&o.stream, "stream", false, "send while reading --file instead of checking every line first")
	flags.IntVar(&o.count, "count", 1, "how many made-up events, or copies of --data, to send")
	flags.Float64Var(&o.rate, "rate", 0, "events per second at most (0: no limit)")
	flags.StringArrayVar(&o.headers, "header", nil, "message header NAME=VALUE, which goes before a record's own; may be repeated")
	flags.Uint64Var(&o.seed, "seed", 0, "seed of made-up events; the same seed makes the same data (default: a random one)")
	flags.BoolVar(&o.noDeclare, "no-declare", false, "do not declare the topic or queue")
	flags.StringVar(&o.topology, "topology", "", "topology file that says how to declare (default: the built-in topology)")
	flags.IntVar(&o.window, "window", publisher.DefaultWindow, "how many events may be unconfirmed at a time")
	flags.DurationVar(&o.drainTimeout, "drain-timeout", 10*time.Second, "after an interrupt, how long to wait for outcomes")
	flags.BoolVar(&o.dryRun, "dry-run", false, "print the events and records as JSONL instead of sending them")
	flags.StringVar(&o.outcomes, "outcomes", "", "write a JSON line with id and outcome for every event to this file")
	o.schemaOptions.addFlags(flags)
	o.operateOptions.addFlags(flags)
	o.output = outputFlag(flags, "table", "json")
}

// check finds combinations that make no sense.
func (o *publishOptions) check() error {
	if err := o.checkTarget(); err != nil {
		return err
	}
	if err := o.checkInput(); err != nil {
		return err
	}
	if o.given("schema") && o.schemas == "" {
		return errEmptySchema
	}
	var err error
	o.header, err = parseHeaders(o.headers)
	return err
}

func (o *publishOptions) checkTarget() error {
	switch {
	case o.targets() > 1:
		return fmt.Errorf("give one of --topic, --queue and --raw-exchange")
	case o.given("routing-key") && !o.given("raw-exchange"):
		return fmt.Errorf("--routing-key goes with --raw-exchange")
	case o.given("queue") && o.queue == "", !o.given("queue") && !o.given("raw-exchange") && o.topic == "":
		return fmt.Errorf("the name of the topic or queue is empty")
	}
	return errors.Join(checkBrokerName("topic", o.topic), checkBrokerName("queue", o.queue),
		checkBrokerName("raw-exchange", o.rawExchange), checkBrokerName("routing-key", o.routingKey))
}

func (o *publishOptions) checkInput() error {
	switch {
	case o.given("data") && o.given("file"):
		return fmt.Errorf("give --data or --file, not both")
	case o.given("file") && o.file == "":
		return fmt.Errorf("--file is empty: want a file, or - for standard input")
	case o.given("data") && o.eventType == "":
		return fmt.Errorf("an event needs a type: give --type with --data")
	case o.topology == "-" && (o.data == "-" || o.file == "-"):
		return fmt.Errorf("--topology and the events cannot both be standard input")
	case o.given("content-type") && !o.given("data"):
		return fmt.Errorf("--content-type goes with --data")
	case o.given("file") && o.given("count"):
		return fmt.Errorf("--count makes events or repeats --data; a --file has as many as it has lines")
	case o.stream && !o.given("file"):
		return fmt.Errorf("--stream goes with --file")
	case o.eventType != "" && o.eventType != orders.Type && !o.given("data") && !o.given("file"):
		return fmt.Errorf("only %s can be made up: give --data or --file with --type %s", orders.Type, o.eventType)
	case o.count < 1:
		return fmt.Errorf("--count %d: want at least 1", o.count)
	case !(o.rate >= 0) || math.IsInf(o.rate, 0): // also what is no number
		return fmt.Errorf("--rate %v: want 0 or more", o.rate)
	case o.window < 1 || o.window > maxWindow:
		return fmt.Errorf("--window %d: want 1 to %d", o.window, maxWindow)
	case o.drainTimeout < 0:
		return fmt.Errorf("--drain-timeout %v: want 0 or more", o.drainTimeout)
	}
	return nil
}

func parseHeaders(pairs []string) (map[string]any, error) {
	if len(pairs) == 0 {
		return nil, nil //nolint:nilnil // no headers is a result
	}
	headers := make(map[string]any, len(pairs))
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--header %q: want NAME=VALUE", pair)
		}
		if err := publisher.CheckHeaderName(name); err != nil {
			return nil, fmt.Errorf("--header %q: %w", pair, err)
		}
		headers[name] = value
	}
	return headers, nil
}

// targets is how many destinations were asked for. One goes before those that records name.
func (o *publishOptions) targets() int {
	targets := 0
	for _, flag := range []string{"topic", "queue", "raw-exchange"} {
		if o.given(flag) {
			targets++
		}
	}
	return targets
}

// to is where the events go.
func (o *publishOptions) to() publisher.Destination {
	switch {
	case o.given("raw-exchange"):
		return publisher.Destination{Exchange: o.rawExchange, RoutingKey: o.routingKey}
	case o.queue != "":
		return publisher.ToQueue(o.queue)
	default:
		return publisher.ToTopic(o.topic)
	}
}
