package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/feed"
	"github.com/evdemo/evdemo/internal/filter"
	"github.com/evdemo/evdemo/internal/localbroker"
	"github.com/evdemo/evdemo/internal/replay"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/command"
)

func runReplay(ctx context.Context, app *App, opts *replayOptions) (err error) {
	config := replay.Config{
		Speed: opts.speed, SkipFailed: opts.skipFailed, DrainTimeout: opts.drainTimeout, Logger: app.Logger(),
	}
	if config.Filter, err = filter.Compile(opts.filter); err != nil {
		return usageError(err)
	}
	var gaps int64
	source, closeSource, err := opts.openSource(ctx, app, &gaps)
	if err != nil && ctx.Err() != nil {
		app.Logger().Warn("interrupted before anything was sent")
		return nil
	}
	if err != nil {
		return err
	}
	defer closeSource()
	config.Source = source
	if opts.checkpoint != "" {
		if config.Checkpoint, err = opts.openCheckpoint(app); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, config.Checkpoint.Close()) }()
	}
	target, closeTarget, err := opts.openTarget(ctx, app)
	if err != nil {
		return err
	}
	defer closeTarget()
	config.Target = target
	bar := app.progress(-1, "replayed")
	config.Failed, config.Sent = opts.outcomes(app, bar)
	began := time.Now()
	report, err := config.Run(ctx)
	if bar != nil {
		_ = bar.Finish()
	}
	return opts.report(app, replayReport{Report: report, Dropped: gaps}, time.Since(began), err)
}

// outcomes names what did not get through. Where the first of that ends the replay, what fails behind it was
// under way, and a few are enough.
func (o *replayOptions) outcomes(app *App, bar *progressbar.ProgressBar) (failed func(*replay.Item, error), sent func(*replay.Item)) {
	const few = 5
	named, most := 0, namedAtMost
	if !o.skipFailed {
		most = few
	}
	failed = func(item *replay.Item, err error) {
		if named++; named == most+1 {
			fmt.Fprintln(app.Err, "more events did not get through; they are counted")
		}
		if named <= most {
			fmt.Fprintf(app.Err, "not replayed: event %s (%s): %v\n", printable(item.Event.ID, widestText), printable(item.Event.Type, widestText), err)
		}
	}
	sent = func(*replay.Item) {
		if bar != nil {
			_ = bar.Add(1)
		}
	}
	return failed, sent
}

// openSource opens what is replayed. A file is checked whole before anything is sent. What the log has
// dropped is added to gaps.
func (o *replayOptions) openSource(ctx context.Context, app *App, gaps *int64) (replay.Source, func(), error) {
	if o.topic != "" {
		config, err := app.logConfig(o.topic, "replay")
		if err != nil {
			return nil, nil, err
		}
		config.From, config.To = o.start, o.end
		config.Gap = func(from, to int64) { *gaps += to - from + 1 }
		return replay.Log(config), func() {}, nil
	}
	var file *feed.File
	var err error
	if o.file == "-" {
		file, err = feed.Spool(ctx, "standard input", app.In, event.Defaults{})
	} else {
		file, err = feed.OpenFile(ctx, o.file, event.Defaults{})
	}
	if err != nil {
		return nil, nil, usageError(err)
	}
	return replay.Lines(file.Lines), func() { _ = file.Close() }, nil
}

func (o *replayOptions) openCheckpoint(app *App) (*replay.Checkpoint, error) {
	dir, err := localbroker.StateDir(app.LookupEnv)
	if err != nil {
		return nil, usageError(err)
	}
	source, err := o.source(app)
	if err != nil {
		return nil, usageError(err)
	}
	target, err := o.target(app)
	if err != nil {
		return nil, err
	}
	c, err := replay.OpenCheckpoint(filepath.Join(filepath.Dir(dir), "checkpoints"), o.checkpoint, source, target)
	if errors.Is(err, replay.ErrName) || errors.Is(err, replay.ErrOther) {
		return nil, usageError(err)
	}
	if err == nil && c.Place().Next >= 0 {
		app.Logger().Info("going on", slog.String("checkpoint", o.checkpoint), slog.Int64("from", c.Place().Next))
	}
	return c, err
}

