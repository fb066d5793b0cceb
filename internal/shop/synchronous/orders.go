package synchronous

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop"
)

// inBackground is how many unfinished orders are tried at a time.
const inBackground = 16

// orders is the order service.
type orders struct {
	config   Config
	services *services
	trying   chan struct{} // has room for those unfinished orders that are tried

	live  sync.WaitGroup // orders whose customers wait, or have left
	later sync.WaitGroup // unfinished orders

	mu     sync.Mutex
	closed bool              // no more customers are let in
	visits map[string]*visit // by order

	shipped, cancelled, failed, finished, open atomic.Int64
}

// visit is a customer who waits for an order, or several who have made the same request.
type visit struct {
	placed eventstore.StreamWrite
	done   chan struct{} // is closed when result is there
	result result
}

// result is what a customer is told.
type result struct {
	id       string
	status   Status
	reason   string
	trouble  error // why it has failed
	stored   bool  // the order is known to be in the log
	replayed bool  // the order is from an earlier request
	other    bool  // and that was for something else
	calls    []Call
}

func newOrders(config Config, services *services) *orders {
	return &orders{
		config: config, services: services, trying: make(chan struct{}, inBackground), visits: map[string]*visit{},
	}
}

func (o *orders) counts() Counts {
	return Counts{
		Shipped: o.shipped.Load(), Cancelled: o.cancelled.Load(), Failed: o.failed.Load(),
		Finished: o.finished.Load(), Unfinished: o.open.Load(),
	}
}

// visit begins to work on an order, or finds that it is worked on. It is nil where there are too many customers, and when no
// more are let in. The work goes on when the customer leaves, until working ends; what is unfinished then is finished in the
// background.
func (o *orders) visit(working, background context.Context, placed eventstore.StreamWrite) (v *visit, first bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if v, there := o.visits[placed.Stream]; there {
		return v, false
	}
	if o.closed || len(o.visits) >= o.config.Customers {
		return nil, false
	}
	v = &visit{placed: placed, done: make(chan struct{})}
	o.visits[placed.Stream] = v
	o.live.Go(func() {
		h := o.take(working, v)
		o.mu.Lock()
		delete(o.visits, placed.Stream)
		o.mu.Unlock()
		close(v.done)
		if h != nil {
			o.finishLater(background, h)
		}
	})
	return v, true
}

// close lets no more customers in. Those who are in can be waited for then.
func (o *orders) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
}

// take works on an order while the customer waits. It gives the order back where it is unfinished.
func (o *orders) take(ctx context.Context, v *visit) (unfinished *hand) {
	h, err := o.hand(v.placed)
	if err != nil {
		v.result = result{id: v.placed.Stream, trouble: err}
		return nil
	}
	h.waits = true
	err = h.store(ctx)
	if _, conflict := errors.AsType[*eventstore.ConflictError](err); conflict {
		v.result = o.again(ctx, v.placed)
		return nil
	}
	if err == nil {
		err = h.place(ctx)
	} else {
		h.trouble = err
	}
	h.waits = false
	v.result = result{id: v.placed.Stream, status: h.status, reason: h.reason, trouble: h.trouble, stored: h.stored, calls: h.made}
	switch {
	case h.trouble != nil:
		o.failed.Add(1)
	case h.status == Shipped:
		o.shipped.Add(1)
	default:
		o.cancelled.Add(1)
	}
	if err != nil && (h.stored || errors.Is(err, eventstore.ErrOutcomeUnknown)) {
		return h
	}
	return nil
}

// again is what became of an order whose Idempotency-Key has been used before.
func (o *orders) again(ctx context.Context, placed eventstore.StreamWrite) result {
	created, status, reason, err := o.look(ctx, placed.Stream)
	return result{
		id: placed.Stream, status: status, reason: reason, trouble: err, stored: true, replayed: true,
		other: err == nil && !sameOrder(created, placed.Events[0]),
	}
}

func sameOrder(a, b event.Event) bool { return bytes.Equal(a.Data, b.Data) }

