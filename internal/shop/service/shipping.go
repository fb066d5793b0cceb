package service

import (
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/saga"
)

// newShipping hands parcels to the carrier, which cannot be undone.
func newShipping(config Config) (Service, error) {
	ship := func(t *saga.Turn[string], order shop.Order) error {
		switch {
		case t.State() != "":
		case config.Refuse(Shipping, order.OrderID):
			t.Emit(shop.ShippingFailed, shop.Decision{Order: order, Reason: "the carrier does not go there"})
		default:
			t.Emit(shop.OrderShipped, shop.Decision{Order: order, Reference: "track-" + t.Key()})
		}
		return nil
	}
	trigger := shop.InventoryReserved
	if config.Flow == Orchestration {
		trigger = shop.ShipOrder
	}
	return take(config, Shipping, saga.Service[string]{Streams: perOrder("shipment"), Fold: state(Shipping), React: on(ship, trigger)})
}
