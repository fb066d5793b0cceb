package cmd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/internal/causality"
	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
)

const traceLong = `Show everything that an event caused, across all topics, as a tree: type, subject, source, topics, id
and the time since the root.

ID is an event's id or a correlation id. The events come from the logs of the topics that the topology
says have one, or of those that --topic names. What has the same correlation id belongs together, and
so does what causationid or parentid link. An event that is in several topics, or was replayed, is
shown once, with all its topics and the number of its copies.

Broker: reads logs and takes nothing away. Each is read at least twice: once to find what belongs
together, and again until nothing more is found.

Exit codes: 0 found; 2 wrong usage; 4 no broker; 1 anything else, as when nothing was found: a log keeps
its events only for so long, see "evdemo topology show".`

const traceExample = `  evdemo trace 0197a3b4-5c6d-7e8f-9a0b-1c2d3e4f5a6b
  evdemo trace 0197a3b4-5c6d-7e8f-9a0b-1c2d3e4f5a6b --topic orders --from 1h -o json
  evdemo trace 0197a3b4-5c6d-7e8f-9a0b-1c2d3e4f5a6b -o mermaid`

// tracePasses bounds how often the logs are read: each pass finds at least one more event.
const tracePasses = 10

type traceOptions struct {
	spanOptions

	id       string
	topics   []string
	topology string
	output   *output
}

// newTraceCommand builds "trace". Tests pass run to look at what was parsed.
func newTraceCommand(app *App, run func(context.Context, *App, *traceOptions) error) *cobra.Command {
	if run == nil {
		run = runTrace
	}
	opts := &traceOptions{}
	cmd := &cobra.Command{
		Use:     "trace ID",
		Short:   "Show what an event caused, across all topics",
		Long:    traceLong,
		Example: traceExample,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := opts.check(args); err != nil {
				return usageError(err)
			}
			return run(cmd.Context(), app, opts)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&opts.topics, "topic", nil, "topic to look in; may be repeated (default: all that have a log in the topology)")
	opts.addFromFlag(flags, "where in the logs to begin (default: first)")
	flags.StringVar(&opts.topology, "topology", "", "topology file with the topics (default: the built-in topology)")
	opts.output = outputFlag(flags, "table", "json", "mermaid", "dot")
	return cmd
}

func (o *traceOptions) check(args []string) error {
	if len(args) != 1 || strings.TrimSpace(args[0]) == "" {
		return errors.New("say what to trace: one event id or correlation id")
	}
	o.id = args[0]
	for _, topic := range o.topics {
		if topic == "" {
			return errors.New("--topic is empty: want a topic")
		}
		if err := checkBrokerName("topic", topology.LogStream(topic)); err != nil {
			return err
		}
	}
	return o.spanOptions.check()
}

func runTrace(ctx context.Context, app *App, opts *traceOptions) error {
	topics, err := opts.logged(app)
	if err != nil {
		return err
	}
	flow, topics, err := opts.find(ctx, app, topics)
	if err != nil {
		return err
	}
	if flow.Len() == 0 {
		return fmt.Errorf("no event has the id or the correlation id %s in the logs of %s; a log keeps its events only for so long",
			printable(opts.id, widestText), printable(strings.Join(topics, ", "), 10*widestText))
	}
	trees := flow.Trees()
	switch opts.output.value {
	case "json":
		return writeJSON(app.Out, trees)
	case "mermaid":
		return causality.WriteMermaid(app.Out, trees)
	case "dot":
		return causality.WriteDOT(app.Out, trees)
	default:
		return causality.WriteTree(app.Out, trees)
	}
}

// logged are the topics to look in.
func (o *traceOptions) logged(app *App) ([]string, error) {
	if len(o.topics) > 0 {
		slices.Sort(o.topics)
		return slices.Compact(o.topics), nil
	}
	spec, err := app.loadSpec(o.topology)
	if err != nil {
		return nil, err
	}
	topics := slices.DeleteFunc(slices.Sorted(maps.Keys(spec.Topics)), func(topic string) bool { return spec.Topics[topic].Log == nil })
	if len(topics) == 0 {
		return nil, usageErrorf(`the topology has no topic with a log: give it "log: true", or name topics with --topic`)
	}
	return topics, nil
}

// find reads the logs until nothing more is found, and gives those topics that have one.
func (o *traceOptions) find(ctx context.Context, app *App, topics []string) (*causality.Flow, []string, error) {
	flow := causality.NewFlow(o.id)
	for pass := range tracePasses {
		missing, err := o.read(ctx, app, flow, topics)
		if err != nil {
			return nil, nil, err
		}
		if pass == 0 {
			for _, topic := range missing {
				fmt.Fprintf(app.Err, "topic %s has no log; not looked in\n", printable(topic, widestText))
			}
			topics = slices.DeleteFunc(topics, func(topic string) bool { return slices.Contains(missing, topic) })
			if len(topics) == 0 {
				return nil, nil, fmt.Errorf(`none of the topics has a log: give them one with "log: true" in the topology file, and "evdemo topology apply"`)
			}
		}
		if ctx.Err() != nil {
			return nil, nil, errors.New("interrupted before everything was read")
		}
		if !flow.Again() {
			return flow, topics, nil
		}
	}
	app.Logger().Warn("the flow has many parts; not all of them may have been found", "passes", tracePasses)
	return flow, topics, nil
}

// traced is an event on its way from a log to the flow.
type traced struct {
	topic string
	entry *worker.Entry
}

// read shows all logs to the flow, and gives the topics that have none.
func (o *traceOptions) read(ctx context.Context, app *App, flow *causality.Flow, topics []string) (missing []string, err error) {
	entries := make(chan traced, 100)
	none := make(chan string, len(topics))
	group, reading := errgroup.WithContext(ctx)
	for _, topic := range topics {
		config, err := app.logConfig(topic, "trace")
		if err != nil {
			return nil, err
		}
		config.From = o.start
		group.Go(func() error {
			err := worker.ReadLog(reading, config, func(ctx context.Context, e *worker.Entry) error {
				select {
				case entries <- traced{topic, e}:
				case <-ctx.Done():
				}
				return nil
			})
			if errors.Is(err, worker.ErrNoLog) {
				none <- topic
				return nil
			}
			return explainLog(err)
		})
	}
	go func() { // ends with the readers, whose end is waited for below
		_ = group.Wait()
		close(entries)
	}()
	for e := range entries {
		flow.Add(e.topic, e.entry.Offset, e.entry.Event)
	}
	close(none)
	for topic := range none {
		missing = append(missing, topic)
	}
	slices.Sort(missing)
	return missing, group.Wait()
}
