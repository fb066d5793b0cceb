// Package check proves the order system from outside: from the log, and from what the sinks have, it finds every order that
// did not come to its right end, and every event that a sink does not have once. It uses none of the services' code.
package check

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/saga"
)

// Report is what was found.
type Report struct {
	Events    int64 `json:"events"`
	Orders    int   `json:"orders"`
	Shipped   int   `json:"shipped"`
	Cancelled int   `json:"cancelled"`
	// Open counts the orders that have not come to an end.
	Open int `json:"open"`
	// Charged and Refunded are in cents.
	Charged  int `json:"charged"`
	Refunded int `json:"refunded"`
	// Sinks is what each sink was compared with: how many it has to have.
	Sinks []Compared `json:"sinks,omitempty"`
	// Findings counts what is wrong, by rule.
	Findings map[Rule]int `json:"findings"`
}

// Compared says how many things of a sink were compared with the log, and how many of them were not as they should be.
type Compared struct {
	Sink  string `json:"sink"`
	What  string `json:"what"`
	Count int    `json:"count"`
	Wrong int    `json:"wrong"`
}

// Sound tells whether nothing is wrong.
func (r Report) Sound() bool { return len(r.Findings) == 0 }

// Rule is what must hold.
type Rule string

// The rules.
const (
	Ends        Rule = "every order ends, once: shipped or cancelled"
	Once        Rule = "each step of an order is taken at most once"
	Paid        Rule = "nothing is shipped that was not charged, or was refunded"
	Covered     Rule = "no charge without reserved stock, or a refund of the same amount"
	Kept        Rule = "what is reserved is shipped, or released"
	InStock     Rule = "no more is taken than there is, and stock moves as orders do"
	Told        Rule = "customers are told of each end once on every channel"
	Points      Rule = "points are awarded for what is shipped, and only for that"
	SagaEnds    Rule = "every saga ends as its order does"
	InOrder     Rule = "nothing happens to an order before what it rests on"
	Same        Rule = "an order stays as it was placed"
	Known       Rule = "every event belongs to an order, and can be read"
	SinkOnce    Rule = "a sink has each event once"
	SinkMissing Rule = "a sink has every event"
	SinkAgrees  Rule = "a sink agrees with the log"
)

// Finding is something that is wrong.
type Finding struct {
	Rule   Rule   `json:"rule"`
	Order  string `json:"order,omitempty"`
	Detail string `json:"detail"`
}

func (f Finding) String() string {
	if f.Order == "" {
		return fmt.Sprintf("%s: %s", f.Rule, f.Detail)
	}
	return fmt.Sprintf("%s: %s: %s", f.Order, f.Rule, f.Detail)
}

// Log walks the log and calls found with everything that is wrong with it. Orders that have not come to an end are wrong:
// check when nothing is under way.
func Log(ctx context.Context, store *eventstore.Store, found func(Finding)) (Report, error) {
	b := &book{ledger: ledger{report: &Report{Findings: map[Rule]int{}}, found: found}, orders: map[string]*entry{}, stock: map[string]int{}}
	for r, err := range store.Read(ctx, eventstore.Query{}) {
		if err != nil {
			return *b.report, err
		}
		b.report.Events++
		b.enter(&r)
	}
	b.close()
	return *b.report, nil
}

// book is what the log has said so far.
type book struct {
	ledger
	orders map[string]*entry
	stock  map[string]int // taken, by article
	sagas  bool
}

// entry is one order's.
type entry struct {
	order   shop.Order
	seen    map[string]int // of each type
	told    map[string]int // by channel and what about
	charged int
	back    int
	stock   map[string]int
}

// ledger is what was found.
type ledger struct {
	report *Report
	found  func(Finding)
}

func (l *ledger) wrong(rule Rule, order, format string, args ...any) {
	l.report.Findings[rule]++
	l.found(Finding{Rule: rule, Order: order, Detail: fmt.Sprintf(format, args...)})
}

// enter enters an event.
func (b *book) enter(r *eventstore.Recorded) {
	if r.Source != "shop" && !strings.HasPrefix(r.Source, "shop/") {
		return
	}
	switch r.Type {
	case shop.OrderCreated:
		b.created(r)
	case shop.StockTaken, shop.StockReturned:
		b.moved(r)
	case shop.NotificationSent, shop.NotificationFailed:
		b.notified(r)
	case shop.PaymentProviderWebhook, shop.SMSConfirmed, shop.EmailBounced, "shop.opened":
	case saga.TypeStarted, saga.TypeCompleted, saga.TypeCompensated:
		b.sagas = true
		b.count(r.Subject, r)
	default:
		if strings.HasPrefix(r.Type, "saga.") {
			return
		}
		if topic, ours := shop.Topic(r.Type); !ours || topic == shop.Commands { // a service that was added has events of its own
			return
		}
		b.decided(r)
	}
}

