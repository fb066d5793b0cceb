package bus

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/worker"
)

// entry is one event on its way to one subscriber.
type entry struct {
	message     *publisher.Message // shared by all subscribers, and changed by none
	history     *worker.Failure    // nil for one that has not failed
	redelivered bool
}

// box holds what one queue, group or listener is to get, in order. It holds so many entries at most.
type box struct {
	capacity int
	lossy    bool // what does not fit pushes out the oldest, as for a listener that is too slow

	mu      sync.Mutex
	ring    []entry // as large as it had to be
	first   int
	n       int
	takers  int   // subscribers that take from it
	missed  int64 // pushed out
	arrived sync.Cond
	room    sync.Cond
	asleep  int // takers that wait
	held    int // pushers that wait
	closed  bool
}

func newBox(capacity int, lossy bool) *box {
	b := &box{capacity: capacity, lossy: lossy}
	b.arrived.L, b.room.L = &b.mu, &b.mu
	return b
}

// push puts an entry at the end. Where there is no room it waits for it, or pushes out the oldest.
func (b *box) push(ctx context.Context, e entry) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n >= b.capacity && !b.lossy {
		if err := b.awaitRoom(ctx); err != nil {
			return err
		}
	}
	if b.n >= b.capacity && b.lossy {
		b.pop()
		b.missed++
	}
	b.append(e)
	return nil
}

// awaitRoom waits with mu held.
func (b *box) awaitRoom(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.room.Broadcast()
	})
	defer stop()
	b.held++
	defer func() { b.held-- }()
	for b.n >= b.capacity && ctx.Err() == nil && !b.closed {
		b.room.Wait()
	}
	if b.closed {
		return publisher.ErrClosed
	}
	return ctx.Err()
}

// offer puts an entry at the end if there is room, and tells whether there was.
func (b *box) offer(e entry) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n >= b.capacity {
		return false
	}
	b.append(e)
	return true
}

// again puts an entry at the end, whether there is room or not: it was in the box before.
func (b *box) again(e entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.append(e)
}

// append puts an entry at the end, with mu held.
func (b *box) append(e entry) {
	if b.n == len(b.ring) {
		b.grow()
	}
	b.ring[(b.first+b.n)%len(b.ring)] = e
	b.n++
	if b.asleep > 0 {
		b.arrived.Signal()
	}
}

func (b *box) grow() {
	ring := make([]entry, max(64, 2*len(b.ring)))
	for i := range b.n {
		ring[i] = b.ring[(b.first+i)%len(b.ring)]
	}
	b.ring, b.first = ring, 0
}

// pop takes the first entry out, with mu held.
func (b *box) pop() entry {
	e := b.ring[b.first]
	b.ring[b.first] = entry{}
	b.first = (b.first + 1) % len(b.ring)
	b.n--
	return e
}

// giveBack puts entries back in front, in their order.
func (b *box) giveBack(entries []entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range slices.Backward(entries) {
		if b.n == len(b.ring) {
			b.grow()
		}
		e.redelivered = true
		b.first = (b.first + len(b.ring) - 1) % len(b.ring)
		b.ring[b.first] = e
		b.n++
	}
	if len(entries) > 0 && b.asleep > 0 {
		b.arrived.Broadcast()
	}
}

// take fills into with entries, at least one; fewer where others take as well, so that each gets its share.
// It gives none once ctx has ended.
func (b *box) take(ctx context.Context, into []entry) []entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n == 0 {
		b.awaitEntry(ctx)
	}
	if ctx.Err() != nil {
		return nil
	}
	share := max(1, min(len(into), b.n/max(1, 2*b.takers-1)))
	taken := into[:0]
	for range share {
		taken = append(taken, b.pop())
	}
	if b.held > 0 {
		b.room.Broadcast()
	}
	return taken
}

// awaitEntry waits with mu held.
func (b *box) awaitEntry(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.arrived.Broadcast()
	})
	defer stop()
	b.asleep++
	defer func() { b.asleep-- }()
	for b.n == 0 && ctx.Err() == nil {
		b.arrived.Wait()
	}
}

func (b *box) join(takers int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.takers += takers
}

// close fails what waits for room.
func (b *box) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.room.Broadcast()
}

// lost gives how many entries were pushed out since the last call.
func (b *box) lost() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	missed := b.missed
	b.missed = 0
	return missed
}

// later puts an entry at the end after a while.
func (b *box) later(wait time.Duration, e entry) { time.AfterFunc(wait, func() { b.again(e) }) }
