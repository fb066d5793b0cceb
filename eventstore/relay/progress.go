package relay

import (
	"context"
	"sync"
)

// progress follows the events of a pass from being sent to being covered by the saved checkpoint. One goroutine
// sends, another saves; answers come from anywhere, in any order.
type progress struct {
	mu sync.Mutex
	// slots is a ring: event n of the pass has slots[n % len(slots)] from when it is sent until it is saved.
	slots []slot
	// How many events of the pass were sent, answered whatever the answer, confirmed without a gap, and saved.
	sent, answered, confirmed, saved int64
	// reached is the position up to which everything is confirmed or needs no answer; noted is that of the
	// checkpoint.
	reached, noted int64

	changed chan struct{} // has a token when an event was answered or saved
	due     chan struct{} // has a token when a checkpoint should not wait any longer
}

type slot struct {
	position  int64 // up to which everything is done with once this event is and those before it are
	confirmed bool
}

func newProgress(window int, position int64) *progress {
	return &progress{
		slots: make([]slot, window), reached: position, noted: position,
		changed: make(chan struct{}, 1), due: make(chan struct{}, 1),
	}
}

// begin waits until an event may be sent, and gives it its number.
func (p *progress) begin(ctx context.Context, position int64) (n int64, err error) {
	for {
		if n, ok := p.tryBegin(position); ok {
			return n, nil
		}
		select {
		case <-p.changed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// tryBegin also keeps a pass from sending more than has been confirmed before, and one: it begins with a single event,
// which shows whether it gets through, and doubles.
func (p *progress) tryBegin(position int64) (n int64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sent-p.saved >= int64(len(p.slots)) || p.sent-p.answered > p.confirmed {
		return 0, false
	}
	p.slots[p.sent%int64(len(p.slots))] = slot{position: position}
	p.sent++
	return p.sent - 1, true
}

// takeBack undoes the last begin: the event was not sent.
func (p *progress) takeBack() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent--
}

// skip passes over an event that needs no answer.
func (p *progress) skip(position int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.confirmed == p.sent {
		p.reached = position
		return
	}
	p.slots[(p.sent-1)%int64(len(p.slots))].position = position
}

// answer notes the broker's answer to event n.
func (p *progress) answer(n int64, confirmed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	window := int64(len(p.slots))
	p.slots[n%window].confirmed = confirmed
	p.answered++
	for p.confirmed < p.sent && p.slots[p.confirmed%window].confirmed {
		p.reached = p.slots[p.confirmed%window].position
		p.confirmed++
	}
	if 2*(p.confirmed-p.saved) >= window {
		signal(p.due)
	}
	signal(p.changed)
}

// unsaved gives the position that a checkpoint may have, and how many events of the pass it covers. False means that
// the checkpoint has it already.
func (p *progress) unsaved() (position, covers int64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reached, p.confirmed, p.reached != p.noted
}

// save notes that the checkpoint was saved.
func (p *progress) save(position, covers int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.noted, p.saved = position, covers
	signal(p.changed)
}

// await waits until all events were answered.
func (p *progress) await(ctx context.Context) error {
	for !p.quiet() {
		select {
		case <-p.changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (p *progress) quiet() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.answered == p.sent
}

// result gives how far the pass has come: the position, and how many events got through.
func (p *progress) result() (position, confirmed int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reached, p.confirmed
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
