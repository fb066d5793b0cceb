// Package chaos proves the order system under faults. It runs every part of the shop as a process of its own, some of them
// twice, places orders, and meanwhile kills processes and the broker, freezes some, and ends others in good order. Then it
// lets the shop come to rest, ends it, and has it checked by a program that reads only the event store and the sinks.
//
// What is broken when is by a seed, relative to the orders that are placed. Every process that is started dies with this one,
// however that ends, and no other process is touched.
//
// The package works on Linux, macOS and the BSDs. Elsewhere [Run] returns [child.ErrSystem].
package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/eventstore/relay"
	"github.com/evdemo/evdemo/internal/child"
	"github.com/evdemo/evdemo/internal/shop/check"
	"github.com/evdemo/evdemo/internal/shop/service"
	"github.com/evdemo/evdemo/internal/shop/system"
	"github.com/evdemo/evdemo/topology"
)

// run is one proof under way.
type run struct {
	Config
	temporary bool // Dir
	store     *eventstore.Store
	broker    broker
	resources topology.Resources
	crew      *crew
	tally     *tally
	progress  *progress
	screen    *screen
	report    Report
	began     time.Time
	patience  time.Duration // how long nothing may happen
	calm      time.Duration // how long nothing happens where all is done
}

// Run runs a proof. The report's Holds says how it went. An error means that there is none: ctx has ended, or the shop could
// not be started. In any case everything that was started has ended when it returns.
func Run(ctx context.Context, config Config) (report Report, err error) {
	r, err := newRun(config)
	if err != nil {
		return report, err
	}
	return r.do(ctx)
}

func newRun(config Config) (*run, error) {
	r := &run{Config: config, began: time.Now(), calm: calm}
	if err := r.withDefaults(); err != nil {
		return nil, err
	}
	if !child.Possible {
		return nil, child.ErrSystem
	}
	r.patience = r.StepTimeout + recovery
	return r, nil
}

func (r *run) do(ctx context.Context) (report Report, err error) {
	if err := r.makeDir(); err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, r.removeDir(err == nil && report.Holds)) }()
	if r.store, err = r.openStore(ctx); err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, r.store.Close()) }()
	if r.broker, err = openBroker(ctx, r); err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, r.broker.close(ctx, err == nil && report.Holds)) }()
	if err := r.prove(ctx); err != nil {
		return report, err
	}
	return r.report, nil
}

// openStore makes the event store, which must be a new one: what is in it is what the proof is about.
func (r *run) openStore(ctx context.Context) (*eventstore.Store, error) {
	store, err := eventstore.Open(ctx, eventstore.Config{DB: r.DB, BusyTimeout: patientStore, Logger: r.Logger})
	if err != nil {
		return nil, err
	}
	head, err := store.Head(ctx)
	if err == nil && head > 0 {
		err = fmt.Errorf("%w: %s has %d events", ErrUsed, eventstore.Location(r.DB), head)
	}
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return store, nil
}

// patientStore is how long a transaction waits for a process that was frozen in the middle of another.
const patientStore = 30 * time.Second

// mostRounds is how often a shop is started again to finish what was left when it was ended.
const mostRounds = 10

// prove is all of it, from the start of the parts to the verdict.
//
// A part that is ended gives back to the broker what it has in hand and has not begun. That cannot be seen before, so the shop
// is started again where anything is left, for as long as there is less of it each time.
func (r *run) prove(ctx context.Context) error {
	r.resources = system.Resources(r.Flow, r.broker.prefix())
	r.progress, r.tally = newProgress(), newTally()
	r.report = Report{Flow: r.Flow, Seed: r.Seed, Broker: r.broker.version(), Placed: r.Orders}
	stalled, err := r.round(ctx, r.storm)
	if err != nil {
		return err
	}
	before := math.MaxInt
	for range mostRounds {
		left, err := r.left(ctx)
		if err != nil {
			return fmt.Errorf("look for what is left to do: %w", err)
		}
		if stalled != nil || left == 0 || left >= before {
			break
		}
		before = left
		r.screen.say("%d events were in hand and not begun. Starting all parts again.", left)
		if stalled, err = r.round(ctx, nil); err != nil {
			return err
		}
	}
	return r.judge(ctx, stalled)
}

// round starts the shop, does something with it, lets it come to rest and ends it. It returns errStalled apart, because that is
// not the end of the proof: the verdict says what is missing.
func (r *run) round(ctx context.Context, storm func(context.Context) error) (stalled, err error) {
	if r.crew, err = startCrew(ctx, r, slices.Concat(service.Names(r.Flow), system.SinkNames())); err != nil {
		return nil, err
	}
	defer r.crew.abort()
	if storm != nil {
		r.report.Processes = len(r.crew.victims())
		r.screen.say("%d processes run %d parts of the shop, in %s, on %s. Seed %d; all of it is in %s.", r.report.Processes,
			len(service.Names(r.Flow))+len(system.SinkNames()), r.Flow, r.report.Broker, r.Seed, r.Dir)
	}
	if err := r.crew.awaitOpen(ctx); err != nil {
		return nil, err
	}
	if stalled, err = r.work(ctx, storm); err != nil {
		return nil, err
	}
	r.screen.say("Ending all parts with SIGTERM.")
	return stalled, r.crew.end(ctx)
}

