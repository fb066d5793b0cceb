package cmd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/command"
)

const replayLong = `Send again what has been: events from a topic's log (--topic) or from a file (--file), to a queue
(--into-queue), a topic (--into-topic) or a command (--exec).

The log is read and nothing is taken away from it. It is read up to the end that it has when the replay
begins, or from and to an offset, a time, or how long ago: --to itself is not sent. A file holds what
"evdemo record" or "evdemo dlq export" wrote, or events. --filter picks; see listen.

What is sent has the same id as it had, and a header evdemo-replayed with the time: whoever remembers
what was handled, as "work --dedup" does, takes it for a duplicate. --speed 1x keeps the distances in
time that the events had, 10x is ten times as fast; max, the default, does not wait.

--checkpoint NAME remembers how far the replay has come, in a file of that name in the state directory:
stopped and started again it goes on exactly there, also from where a log has grown since. After a
crash or a kill, up to a fifth of a second may be sent again, and after an event that did not get
through, what was under way behind it; nothing is left out. A checkpoint belongs to one source and one
target, and their broker, and is refused for a log that was made anew.

An event that does not get through, or for which the command fails, ends the replay and is named; the
checkpoint stays before it. --skip-failed names it and goes on. --exec runs one command at a time, for
which the same holds as in "evdemo work --exec", but that every exit code but 0 is a failure.

Broker: reads the log; publishes with confirms; declares what it publishes to if it is missing.

Exit codes: 0 all was sent, or as much as there was time for before SIGINT or SIGTERM: the report tells;
2 wrong usage, a bad filter or a bad file, nothing was sent; 3 some did not get through; 4 no broker; 1
anything else, as a topic that has no log.`

const replayExample = `  evdemo replay --topic orders --into-queue payments
  evdemo replay --topic orders --from 1h --filter 'data.amount > 5000' --into-queue payments
  evdemo replay --topic orders --from 2026-01-02T15:04:05Z --to now --exec 'jq .order_id'
  evdemo replay --topic orders --into-queue orders.email --checkpoint email-again
  evdemo replay --file examples/orders.jsonl --into-queue payments --speed 10x`

type replayOptions struct {
	spanOptions

	topic, file                string
	intoQueue, intoTopic, exec string
	execInput                  string
	shell                      bool
	timeout                    time.Duration
	filter                     string
	speedText                  string
	speed                      float64 // from speedText; 0: no waiting
	checkpoint                 string
	skipFailed                 bool
	drainTimeout               time.Duration
	noDeclare                  bool
	topology                   string
	output                     *output

	given func(flag string) bool
}

