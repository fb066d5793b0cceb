package service

import (
	"maps"

	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/saga"
)

// newPayment charges customers, and gives back what it has charged.
func newPayment(config Config) (Service, error) {
	charge := func(t *saga.Turn[string], order shop.Order) error {
		switch {
		case t.State() == shop.PaymentVoided:
			t.Emit(shop.PaymentFailed, shop.Decision{Order: order, Reason: "it was called off before"})
		case t.State() != "":
		case config.Refuse(Payment, order.OrderID):
			t.Emit(shop.PaymentFailed, shop.Decision{Order: order, Reason: "the card was declined"})
		default:
			t.Emit(shop.PaymentProcessed, shop.Decision{Order: order, Amount: order.Amount, Reference: "pay-" + t.Key()})
		}
		return nil
	}
	giveBack := func(t *saga.Turn[string], order shop.Order) error {
		switch t.State() {
		case shop.PaymentProcessed:
			t.Emit(shop.PaymentRefunded, shop.Decision{Order: order, Amount: order.Amount, Reference: "refund-" + t.Key(), Reason: t.Trigger.Type})
		case "", shop.PaymentFailed:
			t.Emit(shop.PaymentVoided, shop.Decision{Order: order, Reason: "nothing was charged"})
		}
		return nil
	}
	react := on(charge, shop.FraudCleared)
	maps.Copy(react, on(giveBack, shop.InventoryRejected, shop.ShippingFailed))
	if config.Flow == Orchestration {
		react = on(charge, shop.ChargePayment)
		maps.Copy(react, on(giveBack, shop.RefundPayment))
	}
	return take(config, Payment, saga.Service[string]{Streams: perOrder(Payment), Fold: state(Payment), React: react})
}
