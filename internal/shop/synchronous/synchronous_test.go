package synchronous

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/service"
	"github.com/evdemo/evdemo/internal/shop/system"
)

func TestEveryOutcome(t *testing.T) {
	t.Parallel()
	onBoth(t, everyOutcome)
}

func everyOutcome(t *testing.T, db func(*testing.T) string) {
	t.Helper()
	const told = "push order.cancelled"
	for refuses, want := range map[string]struct {
		reason string
		calls  []string
	}{
		"": {"", []string{
			"fraud fraud.check", "payment payment.charge", "inventory inventory.reserve", "shipping shipping.ship", "loyalty loyalty.award",
			"email order.shipped", "sms order.shipped", "push order.shipped",
		}},
		service.Fraud: {"fraud.suspected: the customer is not who they say they are", []string{
			"fraud fraud.check", "order order.cancel", "email order.cancelled", told,
		}},
		service.Payment: {"payment.failed: the card was declined", []string{
			"fraud fraud.check", "payment payment.charge", "order order.cancel", "email order.cancelled", told,
		}},
		service.Inventory: {"inventory.rejected: it was damaged on the shelf", []string{
			"fraud fraud.check", "payment payment.charge", "inventory inventory.reserve", "payment payment.refund", "order order.cancel",
			"email order.cancelled", told,
		}},
		service.Shipping: {"shipping.failed: the carrier does not go there", []string{
			"fraud fraud.check", "payment payment.charge", "inventory inventory.reserve", "shipping shipping.ship", "inventory inventory.release",
			"payment payment.refund", "order order.cancel", "email order.cancelled", told,
		}},
	} {
		t.Run("refused by "+refuses, func(t *testing.T) {
			t.Parallel()
			r := open(t, openStore(t, db(t)), func(c *Config) {
				if refuses != "" {
					c.Faults.Refuse = map[string]float64{refuses: 1}
				}
			})
			answer := r.post(anOrder).told(t, http.StatusCreated)
			status := Cancelled
			if refuses == "" {
				status = Shipped
			}
			require.Equal(t, status, answer.Status)
			require.Equal(t, want.reason, answer.Reason)
			require.Equal(t, want.calls, answer.called())
			after := r.statusOf(answer.ID)
			require.Equal(t, status, after.Status)
			require.Equal(t, want.reason, after.Reason)

			report := untilSound(t, r.store)
			require.Equal(t, 1, report.Orders)
			counts, err := r.stop()
			require.NoError(t, err)
			require.EqualValues(t, 1, counts.Shipped+counts.Cancelled)
			require.Equal(t, Counts{Shipped: counts.Shipped, Cancelled: counts.Cancelled}, counts)
		})
	}
}

// The customer waits as long as all services take together. Where events are in between the customer does not wait for any.
func TestTheCustomerWaitsForEveryService(t *testing.T) {
	t.Parallel()
	const each = 250 * time.Millisecond
	slow := map[string]time.Duration{}
	for _, name := range []string{service.Payment, service.Inventory, service.Shipping, service.Email} {
		slow[name] = each
	}
	r := open(t, openStore(t, file(t)), func(c *Config) { c.Faults.Slow = slow })
	g := r.post(anOrder)
	answer := g.told(t, http.StatusCreated)
	require.Equal(t, Shipped, answer.Status)
	require.GreaterOrEqual(t, g.took, 4*each)
	for _, c := range answer.Calls {
		if slow[c.Service] > 0 {
			require.GreaterOrEqual(t, c.Millis, float64(each.Milliseconds()), c.Service)
		}
	}

	store := openStore(t, file(t))
	write, err := shop.Placed(anyOrder())
	require.NoError(t, err)
	begin := time.Now()
	_, err = store.Append(t.Context(), write) // with this the customer has the answer
	require.NoError(t, err)
	require.Less(t, time.Since(begin), 4*each)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		defer cancel()
		for _, err := range store.Follow(ctx, eventstore.Query{Types: []string{shop.OrderShipped}}) {
			assert.NoError(t, err)
			return
		}
	}()
	_, err = system.Run(ctx, system.Config{Store: store, Faults: system.Faults{Slow: slow}, Down: []string{service.Email}})
	require.NoError(t, err)
	<-followed
	require.Contains(t, typesOf(t, store, "order-1"), shop.OrderShipped) // though nobody sends e-mails
}