func (o *replayOptions) openTarget(ctx context.Context, app *App) (replay.Target, func(), error) {
	if o.exec != "" {
		runner, err := command.New((&handlerOptions{exec: o.exec, execInput: o.execInput, shell: o.shell}).command(app))
		if err != nil {
			return nil, nil, usageError(fmt.Errorf("--exec: %w", err))
		}
		around := []worker.Middleware{worker.Recover()}
		if o.timeout > 0 {
			around = append(around, worker.Timeout(o.timeout))
		}
		return replay.Handle(worker.Wrap(runner.Handle, around...), o.drainTimeout), func() {}, nil
	}
	p, err := o.openPublisher(ctx, app)
	if err != nil {
		return nil, nil, err
	}
	closePublisher := func() {
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		cancel() // outcomes have been waited for
		_ = p.Close(ctx)
	}
	return replay.Publish(p, o.destination()), closePublisher, nil
}

// openPublisher declares what is to be published to. A queue that exists with other arguments is
// published to as it is.
func (o *replayOptions) openPublisher(ctx context.Context, app *App) (*publisher.Publisher, error) {
	broker, err := app.broker()
	if err != nil {
		return nil, err
	}
	config := publisher.Config{
		URLs: broker.URLs, TLS: broker.TLS, ConnectionName: "evdemo replay",
		ConnectTimeout: app.global.connectTimeout, Logger: app.Logger(),
	}
	if !o.noDeclare {
		spec, err := app.loadSpec(o.topology)
		if err != nil {
			return nil, err
		}
		if o.intoQueue != "" {
			config.Declare = spec.QueueResources(o.intoQueue)
		} else {
			config.Declare = spec.TopicResources(o.intoTopic)
		}
	}
	return openPublisher(ctx, app, config, o.intoQueue != "")
}

// openPublisher opens a publisher. Where it publishes to a queue that exists with other arguments, the queue
// is taken as it is.
func openPublisher(ctx context.Context, app *App, config publisher.Config, queue bool) (*publisher.Publisher, error) {
	p, err := publisher.Open(ctx, config)
	var conflict *topology.ConflictError
	if queue && errors.As(err, &conflict) {
		app.Logger().Debug("queue exists with other arguments; publishing to it as it is", "conflict", conflict.Error())
		config.Declare = topology.Resources{}
		p, err = publisher.Open(ctx, config)
	}
	return p, explainConflict(err)
}

// replayReport is the account of a replay.
type replayReport struct {
	replay.Report
	// Dropped counts events that were asked for and that the log no longer held.
	Dropped   int64   `json:"dropped,omitempty"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_second"`
}

func (r replayReport) text() string {
	s := fmt.Sprintf("replayed %s  filtered out %s  failed %s  unknown %s  in %.2f s (%s per second)",
		thousands(r.Sent), thousands(r.Filtered), thousands(r.Failed), thousands(r.Unknown), r.Seconds, thousands(int64(r.PerSecond)))
	if r.Dropped > 0 {
		s += fmt.Sprintf("\nno longer in the log, which has grown beyond its limits: %s", thousands(r.Dropped))
	}
	return s
}

// reportTo is standard output where that carries nothing else.
func (o *replayOptions) reportTo(app *App) io.Writer {
	if o.exec != "" && !app.global.quiet {
		return app.Err
	}
	return app.Out
}

// report prints the account and gives the run's error.
func (o *replayOptions) report(app *App, r replayReport, took time.Duration, err error) error {
	if r.Seconds = took.Seconds(); r.Seconds > 0 {
		r.PerSecond = float64(r.Sent) / r.Seconds
	}
	if r.Read > 0 || err == nil {
		if o.output.json() {
			err = errors.Join(err, writeJSON(o.reportTo(app), r))
		} else {
			_, printErr := fmt.Fprintln(o.reportTo(app), r.text())
			err = errors.Join(err, printErr)
		}
	}
	if err == nil && !r.Complete() {
		err = &exitError{exitIncomplete, fmt.Errorf("%s of %s events did not get through", thousands(r.Failed+r.Unknown), thousands(r.Read-r.Filtered))}
	}
	if err == nil && !r.Ended {
		app.Logger().Warn("interrupted; the rest was not replayed")
	}
	return explainLog(err)
}
