package worker

import (
	"errors"
	"sync"
	"time"
)

// errLate is given for a delivery whose connection is gone: the broker delivers it again.
var errLate = errors.New("connection was lost before the acknowledgement")

// settler is the part of an AMQP channel that settles deliveries.
type settler interface {
	Ack(tag uint64, multiple bool) error
	Nack(tag uint64, multiple, requeue bool) error
}

// acks settles the deliveries of one channel, in batches. Finished deliveries are acknowledged up
// to the highest tag below which nothing is open with one multiple ack; those beyond an open
// one are acknowledged singly in the same flush, so that one slow event never uses up the
// prefetch of the others.
//
// Tags are a channel's own: when the channel is gone, so are they, and an acks with it.
type acks struct {
	channel  settler
	every    int // a flush at so many finished deliveries,
	interval time.Duration
	timer    *time.Timer // or so long after the first of them

	mu    sync.Mutex
	state []tagState // ring; state[tag%len] of the tags base+1 .. base+len
	base  uint64     // every tag up to here is settled on the broker
	top   uint64     // the highest tag that is not open
	ready []uint64   // finished and not yet acknowledged
	dead  error
}

type tagState uint8

const (
	open     tagState = iota
	finished          // handled; not yet acknowledged
	settled           // acknowledged or given back on its own
)

// newAcks makes the acks of a channel with at most prefetch open deliveries.
func newAcks(channel settler, prefetch, every int, interval time.Duration) *acks {
	size := 2
	for size < 2*prefetch {
		size *= 2
	}
	a := &acks{channel: channel, every: every, interval: interval, state: make([]tagState, size)}
	a.timer = time.AfterFunc(time.Hour, func() { _ = a.flush() })
	a.timer.Stop()
	return a
}

// at gives the state of a tag. Open tags span at most the prefetch; the settled ones among them
// may stretch it, so the ring grows where a slow event holds back its beginning for long.
func (a *acks) at(tag uint64) *tagState {
	for tag-a.base > uint64(len(a.state)) {
		grown := make([]tagState, 2*len(a.state))
		for t := a.base + 1; t <= a.base+uint64(len(a.state)); t++ {
			grown[t%uint64(len(grown))] = a.state[t%uint64(len(a.state))]
		}
		a.state = grown
	}
	return &a.state[tag%uint64(len(a.state))]
}

// ack marks a delivery as handled. It returns an error where the channel is known to be gone; a
// delivery that was taken in and is lost with its channel later is counted by close.
func (a *acks) ack(tag uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.dead != nil {
		return a.dead
	}
	*a.at(tag) = finished
	a.top = max(a.top, tag)
	switch a.ready = append(a.ready, tag); {
	case len(a.ready) >= a.every:
		_ = a.flushLocked()
	case len(a.ready) == 1:
		a.timer.Reset(a.interval)
	}
	return nil
}

// requeue gives a delivery back to the queue.
func (a *acks) requeue(tag uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.dead != nil {
		return a.dead
	}
	*a.at(tag) = settled
	a.top = max(a.top, tag)
	if err := a.channel.Nack(tag, false, true); err != nil {
		return a.die()
	}
	return nil
}

// flush acknowledges what is finished.
func (a *acks) flush() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.dead != nil {
		return a.dead
	}
	return a.flushLocked()
}

func (a *acks) flushLocked() error {
	if len(a.ready) == 0 {
		return nil
	}
	a.timer.Stop()
	if a.ackPrefix() != nil {
		return a.die()
	}
	for _, tag := range a.ready {
		if tag <= a.base {
			continue // within the prefix
		}
		if a.channel.Ack(tag, false) != nil {
			return a.die()
		}
		*a.at(tag) = settled
	}
	a.ready = a.ready[:0]
	return nil
}

// ackPrefix acknowledges everything below the first open tag with one multiple ack. The tag that
// it names must be one that the broker still knows, so it is the highest one finished: those
// above it in the prefix were settled on their own.
func (a *acks) ackPrefix() error {
	var last uint64
	for a.base < a.top {
		s := a.at(a.base + 1)
		if *s == open {
			break
		}
		if *s == finished {
			last = a.base + 1
		}
		*s = open // the slot is free for a later tag
		a.base++
	}
	if last == 0 {
		return nil
	}
	return a.channel.Ack(last, true)
}

// die ends the acks of a channel that is gone and gives the error for late acknowledgements.
func (a *acks) die() error {
	a.timer.Stop()
	a.dead = errLate
	return a.dead
}

// close ends the acks and tells how many finished deliveries were never acknowledged: they will
// be delivered again.
func (a *acks) close() (lost int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.dead == nil {
		_ = a.die()
	}
	lost = len(a.ready)
	a.ready = nil
	return lost
}
