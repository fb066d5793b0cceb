package shop

import (
	"math/rand/v2"
	"strconv"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
)

// Placed is what is to be appended when a customer places an order: the beginning of the order's own stream.
func Placed(order Order) (eventstore.StreamWrite, error) {
	e, err := event.New(OrderCreated, "shop/order", order)
	if err != nil {
		return eventstore.StreamWrite{}, err
	}
	e.Subject = order.OrderID
	e.Extensions = map[string]any{event.ExtCorrelationID: e.ID, event.ExtPartitionKey: order.OrderID}
	return eventstore.StreamWrite{Stream: order.OrderID, Expect: eventstore.NoStream, Events: []event.Event{e}}, nil
}

// Sample makes an order such as customers place, with an id of its own: one to three articles of the catalogue, some of each.
// Everything but the id is by random.
func Sample(random *rand.Rand) Order {
	order := Order{
		OrderID: "order-" + event.NewID(), UserID: "user-" + strconv.Itoa(1+random.IntN(500)),
		Items: make([]Item, 1+random.IntN(3)), Currency: Currency,
	}
	skus := SKUs()
	for i := range order.Items {
		sku := skus[random.IntN(len(skus))]
		price, _ := Price(sku)
		order.Items[i] = Item{SKU: sku, Quantity: 1 + random.IntN(4), Price: price}
		order.Amount += order.Items[i].Quantity * price
	}
	return order
}
