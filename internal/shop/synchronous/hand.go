package synchronous

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/service"
)

// source is that of what the order service asks for.
const source = "shop/order"

// abandoned is why an order is called off that nobody waits for.
const abandoned = "the order service has stopped before the order was shipped"

// Status is how far an order is.
type Status string

// The states of an order. Shipped and Cancelled are its ends, though not everybody may have been told.
const (
	Open       Status = "open"
	Shipping   Status = "shipping" // nobody knows whether it is shipped
	Shipped    Status = "shipped"
	Cancelling Status = "cancelling"
	Cancelled  Status = "cancelled"
)

// step is one that can be taken back.
type step struct {
	service, do, done, failed string
	undo                      string // "" where there is nothing to be taken back
	undone                    []string
}

// steps are those before shipping, in their order.
func steps() []step {
	return []step{
		{service: service.Fraud, do: shop.CheckFraud, done: shop.FraudCleared, failed: shop.FraudSuspected},
		{
			service: service.Payment, do: shop.ChargePayment, done: shop.PaymentProcessed, failed: shop.PaymentFailed,
			undo: shop.RefundPayment, undone: []string{shop.PaymentRefunded, shop.PaymentVoided},
		},
		{
			service: service.Inventory, do: shop.ReserveInventory, done: shop.InventoryReserved, failed: shop.InventoryRejected,
			undo: shop.ReleaseInventory, undone: []string{shop.InventoryReleased},
		},
	}
}

// Call is one service that was called for an order, with all attempts and the pauses between them.
type Call struct {
	Service  string  `json:"service"`
	Event    string  `json:"event"`
	Attempts int     `json:"attempts"`
	Millis   float64 `json:"ms"`
}

// hand has one order in hand. One goroutine at a time works on it.
type hand struct {
	orders  *orders
	placed  eventstore.StreamWrite
	created event.Event
	order   shop.Order
	stored  bool // created is in the log
	calls   *calls
	waits   bool // a customer does
	trouble error
	status  Status
	reason  string
	made    []Call
}

func (o *orders) hand(placed eventstore.StreamWrite) (*hand, error) {
	h := &hand{orders: o, placed: placed, created: placed.Events[0], calls: newCalls(o.config.Store, placed.Stream), status: Open}
	if err := json.Unmarshal(h.created.Data, &h.order); err != nil {
		return nil, fmt.Errorf("the data of %s %s: %w", h.created.Type, h.created.ID, err)
	}
	if h.order.OrderID != h.created.Subject || h.order.OrderID != placed.Stream {
		return nil, fmt.Errorf("%s %s is about order %q, with the subject %q, in stream %q", h.created.Type, h.created.ID,
			h.order.OrderID, h.created.Subject, placed.Stream)
	}
	return h, nil
}

// store stores the order. To do so again is harmless.
func (h *hand) store(ctx context.Context) error {
	if h.stored {
		return nil
	}
	_, err := h.orders.config.Store.Append(ctx, h.placed)
	h.stored = err == nil
	return err
}

// place takes a new order as far as it goes.
func (h *hand) place(ctx context.Context) error {
	err := h.forward(ctx)
	if err != nil && !errors.Is(err, errOvertaken) {
		h.trouble = cmp.Or(h.trouble, err)
		return err
	}
	if err = h.finish(ctx); err != nil {
		h.trouble = cmp.Or(h.trouble, err)
	}
	return err
}

// forward takes the steps that can be taken back. Then it is in the log what comes next: to ship, or to take all of it back.
func (h *hand) forward(ctx context.Context) error {
	cause := h.created
	for _, s := range steps() {
		if err := h.command(ctx, s.do, cause); err != nil {
			return err
		}
		reply, err := h.call(ctx, s.service, h.calls.asked[s.do], s.done, s.failed)
		if err != nil { // and what it has done is not known
			h.trouble = err
			return h.giveUp(ctx, h.calls.asked[s.do], short(err), "")
		}
		if reply.Type == s.failed {
			return h.giveUp(ctx, reply, why(reply), s.do)
		}
		cause = reply
	}
	err := h.command(ctx, shop.ShipOrder, cause)
	if errors.Is(err, eventstore.ErrOutcomeUnknown) { // then it may be shipped
		h.status = Shipping
	}
	return err
}

// finish brings an order to its end by what is in the log. It is tried again after an error, until there is none.
func (h *hand) finish(ctx context.Context) error {
	if err := h.store(ctx); err != nil {
		if _, conflict := errors.AsType[*eventstore.ConflictError](err); conflict { // the same order came again, and is in other hands
			return nil
		}
		return err
	}
	for {
		if err := h.end(ctx); !errors.Is(err, errOvertaken) {
			return err
		}
	}
}