func (b *book) created(r *eventstore.Recorded) {
	var order shop.Order
	if err := json.Unmarshal(r.Data, &order); err != nil || order.OrderID == "" {
		b.wrong(Known, r.Subject, "position %d: %s cannot be read: %v", r.Position, r.Type, err)
		return
	}
	e := b.orders[order.OrderID]
	if e == nil {
		e = &entry{order: order, seen: map[string]int{}, told: map[string]int{}, stock: map[string]int{}}
		b.orders[order.OrderID] = e
		b.report.Orders++
	}
	e.seen[r.Type]++
}

// of is the entry of an order that must be there.
func (b *book) of(order string, r *eventstore.Recorded) *entry {
	e := b.orders[order]
	if e == nil {
		b.wrong(Known, order, "position %d: %s of an order that there is not", r.Position, r.Type)
	}
	return e
}

func (b *book) count(order string, r *eventstore.Recorded) {
	if e := b.of(order, r); e != nil {
		e.seen[r.Type]++
	}
}

func (b *book) decided(r *eventstore.Recorded) {
	var d shop.Decision
	if err := json.Unmarshal(r.Data, &d); err != nil {
		b.wrong(Known, r.Subject, "position %d: %s cannot be read: %v", r.Position, r.Type, err)
		return
	}
	e := b.of(d.Order.OrderID, r)
	if e == nil {
		return
	}
	if !reflect.DeepEqual(d.Order, e.order) {
		b.wrong(Same, d.Order.OrderID, "position %d: %s has %+v, and it was %+v", r.Position, r.Type, d.Order, e.order)
	}
	b.inOrder(r, e)
	e.seen[r.Type]++
	switch r.Type {
	case shop.PaymentProcessed:
		e.charged += d.Amount
		b.report.Charged += d.Amount
	case shop.PaymentRefunded:
		e.back += d.Amount
		b.report.Refunded += d.Amount
	}
}

// inOrder looks at what there must have been before an event, and what not: positions are in the order of the commits.
func (b *book) inOrder(r *eventstore.Recorded, e *entry) {
	var before, not []string
	switch r.Type {
	case shop.PaymentProcessed:
		before, not = []string{shop.FraudCleared}, []string{shop.PaymentVoided, shop.OrderCancelled}
	case shop.InventoryReserved:
		before, not = []string{shop.PaymentProcessed}, []string{shop.PaymentRefunded, shop.InventoryReleased, shop.OrderCancelled}
	case shop.OrderShipped:
		before = []string{shop.PaymentProcessed, shop.InventoryReserved}
		not = []string{shop.PaymentRefunded, shop.InventoryReleased, shop.OrderCancelled}
	case shop.PaymentRefunded:
		before, not = []string{shop.PaymentProcessed}, []string{shop.OrderShipped}
	case shop.LoyaltyAwarded:
		before = []string{shop.OrderShipped}
	case shop.OrderCancelled:
		not = []string{shop.OrderShipped}
	}
	for _, t := range before {
		if !e.has(t) {
			b.wrong(InOrder, e.order.OrderID, "position %d: %s without %s before it", r.Position, r.Type, t)
		}
	}
	for _, t := range not {
		if e.has(t) {
			b.wrong(InOrder, e.order.OrderID, "position %d: %s after %s", r.Position, r.Type, t)
		}
	}
}

func (b *book) moved(r *eventstore.Recorded) {
	var m shop.Move
	if err := json.Unmarshal(r.Data, &m); err != nil {
		b.wrong(Known, r.Subject, "position %d: %s cannot be read: %v", r.Position, r.Type, err)
		return
	}
	if r.Type == shop.StockReturned {
		m.Quantity = -m.Quantity
	}
	if b.stock[m.SKU] += m.Quantity; b.stock[m.SKU] > shop.InStock(m.SKU) || b.stock[m.SKU] < 0 {
		b.wrong(InStock, m.OrderID, "position %d: %d of %s are taken, of %d", r.Position, b.stock[m.SKU], m.SKU, shop.InStock(m.SKU))
	}
	if e := b.of(m.OrderID, r); e != nil {
		e.stock[m.SKU] += m.Quantity
	}
}

