package scenario

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/naive"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/stage"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
)

const (
	checkoutKills = 3
	checkoutQueue = "checkout"
)

// The calls of a checkout, in their order, and the one that is made where one of them is refused.
const (
	checkoutCharge  = "charge"
	checkoutReserve = "reserve"
	checkoutShip    = "ship"
	checkoutCancel  = "cancel"
)

// checkoutWorld is bank, warehouse and carrier, which do what they are asked for and remember it.
type checkoutWorld struct {
	book    *shopBook
	refused map[string]string // the call, by order
	strikes map[string]bool   // the orders at whose first charge the program is to be killed
	struck  chan struct{}     // receives when one has been charged
}

// ServeHTTP answers one call. One that strikes has no answer: the program does not live to hear of it.
func (c *checkoutWorld) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call, order := r.URL.Path[1:], r.URL.Query().Get("order")
	if c.refused[order] == call {
		if call == checkoutCharge {
			c.book.enter(shop.PaymentFailed, order, 0)
		}
		http.Error(w, "no", http.StatusConflict)
		return
	}
	happened := map[string]string{checkoutCharge: shop.PaymentProcessed, checkoutReserve: shop.InventoryReserved, checkoutShip: shop.OrderShipped, checkoutCancel: shop.OrderCancelled}
	o := c.book.enter(happened[call], order, 1)
	if call != checkoutCharge || o.charges != 1 || !c.strikes[order] {
		return
	}
	select {
	case c.struck <- struct{}{}:
		<-r.Context().Done()
	case <-r.Context().Done():
	}
}

// playCheckout has a naive program take the orders, and kills it several times, always when the bank has just charged.
func playCheckout(ctx context.Context, s *stage.Stage) error {
	if err := s.Topology(ctx, topology.Spec{Queues: map[string]topology.Queue{checkoutQueue: {}}}); err != nil {
		return err
	}
	world := &checkoutWorld{book: newShopBook(s), refused: map[string]string{}, strikes: map[string]bool{}, struck: make(chan struct{})}
	events := make([]event.Event, shopOrders)
	for i := range events {
		e := s.Event(shop.OrderCreated, "", shop.Sample(s.Rand))
		events[i] = e
		world.refused[e.ID] = []string{checkoutCharge, checkoutReserve, checkoutShip, "", ""}[s.Rand.IntN(5)]
		if wave := shopOrders / checkoutKills; i%wave == wave/4 {
			world.refused[e.ID], world.strikes[e.ID] = "", true
		}
	}
	url, err := s.Serve(ctx, world)
	if err != nil {
		return err
	}
	s.Say("Starting the checkout program. Bank, warehouse and carrier are played here. Each refuses one order in five, and no order is refused by two, so about three in five are refused.")
	start := func() (*stage.Process, error) {
		return s.StartPart(ctx, checkoutQueue, checkoutQueue, nil, map[string]string{"queue": s.Name(checkoutQueue), "world": url})
	}
	program, err := start()
	if err != nil {
		return err
	}
	s.Say("Customers place %d orders. %d times the program is killed with SIGKILL when the bank has just charged, and started again.", shopOrders, checkoutKills)
	if err := s.Publish(ctx, world.book.ledger, publisher.ToQueue(s.Name(checkoutQueue)), 0, events...); err != nil {
		return err
	}
	for range checkoutKills {
		select {
		case <-world.struck:
		case <-program.Exited():
			return fmt.Errorf("the checkout program has ended: %w: %s", program.Err(), program.Said())
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err = program.Kill(); err != nil {
			return err
		}
		if program, err = start(); err != nil {
			return err
		}
	}
	if err := s.Settle(ctx, patience, shopOrders, world.book.ended); err != nil {
		return err
	}
	world.book.measure(s)
	return s.StopAll()
}

// checkoutPart takes orders from a queue, and makes one call after the other for each.
func checkoutPart(ctx context.Context, p *stage.Player) error {
	return naive.Consumer{URL: p.URL, TLS: p.TLS, Queue: p.Args["queue"], Prefetch: 1, Ready: p.Ready}.Run(ctx, func(e event.Event) error {
		for _, call := range []string{checkoutCharge, checkoutReserve, checkoutShip} {
			ok, err := checkoutCall(ctx, p.Args["world"], call, e.ID)
			if err == nil && !ok {
				_, err = checkoutCall(ctx, p.Args["world"], checkoutCancel, e.ID)
				return err
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// checkoutCall makes a call about an order. It tells whether the answer was yes.
func checkoutCall(ctx context.Context, world, call, order string) (ok bool, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("%s/%s?order=%s", world, call, url.QueryEscape(order)), nil)
	if err != nil {
		return false, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return false, err
	}
	return answer.StatusCode == http.StatusOK, answer.Body.Close()
}
