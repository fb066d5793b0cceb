// Package view is what has become of orders: the read model behind GET /api/orders/{id}.
//
// [Orders.Run] keeps it with a projection of the log, in the event store's own database, so it has every event exactly once.
// It is behind the log by as long as that takes: [Orders.Wait] waits until a position has been seen, which is how one reads
// what one has just written. [Orders.AsOf] makes the state of an earlier time with the same fold, and [Orders.History] tells
// what happened, both from the log itself.
package view

import (
	"encoding/json"
	"time"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop"
)

// Status is what a customer wants to know first.
type Status string

// An order is pending until it is one of the others.
const (
	Pending   Status = "pending"
	Shipped   Status = "shipped"
	Cancelled Status = "cancelled"
)

// Order is an order and what has become of it. Amounts are in cents.
type Order struct {
	ID       string      `json:"id"`
	UserID   string      `json:"user_id"`
	Items    []shop.Item `json:"items"`
	Amount   int         `json:"amount"`
	Currency string      `json:"currency"`
	Status   Status      `json:"status"`
	// Stage is the last step that was taken, which a cancelled order goes on with: what was paid is refunded then.
	Stage string `json:"stage"`
	// Reason says why the order was cancelled, or what went wrong last.
	Reason string `json:"reason,omitempty"`
	// Reference is the shipment's tracking code.
	Reference string `json:"reference,omitempty"`
	// Charged and Refunded are what was taken from the customer, and given back.
	Charged  int `json:"charged"`
	Refunded int `json:"refunded"`
	// Points were awarded for the order.
	Points int `json:"points"`
	// CreatedAt and UpdatedAt are when the order was stored, and the last event that it has seen.
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
	// Version is the position in the log of the last event that it has seen.
	Version int64 `json:"version"`
}

// stageOf is the stage that an order is at behind an event, empty for what is no step of an order.
func stageOf(eventType string) string {
	switch eventType {
	case shop.OrderCreated:
		return "created"
	case shop.FraudCleared:
		return "cleared"
	case shop.FraudSuspected:
		return "suspected"
	case shop.PaymentProcessed:
		return "paid"
	case shop.PaymentFailed:
		return "payment_failed"
	case shop.PaymentRefunded:
		return "refunded"
	case shop.PaymentVoided:
		return "voided"
	case shop.InventoryReserved:
		return "reserved"
	case shop.InventoryRejected:
		return "out_of_stock"
	case shop.InventoryReleased:
		return "released"
	case shop.ShippingFailed:
		return "shipping_failed"
	case shop.OrderShipped:
		return "shipped"
	case shop.LoyaltyAwarded:
		return "rewarded"
	case shop.OrderCancelled:
		return "cancelled"
	default:
		return ""
	}
}

// Stages are all stages that an order can be at.
func Stages() []string {
	stages := make([]string, 0, len(eventTypes()))
	for _, eventType := range eventTypes() {
		stages = append(stages, stageOf(eventType))
	}
	return stages
}

// eventTypes are those that change an order.
func eventTypes() []string {
	return []string{
		shop.OrderCreated, shop.FraudCleared, shop.FraudSuspected, shop.PaymentProcessed, shop.PaymentFailed, shop.PaymentRefunded,
		shop.PaymentVoided, shop.InventoryReserved, shop.InventoryRejected, shop.InventoryReleased, shop.ShippingFailed,
		shop.OrderShipped, shop.LoyaltyAwarded, shop.OrderCancelled,
	}
}

// orderOf is the order that an event is about: its subject, or else what its data says.
func orderOf(r *eventstore.Recorded) string {
	if r.Subject != "" {
		return r.Subject
	}
	var data struct {
		OrderID string `json:"order_id"`
		Order   struct {
			OrderID string `json:"order_id"`
		} `json:"order"`
	}
	if json.Unmarshal(r.Data, &data) != nil {
		return ""
	}
	if data.OrderID != "" {
		return data.OrderID
	}
	return data.Order.OrderID
}

// details is what a Decision says besides the order, which is known.
type details struct {
	Reason    string `json:"reason"`
	Amount    int    `json:"amount"`
	Reference string `json:"reference"`
	Points    int    `json:"points"`
}

// apply makes the order behind an event from the one before it. The error says that the event's data could not be read; the
// order has gone on to its stage all the same, as that is what happened.
func (o Order) apply(r *eventstore.Recorded) (Order, error) {
	stage := stageOf(r.Type)
	if stage == "" || (o.ID == "") != (r.Type == shop.OrderCreated) { // an order begins once
		return o, nil
	}
	o.Stage, o.UpdatedAt, o.Version = stage, r.RecordedAt, r.Position
	if r.Type == shop.OrderCreated {
		return o.create(r)
	}
	var d details
	err := json.Unmarshal(r.Data, &d)
	if err != nil {
		d = details{}
	}
	switch r.Type {
	case shop.PaymentProcessed:
		o.Charged += d.Amount
	case shop.PaymentRefunded:
		o.Refunded += d.Amount
	case shop.LoyaltyAwarded:
		o.Points += d.Points
	case shop.OrderShipped:
		o.Status, o.Reference, o.Reason = Shipped, d.Reference, ""
	case shop.OrderCancelled:
		o.Status, o.Reason = Cancelled, d.Reason
	case shop.FraudSuspected, shop.PaymentFailed, shop.InventoryRejected, shop.ShippingFailed:
		if o.Status == Pending {
			o.Reason = d.Reason
		}
	}
	return o, err
}

func (o Order) create(r *eventstore.Recorded) (Order, error) {
	var data shop.Order
	err := json.Unmarshal(r.Data, &data)
	if err != nil {
		data = shop.Order{}
	}
	o.ID, o.UserID, o.Items, o.Amount, o.Currency = r.Subject, data.UserID, data.Items, data.Amount, data.Currency
	if o.ID == "" {
		o.ID = data.OrderID
	}
	if o.Items == nil {
		o.Items = []shop.Item{}
	}
	o.Status, o.CreatedAt = Pending, r.RecordedAt
	return o, err
}
