package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/feed"
	"github.com/evdemo/evdemo/internal/orders"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
)

func runPublish(ctx context.Context, app *App, opts *publishOptions) error {
	source, total, err := opts.openSource(ctx, app)
	if err != nil && ctx.Err() != nil {
		return opts.interrupted(app)
	}
	if err != nil {
		return usageError(err)
	}
	if closer, ok := source.(io.Closer); ok {
		defer func() { _ = closer.Close() }()
	}
	pump := feed.Pump{
		To: opts.to(), Redirect: opts.targets() > 0, Headers: opts.header,
		Rate: opts.rate, DrainTimeout: opts.drainTimeout,
	}
	if opts.dryRun {
		return printMessages(ctx, app, source, &pump, opts.stream)
	}
	account, err := newAccount(app, opts, total)
	if err != nil {
		return usageError(err)
	}
	watched, err := opts.watch(ctx, app)
	if err != nil {
		return errors.Join(err, account.closeFile())
	}
	defer watched.close(ctx)
	pump.Publisher, err = opts.open(ctx, app, watched)
	if err != nil && ctx.Err() != nil {
		return errors.Join(account.closeFile(), opts.interrupted(app))
	}
	if err != nil {
		return errors.Join(err, account.closeFile())
	}
	if err := watched.serve(ctx, pump.Publisher.Ready, pump.Publisher.Collector()); err != nil {
		return errors.Join(err, pump.Publisher.Close(ctx), account.closeFile())
	}
	pump.Outcome = account.outcome()
	if opts.stream {
		pump.Invalid = account.invalid
	}
	report, err := pump.Run(ctx, source)
	if left := int64(total) - report.Sent; ctx.Err() != nil && left > 0 {
		app.Logger().Warn("interrupted; the rest was not sent", slog.Int64("not_sent", left))
	}
	return account.close(report, err)
}

// interrupted reports a run that was told to stop before it sent anything.
func (o *publishOptions) interrupted(app *App) error {
	app.Logger().Warn("interrupted before anything was sent")
	if o.dryRun {
		return nil
	}
	return (&account{app: app, opts: o}).close(feed.Report{}, nil)
}

// open connects a publisher that declares what is to be published to. A queue that exists with
// other arguments is published to as it is.
func (o *publishOptions) open(ctx context.Context, app *App, watched *watched) (*publisher.Publisher, error) {
	broker, err := app.broker()
	if err != nil {
		return nil, err
	}
	config := publisher.Config{
		URLs: broker.URLs, TLS: broker.TLS, ConnectionName: "evdemo publish",
		ConnectTimeout: app.global.connectTimeout, Window: o.window, Logger: app.Logger(),
		TracerProvider: watched.tracer,
	}
	if config.Declare, err = o.declare(app); err != nil {
		return nil, err
	}
	return openPublisher(ctx, app, config, o.queue != "")
}

func (o *publishOptions) declare(app *App) (topology.Resources, error) {
	if o.noDeclare || o.given("raw-exchange") {
		return topology.Resources{}, nil
	}
	spec, err := app.loadSpec(o.topology)
	if err != nil {
		return topology.Resources{}, err
	}
	if o.queue != "" {
		return spec.QueueResources(o.queue), nil
	}
	return spec.TopicResources(o.topic), nil
}

// openSource gives what to publish, and how many events that is where it is known (else -1).
func (o *publishOptions) openSource(ctx context.Context, app *App) (source feed.Source, total int, err error) {
	defaults := event.Defaults{Type: o.eventType, Source: o.source, Subject: o.subject}
	if o.registry, err = o.load(); err != nil {
		return nil, 0, err
	}
	check := o.validate
	file := o.file
	if !o.given("data") && !o.given("file") && !o.given("count") && !o.given("type") && o.topology != "-" && app.piped() {
		file = "-"
	}
	switch {
	case o.given("data"):
		source, err = o.dataSource(ctx, app)
		return source, o.count, err
	case file == "":
		source, err = o.madeUp(app)
		return source, o.count, err
	case o.stream && file == "-":
		return feed.NewLines("standard input", feed.UntilDone(ctx, app.In), defaults, check), -1, nil
	case o.stream:
		source, err = feed.Stream(ctx, file, defaults, check)
		return source, -1, err
	}
	var checked *feed.File
	if file == "-" {
		checked, err = feed.Spool(ctx, "standard input", app.In, defaults, check)
	} else {
		checked, err = feed.OpenFile(ctx, file, defaults, check)
	}
	if err != nil {
		return nil, 0, err
	}
	return checked, checked.Count, nil
}

