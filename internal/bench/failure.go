//go:build unix

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the bare loop's own connection

	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
)

// starters is how many commands are run at a time.
const starters = 4

// starting measures one round of starting /bin/true, by the bare loop and for an event each.
func (b *bare) starting(ctx context.Context) (p pair, err error) {
	n := b.config.commands
	began := time.Now()
	var running sync.WaitGroup
	failed := make(chan error, starters)
	for range starters {
		running.Go(func() {
			for range n / starters {
				if err := exec.CommandContext(ctx, "/bin/true").Run(); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	running.Wait()
	p.bare = float64(n) / time.Since(began).Seconds()
	select {
	case err := <-failed:
		return p, err
	default:
	}
	p.ours, err = b.worked(ctx, n, "--exec", "/bin/true", "--concurrency", fmt.Sprint(starters))
	return p, err
}

// worked fills a queue and has evdemo work it off.
func (b *bare) worked(ctx context.Context, events int, args ...string) (perSecondOf float64, err error) {
	queue, err := b.newQueue()
	if err != nil {
		return 0, err
	}
	if err := b.publishDistinct(ctx, queue, events); err != nil {
		return 0, err
	}
	report, _, err := b.evdemo(ctx, append([]string{"work", "--queue", queue, "--no-declare", "--count", fmt.Sprint(events)}, args...)...)
	if err != nil {
		return 0, err
	}
	return perSecond(report), b.deleteQueue(queue)
}

// publishDistinct publishes events with ids of their own.
func (b *bare) publishDistinct(ctx context.Context, queue string, events int) error {
	_, _, err := b.evdemo(ctx, "publish", "--queue", queue, "--no-declare", "--type", "order.created", "--source", "bench",
		"--data", string(b.data), "--count", fmt.Sprint(events))
	return err
}

// remembering measures one round of durable inserts of an event's key, one transaction each, and of
// handling events once.
func (b *bare) remembering(ctx context.Context) (p pair, err error) {
	dir, err := os.MkdirTemp("", "evdemo-bench-")
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if p.bare, err = insert(ctx, filepath.Join(dir, "bare.db"), b.config.commands/2); err != nil {
		return p, err
	}
	p.ours, err = b.worked(ctx, 5*b.config.commands, "--dedup", filepath.Join(dir, "handled.db"), "--concurrency", "32")
	return p, err
}

func insert(ctx context.Context, path string, n int) (perSecond float64, err error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, `CREATE TABLE done (consumer TEXT, source TEXT, id TEXT, PRIMARY KEY (consumer, source, id)) WITHOUT ROWID`); err != nil {
		return 0, err
	}
	began := time.Now()
	for i := range n {
		if _, err := db.ExecContext(ctx, `INSERT INTO done VALUES ('payments', 'bench', ?)`, fmt.Sprintf("event-%d", i)); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

// retryDelay is the tier of the measurement of retries.
const retryDelay = time.Second

var errOnce = errors.New("fails once")

// retrying measures one round of plain deliveries, from a bare loop that publishes with confirms to the
// handler, and of retries: every event fails once, waits, and comes again. What a retry costs is what it
// adds to the time, without the delay itself.
func (b *bare) retrying(ctx context.Context) (plain, retry time.Duration, err error) {
	n := b.config.events / 4
	published, handled, err := b.handleAll(ctx, n, false)
	if err != nil {
		return 0, 0, err
	}
	_, both, err := b.handleAll(ctx, n, true)
	return (published + handled) / time.Duration(n), (both - retryDelay - handled) / time.Duration(n), err
}

// handleAll publishes events and has them handled, and tells how long each took.
func (b *bare) handleAll(ctx context.Context, n int, failing bool) (published, handled time.Duration, err error) {
	b.queues++
	queue := fmt.Sprintf("evdemo-bench-%d-%d", os.Getpid(), b.queues)
	spec := topology.Spec{Queues: map[string]topology.Queue{queue: {Retry: []time.Duration{retryDelay}}}}
	resources := spec.QueueResources(queue)
	if err := resources.Apply(ctx, b.conn); err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, resources.Delete(ctx, b.conn)) }()
	perSecond, err := b.publish(queue, n)
	if err != nil {
		return 0, 0, err
	}
	published = time.Duration(float64(n) / perSecond * float64(time.Second))
	w, err := worker.New(worker.Config{
		URLs: []string{b.config.url}, Queue: queue, Prefetch: b.config.window, Limit: n, Retry: []time.Duration{retryDelay},
	}, func(_ context.Context, d *worker.Delivery) error {
		if failing && d.Attempt == 1 {
			return errOnce
		}
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	err = w.Run(ctx)
	return published, time.Since(began), err
}

// costOfRetry prints what a retry costs, in plain deliveries.
func costOfRetry(ctx context.Context, b *bare) (above bool, err error) {
	const limit = 3
	fmt.Println("a failed event's retry, without the delay, against a plain delivery (published with a confirm, and handled)")
	fmt.Printf("  %-8s %12s %12s %8s\n", "round", "plain", "retry", "ratio")
	var ratios []float64
	for round := range b.config.rounds {
		plain, retry, err := b.retrying(ctx)
		if err != nil {
			return false, err
		}
		ratios = append(ratios, float64(retry)/float64(plain))
		fmt.Printf("  %-8d %12v %12v %8.2f\n", round+1, plain.Round(100*time.Nanosecond), retry.Round(100*time.Nanosecond), ratios[round])
	}
	m := median(ratios)
	fmt.Printf("  %-8s %34.2f   want at most %d: %s\n\n", "median", m, limit, verdict(m <= limit))
	return m > limit, nil
}

// letters fills a dead-letter queue and has evdemo list, show and redrive it, and looks at how long that
// takes and how much memory.
func (b *bare) letters(ctx context.Context) (above bool, err error) {
	const n, limit = 100_000, 100
	b.queues++
	queue := fmt.Sprintf("evdemo-bench-%d-%d", os.Getpid(), b.queues)
	resources := topology.Default().QueueResources(queue)
	if err := resources.Apply(ctx, b.conn); err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, resources.Delete(ctx, b.conn)) }()
	if err := b.publishDistinct(ctx, topology.DeadLetterQueue(queue), n); err != nil {
		return false, err
	}
	fmt.Printf("%s dead letters\n", thousands(n))
	for _, args := range [][]string{{"list", queue}, {"show", queue, "--group-by", "type"}, {"redrive", queue, "--all"}} {
		began := time.Now()
		_, megabytes, err := b.run(ctx, append([]string{"dlq"}, args...)...)
		if err != nil {
			return false, err
		}
		above = above || megabytes >= limit
		fmt.Printf("  dlq %-10s %6.0f MB, %5.1f s   want under %d MB: %s\n", args[0], megabytes, time.Since(began).Seconds(), limit, verdict(megabytes < limit))
	}
	fmt.Println()
	return above, nil
}
