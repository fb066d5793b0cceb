package cmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/internal/localbroker"
	"github.com/evdemo/evdemo/internal/management"
	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
)

const dlqListLong = `List the dead-letter queues that hold any letters: how many, since when, and why.

Every queue whose name ends in .dlq is looked into. Which there are is asked of RabbitMQ's management
API (--management-url; by default port 15672 of the broker's host). Where that does not answer, they are
the topology's, and standard error says so. With QUEUE, only those are looked into.

Each letter is looked at and left where it is. Broker: reads the queues.

Exit codes: 0 listed, also where there are none; 2 wrong usage; 4 no broker; 1 anything else.`

const dlqListExample = `  evdemo dlq list
  evdemo dlq list payments -o json`

// topReasons is how many reasons the table names.
const topReasons = 3

type dlqListOptions struct {
	queues        []string
	managementURL string
	topology      string
	output        *output
}

// deadLetterQueue is what is found in one queue.
type deadLetterQueue struct {
	Queue   string                `json:"queue"`
	Letters int                   `json:"letters"`
	Oldest  time.Time             `json:"oldest,omitzero"`
	Reasons map[worker.Reason]int `json:"reasons"`
}

// newDLQListCommand builds "dlq list". Tests pass run to look at what was parsed.
func newDLQListCommand(app *App, run func(context.Context, *App, *dlqListOptions) error) *cobra.Command {
	if run == nil {
		run = runDLQList
	}
	opts := &dlqListOptions{}
	cmd := &cobra.Command{
		Use:     "list [QUEUE ...]",
		Short:   "List the queues with dead letters: count, oldest, top reasons",
		Long:    dlqListLong,
		Example: dlqListExample,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.queues = args
			return run(cmd.Context(), app, opts)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.managementURL, "management-url", "", "management API: http://user:password@host:15672")
	flags.StringVar(&opts.topology, "topology", "", "topology file that names the queues where the management API does not answer")
	opts.output = outputFlag(flags, "table", "json")
	return cmd
}

func runDLQList(ctx context.Context, app *App, opts *dlqListOptions) error {
	queues, named, err := opts.names(ctx, app)
	if err != nil {
		return err
	}
	found := []deadLetterQueue{}
	for _, queue := range queues {
		q, err := app.examine(ctx, queue)
		switch {
		case errors.Is(err, worker.ErrQueueGone) && !named:
			continue
		case err != nil:
			return err
		case q.Letters > 0:
			found = append(found, q)
		}
	}
	if opts.output.json() {
		return writeJSON(app.Out, found)
	}
	if len(found) == 0 {
		_, err := fmt.Fprintln(app.Out, "no dead letters")
		return err
	}
	t := newTable(app.Out, "queue", "letters", "oldest", "reasons")
	for _, q := range found {
		t.AppendRow(table.Row{q.Queue, thousands(int64(q.Letters)), stamp(q.Oldest), q.top()})
	}
	t.Render()
	return nil
}

// names gives the dead-letter queues to look into, and whether somebody has named them.
func (o *dlqListOptions) names(ctx context.Context, app *App) (queues []string, named bool, err error) {
	for _, name := range o.queues {
		letters := selectOptions{}
		if err := letters.check([]string{name}, false); err != nil {
			return nil, false, usageError(err)
		}
		if !slices.Contains(queues, letters.queue) {
			queues = append(queues, letters.queue)
		}
	}
	if len(queues) > 0 {
		return queues, true, nil
	}
	broker, err := app.broker()
	if err != nil {
		return nil, false, err
	}
	api := o.managementURL
	if api == "" {
		api = app.managementURL(broker.URLs[0])
	}
	queues, err = management.Queues(ctx, api, session.VirtualHost(broker.URLs[0]), topology.DeadLetterQueue(""))
	switch {
	case err == nil:
		slices.Sort(queues)
		return queues, false, nil
	case o.managementURL != "":
		return nil, false, err
	}
	spec, specErr := app.loadSpec(o.topology)
	if specErr != nil {
		return nil, false, specErr
	}
	app.Logger().Warn("only the dead-letter queues of the topology are looked into; --management-url tells where to ask for all", slog.Any("error", err))
	for _, q := range spec.Resources().Queues {
		if q.Role == topology.RoleDeadLetter {
			queues = append(queues, q.Name)
		}
	}
	slices.Sort(queues)
	return queues, false, nil
}

// managementURL is where the broker's management API may be.
func (a *App) managementURL(broker string) string {
	if dir, err := localbroker.StateDir(a.LookupEnv); err == nil {
		if node, err := localbroker.Running(dir); err == nil && node.URL() == broker {
			return strings.Replace(node.ManagementURL(), "://", "://guest:guest@", 1)
		}
	}
	return management.URLOf(broker)
}

// examine looks at every letter of a queue.
func (a *App) examine(ctx context.Context, queue string) (deadLetterQueue, error) {
	q := deadLetterQueue{Queue: queue, Reasons: map[worker.Reason]int{}}
	account, err := a.visit(ctx, queue, nil, func(l *worker.Letter) (worker.Action, error) {
		q.Reasons[l.Failure.Reason]++
		if at := l.Failure.Last; !at.IsZero() && (q.Oldest.IsZero() || at.Before(q.Oldest)) {
			q.Oldest = at
		}
		return worker.Keep(), nil
	})
	q.Letters = account.Total
	return q, err
}

// top names the most frequent reasons.
func (q deadLetterQueue) top() string {
	reasons := slices.SortedFunc(maps.Keys(q.Reasons), func(a, b worker.Reason) int {
		if n := q.Reasons[b] - q.Reasons[a]; n != 0 {
			return n
		}
		return strings.Compare(string(a), string(b))
	})
	var parts []string
	for i, reason := range reasons {
		if i == topReasons {
			parts = append(parts, "…")
			break
		}
		parts = append(parts, fmt.Sprintf("%s %s", known(reason), thousands(int64(q.Reasons[reason]))))
	}
	return strings.Join(parts, ", ")
}

// known names a reason, also where a letter gives none.
func known(reason worker.Reason) string {
	if reason == "" {
		return "unknown"
	}
	return printable(string(reason), 40)
}

// stamp is a moment for people.
func stamp(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return at.Local().Format("2006-01-02 15:04:05")
}
