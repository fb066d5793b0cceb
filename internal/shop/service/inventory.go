package service

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/saga"
)

// shelf is the state of both kinds of stream that inventory has: what became of an order, and how much of an article is
// taken.
type shelf struct {
	Order string // the type of the last event
	Taken int
}

// newInventory reserves what was ordered: all of it, or nothing. The stream of an order is the first, those of the articles
// follow, and what is decided is decided from all of them at once.
func newInventory(config Config) (Service, error) {
	reserve := func(t *saga.Turn[shelf], order shop.Order) error {
		wanted, skus := quantities(order)
		switch {
		case t.State().Order == shop.InventoryReleased:
			t.Emit(shop.InventoryRejected, shop.Decision{Order: order, Reason: "it was called off before"})
			return nil
		case t.State().Order != "":
			return nil
		case config.Refuse(Inventory, order.OrderID):
			t.Emit(shop.InventoryRejected, shop.Decision{Order: order, Reason: "it was damaged on the shelf"})
			return nil
		}
		for i, sku := range skus {
			if left := config.Stock(sku) - t.StateOf(i+1).Taken; left < wanted[sku] {
				t.Emit(shop.InventoryRejected, shop.Decision{Order: order, Reason: fmt.Sprintf("%s: %d wanted, %d left", sku, wanted[sku], left)})
				return nil
			}
		}
		t.Emit(shop.InventoryReserved, shop.Decision{Order: order})
		for i, sku := range skus {
			t.EmitTo(i+1, shop.StockTaken, shop.Move{SKU: sku, OrderID: order.OrderID, Quantity: wanted[sku]})
		}
		return nil
	}
	release := func(t *saga.Turn[shelf], order shop.Order) error {
		switch t.State().Order {
		case shop.InventoryReserved:
			t.Emit(shop.InventoryReleased, shop.Decision{Order: order, Reason: t.Trigger.Type})
			wanted, skus := quantities(order)
			for i, sku := range skus {
				t.EmitTo(i+1, shop.StockReturned, shop.Move{SKU: sku, OrderID: order.OrderID, Quantity: wanted[sku]})
			}
		case "", shop.InventoryRejected:
			t.Emit(shop.InventoryReleased, shop.Decision{Order: order, Reason: "nothing was reserved"})
		}
		return nil
	}
	react := on(reserve, shop.PaymentProcessed)
	maps.Copy(react, on(release, shop.ShippingFailed))
	if config.Flow == Orchestration {
		react = on(reserve, shop.ReserveInventory)
		maps.Copy(react, on(release, shop.ReleaseInventory))
	}
	return take(config, Inventory, saga.Service[shelf]{Streams: shelves, Fold: stock(), SnapshotEvery: 1000, React: react})
}

func stock() eventstore.Fold[shelf] {
	return eventstore.Fold[shelf]{Name: "inventory", Version: 1, Apply: func(s shelf, r eventstore.Recorded) (shelf, error) {
		var moved shop.Move
		switch r.Type {
		case shop.StockTaken, shop.StockReturned:
			if err := json.Unmarshal(r.Data, &moved); err != nil {
				return s, err
			}
		default:
			s.Order = r.Type
		}
		if r.Type == shop.StockReturned {
			moved.Quantity = -moved.Quantity
		}
		s.Taken += moved.Quantity
		return s, nil
	}}
}

// shelves are the streams of an order and of its articles.
func shelves(e event.Event) []string {
	streams := []string{Inventory + "-" + e.Subject}
	var d shop.Decision
	if json.Unmarshal(e.Data, &d) != nil {
		return streams // the reaction says so
	}
	_, skus := quantities(d.Order)
	for _, sku := range skus {
		streams = append(streams, "stock-"+sku)
	}
	return streams
}

// quantities is how much of each article is wanted, and the articles in their order.
func quantities(order shop.Order) (wanted map[string]int, skus []string) {
	wanted = map[string]int{}
	for _, item := range order.Items {
		wanted[item.SKU] += item.Quantity
	}
	return wanted, slices.Sorted(maps.Keys(wanted))
}
