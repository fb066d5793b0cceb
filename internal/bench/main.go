//go:build unix

// Command bench measures evdemo beside bare loops over the client library, on the same broker and
// in the same run, and prints the ratios. "make bench" calls it.
//
// Machines are shared and noisy: every round measures both, one after the other, and the ratio
// that counts is the median over the rounds.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

type config struct {
	evdemo   string
	url      string
	events   int
	rounds   int
	window   int
	memory   int
	commands int
	large    int
	only     string
	check    bool
}

func main() {
	var c config
	flag.StringVar(&c.evdemo, "evdemo", "bin/evdemo", "the evdemo to measure")
	flag.StringVar(&c.url, "url", os.Getenv("AMQP_URL"), "broker URL (default AMQP_URL)")
	flag.IntVar(&c.events, "events", 200_000, "events per measurement")
	flag.IntVar(&c.rounds, "rounds", 5, "measurements of each kind")
	flag.IntVar(&c.window, "window", 1000, "unconfirmed events at a time, and prefetch")
	flag.IntVar(&c.memory, "memory", 1_000_000, "events for the measurement of memory (0: none)")
	flag.IntVar(&c.commands, "commands", 8000, "commands to start per measurement")
	flag.IntVar(&c.large, "large", 5_000_000, "events in the store for the measurement of a large one (0: none)")
	flag.StringVar(&c.only, "only", "", "measure only this: publish, work, exec, dedup, order, log, bus, schema, store, postgres, large, saga, http, retry, letters, memory or startup")
	flag.BoolVar(&c.check, "check", false, "exit with 5 where a figure misses its threshold")
	flag.Parse()
	if c.url == "" {
		c.url = "amqp://guest:guest@localhost:5672/"
	}
	missed, err := run(context.Background(), c)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	case missed && c.check:
		os.Exit(5)
	}
}

func run(ctx context.Context, c config) (missed bool, err error) {
	b, err := newBare(c)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	fmt.Printf("%s events of %d bytes, window and prefetch %d, quorum queue, %s, median of %d rounds\n\n",
		thousands(c.events), len(b.message.Body), c.window, b.server(), c.rounds)
	for _, m := range []struct {
		what, name string
		threshold  float64
		measure    func(context.Context) (pair, error)
	}{
		{"publish", "publish, every event confirmed, against a bare loop", 0.9, b.publishing},
		{"work", "work, against a bare loop that acknowledges 100 at a time", 0.85, b.working},
		{"exec", "work --exec /bin/true, four at a time, against starting it from a bare loop", 0.8, b.starting},
		{"dedup", "work --dedup FILE, 32 at a time, against inserting the key in a transaction each", 1, b.remembering},
		{"order", "work --ordered-by with a single key, eight at a time, against the same without order", 0.6, b.ordering},
		{"log", "listen --from first, against a bare loop that reads the stream", 0.8, b.reading},
		{"bus", "the bus in memory with four groups, against four channels", 0.2, b.fanningOut},
		{"schema", "checking sample orders, against decoding their data", 0.1, b.checking},
	} {
		if !c.measures(m.what) {
			continue
		}
		below, err := compare(ctx, c, m.name, m.threshold, m.measure)
		if err != nil {
			return false, fmt.Errorf("%s: %w", m.name, err)
		}
		missed = missed || below
	}
	for _, measure := range []func(context.Context, config) (bool, error){measureStores, measureShop, measureHTTP} {
		below, err := measure(ctx, c)
		if err != nil {
			return false, err
		}
		missed = missed || below
	}
	if c.measures("retry") {
		above, err := costOfRetry(ctx, b)
		if err != nil {
			return false, fmt.Errorf("retry: %w", err)
		}
		missed = missed || above
	}
	if c.measures("letters") {
		above, err := b.letters(ctx)
		if err != nil {
			return false, fmt.Errorf("letters: %w", err)
		}
		missed = missed || above
	}
	if c.memory > 0 && c.measures("memory") {
		above, err := b.memory(ctx, c.memory)
		if err != nil {
			return false, fmt.Errorf("memory: %w", err)
		}
		missed = missed || above
	}
	if !c.measures("startup") {
		return missed, nil
	}
	slow, err := startup(ctx, c)
	return missed || slow, err
}

// measures tells whether something is to be measured.
func (c config) measures(what string) bool { return c.only == "" || c.only == what }

