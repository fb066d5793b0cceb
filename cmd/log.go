package cmd

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"

	"github.com/evdemo/evdemo/internal/filter"
	"github.com/evdemo/evdemo/internal/replay"
	"github.com/evdemo/evdemo/worker"
)

// spanOptions say what part of a log is wanted.
type spanOptions struct {
	from, to string

	start, end worker.LogPosition // from them
}

func (o *spanOptions) addFromFlag(flags *pflag.FlagSet, text string) {
	flags.StringVar(&o.from, "from", "", text+": first, last, next, an offset, a time, or how long ago, as in 1h")
}

func (o *spanOptions) addToFlag(flags *pflag.FlagSet, text string) {
	flags.StringVar(&o.to, "to", "", text+": an offset, a time, how long ago, or now")
}

// check reads both. The end itself is not wanted any more.
func (o *spanOptions) check() error {
	now := time.Now()
	var err error
	if o.from != "" {
		if o.start, err = worker.ParseLogPosition(o.from, now); err != nil {
			return fmt.Errorf("--from: %w", err)
		}
	}
	switch o.to {
	case "", "now":
		return nil
	case "first", "last", "next":
		return fmt.Errorf("--to %s: want an offset, a time, how long ago, or now", o.to)
	}
	if o.end, err = worker.ParseLogPosition(o.to, now); err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	return o.checkSpan(now)
}

// checkSpan finds spans with nothing in them.
func (o *spanOptions) checkSpan(now time.Time) error {
	first, fromOffset := o.start.Offset()
	last, toOffset := o.end.Offset()
	from, fromTime := o.start.Time()
	to, toTime := o.end.Time()
	switch {
	case fromOffset && toOffset && last <= first, fromTime && toTime && !to.After(from):
		return fmt.Errorf("--from %s is not before --to %s", o.from, o.to)
	case toTime && to.After(now.Add(time.Minute)):
		return fmt.Errorf("--to %s is in the future: a log is read to the end that it has now at most", o.to)
	}
	return nil
}

// logConfig makes the configuration for reading a topic's log.
func (a *App) logConfig(topic, name string) (worker.LogConfig, error) {
	broker, err := a.broker()
	if err != nil {
		return worker.LogConfig{}, err
	}
	return worker.LogConfig{
		URLs: broker.URLs, TLS: broker.TLS, ConnectionName: "evdemo " + name,
		ConnectTimeout: a.global.connectTimeout, Logger: a.Logger(), Topic: topic,
	}, nil
}

// tail reads a log until it has had enough.
type tail struct {
	config worker.LogConfig
	picker *filter.Picker
	// count ends it after so many entries that were handled; 0: no limit. idle ends it when no entry has
	// come for so long; 0: never.
	count int
	idle  time.Duration

	ready atomic.Bool
	stats worker.Stats
}

func (t *tail) run(ctx context.Context, handle func(*worker.Entry) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	silence := time.AfterFunc(time.Hour, stop)
	silence.Stop()
	defer silence.Stop()
	watch := func() {
		if t.idle > 0 {
			silence.Reset(t.idle)
		}
	}
	t.config.Subscribed = func(on bool) {
		t.ready.Store(on)
		if silence.Stop(); on {
			watch()
		}
	}
	return worker.ReadLog(ctx, t.config, func(ctx context.Context, e *worker.Entry) error {
		if ctx.Err() != nil { // enough
			return nil
		}
		silence.Stop()
		defer watch()
		t.stats.Delivered++
		if !t.picker.Picks(e.Event, e.Headers) {
			t.stats.Skipped++
			return nil
		}
		if err := handle(e); err != nil {
			return err
		}
		if t.stats.Handled++; t.stats.Handled == int64(t.count) {
			stop()
		}
		return nil
	})
}

// explainLog gives what cannot be read its exit code.
func explainLog(err error) error {
	if errors.Is(err, worker.ErrBeyondLog) || errors.Is(err, replay.ErrShorter) {
		return usageError(err)
	}
	return err
}
