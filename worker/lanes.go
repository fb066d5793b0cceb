package worker

import (
	"context"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// lanes keep events with the same key in order, while those with other keys go on. They belong to the
// worker and not to one subscription: what a lost connection has left running is still ahead of what the
// next one brings.
type lanes struct {
	mu   sync.Mutex
	busy map[string]*lane
	due  chan resumed // lanes that have waited, for whichever loop is free
}

// resumed is a lane that goes on, with the event that is to be tried again.
type resumed struct {
	lane   *lane
	errand errand
}

// lane is one key, for as long as an event of it is in hand. Others wait behind that.
type lane struct {
	key     string
	waiting []errand
}

// errand is one event on its way to the handler.
type errand struct {
	sub *subscription
	ctx context.Context // ends when the worker stops, or its session
	d   *Delivery
}

// enter puts an event into its lane. It gives the lane where the caller is to go on with it, and nil where
// it waits behind others.
func (l *lanes) enter(key string, e errand) *lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ahead := l.busy[key]; ahead != nil {
		ahead.waiting = append(ahead.waiting, e)
		return nil
	}
	own := &lane{key: key}
	l.busy[key] = own
	return own
}

// next gives the event that comes next in a lane. Where there is none the lane is free.
func (l *lanes) next(of *lane) (e errand, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(of.waiting) == 0 {
		delete(l.busy, of.key)
		return e, false
	}
	e = of.waiting[0]
	of.waiting[0] = errand{}
	of.waiting = of.waiting[1:]
	return e, true
}

// orderedLoop does one thing after the other: it handles an event when its lane is free, or goes on with a
// lane that has waited.
func (sub *subscription) orderedLoop(ctx context.Context) {
	for {
		proceed := sub.receiveInOrder(ctx)
		if proceed == nil {
			return
		}
		proceed()
	}
}

// receiveInOrder gives what is to be done next; nil at the end. One loop receives at a time: so events come
// into their lanes in the order in which they arrive.
func (sub *subscription) receiveInOrder(ctx context.Context) (proceed func()) {
	if sub.tickets != nil {
		select {
		case <-sub.tickets:
		case due := <-sub.lanes.due:
			return func() { sub.walk(due.lane, due.errand) }
		case <-ctx.Done():
			return nil
		}
	}
	sub.taking.Lock()
	defer sub.taking.Unlock()
	if ctx.Err() == nil {
		select {
		case m, ok := <-sub.intake.Load().deliveries:
			if ok {
				return sub.enter(ctx, &m)
			}
		case due := <-sub.lanes.due:
			sub.returnTicket()
			return func() { sub.walk(due.lane, due.errand) }
		case <-ctx.Done():
		}
	}
	sub.returnTicket()
	return nil
}

// enter puts an event into its lane, if it has a key, and gives what is to be done then.
func (sub *subscription) enter(ctx context.Context, m *amqp.Delivery) (proceed func()) {
	e := errand{sub, ctx, decode(sub.queue, m)}
	key := sub.config.OrderedBy(e.d)
	if key == "" {
		return func() { sub.handle(ctx, e.d) }
	}
	own := sub.lanes.enter(key, e)
	return func() {
		if own != nil {
			sub.walk(own, e)
		}
	}
}

// walk handles an event and what has come into its lane behind it. Where one has failed and is to be tried
// again, the lane waits for that, and the caller is free.
func (w *Worker) walk(of *lane, e errand) {
	for ok := true; ok; e, ok = w.lanes.next(of) {
		if e.over() {
			e.sub.returnTicket() // the broker gives it back, to this worker or another
			continue
		}
		if again := e.sub.handle(e.ctx, e.d); again != nil {
			w.tryLater(of, errand{e.sub, e.ctx, again.d}, again.wait)
			return
		}
	}
}

// over tells whether an event need not be begun: the worker stops, or its connection is gone.
func (e errand) over() bool { return e.ctx.Err() != nil || e.sub.channel.IsClosed() }

// attempt is one that is to be made in an event's place, after a wait.
type attempt struct {
	d    *Delivery
	wait time.Duration
}

// again is the same event, to be handled once more.
func (d *Delivery) again(wait time.Duration) *attempt {
	next := *d
	next.inPlace = true
	return &attempt{&next, wait}
}

// tryLater has a lane go on after a while.
func (w *Worker) tryLater(of *lane, e errand, wait time.Duration) {
	w.handlers.Add(1)
	w.inHand.Add(1)
	go func() {
		defer w.handlers.Done()
		defer w.inHand.Add(-1)
		pause(e.ctx, wait)
		for ok := true; ok; e, ok = w.lanes.next(of) {
			if !e.over() {
				select {
				case w.lanes.due <- resumed{of, e}:
					return
				case <-e.ctx.Done():
				}
			}
			e.sub.returnTicket()
		}
	}()
}
