package service

import (
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/saga"
)

// centsForAPoint is what a point costs.
const centsForAPoint = 100

// newLoyalty awards points for what was shipped.
func newLoyalty(config Config) (Service, error) {
	award := func(t *saga.Turn[string], order shop.Order) error {
		if t.State() == "" {
			t.Emit(shop.LoyaltyAwarded, shop.Decision{Order: order, Points: order.Amount / centsForAPoint})
		}
		return nil
	}
	trigger := shop.OrderShipped
	if config.Flow == Orchestration {
		trigger = shop.AwardLoyalty
	}
	return take(config, Loyalty, saga.Service[string]{Streams: perOrder(Loyalty), Fold: state(Loyalty), React: on(award, trigger)})
}
