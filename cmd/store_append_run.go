package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/feed"
	"github.com/evdemo/evdemo/publisher"
)

func runStoreAppend(ctx context.Context, app *App, opts *storeAppendOptions) (err error) {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	source, err := opts.openSource(reading, app)
	if err != nil && ctx.Err() != nil {
		return &exitError{exitIncomplete, errors.New("interrupted before anything was appended")}
	}
	if err != nil {
		return usageError(err)
	}
	defer func() { _ = source.close() }()
	store, err := opts.create(ctx, app)
	if err != nil {
		return interrupted(ctx, "anything was appended", err)
	}
	defer closing(store, &err)
	run := &appendRun{app: app, opts: opts, store: store, source: source, expect: opts.expectation, began: time.Now()}
	run.bar = app.progress(source.total, "appended")
	return run.close(ctx, run.all(reading, stop))
}

// appendReport is the account of a run: what was read is either appended, there already, or not an event.
type appendReport struct {
	Appended     int64 `json:"appended"`
	AlreadyThere int64 `json:"already_there"`
	// Invalid counts lines of a live input that were no events.
	Invalid int64 `json:"invalid,omitempty"`
	// Stream and Version are those of STREAM, behind its last event that was read.
	Stream  string `json:"stream,omitempty"`
	Version int64  `json:"version,omitempty"`
	// Position is that of the last event that was read.
	Position  int64   `json:"position,omitempty"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_second"`
}

func (r appendReport) done() int64 { return r.Appended + r.AlreadyThere }

func (r appendReport) text() string {
	parts := []string{fmt.Sprintf("appended %s  already there %s", thousands(r.Appended), thousands(r.AlreadyThere))}
	if r.Version > 0 {
		parts = append(parts, fmt.Sprintf("stream %s at version %d", printable(r.Stream, widestText), r.Version))
	}
	if r.Position > 0 {
		parts = append(parts, fmt.Sprintf("position %d", r.Position))
	}
	parts = append(parts, fmt.Sprintf("in %.2f s (%s per second)", r.Seconds, thousands(int64(r.PerSecond))))
	text := strings.Join(parts, "  ")
	if r.Invalid > 0 {
		text += fmt.Sprintf("\nlines that are no events, not appended: %s", thousands(r.Invalid))
	}
	return text
}

// appendRun appends what a source gives.
type appendRun struct {
	app    *App
	opts   *storeAppendOptions
	store  *eventstore.Store
	source *appendSource
	bar    *progressbar.ProgressBar
	began  time.Time

	expect eventstore.Expectation // of the next batch
	report appendReport
	rest   bool // something was left when it was told to stop
}

// appendItem is an event on its way from the source.
type appendItem struct {
	event  event.Event
	stream string
	err    error
}

// all appends everything, or until ctx ends. What is in hand then has the drain timeout.
func (r *appendRun) all(ctx context.Context, stop context.CancelFunc) error {
	items := make(chan appendItem, 256)
	var reader sync.WaitGroup
	defer reader.Wait()
	defer stop()
	reader.Go(func() { r.read(ctx, items) })
	draining, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(r.opts.drainTimeout, cancel) })()
	for more := true; more; {
		batch, ended, err := r.batch(ctx, items)
		if len(batch) > 0 {
			if appendErr := r.append(draining, batch); appendErr != nil {
				return r.explain(batch, appendErr)
			}
		}
		if err != nil {
			return err
		}
		more = !ended
	}
	return nil
}

// read passes on what the source gives, until its end or ctx's.
func (r *appendRun) read(ctx context.Context, items chan<- appendItem) {
	defer close(items)
	for {
		m, err := r.source.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		item := appendItem{err: err}
		if err == nil {
			item.event, item.stream = m.Event, r.opts.streamOf(m)
			item.err = appendable(m, item.stream)
		}
		select {
		case items <- item:
		case <-ctx.Done():
			return
		}
		if _, line := errors.AsType[*feed.LineError](err); err != nil && !line {
			return
		}
	}
}

// appendable says what is wrong with a message for an event store. Where every line was checked, nothing is.
func appendable(m publisher.Message, stream string) error {
	switch {
	case m.Raw != nil:
		return &feed.LineError{Name: describe(m), Err: errors.New("it holds no event")}
	case stream == "":
		return &feed.LineError{Name: describe(m), Err: errors.New("it does not say which stream it is for")}
	default:
		return nil
	}
}

