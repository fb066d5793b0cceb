package relay

import (
	"sync/atomic"

	"github.com/evdemo/evdemo/publisher"
)

// Stats counts what a relay has done since it was made.
type Stats struct {
	// Active tells whether this is the active relay of its name. One that is not stands by, or does not run.
	Active bool
	// Published counts events that the broker has confirmed, and Skipped those that the relay passed over because of
	// Config.Types or ErrSkip.
	Published, Skipped int64
	// Returned, Nacked and Unknown count the events that did not get through, each attempt. Each is tried again.
	Returned, Nacked, Unknown int64
	// Repeated counts events that were sent again because one before them had not got through. They are published
	// twice where the first time was a success.
	Repeated int64
	// Stuck is the event at which the relay stands still, nil where it does not.
	Stuck *EventError
	// Lag is how far the active relay of this name, in whatever process, was behind within the last second or so. It is
	// zero while this relay does not run.
	Lag Lag
}

type counters struct {
	active                                                  atomic.Bool
	published, skipped, returned, nacked, unknown, repeated atomic.Int64
	furthest                                                atomic.Int64 // the last position that the relay has come to
}

// state is what a relay tells beside its counts. Relay.mu guards it.
type state struct {
	stuck *EventError
	lag   Lag
}

// Stats gives the counts as they are now. They are taken one after the other.
func (r *Relay) Stats() Stats {
	c := &r.counts
	r.mu.Lock()
	defer r.mu.Unlock()
	return Stats{
		Active: c.active.Load(), Published: c.published.Load(), Skipped: c.skipped.Load(),
		Returned: c.returned.Load(), Nacked: c.nacked.Load(), Unknown: c.unknown.Load(), Repeated: c.repeated.Load(),
		Stuck: r.state.stuck, Lag: r.state.lag,
	}
}

func (c *counters) sent(position int64) {
	if !c.first(position) {
		c.repeated.Add(1)
	}
}

func (c *counters) skip(position int64) {
	if c.first(position) {
		c.skipped.Add(1)
	}
}

// first tells whether the relay comes to a position for the first time.
func (c *counters) first(position int64) bool {
	if position <= c.furthest.Load() {
		return false
	}
	c.furthest.Store(position)
	return true
}

func (c *counters) answered(outcome publisher.Outcome) {
	switch outcome {
	case publisher.Confirmed:
		c.published.Add(1)
	case publisher.Returned:
		c.returned.Add(1)
	case publisher.Nacked:
		c.nacked.Add(1)
	case publisher.Unknown:
		c.unknown.Add(1)
	}
}

func (r *Relay) setLag(lag Lag) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.lag = lag
}

func (r *Relay) standsStill(stuck *EventError) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.stuck = stuck
}

// retries tells whether an event is the one at which the relay stands still.
func (r *Relay) retries(position int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state.stuck != nil && r.state.stuck.Position == position
}

// stuck tells whether the relay stands still.
func (r *Relay) stuck() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state.stuck != nil
}