// A service that is down fails every order, also one that only tells of it. Once it is there again all is put right.
func TestEveryServiceDown(t *testing.T) {
	t.Parallel()
	for down, want := range map[string]struct {
		status, end Status
		then        string // is in the log at once
	}{
		service.Fraud:     {Cancelled, Cancelled, shop.OrderCancelled},
		service.Payment:   {Cancelling, Cancelled, shop.RefundPayment},
		service.Inventory: {Cancelling, Cancelled, shop.PaymentRefunded}, // money goes back though the warehouse is away
		service.Shipping:  {Shipping, Shipped, shop.ShipOrder},
		service.Loyalty:   {Shipped, Shipped, shop.OrderShipped},
		service.Email:     {Shipped, Shipped, shop.LoyaltyAwarded},
		service.SMS:       {Shipped, Shipped, shop.NotificationSent},
		service.Push:      {Shipped, Shipped, shop.NotificationSent},
	} {
		t.Run(down, func(t *testing.T) {
			t.Parallel()
			store := openStore(t, file(t))
			r := open(t, store, func(c *Config) { c.Down = []string{down} })
			answer := r.post(anOrder).told(t, http.StatusServiceUnavailable)
			require.Equal(t, want.status, answer.Status)
			require.Equal(t, "Service away", answer.Title)
			require.Contains(t, answer.Detail, "The service "+down+" cannot be reached, at attempt 3. ")
			require.NotContains(t, answer.Detail, "127.0.0.1")
			require.Contains(t, typesOf(t, store, answer.OrderID), want.then)
			counts, err := r.stop()
			require.NoError(t, err)
			unfinished := int64(1)
			if down == service.Fraud {
				unfinished = 0
			}
			require.Equal(t, Counts{Failed: 1, Unfinished: unfinished}, counts)

			r = open(t, store)
			report := untilSound(t, store)
			require.Equal(t, 1, report.Orders)
			require.Equal(t, report.Charged-report.Refunded > 0, want.end == Shipped)
			require.Equal(t, want.end, r.statusOf(answer.OrderID).Status)
		})
	}
}

// Who does not answer in time may have done it, or not: it is asked again, and then taken back.
func TestSlowServices(t *testing.T) {
	t.Parallel()
	for slow, want := range map[string]Status{service.Payment: Cancelled, service.Inventory: Cancelled, service.Shipping: Shipped} {
		t.Run(slow, func(t *testing.T) {
			t.Parallel()
			store := openStore(t, file(t))
			r := open(t, store, func(c *Config) {
				c.Faults.Slow = map[string]time.Duration{slow: time.Hour}
				c.Timeout, c.Attempts = 300*time.Millisecond, 2
			})
			g := r.post(anOrder)
			answer := g.told(t, http.StatusGatewayTimeout)
			require.GreaterOrEqual(t, g.took, 600*time.Millisecond)
			require.Equal(t, "Service too slow", answer.Title)
			require.Contains(t, answer.Detail, slow+" did not answer within 300ms, at attempt 2.")
			require.NotEqual(t, want, answer.Status)
			_, err := r.stop()
			require.NoError(t, err)

			r = open(t, store)
			report := untilSound(t, store)
			require.Equal(t, 1, report.Orders)
			require.Equal(t, want, r.statusOf(answer.OrderID).Status)
		})
	}
}

// Half of what fails fails when it is done. Nothing is done twice, nothing is left half done, and who was answered 201 was
// told the truth.
func TestFailingServices(t *testing.T) {
	t.Parallel()
	store := openStore(t, file(t))
	fail := map[string]float64{}
	for _, name := range names() {
		fail[name] = 0.4
	}
	r := open(t, store, func(c *Config) {
		c.Attempts = 2
		c.Faults = system.Faults{Seed: 1, Fail: fail, Refuse: map[string]float64{
			service.Fraud: 0.1, service.Payment: 0.1, service.Inventory: 0.1, service.Shipping: 0.1,
		}}
	})
	const orders = 50
	answers := make([]got, orders)
	var group errgroup.Group
	group.SetLimit(16)
	for i := range answers {
		group.Go(func() (err error) {
			answers[i], err = r.try(t.Context(), http.MethodPost, "/api/orders", anOrder)
			return err
		})
	}
	require.NoError(t, group.Wait())
	report := untilSound(t, store)
	require.Equal(t, orders, report.Orders)
	require.Positive(t, report.Refunded)
	statuses := map[int]int{}
	for _, g := range answers {
		if statuses[g.status]++; g.status == http.StatusCreated {
			answer := g.told(t, http.StatusCreated)
			require.Equal(t, answer.Status, r.statusOf(answer.ID).Status)
		}
	}
	require.Len(t, statuses, 2, statuses)
	require.Positive(t, statuses[http.StatusServiceUnavailable])
	require.Positive(t, statuses[http.StatusCreated])
	counts, err := r.stop()
	require.NoError(t, err)
	require.EqualValues(t, statuses[http.StatusServiceUnavailable], counts.Failed)
	counts, err = open(t, store).stop() // the log knows of the end, whether the order service had heard of it or not
	require.NoError(t, err)
	require.Equal(t, Counts{}, counts)
}