// newReplayCommand builds "replay". Tests pass run to look at what was parsed.
func newReplayCommand(app *App, run func(context.Context, *App, *replayOptions) error) *cobra.Command {
	if run == nil {
		run = runReplay
	}
	opts := &replayOptions{}
	cmd := &cobra.Command{
		Use:     "replay (--topic TOPIC | --file FILE) (--into-queue QUEUE | --into-topic TOPIC | --exec COMMAND)",
		Short:   "Send again what a topic's log or a file holds",
		Long:    replayLong,
		Example: replayExample,
		Args:    requireNoArgs("topic"),
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

func (o *replayOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.topic, "topic", "", "topic whose log is replayed")
	flags.StringVar(&o.file, "file", "", "file that is replayed; - is standard input")
	o.addFromFlag(flags, "where in the log to begin (default: first)")
	o.addToFlag(flags, "where in the log to end (default: now)")
	flags.StringVar(&o.filter, "filter", "", "send only events for which this expression holds; see listen")
	flags.StringVar(&o.intoQueue, "into-queue", "", "queue to send to")
	flags.StringVar(&o.intoTopic, "into-topic", "", "topic to send to")
	flags.StringVar(&o.exec, "exec", "", "command to run for each event, with its arguments")
	flags.StringVar(&o.execInput, "exec-input", string(command.InputData), "what the command gets on standard input: data or cloudevent")
	flags.BoolVar(&o.shell, "shell", false, "run --exec by sh -c")
	flags.DurationVar(&o.timeout, "timeout", 0, "how long the command may take for one event (0: no limit)")
	flags.StringVar(&o.speedText, "speed", "max", "pace: 1x as it was, 10x ten times as fast, max without waiting")
	flags.StringVar(&o.checkpoint, "checkpoint", "", "name under which to remember how far it has come")
	flags.BoolVar(&o.skipFailed, "skip-failed", false, "go on after an event that did not get through")
	flags.DurationVar(&o.drainTimeout, "drain-timeout", worker.DefaultDrainTimeout, "after an interrupt, how long to wait for outcomes")
	flags.BoolVar(&o.noDeclare, "no-declare", false, "send to what is there; declare nothing")
	flags.StringVar(&o.topology, "topology", "", "topology file that says how to declare (default: the built-in topology)")
	o.output = outputFlag(flags, "table", "json")
}

func (o *replayOptions) check() error {
	if err := o.checkPlaces(); err != nil {
		return err
	}
	switch {
	case o.execInput != string(command.InputData) && o.execInput != string(command.InputCloudEvent):
		return fmt.Errorf("--exec-input %q: want %s or %s", o.execInput, command.InputData, command.InputCloudEvent)
	case o.timeout < 0 || o.drainTimeout < 0:
		return errors.New("a timeout is negative")
	case o.given("checkpoint") && o.checkpoint == "":
		return errors.New("--checkpoint is empty: want a name")
	case o.given("from") && o.from == "", o.given("to") && o.to == "":
		return errors.New("--from or --to is empty: want a place in the log")
	case o.checkpoint != "" && o.file == "-":
		return errors.New("--checkpoint goes with what can be read again, not with standard input")
	}
	var err error
	if o.speed, err = parseSpeed(o.speedText); err != nil {
		return err
	}
	return o.spanOptions.check()
}

// checkPlaces checks where from and where to.
func (o *replayOptions) checkPlaces() error {
	targets := 0
	for _, target := range []string{o.intoQueue, o.intoTopic, strings.TrimSpace(o.exec)} {
		if target != "" {
			targets++
		}
	}
	switch {
	case (o.topic == "") == (o.file == ""):
		return errors.New("say what to replay: --topic orders or --file orders.jsonl")
	case targets != 1:
		return errors.New("say where to: one of --into-queue payments, --into-topic orders and --exec 'CMD'")
	case o.file != "" && (o.from != "" || o.to != ""):
		return errors.New("--from and --to go with --topic")
	case o.exec == "" && (o.given("exec-input") || o.shell || o.given("timeout")):
		return errors.New("--exec-input, --shell and --timeout go with --exec")
	case o.topic != "" && o.intoTopic == o.topic:
		return fmt.Errorf("--into-topic %s would write everything into the log that it is read from; send it to the queue that is to have it, as in --into-queue %s, or to another topic",
			o.topic, topology.GroupQueue(o.topic, "email"))
	case o.topic != "" && o.intoQueue == topology.LogStream(o.topic):
		return fmt.Errorf("--into-queue %s is the log that it is read from", o.intoQueue)
	}
	return errors.Join(checkBrokerName("topic", topology.LogStream(o.topic)),
		checkBrokerName("into-queue", o.intoQueue), checkBrokerName("into-topic", o.intoTopic))
}

func parseSpeed(text string) (float64, error) {
	if text == "max" {
		return 0, nil
	}
	number, ok := strings.CutSuffix(text, "x")
	speed, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(speed > 0) || math.IsInf(speed, 0) {
		return 0, fmt.Errorf("--speed %.40q: want a factor such as 1x, 10x or 0.5x, or max", text)
	}
	return speed, nil
}

// source names what is replayed, for the checkpoint: a topic on a broker, or a file by its path and its first
// line.
func (o *replayOptions) source(app *App) (string, error) {
	if o.topic != "" {
		on, err := app.brokerName()
		return "topic " + o.topic + " on " + on, err
	}
	path, err := filepath.Abs(o.file)
	if err != nil {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	line, err := bufio.NewReader(f).ReadBytes('\n')
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return fmt.Sprintf("file %s that begins with line %.8x", path, sha256.Sum256(bytes.TrimSpace(line))), err
}

// target names where it goes, for the checkpoint.
func (o *replayOptions) target(app *App) (string, error) {
	if o.exec != "" {
		return "to command " + o.exec, nil
	}
	on, err := app.brokerName()
	if o.intoQueue != "" {
		return "into queue " + o.intoQueue + " on " + on, err
	}
	return "into topic " + o.intoTopic + " on " + on, err
}

// brokerName tells brokers apart: the hosts with their virtual hosts, and no passwords.
func (a *App) brokerName() (string, error) {
	broker, err := a.broker()
	if err != nil {
		return "", err
	}
	var names []string
	for _, address := range broker.URLs {
		if u, err := url.Parse(address); err == nil {
			names = append(names, brokerAddress(u))
		}
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", "), nil
}

// brokerAddress writes an address as others that mean the same.
func brokerAddress(u *url.URL) string {
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if host == "localhost" {
		host = "127.0.0.1"
	}
	switch {
	case port != "":
	case u.Scheme == "amqps":
		port = "5671"
	default:
		port = "5672"
	}
	return net.JoinHostPort(host, port) + "/" + strings.Trim(u.Path, "/")
}

func (o *replayOptions) destination() publisher.Destination {
	if o.intoQueue != "" {
		return publisher.ToQueue(o.intoQueue)
	}
	return publisher.ToTopic(o.intoTopic)
}
