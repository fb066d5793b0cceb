package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
)

const (
	// fastPrefetch keeps the built-in handler busy where it does not wait for anything.
	fastPrefetch = 300
	maxPrefetch  = 65535 // the protocol's own limit
	// maxName bounds --name so that it fits the broker's 255 bytes together with what stands
	// before it.
	maxName = 200
)

// consumeOptions are the flags that work and listen share.
type consumeOptions struct {
	operateOptions

	count        int
	idleTimeout  time.Duration
	drainTimeout time.Duration
	prefetch     int
	name         string
	noDeclare    bool
	topology     string
	output       *output

	holding func(context.Context) (int, error) // what a gate holds; nil without one
}

func (o *consumeOptions) addFlags(flags *pflag.FlagSet) {
	flags.IntVar(&o.count, "count", 0, "stop after so many events handled with success (0: no limit)")
	flags.DurationVar(&o.idleTimeout, "idle-timeout", 0, "stop when no event has come for so long (0: never)")
	flags.DurationVar(&o.drainTimeout, "drain-timeout", worker.DefaultDrainTimeout, "after an interrupt, how long to wait for events in hand")
	flags.IntVar(&o.prefetch, "prefetch", 0, "events the broker may send ahead (0: 300; with --latency twice, with --exec and --http eight times the concurrency)")
	flags.StringVar(&o.name, "name", "", "name in output and in the broker's list of connections (default: the process id)")
	flags.BoolVar(&o.noDeclare, "no-declare", false, "consume what is there; declare nothing")
	flags.StringVar(&o.topology, "topology", "", "topology file that says how to declare (default: the built-in topology)")
	o.operateOptions.addFlags(flags)
	o.output = outputFlag(flags, "table", "json")
}

func (o *consumeOptions) check() error {
	switch {
	case o.count < 0:
		return fmt.Errorf("--count %d: want 0 or more", o.count)
	case o.prefetch < 0 || o.prefetch > maxPrefetch:
		return fmt.Errorf("--prefetch %d: want 0 to %d", o.prefetch, maxPrefetch)
	case o.idleTimeout < 0 || o.drainTimeout < 0:
		return errors.New("a timeout is negative")
	case len(o.name) > maxName || printable(o.name, maxName) != o.name:
		return fmt.Errorf("--name %.40q: want at most %d bytes of text without control characters", o.name, maxName)
	}
	if o.name == "" {
		o.name = fmt.Sprint(os.Getpid())
	}
	return nil
}

// checkBrokerName finds what the broker would end the whole connection for.
func checkBrokerName(flag, name string) error {
	if len(name) > 255 || !utf8.ValidString(name) {
		return fmt.Errorf("--%s %.40q: want at most 255 bytes of UTF-8", flag, name)
	}
	return nil
}

// config makes the worker's configuration, but for what it consumes.
func (o *consumeOptions) config(app *App, command string) (worker.Config, error) {
	broker, err := app.broker()
	if err != nil {
		return worker.Config{}, err
	}
	return worker.Config{
		URLs: broker.URLs, TLS: broker.TLS,
		ConnectionName: "evdemo " + command + " " + o.name,
		ConnectTimeout: app.global.connectTimeout,
		Limit:          o.count, IdleTimeout: o.idleTimeout, DrainTimeout: max(o.drainTimeout, 1), // 0 is the default there
		Prefetch: o.prefetch, Logger: app.Logger(),
	}, nil
}

// declare picks what to declare from the topology.
func (o *consumeOptions) declare(app *App, pick func(topology.Spec) topology.Resources) (topology.Resources, error) {
	if o.noDeclare {
		return topology.Resources{}, nil
	}
	spec, err := app.loadSpec(o.topology)
	if err != nil {
		return topology.Resources{}, err
	}
	return pick(spec), nil
}

// run runs the worker and prints its summary, also where it fails. Output that cannot be written
// ends the run: no event is at fault then, and each goes back to its queue.
func (o *consumeOptions) run(ctx context.Context, app *App, config worker.Config, p *printer, handler worker.Handler) error {
	watched, err := o.watch(ctx, app)
	if err != nil {
		return err
	}
	defer watched.close(ctx)
	w, err := watched.worker(config, handler)
	if err != nil {
		return usageError(err)
	}
	if err := watched.serve(ctx, w.Ready, w.Collector()); err != nil {
		return err
	}
	ctx, p.stop = context.WithCancel(ctx)
	defer p.stop()
	began := time.Now()
	err = errors.Join(w.Run(ctx), p.failure())
	if w.Stats().Delivered > 0 || err == nil {
		o.summarise(ctx, app, w.Stats(), time.Since(began))
	}
	if errors.Is(err, worker.ErrDrainTimeout) {
		return &exitError{exitIncomplete, err}
	}
	return explainConflict(err)
}

// summary is the account of a consumer's run.
type summary struct {
	Name        string  `json:"name"`
	Handled     int64   `json:"handled"`
	Filtered    int64   `json:"filtered,omitempty"`
	Failed      int64   `json:"failed"`
	Retried     int64   `json:"retried,omitempty"`
	Dead        int64   `json:"dead_lettered,omitempty"`
	Duplicates  int64   `json:"duplicates,omitempty"`
	Held        int64   `json:"held,omitempty"`
	Released    int64   `json:"released,omitempty"`
	Orphaned    int64   `json:"orphaned,omitempty"`
	Holding     int64   `json:"holding,omitempty"` // in the gate's store, for its whole group
	Redelivered int64   `json:"redelivered"`
	Seconds     float64 `json:"seconds"`
	PerSecond   float64 `json:"per_second"`
	Reconnects  int64   `json:"reconnects,omitempty"`
	Late        int64   `json:"late,omitempty"`
}