// batch gives the next events: as many as a transaction has; live, as many as have come. Ended means that no more
// will, of which err is the cause if it is none that was to be expected.
func (r *appendRun) batch(ctx context.Context, items <-chan appendItem) (batch []appendItem, ended bool, err error) {
	for bytes := 0; r.opts.atomic || len(batch) < r.opts.batch && bytes < maxStoreBytes; {
		item, ok, now := r.next(ctx, items, len(batch) > 0)
		switch {
		case !now:
			return batch, false, nil
		case stopped(ctx):
			r.rest = int64(r.source.total) > r.report.done() // live, nobody knows
			return nil, true, nil
		case !ok:
			return batch, true, nil
		case item.err == nil:
			batch = append(batch, item)
			bytes += len(item.event.Data)
			continue
		}
		if _, line := errors.AsType[*feed.LineError](item.err); !line || !r.opts.live {
			return batch, true, item.err
		}
		r.report.Invalid++
		fmt.Fprintln(r.app.Err, "not appended:", item.err)
	}
	return batch, false, nil
}

func stopped(ctx context.Context) bool { return ctx.Err() != nil }

// next waits for the next event, but live not where there is something to be appended meanwhile.
func (r *appendRun) next(ctx context.Context, items <-chan appendItem, some bool) (item appendItem, ok, now bool) {
	if r.opts.live && some {
		select {
		case item, ok = <-items:
			return item, ok, true
		default:
			return item, false, false
		}
	}
	select {
	case item, ok = <-items:
	case <-ctx.Done():
	}
	return item, ok, true
}

// append appends a batch in one transaction.
func (r *appendRun) append(ctx context.Context, batch []appendItem) error {
	appended, err := r.store.Append(ctx, r.writes(batch)...)
	if conflict, ok := errors.AsType[*eventstore.ConflictError](err); ok {
		return r.resume(ctx, batch, conflict)
	}
	if err != nil {
		return err
	}
	r.report.Appended += int64(appended.Added)
	r.report.AlreadyThere += int64(len(batch) - appended.Added)
	r.report.Position = appended.Positions[len(batch)-1]
	if r.opts.stream != "" {
		r.report.Stream, r.report.Version = r.opts.stream, appended.Versions[len(appended.Versions)-1]
	}
	if r.expect != eventstore.Any {
		r.expect = eventstore.Exactly(r.report.Version)
	}
	if r.bar != nil {
		_ = r.bar.Add(len(batch))
	}
	return nil
}

// resume looks whether the stream has the beginning of the batch, from an earlier run with other batches, and if so
// appends the rest.
func (r *appendRun) resume(ctx context.Context, batch []appendItem, conflict *eventstore.ConflictError) error {
	base := max(int64(conflict.Expected), 0)
	n := conflict.Actual - base
	if n <= 0 || n >= int64(len(batch)) {
		return conflict
	}
	there, err := r.store.Append(ctx, r.writes(batch[:n])...)
	if err != nil || there.Versions[0] != conflict.Actual {
		return conflict
	}
	r.report.AlreadyThere += n
	r.expect = eventstore.Exactly(conflict.Actual)
	return r.append(ctx, batch[n:])
}

// writes puts neighbours of one stream together. The order of the events is that of the input.
func (r *appendRun) writes(batch []appendItem) (writes []eventstore.StreamWrite) {
	for _, item := range batch {
		if last := len(writes) - 1; last < 0 || writes[last].Stream != item.stream {
			writes = append(writes, eventstore.StreamWrite{Stream: item.stream, Expect: r.expect})
		}
		w := &writes[len(writes)-1]
		w.Events = append(w.Events, item.event)
	}
	return writes
}

// explain says which events an error is about, and gives it its exit code.
func (r *appendRun) explain(batch []appendItem, err error) error {
	done := r.report.done()
	if _, invalid := errors.AsType[*eventstore.InvalidError](err); invalid && done == 0 {
		return usageError(err)
	}
	err = explainStore(err)
	if r.source.total == 1 || len(batch) == 0 {
		return err
	}
	code := exitCode(err)
	if code == exitUsage && done > 0 {
		code = exitIncomplete
	}
	return &exitError{code, fmt.Errorf("events %s to %s of the input: %w", thousands(done+1), thousands(done+int64(len(batch))), err)}
}

// close prints the report and gives the run's error.
func (r *appendRun) close(ctx context.Context, err error) error {
	if r.bar != nil {
		_ = r.bar.Finish()
	}
	if r.report.Seconds = time.Since(r.began).Seconds(); r.report.Seconds > 0 {
		r.report.PerSecond = float64(r.report.Appended) / r.report.Seconds
	}
	if r.opts.output.json() {
		err = errors.Join(err, writeJSON(r.app.Out, r.report))
	} else if err == nil || r.report.done() > 0 {
		_, printErr := fmt.Fprintln(r.app.Out, r.report.text())
		err = errors.Join(err, printErr)
	}
	switch {
	case err != nil:
		return err
	case r.report.Invalid > 0:
		return &exitError{exitIncomplete, fmt.Errorf("%s lines are no events", thousands(r.report.Invalid))}
	case ctx.Err() != nil && r.rest:
		return &exitError{exitIncomplete, fmt.Errorf("interrupted; %s events are not there yet: the same command again appends them",
			thousands(int64(r.source.total)-r.report.done()))}
	}
	return nil
}
