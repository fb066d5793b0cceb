package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/feed"
	"github.com/evdemo/evdemo/internal/journal"
	"github.com/evdemo/evdemo/publisher"
)

const storeAppendLong = `Append events to a stream. They are on the disk when it says so, and never change again.

--data appends one event. --file appends one per line (JSONL), in the forms that "evdemo publish" takes: what
is input for the one is input for the other; of a message's record only the event is kept. Where input is
piped and none of --data, --file and --type is given, it is read like --file -. Lines that name their stream,
as "evdemo store read -o jsonl" prints them, need no STREAM; with STREAM they all go there.

Every line is checked before the first is appended. Then --batch events at a time are a transaction: all of
it is there or nothing. --atomic makes one transaction of all, and holds it in memory. --live appends as lines
come, at once and without a look at the rest; it names and skips what is no event.

--expect says what the stream must be like before: none (no events), a version, or any, the default. Another
program's append in between is then a conflict: nothing of the batch is appended, the text says what was
expected and what is there, and the exit code is 5.

A run that was interrupted, or whose outcome is not known, can be made again: an event that is there with the
same id and content is not appended twice, whatever is expected. For that the input must have the ids: an
event without gets a new one each time, and the time, if it has none. With --id there is no time, unless
the --data is of an earlier run and equal. An id that is there with other content is refused.

Database: written; the file and the tables are made where there are none.

Exit codes: 0 all are there, with --live all that came before SIGINT or SIGTERM; 2 wrong usage or invalid
input, nothing was appended; 3 some were refused, it is not known whether they are there, or SIGINT or SIGTERM
came before the end and was heeded behind the batch in hand; 4 no database; 5 the stream is not as expected;
1 anything else, as a full disk.`

const storeAppendExample = `  evdemo store append order-1 --db orders.db --type order.created --data '{"amount": 50}' --expect none
  evdemo store append order-1 --db orders.db --type order.paid --data @paid.json --extension authid=anna
  evdemo store append orders --db orders.db --file examples/orders.jsonl
  evdemo store read --db orders.db -o jsonl | evdemo store append --db copy.db --atomic
  evdemo listen --topic orders --count 10 -o json | evdemo store append orders --db orders.db --live`

const (
	defaultStoreBatch = 1000
	maxStoreBatch     = 1 << 20
	// maxStoreBytes ends a batch of large events early.
	maxStoreBytes = 8 << 20
)

type storeAppendOptions struct {
	storeOptions
	schemaOptions

	stream                     string
	eventType, source, subject string
	data, contentType, id      string
	extensions                 []string
	file                       string
	expect                     string
	batch                      int
	atomic, live               bool
	drainTimeout               time.Duration
	output                     *output

	given       func(flag string) bool
	expectation eventstore.Expectation // from expect
}

// newStoreAppendCommand builds "store append". Tests pass run to look at what was parsed.
func newStoreAppendCommand(app *App, run func(context.Context, *App, *storeAppendOptions) error) *cobra.Command {
	if run == nil {
		run = runStoreAppend
	}
	opts := &storeAppendOptions{}
	cmd := &cobra.Command{
		Use:     "append [STREAM]",
		Short:   "Append events to streams",
		Long:    storeAppendLong,
		Example: storeAppendExample,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.given = cmd.Flags().Changed
			if err := opts.check(args); err != nil {
				return usageError(err)
			}
			return run(cmd.Context(), app, opts)
		},
	}
	opts.addFlags(cmd)
	return cmd
}

func (o *storeAppendOptions) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	o.storeOptions.addFlags(flags)
	flags.StringVar(&o.eventType, "type", "", "type of events that do not say it themselves")
	flags.StringVar(&o.source, "source", "", "source of events that do not say it themselves (default evdemo)")
	flags.StringVar(&o.subject, "subject", "", "subject of events that do not say it themselves")
	flags.StringVar(&o.data, "data", "", "data of the event: JSON, @FILE, or - for standard input")
	flags.StringVar(&o.contentType, "content-type", "", "content type of --data, which then need not be JSON")
	flags.StringVar(&o.id, "id", "", "id of the event of --data, so that appending it again adds nothing")
	flags.StringArrayVar(&o.extensions, "extension", nil, "NAME=VALUE: extension of the event of --data; may be repeated")
	flags.StringVar(&o.file, "file", "", "JSONL file with one event or record per line, or - for standard input")
	flags.StringVar(&o.expect, "expect", "any", "what the stream must be like before: any, none, or its version")
	flags.IntVar(&o.batch, "batch", defaultStoreBatch, "how many events of --file a transaction has")
	flags.BoolVar(&o.atomic, "atomic", false, "append all of --file in one transaction, or nothing")
	flags.BoolVar(&o.live, "live", false, "append while reading --file instead of checking every line first")
	flags.DurationVar(&o.drainTimeout, "drain-timeout", 10*time.Second, "after an interrupt, how long to wait for the batch in hand")
	o.schemaOptions.addFlags(flags)
	o.output = outputFlag(flags, "table", "json")
}

func (o *storeAppendOptions) check(args []string) (err error) {
	switch {
	case len(args) > 1:
		return fmt.Errorf("one stream at most, not %d: quote a name with spaces", len(args))
	case len(args) == 1 && args[0] == "":
		return errors.New("the stream's name is empty")
	case len(args) == 1:
		o.stream = args[0]
	}
	if err := errors.Join(o.storeOptions.check(), o.checkInput(), o.checkBatches()); err != nil {
		return err
	}
	o.expectation, err = parseExpectation(o.expect)
	if err == nil && o.expectation != eventstore.Any && o.stream == "" {
		err = errors.New("--expect goes with STREAM")
	}
	return err
}