// summarise prints the summary: to standard output where that carries nothing else, to standard
// error otherwise.
func (o *consumeOptions) summarise(ctx context.Context, app *App, stats worker.Stats, took time.Duration) {
	s := summary{
		Name: o.name, Handled: stats.Handled, Filtered: stats.Skipped, Failed: stats.Failed,
		Retried: stats.Retried, Dead: stats.DeadLettered, Duplicates: stats.Duplicates,
		Held: stats.Held, Released: stats.Released, Orphaned: stats.Orphaned,
		Redelivered: stats.Redelivered, Reconnects: stats.Reconnects, Late: stats.Late, Seconds: took.Seconds(),
	}
	if o.holding != nil {
		if n, err := o.holding(context.WithoutCancel(ctx)); err == nil {
			s.Holding = int64(n)
		}
	}
	if s.Seconds > 0 {
		s.PerSecond = float64(s.Handled) / s.Seconds
	}
	to := app.Err
	if app.global.quiet {
		to = app.Out
	}
	if o.output.json() {
		_ = writeJSON(to, s)
		return
	}
	fmt.Fprintln(to, s.text())
}

func (s summary) text() string {
	parts := []string{fmt.Sprintf("%s: handled %s  failed %s  redelivered %s", s.Name, thousands(s.Handled), thousands(s.Failed), thousands(s.Redelivered))}
	for _, more := range []struct {
		name  string
		count int64
	}{
		{"retried", s.Retried},
		{"dead-lettered", s.Dead},
		{"duplicates", s.Duplicates},
		{"filtered out", s.Filtered},
		{"held", s.Held},
		{"released", s.Released},
		{"orphaned", s.Orphaned},
		{"still held", s.Holding},
	} {
		if more.count > 0 {
			parts = append(parts, more.name+" "+thousands(more.count))
		}
	}
	parts = append(parts, fmt.Sprintf("in %.2f s (%s per second)", s.Seconds, thousands(int64(s.PerSecond))))
	text := strings.Join(parts, "  ")
	if s.Late > 0 {
		text += fmt.Sprintf("\nhandled, but delivered again because the connection was lost before the acknowledgement: %s", thousands(s.Late))
	}
	return text
}

// printer writes one line per event. Each line is with the system before the event is
// acknowledged.
type printer struct {
	mu     sync.Mutex
	out    io.Writer
	name   string
	json   bool
	quiet  bool
	buf    []byte
	stop   func() // ends the run
	err    error  // why output cannot be written
	broken error  // why nothing can be handled
}

func newPrinter(app *App, o *consumeOptions) *printer {
	return &printer{out: app.Out, name: o.name, json: o.output.json(), quiet: app.global.quiet}
}

func (p *printer) print(d *worker.Delivery) error {
	if p.quiet {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	if p.json {
		p.buf, err = d.Event.CompactData().AppendJSON(p.buf[:0])
	} else {
		p.buf = appendLine(p.buf[:0], p.name, d)
	}
	if err != nil {
		return err
	}
	p.buf = append(p.buf, '\n')
	if p.err == nil {
		_, p.err = p.out.Write(p.buf)
	}
	if p.err != nil {
		p.stop()
		return worker.ErrRequeue
	}
	return nil
}

// fail ends the run with an error that is no event's.
func (p *printer) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken == nil {
		p.broken = err
	}
	p.stop()
}

func (p *printer) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		return p.broken
	}
	return errors.Join(p.broken, fmt.Errorf("print events: %w", p.err))
}

// appendLine writes an event for people: who got it, what it is, and the beginning of its data.
func appendLine(b []byte, name string, d *worker.Delivery) []byte {
	const widest = 100
	b = fmt.Appendf(b, "%s  %s  %s", name, printable(d.Event.Type, widest), printable(d.Event.ID, widest))
	switch {
	case d.Attempt > 1:
		b = fmt.Appendf(b, "  (attempt %d)", d.Attempt)
	case d.Redelivered:
		b = append(b, "  (delivered again)"...)
	}
	if d.Foreign != nil {
		b = append(b, "  (no CloudEvent)"...)
	}
	return fmt.Appendf(b, "  %s", printable(string(d.Event.Data[:min(len(d.Event.Data), 4*widest)]), widest))
}

// printable makes text fit for one line of a terminal: no control characters, valid UTF-8, and
// no more runes than most.
func printable(s string, most int) string {
	runes := make([]rune, 0, min(len(s), most))
	for _, r := range s {
		if len(runes) == most {
			return string(runes) + "…"
		}
		if r < ' ' || r == 0x7f || (0x80 <= r && r < 0xa0) {
			r = ' '
		}
		runes = append(runes, r)
	}
	return string(runes)
}

func writeEvent(w io.Writer, e event.Event) error {
	line, err := e.CompactData().AppendJSON(nil)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// requireNoArgs refuses arguments with a text that names the flag which was likely meant.
func requireNoArgs(flag string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("unexpected argument %q; did you mean --%s %s?", args[0], flag, args[0])
		}
		return nil
	}
}
