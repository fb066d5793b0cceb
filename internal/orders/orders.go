// Package orders makes realistic order events: the sample data of the suite.
package orders

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
)

// Type is the type of the events that a Generator makes data for.
const Type = "order.created"

// Order is the data of an order.created event. Amounts are in cents of Currency.
type Order struct {
	OrderID  string `json:"order_id"`
	UserID   string `json:"user_id"`
	Items    []Item `json:"items"`
	Amount   int    `json:"amount"`
	Currency string `json:"currency"`
}

// Item is one line of an order. Price is that of one piece, in cents.
type Item struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
	Price    int    `json:"price"`
}

// Generator makes orders. The same seed makes the same orders. It is not safe for use by
// several goroutines.
type Generator struct {
	random *rand.Rand
	next   int
}

// NewGenerator makes a generator; its first order has the number 1.
func NewGenerator(seed uint64) *Generator {
	return &Generator{random: rand.New(rand.NewPCG(seed, seed))} //nolint:gosec // sample data, not secrets
}

// Next makes the next order.
func (g *Generator) Next() Order {
	g.next++
	o := Order{
		OrderID:  fmt.Sprintf("order-%06d", g.next),
		UserID:   fmt.Sprintf("user-%03d", 1+g.random.IntN(500)),
		Items:    make([]Item, 1+g.random.IntN(3)),
		Currency: "EUR",
	}
	for i := range o.Items {
		o.Items[i] = Item{
			SKU:      fmt.Sprintf("item-%d", 1+g.random.IntN(40)),
			Quantity: 1 + g.random.IntN(4),
			Price:    (1 + g.random.IntN(100)) * 50,
		}
		o.Amount += o.Items[i].Quantity * o.Items[i].Price
	}
	return o
}

// JSON gives the order's JSON.
func (o Order) JSON() json.RawMessage {
	b, err := json.Marshal(o)
	if err != nil {
		panic(err) // an Order holds nothing that cannot be marshalled
	}
	return b
}