func (o *storeAppendOptions) checkInput() error {
	switch {
	case o.given("data") && o.given("file"):
		return errors.New("give --data or --file, not both")
	case o.given("file") && o.file == "":
		return errors.New("--file is empty: want a file, or - for standard input")
	case o.given("data") && o.stream == "":
		return errors.New("say which stream: evdemo store append order-1 --type TYPE --data JSON")
	case o.given("data") && o.eventType == "":
		return errors.New("an event needs a type: give --type with --data")
	case !o.given("data") && !o.given("file") && o.given("type"):
		return errors.New("--type alone is no event: give its --data, {} for none, or --file - for events from standard input")
	case !o.given("data") && (o.given("content-type") || o.given("id") || o.given("extension")):
		return errors.New("--content-type, --id and --extension go with --data")
	case o.given("id") && o.id == "":
		return errors.New("--id is empty")
	case o.given("schema") && o.schemas == "":
		return errEmptySchema
	}
	return nil
}

func (o *storeAppendOptions) checkBatches() error {
	switch {
	case o.batch < 1 || o.batch > maxStoreBatch:
		return fmt.Errorf("--batch %d: want 1 to %d", o.batch, maxStoreBatch)
	case o.atomic && (o.live || o.given("batch")):
		return errors.New("--atomic makes one transaction of all: give it without --batch and --live")
	case o.given("data") && (o.atomic || o.live || o.given("batch")):
		return errors.New("--batch, --atomic and --live go with --file")
	case o.drainTimeout < 0:
		return fmt.Errorf("--drain-timeout %v: want 0 or more", o.drainTimeout)
	}
	return nil
}

func parseExpectation(text string) (eventstore.Expectation, error) {
	switch text {
	case "any":
		return eventstore.Any, nil
	case "none":
		return eventstore.NoStream, nil
	}
	version, err := strconv.ParseInt(text, 10, 64)
	if err != nil || version < 0 {
		return 0, fmt.Errorf("--expect %.40q: want any, none, or the version of the stream's last event", text)
	}
	return eventstore.Exactly(version), nil
}

// appendSource is what is appended.
type appendSource struct {
	feed.Source

	total int // -1 where it is not known
	close func() error
}

// openSource gives what to append, all of it checked unless it comes live.
func (o *storeAppendOptions) openSource(ctx context.Context, app *App) (s *appendSource, err error) {
	if o.registry, err = o.load(); err != nil {
		return nil, err
	}
	s = &appendSource{close: func() error { return nil }}
	if o.given("data") {
		s.Source, err = o.one(ctx, app)
		s.total = 1
		return s, err
	}
	name, in, err := o.input(app)
	if err != nil {
		return nil, err
	}
	s.close = in.Close
	defaults := event.Defaults{Type: o.eventType, Source: o.source, Subject: o.subject}
	lines := journal.NewReader(name, feed.UntilDone(ctx, in), defaults, o.stream == "")
	if o.live {
		s.Source, s.total = feed.NewLines(name, lines, defaults, checkStorable, o.validate), -1
		return s, nil
	}
	checked, err := feed.Spool(ctx, name, lines, defaults, checkStorable, o.validate)
	if err = errors.Join(err, lines.Faults(), in.Close()); err != nil {
		if checked != nil {
			err = errors.Join(err, checked.Close())
		}
		return nil, err
	}
	s.Source, s.total, s.close = checked, checked.Count, checked.Close
	return s, nil
}

// input opens the file, or standard input.
func (o *storeAppendOptions) input(app *App) (name string, in io.ReadCloser, err error) {
	switch {
	case o.given("file") && o.file != "-":
		f, err := os.Open(o.file)
		if err != nil {
			return "", nil, err
		}
		if info, err := f.Stat(); err == nil && info.IsDir() {
			return "", nil, errors.Join(fmt.Errorf("%s is a directory", o.file), f.Close())
		}
		return o.file, f, nil
	case app.In != nil && (o.given("file") || app.piped()):
		return "standard input", io.NopCloser(app.In), nil
	default:
		return "", nil, errors.New("say what to append: --type TYPE --data JSON, or --file FILE, - for standard input")
	}
}

// one is the event of --data.
func (o *storeAppendOptions) one(ctx context.Context, app *App) (feed.Source, error) {
	from := &publishOptions{
		eventType: o.eventType, source: o.source, subject: o.subject, data: o.data, contentType: o.contentType, count: 1,
		schemaOptions: o.schemaOptions,
	}
	source, err := from.dataSource(ctx, app)
	if err != nil {
		return nil, err
	}
	m, err := source.Next()
	if err != nil {
		return nil, err
	}
	e := m.Event
	if o.id != "" {
		e.ID, e.Time = o.id, time.Time{} // another time would make another event of it
	}
	for _, pair := range o.extensions {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--extension %q: want NAME=VALUE", pair)
		}
		e = e.WithExtension(name, value)
	}
	if err := errors.Join(e.Validate(), checkStorable(e)); err != nil {
		return nil, err
	}
	return feed.Func(1, func() (event.Event, error) { return e, nil }), nil
}

// checkStorable finds what an event store does not hold, before anything is appended.
func checkStorable(e event.Event) error {
	for _, a := range []struct{ name, value string }{
		{"id", e.ID}, {"source", e.Source}, {"type", e.Type}, {"subject", e.Subject}, {event.ExtCorrelationID, e.CorrelationID()},
	} {
		if len(a.value) > maxStreamName {
			return fmt.Errorf("%s has %d bytes: an event store holds %d", a.name, len(a.value), maxStreamName)
		}
	}
	return nil
}

// streamOf is the stream that a message goes to.
func (o *storeAppendOptions) streamOf(m publisher.Message) string {
	if o.stream != "" {
		return o.stream
	}
	return journal.Stream(m)
}