// left is how many events wait to be handled, or to be published.
func (r *run) left(ctx context.Context) (n int, err error) {
	lag, err := relay.LagOf(ctx, r.store, system.RelayName)
	if err != nil {
		return 0, err
	}
	waiting, err := r.broker.waiting(ctx, r.resources)
	for queue, events := range waiting {
		if !isDeadLetters(queue) {
			n += events
		}
	}
	return n + int(lag.Events()), err
}

// work lets the shop work: first in a storm, if there is one, then in peace until it has come to rest.
func (r *run) work(ctx context.Context, storm func(context.Context) error) (stalled, err error) {
	r.progress.move(r.progress.head.Load()) // it has just begun
	working, stop := context.WithCancelCause(ctx)
	watching, unwatch := context.WithCancel(working)
	var watchers sync.WaitGroup
	for _, watch := range []func(context.Context) error{r.watchCrew, r.watchEnds, r.watchHead, r.drawUntil} {
		watchers.Go(func() {
			if err := watch(watching); err != nil {
				stop(err)
			}
		})
	}
	if storm != nil {
		if err = storm(working); err == nil {
			r.screen.say("All %d orders are placed and all faults are over; now the shop comes to rest.", r.Orders)
		}
	}
	if err == nil {
		err = r.rest(working)
	}
	cause := context.Cause(working)
	unwatch()
	watchers.Wait()
	stop(nil)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(cause, errStalled):
		return cause, nil
	case cause != nil:
		return nil, cause
	default:
		return nil, err
	}
}

// watchCrew waits until ctx ends. It is an error that all parts end before.
func (r *run) watchCrew(ctx context.Context) error {
	select {
	case <-r.crew.ended:
		return r.crew.failure()
	case <-ctx.Done():
		return nil
	}
}

// doubled tells whether two processes of a part compete.
func doubled(part string) bool {
	return slices.Contains([]string{service.Payment, service.Inventory, service.Shipping, service.Email, service.Coordinator}, part)
}

// judge reads what has come of it, and enters into the report what is wrong.
func (r *run) judge(ctx context.Context, stalled error) (err error) {
	r.screen.say("Checking the event store and the sinks.")
	r.tally.into(&r.report)
	if r.report.Report, err = r.Check(ctx, r.store, r.sinks(), r.report.found); err != nil {
		return fmt.Errorf("check the shop: %w", err)
	}
	if r.report.Findings == nil {
		r.report.Findings = map[check.Rule]int{}
	}
	if stalled != nil {
		r.report.wrong(Rest, "%v", stalled)
	}
	if r.report.Orders != r.Orders {
		r.report.wrong(AllThere, "%d orders were placed, and %d are in the event store", r.Orders, r.report.Orders)
	}
	for _, crash := range r.tally.crashes() {
		r.report.wrong(NoCrash, "%s", crash)
	}
	if err := r.inspectQueues(ctx); err != nil {
		return fmt.Errorf("look into the queues: %w", err)
	}
	if lag, err := relay.LagOf(ctx, r.store, system.RelayName); err != nil {
		return fmt.Errorf("look at the relay: %w", err)
	} else if lag.Events() > 0 {
		r.report.wrong(Published, "%d are not", lag.Events())
	}
	r.report.Holds = len(r.report.Findings) == 0
	r.report.Seconds = time.Since(r.began).Seconds()
	return nil
}

// inspectQueues finds what is left in a queue although nobody works any more: what was not handled, and what was given up.
func (r *run) inspectQueues(ctx context.Context) error {
	left, err := r.broker.waiting(ctx, r.resources)
	if err != nil {
		return err
	}
	for _, queue := range slices.Sorted(maps.Keys(left)) {
		rule := Empty
		if isDeadLetters(queue) {
			rule = NoneGivenUp
			r.report.DeadLetters += left[queue]
		}
		r.report.wrong(rule, "%d in %s", left[queue], queue)
	}
	return nil
}

func (r *run) makeDir() (err error) {
	if r.Dir == "" {
		r.temporary = true
		if r.Dir, err = os.MkdirTemp("", "evdemo-prove-"); err != nil {
			return err
		}
	}
	if err = r.placeFiles(); err != nil {
		return err
	}
	for _, made := range []string{r.node(), r.sinks(), r.logs()} {
		if _, err := os.Stat(made); err == nil {
			return fmt.Errorf("%w: there is %s of another proof", ErrUsed, made)
		}
	}
	return os.MkdirAll(r.logs(), 0o750)
}

// removeDir removes a temporary directory, unless there is something to be found out there.
func (r *run) removeDir(holds bool) error {
	if !r.temporary {
		return nil
	}
	if !holds && r.report.Findings != nil {
		r.screen.say("What there is to look into is in %s.", r.Dir)
		return nil
	}
	return os.RemoveAll(r.Dir)
}