// errUnknown is where there is no such order.
var errUnknown = errors.New("there is no such order")

// look reads how far an order is.
func (o *orders) look(ctx context.Context, id string) (created event.Event, status Status, reason string, err error) {
	for r, err := range o.config.Store.Read(ctx, eventstore.Query{Stream: id, Limit: 1}) {
		if err != nil {
			return created, "", "", err
		}
		created = r.Event
	}
	if created.Type != shop.OrderCreated || created.Subject != id {
		return created, "", "", errUnknown
	}
	status = Open
	ends := eventstore.Query{Correlation: created.CorrelationID(), Subject: id, Types: []string{shop.OrderShipped, shop.OrderCancelled}}
	for r, err := range o.config.Store.Read(ctx, ends) {
		if err != nil {
			return created, "", "", err
		}
		status = Shipped
		if r.Type == shop.OrderCancelled {
			status, reason = Cancelled, decision(r.Event).Reason
		}
	}
	return created, status, reason, nil
}

// finishLater tries until an order is finished, or ctx ends.
func (o *orders) finishLater(ctx context.Context, h *hand) {
	o.open.Add(1)
	o.later.Go(func() {
		pauses := pauses(o.config.Pause, o.config.LongestPause)
		for level := slog.LevelWarn; ; level = slog.LevelDebug {
			err := o.try(ctx, h)
			if err == nil {
				o.open.Add(-1)
				o.finished.Add(1)
				o.config.Logger.InfoContext(ctx, "shop: an order was finished that nobody waited for", slog.String("order", h.order.OrderID),
					slog.String("status", string(h.status)))
				return
			}
			if ctx.Err() != nil {
				return
			}
			o.config.Logger.Log(ctx, level, "shop: an order is unfinished, and tried again", slog.String("order", h.order.OrderID),
				slog.String("status", string(h.status)), slog.Any("error", err))
			if !wait(ctx, pauses.NextBackOff()) {
				return
			}
		}
	})
}

// try tries to finish an order, once it is its turn.
func (o *orders) try(ctx context.Context, h *hand) error {
	select {
	case o.trying <- struct{}{}:
		defer func() { <-o.trying }()
		return h.finish(ctx)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// resume finds what earlier processes have left unfinished, and has it finished in the background.
func (o *orders) resume(ctx, background context.Context) error {
	left, err := o.unfinished(ctx)
	if err != nil {
		return err
	}
	for _, created := range left {
		h, err := o.hand(eventstore.StreamWrite{
			Stream: created.Stream, Expect: eventstore.NoStream, Events: []event.Event{created.Event},
		})
		if err != nil {
			o.config.Logger.WarnContext(ctx, "shop: an order cannot be read", slog.Int64("position", created.Position),
				slog.Any("error", err))
			continue
		}
		h.stored = true
		o.finishLater(background, h)
	}
	if len(left) > 0 {
		o.config.Logger.InfoContext(ctx, "shop: orders were left unfinished", slog.Int("orders", len(left)))
	}
	return nil
}

// unfinished are the orders in the log whose customers were not told of the end on the last channel, in the order in which
// they were placed.
func (o *orders) unfinished(ctx context.Context) ([]eventstore.Recorded, error) {
	open := map[string]eventstore.Recorded{}
	last := channels()[len(channels())-1]
	for r, err := range o.config.Store.Read(ctx, eventstore.Query{Types: []string{shop.OrderCreated, shop.NotificationSent}}) {
		if err != nil {
			return nil, err
		}
		if r.Type == shop.OrderCreated {
			open[r.Subject] = r
			continue
		}
		var told shop.Notification
		err = json.Unmarshal(r.Data, &told)
		if err == nil && told.Channel == last && (told.About == shop.OrderShipped || told.About == shop.OrderCancelled) {
			delete(open, told.OrderID)
		}
	}
	left := make([]eventstore.Recorded, 0, len(open))
	for _, r := range open {
		left = append(left, r)
	}
	slices.SortFunc(left, func(a, b eventstore.Recorded) int { return int(a.Position - b.Position) })
	return left, nil
}
