package service

import (
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/saga"
)

// mostInOneOrder is what nobody orders who means it, in cents.
const mostInOneOrder = 1_000_000_00

// newFraud looks at orders before anything else does.
func newFraud(config Config) (Service, error) {
	check := func(t *saga.Turn[string], order shop.Order) error {
		switch {
		case t.State() != "":
		case order.Amount > mostInOneOrder:
			t.Emit(shop.FraudSuspected, shop.Decision{Order: order, Reason: "nobody orders that much"})
		case config.Refuse(Fraud, order.OrderID):
			t.Emit(shop.FraudSuspected, shop.Decision{Order: order, Reason: "the customer is not who they say they are"})
		default:
			t.Emit(shop.FraudCleared, shop.Decision{Order: order})
		}
		return nil
	}
	trigger := shop.OrderCreated
	if config.Flow == Orchestration {
		trigger = shop.CheckFraud
	}
	return take(config, Fraud, saga.Service[string]{Streams: perOrder(Fraud), Fold: state(Fraud), React: on(check, trigger)})
}
