package cmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/evdemo/evdemo/internal/filter"
	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
)

const dlqLong = `Look into dead-letter queues, send dead letters back, export and discard them.

A dead letter is an event that was given up. It lies in the dead-letter queue of the queue that it
failed in (payments.dlq), and carries in its headers why and when, how often it was tried, and where it
came from.

QUEUE is the queue or its dead-letter queue: payments and payments.dlq mean the same. While one of these
commands runs, it holds the letters that it has looked at; they go back to their places when it ends.

--filter is an expression over the event, as for "evdemo listen", and over its failure: failure.reason,
.error, .attempts, .first_failure, .last_failure, .queue, .exchange, .routing_key, .worker, .exit_code,
.stderr, .redrives. The reasons are permanent, attempts, timeout, panic, invalid, version, orphan
and delivery-limit.`

func newDLQCommand(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dlq",
		Short: "List, show, redrive, export and discard dead letters",
		Long:  dlqLong,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newDLQListCommand(app, nil),
		newDLQShowCommand(app, nil),
		newDLQRedriveCommand(app, nil),
		newDLQDiscardCommand(app, nil),
		newDLQExportCommand(app, nil),
	)
	return cmd
}

// selectOptions say which letters of which queue are meant.
type selectOptions struct {
	queue  string // the dead-letter queue
	ids    []string
	filter string
	all    bool

	matches *filter.Filter
	missing map[string]bool // ids that were not met yet
}

// addFlags adds --filter and --id, and --all where something is done to the letters.
func (o *selectOptions) addFlags(flags *pflag.FlagSet, all bool) {
	flags.StringArrayVar(&o.ids, "id", nil, "only the letter with this event id; may be repeated")
	flags.StringVar(&o.filter, "filter", "", "only letters for which this expression holds")
	if all {
		flags.BoolVar(&o.all, "all", false, "every letter that is there now")
	}
}

// check takes the queue from the arguments. Where something is done to the letters it wants to be told
// which ones.
func (o *selectOptions) check(args []string, must bool) error {
	if len(args) != 1 || args[0] == "" {
		return errors.New("say which queue: evdemo dlq show payments")
	}
	o.queue = args[0]
	if topology.WorkQueue(o.queue) == "" {
		o.queue = topology.DeadLetterQueue(o.queue)
	}
	if err := checkBrokerName("queue", o.queue); err != nil {
		return err
	}
	given := 0
	for _, is := range []bool{len(o.ids) > 0, o.filter != "", o.all} {
		if is {
			given++
		}
	}
	if given > 1 || must && given == 0 {
		return errors.New("say which letters by one of --id, --filter and --all")
	}
	o.missing = map[string]bool{}
	for _, id := range o.ids {
		o.missing[id] = true
	}
	var err error
	o.matches, err = filter.Compile(o.filter)
	return err
}

// selected tells whether a letter is meant.
func (o *selectOptions) selected(l *worker.Letter) (bool, error) {
	if len(o.ids) > 0 {
		delete(o.missing, l.Event.ID)
		return slices.Contains(o.ids, l.Event.ID), nil
	}
	ok, err := o.matches.MatchFailed(l.Event, l.Headers, failureFields(l))
	if err != nil {
		return false, fmt.Errorf("--filter, at event %s: %w", printable(l.Event.ID, 100), err)
	}
	return ok, nil
}

// notFound is an error where a letter that was asked for by its id is not there.
func (o *selectOptions) notFound() error {
	if len(o.missing) == 0 {
		return nil
	}
	ids := make([]string, 0, len(o.missing))
	for id := range o.missing {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return &exitError{exitIncomplete, fmt.Errorf("not in %s: %s", o.queue, strings.Join(ids, ", "))}
}

// failureFields are what a filter sees of a failure.
func failureFields(l *worker.Letter) func() filter.Failure {
	return func() filter.Failure {
		f := l.Failure
		fields := filter.Failure{
			Reason: string(f.Reason), Error: f.Error, Attempts: f.Attempts, Redrives: f.Redrives,
			FirstFailure: f.First, LastFailure: f.Last, Worker: f.Worker, Stderr: f.Stderr,
			Queue: f.Queue, Exchange: f.Exchange, RoutingKey: f.RoutingKey,
		}
		if f.ExitCode != nil {
			fields.ExitCode = *f.ExitCode
		}
		return fields
	}
}

// visit walks through the letters of a queue, with a bar for a person who waits.
func (a *App) visit(ctx context.Context, queue string, failed func(*worker.Letter, error), decide func(*worker.Letter) (worker.Action, error)) (worker.Visited, error) {
	broker, err := a.broker()
	if err != nil {
		return worker.Visited{}, err
	}
	bar := a.progress(-1, "looked at")
	letters := worker.DeadLetters{
		URLs: broker.URLs, TLS: broker.TLS, ConnectionName: "evdemo dlq", ConnectTimeout: a.global.connectTimeout,
		Logger: a.Logger(), Failed: failed,
	}
	account, err := letters.Visit(ctx, queue, func(l *worker.Letter) (worker.Action, error) {
		if bar != nil {
			_ = bar.Add(1)
		}
		return decide(l)
	})
	if bar != nil {
		_ = bar.Finish()
	}
	if errors.Is(err, worker.ErrConnectionLost) {
		err = fmt.Errorf("%w\nWhat was not taken out is still there: run the command again. A letter that was being sent back may come twice", err)
	}
	if errors.Is(err, worker.ErrQueueGone) {
		err = fmt.Errorf("%w\n\"evdemo dlq list\" tells which dead-letter queues there are", err)
	}
	return account, err
}

// report prints the account of a visit that did something with letters, and gives the command's error.
func (o *selectOptions) report(app *App, output *output, account worker.Visited, what string, done int, err error) error {
	if account.Seen > 0 || err == nil {
		if output.json() {
			err = errors.Join(err, writeJSON(app.Out, account))
		} else {
			fmt.Fprintf(app.Out, "%s: %s of %s dead letters %s, %s left\n", o.queue,
				thousands(int64(done)), thousands(int64(account.Total)), what, thousands(int64(account.Total-done)))
		}
	}
	if n := account.Failed + account.Unknown; n > 0 {
		err = errors.Join(err, &exitError{exitIncomplete, fmt.Errorf("%s letters did not get through and stay in %s", thousands(int64(n)), o.queue)})
	}
	if err == nil && account.Seen == account.Total {
		err = o.notFound()
	}
	return err
}

// progress is a bar on standard error that counts events, for a person at a terminal; else nil. Whatever
// else is written there clears it first.
func (a *App) progress(total int, what string) *progressbar.ProgressBar {
	if !a.ErrTerminal || a.global.quiet || total == 1 {
		return nil
	}
	bar := progressbar.NewOptions(total, progressbar.OptionSetWriter(a.Err), progressbar.OptionShowCount(),
		progressbar.OptionShowIts(), progressbar.OptionSetItsString("events"), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetDescription(what), progressbar.OptionClearOnFinish())
	a.Err = aboveBar{a.Err, bar}
	return bar
}
