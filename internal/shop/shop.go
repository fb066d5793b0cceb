// Package shop is what the parts of the order system have in common: the types of its events and their data, where each is
// published, and what is for sale.
//
// The services are in package service, what reads along in package sink, HTTP in packages api and ingress, and package
// system runs them. They share one event store, whose log is what happened; no service calls another or reads what is
// another's.
package shop

import (
	"strings"

	"github.com/evdemo/evdemo/internal/orders"
)

// Types of events: what has happened.
const (
	OrderCreated   = orders.Type
	OrderCancelled = "order.cancelled"
	OrderShipped   = "order.shipped" // by shipping, which is who knows

	FraudCleared   = "fraud.cleared"
	FraudSuspected = "fraud.suspected"

	PaymentProcessed = "payment.processed"
	PaymentFailed    = "payment.failed"
	PaymentRefunded  = "payment.refunded"
	PaymentVoided    = "payment.voided" // there was nothing to give back, and there will not be

	InventoryReserved = "inventory.reserved"
	InventoryRejected = "inventory.rejected"
	InventoryReleased = "inventory.released"
	StockTaken        = "stock.taken"
	StockReturned     = "stock.returned"

	ShippingFailed = "shipping.failed"

	LoyaltyAwarded = "loyalty.awarded"

	NotificationSent   = "notification.sent"
	NotificationFailed = "notification.failed"

	PaymentProviderWebhook = "payment_provider.webhook"
	SMSConfirmed           = "sms_delivery.confirmed"
	EmailBounced           = "email.bounced"
)

// Types of commands: what the coordinator asks for when the saga is orchestrated.
const (
	CheckFraud       = "fraud.check"
	ChargePayment    = "payment.charge"
	RefundPayment    = "payment.refund"
	ReserveInventory = "inventory.reserve"
	ReleaseInventory = "inventory.release"
	ShipOrder        = "shipping.ship"
	AwardLoyalty     = "loyalty.award"
	CancelOrder      = "order.cancel"
)

// Order is an order as a customer placed it: the data of order.created, and part of the data of what follows from it, so
// that no service has to ask another. Amounts are in cents.
type Order = orders.Order

// Item is one line of an order. Price is that of one piece.
type Item = orders.Item

// Decision is the data of every event and command about one order but order.created: the order, and what was decided
// about it.
type Decision struct {
	Order Order `json:"order"`
	// Reason says why not: of *.failed, *.rejected, *.suspected, *.cancelled, and of what takes something back.
	Reason string `json:"reason,omitempty"`
	// Amount is what was charged, or given back, in cents: of payment.*.
	Amount int `json:"amount,omitempty"`
	// Reference is what the other side calls it: a payment's number, a shipment's tracking code.
	Reference string `json:"reference,omitempty"`
	// Points is how many were awarded: of loyalty.awarded.
	Points int `json:"points,omitempty"`
}

// Move is the data of stock.taken and stock.returned: how many pieces of what, for which order.
type Move struct {
	SKU      string `json:"sku"`
	OrderID  string `json:"order_id"`
	Quantity int    `json:"quantity"`
}

// Notification is the data of notification.sent and notification.failed.
type Notification struct {
	OrderID string `json:"order_id"`
	UserID  string `json:"user_id"`
	// Channel is email, sms or push.
	Channel string `json:"channel"`
	// About is the type of the event that the customer is told of.
	About string `json:"about"`
	// Text is what the customer reads.
	Text string `json:"text"`
	// Reason says why it failed.
	Reason string `json:"reason,omitempty"`
}

// Delivery is the data of sms_delivery.confirmed and email.bounced: what became of a message that was sent.
type Delivery struct {
	OrderID string `json:"order_id"`
	UserID  string `json:"user_id"`
	To      string `json:"to,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

// Topics. Each has the events of one service, and one those that tell customers something.
const (
	Orders        = "shop.orders"
	Fraud         = "shop.fraud"
	Payments      = "shop.payments"
	Inventory     = "shop.inventory"
	Shipping      = "shop.shipping"
	Loyalty       = "shop.loyalty"
	Notifications = "shop.notifications"
	Providers     = "shop.providers" // what came in by webhooks
	Commands      = "shop.commands"
)

// Topic is where events of a type are published. ok is false for those that stay in the log: how much of a thing is in
// stock is the warehouse's own, and what a coordinator notes down is the coordinator's.
func Topic(eventType string) (topic string, ok bool) {
	switch eventType {
	case CheckFraud, ChargePayment, RefundPayment, ReserveInventory, ReleaseInventory, ShipOrder, AwardLoyalty, CancelOrder:
		return Commands, true
	case OrderShipped:
		return Shipping, true
	}
	switch kind, _, _ := strings.Cut(eventType, "."); kind {
	case "order":
		return Orders, true
	case "fraud":
		return Fraud, true
	case "payment":
		return Payments, true
	case "inventory":
		return Inventory, true
	case "shipping":
		return Shipping, true
	case "loyalty":
		return Loyalty, true
	case "notification":
		return Notifications, true
	case "payment_provider", "sms_delivery", "email":
		return Providers, true
	}
	return "", false
}

// Topics are all topics.
func Topics() []string {
	return []string{Orders, Fraud, Payments, Inventory, Shipping, Loyalty, Notifications, Providers, Commands}
}