// A second process takes for left behind what the first has in hand. That is rude, and not wrong.
func TestTwoProcessesOnOneStore(t *testing.T) {
	t.Parallel()
	db := file(t)
	first := open(t, openStore(t, db), func(c *Config) {
		const each = 500 * time.Millisecond // in which the second one begins
		c.Faults.Slow = map[string]time.Duration{service.Payment: each, service.Shipping: each}
	})
	const orders = 40
	var group errgroup.Group
	place := func(n int) {
		for range n {
			group.Go(func() error {
				g, err := first.try(t.Context(), http.MethodPost, "/api/orders", anOrder)
				if err == nil && g.status != http.StatusCreated {
					err = fmt.Errorf("%d: %s", g.status, g.body)
				}
				return err
			})
		}
	}
	place(orders / 2)
	untilLogged(t, first.store, shop.ShipOrder) // which is not called off
	place(orders - orders/2)
	created := 0
	for _, err := range first.store.Follow(t.Context(), eventstore.Query{Types: []string{shop.OrderCreated}}) {
		require.NoError(t, err)
		if created++; created > orders/2 { // and now one is in hand that is
			break
		}
	}
	open(t, openStore(t, db))
	require.NoError(t, group.Wait())
	report := untilSound(t, first.store)
	require.Equal(t, orders, report.Orders)
	require.Positive(t, report.Cancelled)
	require.Positive(t, report.Shipped)
}

// While another program has the database locked no order is taken; one that is under way then is put right after.
func TestTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	db := file(t)
	other := openStore(t, db)
	store, err := eventstore.Open(t.Context(), eventstore.Config{DB: db, BusyTimeout: 50 * time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	r := open(t, store, func(c *Config) { c.Faults.Slow = map[string]time.Duration{service.Fraud: 500 * time.Millisecond} })
	answers := make(chan got, 1)
	go func() {
		g, err := r.try(t.Context(), http.MethodPost, "/api/orders", anOrder)
		assert.NoError(t, err)
		answers <- g
	}()
	untilLogged(t, other, shop.CheckFraud)
	lock, err := other.DB().BeginTx(t.Context(), nil)
	require.NoError(t, err)
	answer := (<-answers).told(t, http.StatusServiceUnavailable)
	require.Contains(t, []Status{Cancelling, Open}, answer.Status)
	answer = r.post(anOrder).told(t, http.StatusServiceUnavailable)
	require.Equal(t, "Database away", answer.Title)
	require.Contains(t, answer.Detail, "The order was not stored.")
	require.NoError(t, lock.Rollback())
	report := untilSound(t, other)
	require.Equal(t, 1, report.Orders)
	require.Equal(t, 1, report.Cancelled)
}

func TestCustomersWhoLeave(t *testing.T) {
	t.Parallel()
	store := openStore(t, file(t))
	r := open(t, store, func(c *Config) { c.Faults.Slow = map[string]time.Duration{service.Payment: 300 * time.Millisecond} })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := r.try(ctx, http.MethodPost, "/api/orders", anOrder)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	counts, err := r.stop() // which waits for the order
	require.NoError(t, err)
	require.Equal(t, Counts{Shipped: 1}, counts)
	require.Equal(t, 1, untilSound(t, store).Shipped)
}

// Who waits when the shop closes is answered, if that does not take too long.
func TestClosing(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		drain  time.Duration
		status int
	}{{patience, http.StatusCreated}, {time.Millisecond, 0}} {
		t.Run(fmt.Sprint(test.drain), func(t *testing.T) {
			t.Parallel()
			store := openStore(t, file(t))
			r := open(t, store, func(c *Config) {
				c.Faults.Slow, c.DrainTimeout = map[string]time.Duration{service.Payment: 500 * time.Millisecond}, test.drain
			})
			answered := make(chan int, 1)
			go func() {
				g, _ := r.try(t.Context(), http.MethodPost, "/api/orders", anOrder)
				answered <- g.status
			}()
			untilLogged(t, store, shop.ChargePayment)
			counts, err := r.stop()
			require.Equal(t, test.status, <-answered)
			if test.status > 0 {
				require.NoError(t, err)
				require.Equal(t, Counts{Shipped: 1}, counts)
				return
			}
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Equal(t, Counts{Failed: 1, Unfinished: 1}, counts)
			open(t, store)
			require.Equal(t, 1, untilSound(t, store).Cancelled)
		})
	}
}

func TestAStoreKeepsToItsFlow(t *testing.T) {
	t.Parallel()
	store := openStore(t, file(t))
	_, err := open(t, store).stop()
	require.NoError(t, err)
	_, err = system.Run(t.Context(), system.Config{Store: store})
	require.ErrorIs(t, err, system.ErrFlow)
	store = openStore(t, file(t))
	require.NoError(t, system.KeepFlow(t.Context(), store, service.Choreography))
	_, err = open(t, store).stop()
	require.ErrorIs(t, err, system.ErrFlow)
}

func TestMistakesInConfig(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, err = Run(t.Context(), Config{
		Timeout: -1, Down: []string{"mail", service.Order}, Faults: system.Faults{Fail: map[string]float64{"paiment": 1}},
	}, listener)
	require.ErrorIs(t, err, system.ErrName)
	for _, text := range []string{"Store is needed", "negative", `"mail"`, `"paiment"`, `"order"`} {
		require.ErrorContains(t, err, text)
	}
	_, err = listener.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
}
