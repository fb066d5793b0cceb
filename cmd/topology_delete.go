package cmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/topology"
)

const topologyDeleteLong = `Delete the queues of a topology with all that is in them, and then its exchanges. It shows what there is
and asks first; --yes does not ask.

Broker: what has the names of the topology is deleted, whoever made it, and nothing else. The exchange
"events", which other topics share, stays while somebody listens to it. --if-empty and --if-unused
delete nothing at all if a queue has messages or consumers; the broker cannot promise that nothing
arrives between the look and the deletion, and it does not count what is in a log.

Exit codes: 0 nothing of it is left; 1 refused, declined or failed; 2 wrong usage, mistakes in the file, or
no terminal to ask on and no --yes; 4 no broker.`

type topologyDeleteOptions struct {
	topologyOptions

	yes, ifEmpty, ifUnused bool
}

// newTopologyDeleteCommand builds "topology delete". Tests pass run to look at what was parsed.
func newTopologyDeleteCommand(app *App, run func(context.Context, *App, *topologyDeleteOptions) error) *cobra.Command {
	if run == nil {
		run = runTopologyDelete
	}
	opts := &topologyDeleteOptions{}
	cmd := &cobra.Command{
		Use:     "delete",
		Short:   "Delete queues and exchanges with all that is in them",
		Long:    topologyDeleteLong,
		Example: "  evdemo topology delete -f topology.yaml\n  evdemo topology delete --if-empty --if-unused --yes",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opts.check(app); err != nil {
				return usageError(err)
			}
			return run(cmd.Context(), app, opts)
		},
	}
	opts.addFlags(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&opts.yes, "yes", false, "do not ask")
	flags.BoolVar(&opts.ifEmpty, "if-empty", false, "delete nothing if a queue has messages")
	flags.BoolVar(&opts.ifUnused, "if-unused", false, "delete nothing if a queue has consumers")
	opts.output = outputFlag(flags, "table", "json")
	return cmd
}

// check refuses to delete without an answer from somebody.
func (o *topologyDeleteOptions) check(app *App) error {
	switch {
	case o.yes:
		return nil
	case !app.InTerminal:
		return errors.New("there is no terminal to ask on: give --yes to delete without asking")
	case o.file == "-":
		return errors.New("the topology comes from standard input, so that nobody can be asked: give --yes")
	}
	return nil
}

func (o *topologyDeleteOptions) conditions() []topology.DeleteOption {
	var conditions []topology.DeleteOption
	if o.ifEmpty {
		conditions = append(conditions, topology.IfEmpty())
	}
	if o.ifUnused {
		conditions = append(conditions, topology.IfUnused())
	}
	return conditions
}

func runTopologyDelete(ctx context.Context, app *App, opts *topologyDeleteOptions) error {
	resources, s, err := opts.open(ctx, app)
	if err != nil {
		return err
	}
	defer s.Close()
	if !opts.yes {
		if err := askToDelete(ctx, app, resources, s); err != nil {
			return err
		}
	}
	deleted := []topology.State{}
	err = resources.Delete(ctx, s, append(opts.conditions(), topology.OnDeleted(func(state topology.State) {
		deleted = append(deleted, state)
		if !opts.output.json() && !app.global.quiet {
			fmt.Fprintf(app.Out, "deleted %s %s\n", state.Kind, state.Name)
		}
	}))...)
	if opts.output.json() {
		return errors.Join(err, writeJSON(app.Out, map[string]any{"deleted": deleted}))
	}
	fmt.Fprintf(app.Out, "%d deleted\n", len(deleted))
	return err
}

// askToDelete shows what there is and asks. It is an error if the answer is not yes.
func askToDelete(ctx context.Context, app *App, resources topology.Resources, conn topology.Channels) error {
	states, err := resources.Inspect(ctx, conn)
	if err != nil {
		return err
	}
	t := newTable(app.Err, "kind", "name", "messages", "consumers")
	exist := 0
	for _, state := range states {
		switch {
		case !state.Exists:
			continue
		case state.Kind == topology.KindQueue:
			t.AppendRow(table.Row{state.Kind, state.Name, state.Messages, state.Consumers})
		default:
			t.AppendRow(table.Row{state.Kind, state.Name, "", ""})
		}
		exist++
	}
	if exist == 0 {
		return nil
	}
	t.Render()
	return confirm(ctx, app, "Delete all of it, and what is in it?", "nothing was deleted")
}

// confirm asks a person. It is an error, which says what became of the matter, if the answer is not yes.
func confirm(ctx context.Context, app *App, question, otherwise string) error {
	fmt.Fprintf(app.Err, "%s [y/N] ", question)
	answer, err := readLine(ctx, app)
	if err != nil {
		return fmt.Errorf("%w; %s", err, otherwise)
	}
	switch strings.ToLower(answer) {
	case "y", "yes":
		return nil
	}
	return errors.New(otherwise)
}

// readLine reads an answer. The end of ctx leaves the read behind, which nothing can end.
func readLine(ctx context.Context, app *App) (string, error) {
	type result struct {
		line string
		err  error
	}
	read := make(chan result, 1)
	go func() {
		line, err := bufio.NewReader(app.In).ReadString('\n')
		read <- result{strings.TrimSpace(line), err}
	}()
	select {
	case r := <-read:
		if r.line == "" && r.err != nil {
			return "", errors.New("no answer")
		}
		return r.line, nil
	case <-ctx.Done():
		return "", errors.New("interrupted")
	}
}
