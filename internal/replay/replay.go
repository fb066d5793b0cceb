// Package replay sends again what has been: events from a topic's log or from a file, at full speed or
// at the pace at which they came, to a queue, a topic or a handler. A [Checkpoint] remembers how far that
// has come.
package replay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/evdemo/evdemo/internal/filter"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/worker"
)

// saveEvery is how old a checkpoint may be while a replay is under way.
const saveEvery = 200 * time.Millisecond

// Item is one event of a source.
type Item struct {
	// Delivery is the event as a handler sees it.
	*worker.Delivery
	// Message is the event as it is published. Its destination is where it went.
	Message publisher.Message
	// At is when it came, zero where nothing says.
	At time.Time
	// Next is where its source goes on after it.
	Next int64
	// Mark, if not nil, tells the item from another one at the same place.
	Mark func() string
}

// Place is where a source goes on: behind the item whose Next and Mark these are.
type Place struct {
	// Next is -1 for the source's own beginning.
	Next int64
	// Mark is empty where the item is not known.
	Mark string
}

// Source gives items to each, one after the other, from a place. It returns nil at its end and at the end of
// ctx, and each's error as it is. It fails where it can tell that the place is not in it any more.
type Source func(ctx context.Context, from Place, each func(context.Context, *Item) error) error

// Target takes items. It calls done once for each that it takes without an error: with nil once the item
// has got where it was to go, and with what kept it from that otherwise. It may wait before it takes one.
type Target func(ctx context.Context, item *Item, done func(error)) error

// Config says what to replay, and where to.
type Config struct {
	Source Source
	Target Target
	// Filter picks what is sent. Nil is everything.
	Filter *filter.Filter
	// Speed is how many times faster than they came the items are sent; 0 is as fast as the target
	// takes them. What has no time is sent at once.
	Speed float64
	// Checkpoint, if not nil, says where to go on, and is kept.
	Checkpoint *Checkpoint
	// SkipFailed goes on after an item that did not get through. Otherwise it ends the replay, and the
	// checkpoint stays before it: what was under way behind it and has got through is sent again.
	SkipFailed bool
	// DrainTimeout bounds the wait for outcomes once ctx has ended, or an item has failed.
	DrainTimeout time.Duration
	// Failed, if set, is called for each item that did not get through. Sent, if set, for each that did.
	// Calls come one at a time.
	Failed func(*Item, error)
	Sent   func(*Item)
	Logger *slog.Logger
}

// Report is the account of a replay: Read = Filtered + Sent + Failed + Unknown.
type Report struct {
	Read     int64 `json:"read"`
	Filtered int64 `json:"filtered"`
	Sent     int64 `json:"sent"`
	Failed   int64 `json:"failed"`
	// Unknown counts those for which no outcome came before the replay had to end.
	Unknown int64 `json:"unknown"`
	// Ended tells whether the source was read to its end.
	Ended bool `json:"ended"`
	// From is where the source began, where a checkpoint said so; -1 otherwise. Next is where it goes on;
	// -1 where nothing was read.
	From int64 `json:"from"`
	Next int64 `json:"next"`
}

// Complete tells whether all that was read has got through.
func (r Report) Complete() bool { return r.Failed == 0 && r.Unknown == 0 }

var errFailed = errors.New("an event did not get through")

// run is one replay under way.
type run struct {
	Config
	picker *filter.Picker
	pace   *pace

	mu      sync.Mutex
	report  Report
	prefix  *prefix
	waiting int           // items without an outcome
	idle    chan struct{} // holds a token whenever waiting becomes 0
	broken  bool          // an item has failed, or the checkpoint: no more are to be sent
	unsaved error         // why the checkpoint could not be saved
	halt    chan struct{} // closed then
}

