package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/audit"
)

const storeHistoryLong = `Tell what has become of a stream, event by event: when, who, what was changed from which value to which, and
why.

When is the time at which the event was appended, and the time that it bears where that is another second.
Who is what the event says in the extensions authid and authtype of CloudEvents' authcontext, or where --who
says: an extension, or a member of the data, as in data.user.id. Where the event says nothing, nothing is
guessed: there is its source. What are the values of the state that differ from the version before, by their
JSON Pointers; see "evdemo store state" for how the state is made. An array is one value. Why are the ids of
the event that caused this one, and of the flow that it is part of.

--field shows only the events that changed a value, or one within it: who set this price? Database: read.

Exit codes: 0 told; 2 wrong usage, or no event store there; 4 no database; 1 anything else, as a stream that
has no events.`

const storeHistoryExample = `  evdemo store history order-1 --db orders.db
  evdemo store history order-1 --db orders.db --field /status
  evdemo store history order-1 --db orders.db --who data.user_id --from-version 2 -o jsonl`

type storeHistoryOptions struct {
	storeOptions

	stream                 string
	fromVersion, toVersion int64
	field, who             string
	output                 *output

	trail audit.Trail
}

// newStoreHistoryCommand builds "store history". Tests pass run to look at what was parsed.
func newStoreHistoryCommand(app *App, run func(context.Context, *App, *storeHistoryOptions) error) *cobra.Command {
	if run == nil {
		run = runStoreHistory
	}
	opts := &storeHistoryOptions{}
	cmd := &cobra.Command{
		Use:     "history STREAM",
		Short:   "Tell when, who, what and why for every event of a stream",
		Long:    storeHistoryLong,
		Example: storeHistoryExample,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := opts.check(args); err != nil {
				return usageError(err)
			}
			return run(cmd.Context(), app, opts)
		},
	}
	flags := cmd.Flags()
	opts.addFlags(flags)
	flags.Int64Var(&opts.fromVersion, "from-version", 0, "tell only from this version on (0: the first)")
	flags.Int64Var(&opts.toVersion, "to-version", 0, "tell only up to and with this version (0: the last)")
	flags.StringVar(&opts.field, "field", "", "tell only what changed this value: a JSON Pointer such as /customer/name")
	flags.StringVar(&opts.who, "who", "", "where an event says who it was: an extension, or a member of the data such as data.user_id (default: authid)")
	opts.output = outputFlag(flags, "table", "json", "jsonl")
	return cmd
}

func (o *storeHistoryOptions) check(args []string) (err error) {
	if o.stream, err = oneStream(args, "history"); err != nil {
		return err
	}
	if err := errors.Join(o.storeOptions.check(), notNegative("--from-version", o.fromVersion), notNegative("--to-version", o.toVersion)); err != nil {
		return err
	}
	switch {
	case o.toVersion > 0 && o.toVersion < o.fromVersion:
		return fmt.Errorf("--from-version %d is behind --to-version %d", o.fromVersion, o.toVersion)
	case o.field != "" && !strings.HasPrefix(o.field, "/"):
		return fmt.Errorf("--field %.60q: want a JSON Pointer, which begins with a slash: /%s", o.field, strings.ReplaceAll(o.field, ".", "/"))
	case o.who != "":
		if o.trail.Who, err = audit.ParseWho(o.who); err != nil {
			return fmt.Errorf("--who %w", err)
		}
	}
	return nil
}

func runStoreHistory(ctx context.Context, app *App, opts *storeHistoryOptions) (err error) {
	store, err := opts.open(ctx, app)
	if err != nil {
		return interrupted(ctx, "anything was read", err)
	}
	defer closing(store, &err)
	out := newListWriter(app.Out, opts.output)
	events := 0
	for r, err := range store.Read(ctx, eventstore.Query{Stream: opts.stream, ToVersion: opts.toVersion}) {
		if err != nil {
			return errors.Join(interrupted(ctx, "everything was read", err), out.flush())
		}
		events++
		if err := opts.tell(out, r); err != nil {
			return err
		}
	}
	if events == 0 {
		return noStream(opts.stream)
	}
	if out.count == 0 && !app.global.quiet {
		fmt.Fprintln(app.Err, "none of its events")
	}
	return out.end()
}

// tell writes the step that an event is, if it is one that was asked for.
func (o *storeHistoryOptions) tell(out *listWriter, r eventstore.Recorded) error {
	step, err := o.trail.Next(r)
	if err != nil {
		return fmt.Errorf("stream %s: %w", printable(o.stream, widestText), err)
	}
	if step.Version < o.fromVersion || o.field != "" && !step.Touches(o.field) {
		return nil
	}
	if !o.output.json() {
		return out.add(appendStep(nil, step))
	}
	var line bytes.Buffer
	if err := writeJSON(&line, step); err != nil {
		return err
	}
	return out.add(bytes.TrimSuffix(line.Bytes(), []byte{'\n'}))
}

// appendStep writes a step for people: a line that says when, what and who, one that says why, and one for each
// value that changed.
func appendStep(b []byte, s audit.Step) []byte {
	b = fmt.Appendf(b, "%s@%d  %s  %s  ", printable(s.Stream, widestText), s.Version, moment(s.RecordedAt), printable(s.Type, widestText))
	switch {
	case s.Who != "" && s.WhoType != "":
		b = fmt.Appendf(b, "by %s %s, from %s", printable(s.WhoType, widestText), printable(s.Who, widestText), printable(s.Source, widestText))
	case s.Who != "" || s.WhoType != "":
		b = fmt.Appendf(b, "by %s, from %s", printable(s.Who+s.WhoType, widestText), printable(s.Source, widestText))
	default:
		b = fmt.Appendf(b, "from %s", printable(s.Source, widestText))
	}
	if !s.Time.IsZero() && s.RecordedAt.Sub(s.Time).Abs() >= time.Second {
		b = fmt.Appendf(b, ", at %s by its own time", moment(s.Time))
	}
	b = fmt.Appendf(b, "\n    event %s", printable(s.ID, widestText))
	if s.Cause != "" {
		b = fmt.Appendf(b, ", because of %s", printable(s.Cause, widestText))
	}
	if s.Flow != "" {
		b = fmt.Appendf(b, ", in flow %s", printable(s.Flow, widestText))
	}
	for _, c := range s.Changes {
		b = appendChange(b, c)
	}
	return b
}

func appendChange(b []byte, c audit.Change) []byte {
	b = append(b, "\n    "...)
	path := printable(c.Path, widestText)
	switch c.Op {
	case audit.Added:
		return fmt.Appendf(b, "+ %s  %s", path, short(c.New))
	case audit.Removed:
		return fmt.Appendf(b, "- %s  %s", path, short(c.Old))
	case audit.Changed:
		return fmt.Appendf(b, "~ %s  %s → %s", path, short(c.Old), short(c.New))
	default:
		return b
	}
}

// short is a JSON value for a line of a terminal.
func short(value any) string {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return err.Error()
	}
	return printable(strings.TrimSuffix(text.String(), "\n"), widestText)
}
