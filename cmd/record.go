package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/internal/feed"
	"github.com/evdemo/evdemo/internal/filter"
	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
)

const recordLong = `Write a topic's events down, as JSONL on standard output, with headers and times.

The events come from the topic's log: from now on, or from a place in it (--from), and on until SIGINT
or SIGTERM, --count or --idle-timeout; with --to, to that place, or to the end that the log has now.
Each line is a whole message: the event, the message's own headers, where it was published to, and when.
"evdemo replay --file" sends it again, at the pace at which it came if that is wanted, and "evdemo
publish --file" as well. A message that is no event is written as it is.

When the connection is lost, recording goes on where it was: no event is missing and none is there
twice. What the log itself has dropped meanwhile is said.

Broker: reads the log and takes nothing away; declares the topic with its log if they are missing.

Exit codes: 0 done, also after SIGINT or SIGTERM; 2 wrong usage or a bad filter; 4 no broker; 1 anything
else, as a topic that has no log.`

const recordExample = `  evdemo record --topic orders > orders.jsonl
  evdemo record --topic orders --from 1h --to now > last-hour.jsonl
  evdemo record --topic orders --from first --to now --filter 'type == "order.created"' > created.jsonl`

type recordOptions struct {
	spanOptions

	topic, filter string
	count         int
	idleTimeout   time.Duration
	noDeclare     bool
	topology      string
}

// newRecordCommand builds "record". Tests pass run to look at what was parsed.
func newRecordCommand(app *App, run func(context.Context, *App, *recordOptions) error) *cobra.Command {
	if run == nil {
		run = runRecord
	}
	opts := &recordOptions{}
	cmd := &cobra.Command{
		Use:     "record --topic TOPIC",
		Short:   "Write a topic's events down, to be replayed",
		Long:    recordLong,
		Example: recordExample,
		Args:    requireNoArgs("topic"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opts.check(); err != nil {
				return usageError(err)
			}
			return run(cmd.Context(), app, opts)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.topic, "topic", "", "topic to record (required)")
	opts.addFromFlag(flags, "where to begin (default: next)")
	opts.addToFlag(flags, "where to end (default: never)")
	flags.StringVar(&opts.filter, "filter", "", "record only events for which this expression holds; see listen")
	flags.IntVar(&opts.count, "count", 0, "stop after so many events (0: no limit)")
	flags.DurationVar(&opts.idleTimeout, "idle-timeout", 0, "stop when no event has come for so long (0: never)")
	flags.BoolVar(&opts.noDeclare, "no-declare", false, "declare nothing")
	flags.StringVar(&opts.topology, "topology", "", "topology file that says how to declare (default: the built-in topology)")
	return cmd
}

func (o *recordOptions) check() error {
	switch {
	case o.topic == "":
		return errors.New("say which topic: --topic orders")
	case o.count < 0:
		return fmt.Errorf("--count %d: want 0 or more", o.count)
	case o.idleTimeout < 0:
		return fmt.Errorf("--idle-timeout %v: want 0 or more", o.idleTimeout)
	}
	if err := checkBrokerName("topic", topology.LogStream(o.topic)); err != nil {
		return err
	}
	if err := o.spanOptions.check(); err != nil {
		return err
	}
	if o.from == "" {
		o.start = worker.LogNext()
	}
	return nil
}

func runRecord(ctx context.Context, app *App, opts *recordOptions) error {
	matches, err := filter.Compile(opts.filter)
	if err != nil {
		return usageError(err)
	}
	t := &tail{picker: filter.NewPicker(matches, app.Logger()), count: opts.count, idle: opts.idleTimeout}
	if t.config, err = app.logConfig(opts.topic, "record"); err != nil {
		return err
	}
	if !opts.noDeclare {
		spec, err := app.loadSpec(opts.topology)
		if err != nil {
			return err
		}
		t.config.Declare = spec.TopicResources(opts.topic)
	}
	t.config.From, t.config.To, t.config.Follow = opts.start, opts.end, opts.to == ""
	var line []byte
	err = t.run(ctx, func(e *worker.Entry) error {
		line, err = writeEntry(app.Out, line, e)
		return err
	})
	fmt.Fprintf(app.Err, "recorded %s events of topic %s", thousands(t.stats.Handled), printable(opts.topic, widestText))
	if t.stats.Skipped > 0 {
		fmt.Fprintf(app.Err, ", filtered out %s", thousands(t.stats.Skipped))
	}
	fmt.Fprintln(app.Err)
	return explainLog(explainConflict(err))
}

// writeEntry writes an entry as one line, which is with the system when it returns. The line's memory is
// used again.
func writeEntry(w io.Writer, line []byte, e *worker.Entry) ([]byte, error) {
	at := e.Time()
	if at.IsZero() {
		at = time.Now()
	}
	line, err := feed.AppendRecord(line[:0], feed.Record{Message: e.Message(), At: at})
	if err != nil {
		return line, fmt.Errorf("record event %s: %w", printable(e.Event.ID, widestText), err)
	}
	line = append(line, '\n')
	if _, err = w.Write(line); err != nil {
		return line, fmt.Errorf("write to standard output: %w", err)
	}
	return line, nil
}
