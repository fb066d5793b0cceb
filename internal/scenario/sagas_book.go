package scenario

import (
	"sync"

	"github.com/evdemo/evdemo/internal/ledger"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/stage"
)

// shopOrders is how many orders are placed in each mode.
const shopOrders = 120

// shopBook is what has become of each order, seen from outside.
type shopBook struct {
	ledger *ledger.Ledger

	mu     sync.Mutex
	orders map[string]*shopOrder
}

type shopOrder struct {
	charges, charged, back       int
	declined, shipped, cancelled bool
	unpaid                       bool // when it was shipped
}

func newShopBook(s *stage.Stage) *shopBook {
	b := &shopBook{ledger: s.Ledger("orders"), orders: map[string]*shopOrder{}}
	b.ledger.Expect("came to an end", "shop")
	return b
}

// enter enters what has happened to an order, and tells how it is then.
func (b *shopBook) enter(eventType, order string, amount int) shopOrder {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.orders[order]
	if o == nil {
		o = &shopOrder{}
		b.orders[order] = o
	}
	switch eventType {
	case shop.PaymentProcessed:
		o.charges, o.charged = o.charges+1, o.charged+amount
	case shop.PaymentRefunded:
		o.back += amount
	case shop.PaymentFailed:
		o.declined = true
	case shop.OrderShipped:
		o.shipped, o.unpaid = true, o.unpaid || o.charged <= o.back
	case shop.OrderCancelled:
		o.cancelled = true
	}
	if eventType == shop.OrderShipped || eventType == shop.OrderCancelled {
		b.ledger.Effect("came to an end", "shop", order)
	}
	return *o
}

// count counts the orders of which something is true.
func (b *shopBook) count(is func(o *shopOrder) bool) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, o := range b.orders {
		if is(o) {
			n++
		}
	}
	return n
}

func (b *shopBook) ended() int {
	return b.count(func(o *shopOrder) bool { return o.shipped || o.cancelled })
}

// paid is how many orders payment has decided on.
func (b *shopBook) paid() int {
	return b.count(func(o *shopOrder) bool { return o.charges > 0 || o.declined })
}

// measure enters the figures.
func (b *shopBook) measure(s *stage.Stage) {
	s.Count("shipped", b.count(func(o *shopOrder) bool { return o.shipped }))
	s.Count("declined", b.count(func(o *shopOrder) bool { return o.declined }))
	s.Count("returned", b.count(func(o *shopOrder) bool { return o.cancelled && o.charged > 0 && o.back == o.charged }))
	s.Count("open", b.count(func(o *shopOrder) bool { return !o.shipped && !o.cancelled }))
	s.Count("kept", b.count(func(o *shopOrder) bool { return !o.shipped && o.charged > o.back }))
	s.Count("twice", b.count(func(o *shopOrder) bool { return o.charges > 1 }))
	s.Count("unpaid", b.count(func(o *shopOrder) bool { return o.unpaid }))
}

// shopFigures are those of a shop, whoever runs it.
func shopFigures() []stage.Figure {
	return []stage.Figure{
		{Key: "shipped", Label: "orders shipped"},
		{Key: "declined", Label: "orders whose payment was declined"},
		{Key: "returned", Label: "orders cancelled after payment, all of it given back"},
		{Key: "open", Label: "orders that have no end (some of them may be paid for)"},
		{Key: "kept", Label: "orders paid for, but neither shipped nor paid back"},
		{Key: "twice", Label: "orders charged twice"},
		{Key: "unpaid", Label: "orders shipped that nobody paid for"},
		{Key: "wrong", Label: "mistakes that evdemo shop check finds"},
	}
}

// shopClaims are what must hold of it.
func shopClaims() []stage.Claim {
	return []stage.Claim{
		{
			Text: "Fixed: with payments declined and services killed, some orders are shipped, and some are cancelled and paid back.",
			By:   []string{"shipped", "declined", "returned"},
			Holds: func(_, now stage.Figures) bool {
				return now.Of("shipped") > 0 && now.Of("declined") > 0 && now.Of("returned") > 0
			},
		},
		{
			Text: "Fixed: every order has an end; nobody pays for nothing, nobody pays twice, and nothing is shipped unpaid.",
			By:   []string{"open", "kept", "twice", "unpaid"},
			Holds: func(_, now stage.Figures) bool {
				return now.Of("open") == 0 && now.Of("kept") == 0 && now.Of("twice") == 0 && now.Of("unpaid") == 0
			},
		},
		{
			Text: "Fixed: evdemo shop check agrees.", By: []string{"wrong"},
			Holds: func(_, now stage.Figures) bool { return now.Of("wrong") == 0 },
		},
	}
}