// Run replays until the source or ctx ends, or until an item fails, and waits for the outcome of all that
// was sent. The error is that of the source, of the target or of the checkpoint; what failed is in the
// report.
func (c Config) Run(ctx context.Context) (Report, error) {
	r := &run{Config: c, picker: filter.NewPicker(c.Filter, c.Logger), pace: newPace(c.Speed), idle: make(chan struct{}, 1), halt: make(chan struct{})}
	from := Place{Next: -1}
	if c.Checkpoint != nil {
		from = c.Checkpoint.Place()
	}
	r.report.From, r.prefix = from.Next, newPrefix(from)
	stopSaving := r.keepSaving(ctx)
	err := c.Source(ctx, from, r.item)
	switch {
	case errors.Is(err, errFailed), ctx.Err() != nil && errors.Is(err, ctx.Err()):
		err = nil
	case err == nil && ctx.Err() == nil:
		r.report.Ended = true
	}
	r.drain(ctx)
	err = errors.Join(err, stopSaving())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Unknown, r.report.Next = int64(r.waiting), r.prefix.next
	r.waiting = -1 // what comes now is not counted
	if err == nil {
		err = r.unsaved
	}
	return r.report, err
}

// item sends one item, in its time.
func (r *run) item(ctx context.Context, item *Item) error {
	matches := r.picker.Picks(item.Event, item.Headers)
	if matches && !r.pace.wait(ctx, r.halt, item.At) && ctx.Err() != nil {
		return ctx.Err() // it was not read, as far as the account goes
	}
	r.mu.Lock()
	if r.broken {
		r.mu.Unlock()
		return errFailed
	}
	r.report.Read++
	place := r.prefix.add(item.Next, item.Mark)
	if !matches {
		r.report.Filtered++
		r.prefix.done(place)
		r.mu.Unlock()
		return nil
	}
	r.waiting++
	r.mu.Unlock()
	if err := r.Target(ctx, item, func(err error) { r.outcome(item, place, err) }); err != nil {
		r.takeBack()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("replay event %s: %w", item.Event.ID, err)
	}
	return nil
}

// takeBack undoes the count of an item that the target did not take.
func (r *run) takeBack() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Read--
	r.settled()
}

func (r *run) outcome(item *Item, place int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting < 0 { // the account is closed
		return
	}
	if err == nil {
		r.report.Sent++
		if r.Sent != nil {
			r.Sent(item)
		}
	} else {
		r.report.Failed++
		if !r.SkipFailed {
			r.stop()
		}
		if r.Failed != nil {
			r.Failed(item, err)
		}
	}
	if err == nil || r.SkipFailed {
		r.prefix.done(place)
	}
	r.settled()
}

// stop has no more sent. The caller holds mu.
func (r *run) stop() {
	if !r.broken {
		r.broken = true
		close(r.halt)
	}
}

// settled notes that one item waits no longer. The caller holds mu.
func (r *run) settled() {
	if r.waiting--; r.waiting == 0 {
		select {
		case r.idle <- struct{}{}:
		default:
		}
	}
}

// drain waits for outcomes: for as long as it takes, or for the drain timeout where the replay is to end.
func (r *run) drain(ctx context.Context) {
	var late <-chan time.Time
	stopped := ctx.Done()
	for {
		r.mu.Lock()
		waiting, broken := r.waiting, r.broken
		r.mu.Unlock()
		if waiting == 0 {
			return
		}
		if late == nil && broken {
			late = time.After(r.DrainTimeout)
		}
		select {
		case <-r.idle:
		case <-stopped:
			stopped = nil
			if late == nil {
				late = time.After(r.DrainTimeout)
			}
		case <-late:
			return
		}
	}
}

// keepSaving saves the checkpoint now and then, and once more when it is stopped.
func (r *run) keepSaving(ctx context.Context) (stop func() error) {
	if r.Checkpoint == nil {
		return func() error { return nil }
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	saved := make(chan error, 1)
	go func() {
		ticker := time.NewTicker(saveEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				saved <- r.save()
				return
			case <-ticker.C:
				if err := r.save(); err != nil { // it is tried once more at the end
					r.mu.Lock()
					r.unsaved = err
					r.stop()
					r.mu.Unlock()
				}
			}
		}
	}()
	return func() error {
		cancel()
		return <-saved
	}
}

func (r *run) save() error {
	r.mu.Lock()
	place := r.prefix.place()
	r.mu.Unlock()
	return r.Checkpoint.Save(place)
}