func (b *book) notified(r *eventstore.Recorded) {
	var n shop.Notification
	if err := json.Unmarshal(r.Data, &n); err != nil {
		b.wrong(Known, r.Subject, "position %d: %s cannot be read: %v", r.Position, r.Type, err)
		return
	}
	if e := b.of(n.OrderID, r); e != nil && r.Type == shop.NotificationSent {
		e.told[n.Channel+" about "+n.About]++
	}
}

// close looks at every order as it has become.
func (b *book) close() {
	for _, id := range slices.Sorted(maps.Keys(b.orders)) {
		e := b.orders[id]
		for _, eventType := range slices.Sorted(maps.Keys(e.seen)) {
			if n := e.seen[eventType]; n > 1 {
				b.wrong(Once, id, "%d times %s", n, eventType)
			}
		}
		b.ended(id, e)
		b.settled(id, e)
		b.told(id, e)
		b.saga(id, e)
	}
}

func (e *entry) has(eventType string) bool { return e.seen[eventType] > 0 }

func (b *book) ended(id string, e *entry) {
	shipped, cancelled := e.has(shop.OrderShipped), e.has(shop.OrderCancelled)
	switch {
	case shipped && cancelled:
		b.wrong(Ends, id, "it is both")
	case shipped:
		b.report.Shipped++
	case cancelled:
		b.report.Cancelled++
	default:
		b.report.Open++
		b.wrong(Ends, id, "it is open, after %s", strings.Join(slices.Sorted(maps.Keys(e.seen)), ", "))
	}
}

// settled looks at money and goods. What is still under way is not settled, and said to be open.
func (b *book) settled(id string, e *entry) {
	shipped, cancelled := e.has(shop.OrderShipped), e.has(shop.OrderCancelled)
	if shipped && (e.charged != e.order.Amount || e.back != 0) {
		b.wrong(Paid, id, "%d cents were to be paid, %d were charged and %d given back", e.order.Amount, e.charged, e.back)
	}
	reserved := e.has(shop.InventoryReserved) && !e.has(shop.InventoryReleased)
	if (shipped || cancelled) && e.charged != e.back && !reserved {
		b.wrong(Covered, id, "%d cents were charged and %d given back, and nothing is reserved", e.charged, e.back)
	}
	if cancelled && e.charged != e.back {
		b.wrong(Covered, id, "it is cancelled, %d cents were charged and %d given back", e.charged, e.back)
	}
	if shipped != reserved && (shipped || cancelled) {
		b.wrong(Kept, id, "shipped: %v, reserved: %v", shipped, reserved)
	}
	wanted := map[string]int{}
	if reserved {
		for _, item := range e.order.Items {
			wanted[item.SKU] += item.Quantity
		}
	}
	maps.DeleteFunc(e.stock, func(_ string, n int) bool { return n == 0 })
	if !maps.Equal(wanted, e.stock) {
		b.wrong(InStock, id, "%v should be taken, and %v is", wanted, e.stock)
	}
	if shipped != e.has(shop.LoyaltyAwarded) {
		b.wrong(Points, id, "shipped: %v, points: %v", shipped, e.has(shop.LoyaltyAwarded))
	}
}

// told compares the notifications with those that there should be. An SMS in place of an e-mail is an extra one.
func (b *book) told(id string, e *entry) {
	wanted := map[string]int{}
	if e.has(shop.OrderShipped) {
		wanted["email about "+shop.OrderShipped], wanted["sms about "+shop.OrderShipped], wanted["push about "+shop.OrderShipped] = 1, 1, 1
	}
	if e.has(shop.OrderCancelled) {
		wanted["email about "+shop.OrderCancelled], wanted["push about "+shop.OrderCancelled] = 1, 1
	}
	if n := e.told["sms about "+shop.NotificationFailed]; n == 1 {
		delete(e.told, "sms about "+shop.NotificationFailed)
	}
	if !maps.Equal(wanted, e.told) {
		b.wrong(Told, id, "should have been told %v, and was told %v", wanted, e.told)
	}
}

func (b *book) saga(id string, e *entry) {
	if !b.sagas {
		return
	}
	completed, compensated := e.has(saga.TypeCompleted), e.has(saga.TypeCompensated)
	if completed == compensated || completed != e.has(shop.OrderShipped) {
		b.wrong(SagaEnds, id, "completed: %v, compensated: %v, shipped: %v", completed, compensated, e.has(shop.OrderShipped))
	}
}
