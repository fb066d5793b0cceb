package cmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/internal/feed"
	"github.com/evdemo/evdemo/worker"
)

const dlqExportLong = `Write dead letters to standard output, one line of JSON each, and leave them where they are.

A line has the whole event with its headers, the queue that it failed in, and its failure. "evdemo
publish --file" takes it back exactly, byte for byte, also a message that is no event; its attempts are
then at zero.

Broker: reads one queue.

Exit codes: 0 written; 2 wrong usage or a bad filter; 3 a letter that --id names is not there; 4 no
broker; 1 anything else.`

const dlqExportExample = `  evdemo dlq export payments > letters.jsonl
  evdemo dlq export payments --filter 'failure.reason == "invalid"' > invalid.jsonl`

// newDLQExportCommand builds "dlq export". Tests pass run to look at what was parsed.
func newDLQExportCommand(app *App, run func(context.Context, *App, *selectOptions) error) *cobra.Command {
	if run == nil {
		run = runDLQExport
	}
	opts := &selectOptions{}
	cmd := &cobra.Command{
		Use:     "export QUEUE",
		Short:   "Write dead letters as JSONL that publish --file takes back",
		Long:    dlqExportLong,
		Example: dlqExportExample,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := opts.check(args, false); err != nil {
				return usageError(err)
			}
			return run(cmd.Context(), app, opts)
		},
	}
	opts.addFlags(cmd.Flags(), false)
	return cmd
}

func runDLQExport(ctx context.Context, app *App, opts *selectOptions) error {
	out := bufio.NewWriterSize(app.Out, 64<<10)
	exported := 0
	var line []byte
	account, err := app.visit(ctx, opts.queue, nil, func(l *worker.Letter) (worker.Action, error) {
		ok, err := opts.selected(l)
		if err != nil || !ok {
			return worker.Keep(), filterError(err)
		}
		if line, err = feed.AppendRecord(line[:0], feed.Record{Message: l.Message(), Failure: l.Failure}); err != nil {
			return worker.Keep(), fmt.Errorf("export event %s: %w", printable(l.Event.ID, widestText), err)
		}
		exported++
		_, err = out.Write(append(line, '\n'))
		return worker.Keep(), err
	})
	if err = errors.Join(err, out.Flush()); err != nil {
		return err
	}
	if account.Seen < account.Total {
		return fmt.Errorf("interrupted: %s of %s dead letters were looked at", thousands(int64(account.Seen)), thousands(int64(account.Total)))
	}
	fmt.Fprintf(app.Err, "%s: %s of %s dead letters exported\n", opts.queue, thousands(int64(exported)), thousands(int64(account.Total)))
	return opts.notFound()
}