// pair is one round: events per second of the bare loop and of evdemo.
type pair struct{ bare, ours float64 }

func compare(ctx context.Context, c config, name string, threshold float64, measure func(context.Context) (pair, error)) (below bool, err error) {
	fmt.Println(name)
	fmt.Printf("  %-8s %12s %12s %8s\n", "round", "bare/s", "evdemo/s", "ratio")
	var ratios []float64
	for round := range c.rounds {
		p, err := measure(ctx)
		if err != nil {
			return false, err
		}
		ratios = append(ratios, p.ours/p.bare)
		fmt.Printf("  %-8d %12s %12s %8.2f\n", round+1, thousands(int(p.bare)), thousands(int(p.ours)), p.ours/p.bare)
	}
	median := median(ratios)
	fmt.Printf("  %-8s %34.2f   want at least %.2f: %s\n\n", "median", median, threshold, verdict(median >= threshold))
	return median < threshold, nil
}

func verdict(ok bool) string {
	if ok {
		return "ok"
	}
	return "MISSED"
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// evdemo runs the binary and gives its report and its greatest resident memory in MB.
func (b *bare) evdemo(ctx context.Context, args ...string) (report map[string]any, megabytes float64, err error) {
	out, megabytes, err := b.run(ctx, args...)
	if err != nil {
		return nil, 0, err
	}
	if err := json.Unmarshal(out, &report); err != nil {
		return nil, 0, fmt.Errorf("evdemo %v printed %q: %w", args, out, err)
	}
	return report, megabytes, nil
}

// run runs the binary and gives its output and its greatest resident memory in MB.
func (b *bare) run(ctx context.Context, args ...string) (out []byte, megabytes float64, err error) {
	command := exec.CommandContext(ctx, b.config.evdemo, append(args, "--url", b.config.url, "-q", "-o", "json")...)
	command.Stderr = os.Stderr
	if out, err = command.Output(); err != nil {
		return nil, 0, fmt.Errorf("evdemo %v: %w", args, err)
	}
	if usage, ok := command.ProcessState.SysUsage().(*syscall.Rusage); ok {
		megabytes = float64(usage.Maxrss) * rssUnit / 1e6
	}
	return out, megabytes, nil
}

func perSecond(report map[string]any) float64 {
	n, _ := report["per_second"].(float64)
	return n
}

// memory publishes many events from a file and works them off again, and looks at how much
// memory that takes.
func (b *bare) memory(ctx context.Context, events int) (above bool, err error) {
	const limit = 100
	dir, err := os.MkdirTemp("", "evdemo-bench-")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file := filepath.Join(dir, "events.jsonl")
	if err := b.writeFile(file, events); err != nil {
		return false, err
	}
	queue, err := b.newQueue()
	if err != nil {
		return false, err
	}
	published, publishing, err := b.evdemo(ctx, "publish", "--queue", queue, "--file", file, "--no-declare")
	if err != nil {
		return false, err
	}
	worked, working, err := b.evdemo(ctx, "work", "--queue", queue, "--count", fmt.Sprint(events), "--no-declare")
	if err != nil {
		return false, err
	}
	fmt.Printf("resident memory for %s events\n", thousands(events))
	for _, row := range []struct {
		name      string
		megabytes float64
		perSecond float64
	}{
		{"published from a file", publishing, perSecond(published)},
		{"worked off", working, perSecond(worked)},
	} {
		fmt.Printf("  %-22s %6.0f MB at %s per second   want under %d: %s\n",
			row.name, row.megabytes, thousands(int(row.perSecond)), limit, verdict(row.megabytes < limit))
	}
	fmt.Println()
	return max(publishing, working) >= limit, b.deleteQueue(queue)
}

// startup measures how long the smallest command takes.
func startup(ctx context.Context, c config) (slow bool, err error) {
	const limit = 30 * time.Millisecond
	took := make([]float64, 21)
	for i := range took {
		began := time.Now()
		if err := exec.CommandContext(ctx, c.evdemo, "version").Run(); err != nil {
			return false, err
		}
		took[i] = time.Since(began).Seconds() * 1000
	}
	m := median(took)
	ok := m < float64(limit.Milliseconds())
	fmt.Printf("evdemo version: %.1f ms, median of %d   want under %v: %s\n", m, len(took), limit, verdict(ok))
	return !ok, nil
}

func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