func (h *hand) end(ctx context.Context) error {
	if !h.calls.has(shop.CancelOrder) && h.calls.has(shop.ShipOrder) {
		h.status = Shipping
		reply, err := h.call(ctx, service.Shipping, h.calls.asked[shop.ShipOrder], shop.OrderShipped, shop.ShippingFailed)
		if err != nil {
			return err
		}
		if reply.Type == shop.OrderShipped {
			h.status = Shipped
			return h.tell(ctx, reply)
		}
		if err := h.giveUp(ctx, reply, why(reply), ""); err != nil {
			return err
		}
	}
	if !h.calls.has(shop.CancelOrder) {
		if err := h.giveUp(ctx, h.created, abandoned, ""); err != nil {
			return err
		}
	}
	h.status = Cancelling
	cancelled, err := h.takeBack(ctx)
	if err != nil {
		return err
	}
	h.status, h.reason = Cancelled, decision(cancelled).Reason
	return h.tell(ctx, cancelled)
}

// command puts a command in the log, unless it is there.
func (h *hand) command(ctx context.Context, command string, cause event.Event) error {
	if h.calls.has(command) {
		return nil
	}
	e, err := event.Caused(cause, command, source, shop.Decision{Order: h.order})
	if err != nil {
		return err
	}
	return h.calls.add(ctx, e)
}

// giveUp decides that the order is cancelled: all that takes it back is put in the log at once, last step first. What is known
// to have failed, by the command that asked for it, is left out.
func (h *hand) giveUp(ctx context.Context, cause event.Event, reason, failed string) error {
	var back []string
	for _, s := range slices.Backward(steps()) {
		if s.undo != "" && s.do != failed && h.calls.has(s.do) {
			back = append(back, s.undo)
		}
	}
	var commands []event.Event
	for _, command := range append(back, shop.CancelOrder) {
		e, err := event.Caused(cause, command, source, shop.Decision{Order: h.order, Reason: reason})
		if err != nil {
			return err
		}
		commands = append(commands, e)
	}
	return h.calls.add(ctx, commands...)
}

// takeBack takes back what was done, and cancels the order once all of it is. A service that is away does not hold up
// another: money goes back while the warehouse cannot be reached.
func (h *hand) takeBack(ctx context.Context) (event.Event, error) {
	var failed []error
	for _, s := range slices.Backward(steps()) {
		if command, asked := h.calls.asked[s.undo]; asked {
			if _, err := h.call(ctx, s.service, command, s.undone...); err != nil {
				failed = append(failed, err)
			}
		}
	}
	if len(failed) > 0 {
		return event.Event{}, errors.Join(failed...)
	}
	return h.call(ctx, service.Order, h.calls.asked[shop.CancelOrder], shop.OrderCancelled)
}

// tell has points awarded for what is shipped, and tells the customer of the end, on one channel after the other. The last one
// that has told is the end of the order here: see unfinished.
func (h *hand) tell(ctx context.Context, end event.Event) error {
	if end.Type == shop.OrderShipped {
		if err := h.command(ctx, shop.AwardLoyalty, end); err != nil {
			return err
		}
		if _, err := h.call(ctx, service.Loyalty, h.calls.asked[shop.AwardLoyalty], shop.LoyaltyAwarded); err != nil {
			return err
		}
	}
	for _, channel := range channels() {
		if !slices.Contains(h.orders.services.types[channel], end.Type) {
			continue
		}
		if _, err := h.call(ctx, channel, end, shop.NotificationSent); err != nil {
			return err
		}
	}
	return nil
}

// channels are those on which customers are told, in their order. The last is told of every end.
func channels() []string { return []string{service.Email, service.SMS, service.Push} }

// call asks a service, and keeps account of it while a customer waits. Once an order is in trouble there is one attempt.
func (h *hand) call(ctx context.Context, name string, e event.Event, want ...string) (event.Event, error) {
	attempts := 1
	if h.waits && h.trouble == nil {
		attempts = h.orders.config.Attempts
	}
	begin := time.Now()
	reply, made, err := h.orders.call(ctx, name, e, attempts, want...)
	if h.waits {
		h.made = append(h.made, Call{name, e.Type, made, float64(time.Since(begin).Microseconds()) / 1000})
	}
	return reply, err
}

// why is what a service gives as the reason.
func why(reply event.Event) string { return reply.Type + ": " + decision(reply).Reason }

// decision is the data of an event; there is nothing in it where it cannot be read.
func decision(e event.Event) (d shop.Decision) {
	_ = json.Unmarshal(e.Data, &d)
	return d
}

// short is an error for customers.
func short(err error) string {
	if failed, ok := errors.AsType[*CallError](err); ok {
		return failed.Short()
	}
	return "the database cannot be reached"
}