// dataSource repeats the data of --data, each time as an event of its own.
func (o *publishOptions) dataSource(ctx context.Context, app *App) (feed.Source, error) {
	data := []byte(o.data)
	var err error
	switch {
	case o.data == "-":
		data, err = io.ReadAll(feed.UntilDone(ctx, app.In))
	case strings.HasPrefix(o.data, "@"):
		data, err = os.ReadFile(o.data[1:])
	}
	if err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	if o.contentType == "" {
		if !json.Valid(data) {
			return nil, errors.New("--data is not JSON; give its --content-type to send it as it is")
		}
		data = bytes.TrimSpace(data)
	}
	next := func() (event.Event, error) { return o.event(o.eventType, data) }
	if first, err := next(); err != nil {
		return nil, err
	} else if err := errors.Join(first.Validate(), o.validate(first)); err != nil {
		return nil, err
	}
	return feed.Func(o.count, next), nil
}

// madeUp makes orders. The first of them is checked before anything is sent.
func (o *publishOptions) madeUp(app *App) (feed.Source, error) {
	if !o.given("seed") {
		o.seed = rand.Uint64() //nolint:gosec // sample data
		if o.count > 1 {
			app.Logger().Info("made-up events", "seed", o.seed)
		}
	}
	first, err := o.event(orders.Type, orders.NewGenerator(o.seed).Next().JSON())
	if err = errors.Join(err, o.validate(first)); err != nil {
		return nil, err
	}
	generator := orders.NewGenerator(o.seed)
	return feed.Func(o.count, func() (event.Event, error) {
		e, err := o.event(orders.Type, generator.Next().JSON())
		return e, errors.Join(err, o.validate(e))
	}), nil
}

func (o *publishOptions) event(eventType string, data []byte) (event.Event, error) {
	source := o.source
	if source == "" {
		source = "evdemo"
	}
	e, err := event.New(eventType, source, data)
	e.Subject = o.subject
	if o.contentType != "" {
		e.DataContentType = o.contentType
	}
	return e, err
}

// printMessages prints what would be sent: what was a record as one, with what the pump adds, and
// everything else as an event. As with sending, a stream goes on behind what is neither.
func printMessages(ctx context.Context, app *App, source feed.Source, pump *feed.Pump, stream bool) error {
	invalid := 0
	lines, _ := source.(interface{ IsRecord() bool })
	for ctx.Err() == nil {
		m, err := source.Next()
		var line *feed.LineError
		switch {
		case err == nil && lines != nil && lines.IsRecord():
			err = writeRecord(app.Out, pump.Prepare(m))
		case err == nil:
			err = writeEvent(app.Out, m.Event)
		case errors.Is(err, io.EOF) && invalid > 0:
			return &exitError{exitIncomplete, fmt.Errorf("%s lines are no events", thousands(int64(invalid)))}
		case errors.Is(err, io.EOF):
			return nil
		case stream && errors.As(err, &line):
			invalid++
			fmt.Fprintln(app.Err, "not printed:", err)
			err = nil
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

func writeRecord(w io.Writer, m publisher.Message) error {
	line, err := feed.AppendRecord(nil, feed.Record{Message: m})
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// piped tells whether somebody has connected standard input to something that holds data: not a
// terminal, and not /dev/null.
func (a *App) piped() bool {
	f, ok := a.In.(*os.File)
	if !ok {
		return a.In != nil
	}
	info, err := f.Stat()
	return err == nil && (info.Mode().IsRegular() || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0)
}
