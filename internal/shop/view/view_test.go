package view_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/postgrestest"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/view"
)

func TestOrderThatIsShipped(t *testing.T) {
	t.Parallel()
	for name, fresh := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, orders := open(t, fresh(t))
			keep(t, orders)
			f := newFlow(t, store, orderID(1))
			created := f.create()
			want := view.Order{
				ID: "order-1", UserID: "user-1", Items: f.order.Items, Amount: 100, Currency: "EUR", Status: view.Pending, Stage: "created",
				CreatedAt: created.RecordedAt, UpdatedAt: created.RecordedAt, Version: created.Position,
			}
			require.Equal(t, want, look(t, orders, "order-1", created.Position))
			for _, step := range []struct {
				kind   string
				d      shop.Decision
				change func()
			}{
				{shop.FraudCleared, shop.Decision{}, func() { want.Stage = "cleared" }},
				{shop.PaymentProcessed, shop.Decision{Amount: 100}, func() { want.Stage, want.Charged = "paid", 100 }},
				{shop.InventoryReserved, shop.Decision{}, func() { want.Stage = "reserved" }},
				{shop.OrderShipped, shop.Decision{Reference: "T-1"}, func() { want.Stage, want.Status, want.Reference = "shipped", view.Shipped, "T-1" }},
				{shop.LoyaltyAwarded, shop.Decision{Points: 10}, func() { want.Stage, want.Points = "rewarded", 10 }},
			} {
				r := f.then(step.kind, step.d)
				step.change()
				want.UpdatedAt, want.Version = r.RecordedAt, r.Position
				require.Equal(t, want, look(t, orders, "order-1", r.Position), step.kind)
				then, err := orders.AsOf(t.Context(), "order-1", r.RecordedAt)
				require.NoError(t, err)
				require.Equal(t, want, then, step.kind)
			}
		})
	}
}

func TestOrderThatIsCancelled(t *testing.T) {
	t.Parallel()
	store, orders := open(t, file(t))
	keep(t, orders)
	f := newFlow(t, store, orderID(1))
	f.create()
	f.then(shop.PaymentProcessed, shop.Decision{Amount: 100})
	f.then(shop.InventoryRejected, shop.Decision{Reason: "none left"})
	require.Equal(t, "none left", look(t, orders, "order-1", 3).Reason)
	f.then(shop.OrderCancelled, shop.Decision{Reason: "out of stock: item-1"})
	order := look(t, orders, "order-1", f.then(shop.PaymentRefunded, shop.Decision{Amount: 100, Reason: "order cancelled"}).Position)
	require.Equal(t, view.Cancelled, order.Status)
	require.Equal(t, "refunded", order.Stage)
	require.Equal(t, "out of stock: item-1", order.Reason)
	require.Equal(t, 100, order.Charged)
	require.Equal(t, 100, order.Refunded)
}

// Whatever the flow, the view has what the fold makes of the log, and what was at an earlier time stays what it was.
func TestViewIsTheFoldOfTheLog(t *testing.T) {
	t.Parallel()
	store, orders := open(t, file(t))
	keep(t, orders)
	kinds := rapid.SliceOfN(rapid.SampledFrom([]string{
		shop.FraudCleared, shop.FraudSuspected, shop.PaymentProcessed, shop.PaymentFailed, shop.PaymentRefunded, shop.PaymentVoided,
		shop.InventoryReserved, shop.InventoryRejected, shop.InventoryReleased, shop.ShippingFailed, shop.OrderShipped,
		shop.LoyaltyAwarded, shop.OrderCancelled, shop.OrderCreated, shop.CheckFraud, shop.NotificationSent,
	}), 0, 6)
	n := 0
	rapid.Check(t, func(r *rapid.T) {
		n++
		f := newFlow(t, store, orderID(n))
		then := func(at time.Time) view.Order {
			order, err := orders.AsOf(t.Context(), f.order.OrderID, at)
			require.NoError(t, err)
			return order
		}
		more := func(kinds []string) eventstore.Appended {
			var events []event.Event
			for _, kind := range kinds {
				e, err := event.Caused(f.last, kind, "shop/test", shop.Decision{
					Order: f.order, Amount: rapid.IntRange(0, 9).Draw(r, "amount"),
					Reason: rapid.SampledFrom([]string{"", "a", "b"}).Draw(r, "reason"), Points: 1,
				})
				require.NoError(t, err)
				f.last, events = e, append(events, e)
			}
			appended, err := store.Append(t.Context(), eventstore.StreamWrite{Stream: "test", Events: events})
			require.NoError(t, err)
			return appended
		}
		f.create()
		first, second := kinds.Draw(r, "first"), kinds.Draw(r, "second")
		at := more(append([]string{shop.FraudCleared}, first...)).RecordedAt
		before := then(at)
		// The last event may be none of the view's own, which it is told of later: one that is marks the end.
		end := more(append(second, shop.FraudCleared)).Positions
		require.Equal(t, then(time.Now()), look(t, orders, f.order.OrderID, end[len(end)-1]))
		require.Equal(t, before, then(at))
		history, err := orders.History(t.Context(), f.order.OrderID)
		require.NoError(t, err)
		require.Len(t, history.Steps, 3+len(first)+len(second))
	})
}

func TestAsOfBefore(t *testing.T) {
	t.Parallel()
	store, orders := open(t, file(t))
	created := newFlow(t, store, orderID(1)).create()
	_, err := orders.AsOf(t.Context(), "order-1", created.RecordedAt.Add(-time.Microsecond))
	require.ErrorIs(t, err, view.ErrNotYet)
	_, err = orders.AsOf(t.Context(), "order-2", time.Now())
	require.ErrorIs(t, err, view.ErrUnknown)
	_, err = orders.History(t.Context(), "order-2")
	require.ErrorIs(t, err, view.ErrUnknown)
	_, err = orders.Get(t.Context(), "order-1")
	require.ErrorIs(t, err, view.ErrUnknown, "nobody has kept the view")
	require.NoError(t, orders.Ping(t.Context()))
}

// Of two processes one keeps the view, the other takes over, and both tell the same.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	for name, fresh := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := fresh(t)
			store, one := open(t, db)
			_, other := open(t, db)
			stop := keep(t, one)
			look(t, one, "order-1", newFlow(t, store, orderID(1)).create().Position)
			keep(t, other)
			look(t, other, "order-1", 1)
			stop()
			look(t, other, "order-2", newFlow(t, store, orderID(2)).create().Position)
			_, err := one.Get(t.Context(), "order-2")
			require.NoError(t, err)
		})
	}
}

// What cannot be used does not stand in the way of what can.
func TestUnusableEvents(t *testing.T) {
	t.Parallel()
	for name, fresh := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, orders := open(t, fresh(t))
			keep(t, orders)
			for i, data := range []string{"", "null", "{", "[]", `{"order_id":7}`, `{"items":"x"}`, `{"user_id":"a\u0000b"}`, "\xff"} {
				for _, kind := range []string{shop.OrderCreated, shop.PaymentProcessed} {
					for _, subject := range []string{"", fmt.Sprintf("odd-%d", i)} {
						e, err := event.New(kind, "shop/test", []byte(data))
						require.NoError(t, err)
						e.Subject = subject
						newFlow(t, store, "odd").append("odd", e)
					}
				}
			}
			f := newFlow(t, store, orderID(1))
			f.create()
			e, err := event.Caused(f.last, shop.OrderCancelled, "shop/test", []byte(`{"reason":7}`))
			require.NoError(t, err)
			order := look(t, orders, "order-1", f.append("odd", e).Position)
			require.Equal(t, view.Cancelled, order.Status, "it has happened, whatever else it says")
			require.Equal(t, "a\x00b", decoded(t, get(t, orders, "odd-6").State).UserID)
		})
	}
}

func get(t *testing.T, orders *view.Orders, id string) view.Found {
	t.Helper()
	found, err := orders.Get(t.Context(), id)
	require.NoError(t, err)
	return found
}

// An event without a subject is known by its data.
func TestOrderByItsData(t *testing.T) {
	t.Parallel()
	store, orders := open(t, file(t))
	keep(t, orders)
	f := newFlow(t, store, orderID(1))
	f.create()
	e, err := event.Caused(f.last, shop.OrderShipped, "shop/test", shop.Decision{Order: f.order, Reference: "T"})
	require.NoError(t, err)
	e.Subject = ""
	require.Equal(t, view.Shipped, look(t, orders, "order-1", f.append("x", e).Position).Status)
}

func TestHistory(t *testing.T) {
	t.Parallel()
	for name, fresh := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, orders := open(t, fresh(t))
			f := newFlow(t, store, orderID(1))
			created := f.create()
			newFlow(t, store, orderID(2)).create()
			f.then(shop.CheckFraud, shop.Decision{})
			suspected, err := event.Caused(f.last, shop.FraudSuspected, "shop/fraud", shop.Decision{Order: f.order, Reason: "too much"})
			require.NoError(t, err)
			f.append("fraud-1", suspected.WithExtension("authid", "anna"))
			bounced, err := event.New(shop.EmailBounced, "shop/webhooks/mail", shop.Delivery{OrderID: "order-1"})
			require.NoError(t, err)
			bounced.Subject = "order-1" // and of no flow
			f.append("webhook-1", bounced)

			h, err := orders.History(t.Context(), "order-1")
			require.NoError(t, err)
			require.False(t, h.Truncated)
			types, who := []string{}, []string{}
			for _, s := range h.Steps {
				types, who = append(types, s.Type), append(who, s.Who)
			}
			require.Equal(t, []string{shop.OrderCreated, shop.CheckFraud, shop.FraudSuspected, shop.EmailBounced}, types)
			require.Equal(t, []string{"user-1", "shop/test", "anna", "shop/webhooks/mail"}, who)
			first, third := h.Steps[0], h.Steps[2]
			require.Equal(t, created.Position, first.Position)
			require.True(t, created.RecordedAt.Equal(first.At))
			require.NotEmpty(t, first.Changes)
			require.Empty(t, h.Steps[1].Changes)
			require.Empty(t, h.Steps[3].Changes)
			require.Equal(t, "too much", third.Reason)
			require.NotEmpty(t, third.Cause)
			paths := map[string]any{}
			for _, c := range third.Changes {
				paths[c.Path] = c.New
			}
			require.Equal(t, map[string]any{"/stage": "suspected", "/reason": "too much"}, paths)
		})
	}
}

func TestLongHistory(t *testing.T) {
	t.Parallel()
	store, orders := open(t, file(t))
	f := newFlow(t, store, orderID(1))
	f.create()
	many := make([]event.Event, 1500)
	for i := range many {
		e, err := event.Caused(f.last, shop.NotificationFailed, "shop/test", shop.Notification{Reason: "again"})
		require.NoError(t, err)
		many[i] = e
	}
	_, err := store.Append(t.Context(), eventstore.StreamWrite{Stream: "n", Events: many})
	require.NoError(t, err)
	h, err := orders.History(t.Context(), "order-1")
	require.NoError(t, err)
	require.Len(t, h.Steps, 1000)
	require.True(t, h.Truncated)
}

func TestWait(t *testing.T) {
	t.Parallel()
	store, orders := open(t, file(t), func(c *view.Config) { c.MaxWaiting = 3 })
	keep(t, orders)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var waiting errgroup.Group
	for _, position := range []int64{2, 2, math.MaxInt64} {
		waiting.Go(func() error {
			err := orders.Wait(ctx, position)
			for errors.Is(err, view.ErrTooMany) { // as one is, who only looks whether there is room
				err = orders.Wait(ctx, position)
			}
			if (err == nil) != (position == 2) {
				return fmt.Errorf("wait for %d: %w", position, err)
			}
			return nil
		})
	}
	require.Eventually(t, func() bool {
		brief, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		defer cancel()
		return errors.Is(orders.Wait(brief, 5), view.ErrTooMany)
	}, patience, time.Millisecond)
	newFlow(t, store, orderID(1)).create()
	newFlow(t, store, orderID(2)).create()
	require.Eventually(t, func() bool {
		brief, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		return orders.Wait(brief, 1) == nil // there is room again: the others have been woken
	}, patience, time.Millisecond)
	cancel()
	require.NoError(t, waiting.Wait())
	require.ErrorIs(t, orders.Wait(ctx, 1), context.Canceled)
}

// Many wait while many orders come in, and each sees its own.
func TestEveryoneReadsTheirOwnWrite(t *testing.T) {
	t.Parallel()
	for name, fresh := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, orders := open(t, fresh(t))
			keep(t, orders)
			var crowd errgroup.Group
			for i := range 20 {
				crowd.Go(func() error {
					for j := range 10 {
						id := fmt.Sprintf("order-%d-%d", i, j)
						e, err := event.New(shop.OrderCreated, "shop/order", shop.Order{OrderID: id})
						if err != nil {
							return err
						}
						e.Subject = id
						appended, err := store.Append(t.Context(), eventstore.StreamWrite{Stream: id, Expect: eventstore.NoStream, Events: []event.Event{e}})
						if err != nil {
							return err
						}
						ctx, cancel := context.WithTimeout(t.Context(), patience)
						err = orders.Wait(ctx, appended.Positions[0])
						cancel()
						if err == nil {
							_, err = orders.Get(t.Context(), id)
						}
						if err != nil {
							return fmt.Errorf("%s: %w", id, err)
						}
					}
					return nil
				})
			}
			require.NoError(t, crowd.Wait())
		})
	}
}

// While the server is away the view stands still, and goes on by itself.
func TestServerAway(t *testing.T) {
	t.Parallel()
	server := postgrestest.Server(t)
	db := server.URL("postgres")
	store, orders := open(t, db)
	keep(t, orders)
	look(t, orders, "order-1", newFlow(t, store, orderID(1)).create().Position)
	require.NoError(t, server.Kill())
	_, err := orders.Get(t.Context(), "order-1")
	require.Error(t, err)
	require.NotErrorIs(t, err, view.ErrUnknown)
	require.Error(t, orders.Ping(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // longer than the store tries
	defer cancel()
	require.ErrorIs(t, orders.Wait(ctx, 1), context.DeadlineExceeded)
	require.NoError(t, server.Restart(t.Context()))
	require.Eventually(t, func() bool { return orders.Ping(t.Context()) == nil }, patience, 50*time.Millisecond)
	look(t, orders, "order-2", newFlow(t, store, orderID(2)).create().Position)
}

func TestStagesAreOfTheEvents(t *testing.T) {
	t.Parallel()
	stages := view.Stages()
	require.Len(t, stages, 14)
	require.NotContains(t, stages, "")
	require.Subset(t, stages, []string{"created", "cleared", "paid", "reserved", "shipped", "refunded", "cancelled"})
}

func TestConfig(t *testing.T) {
	t.Parallel()
	_, err := view.Open(t.Context(), view.Config{MaxWaiting: -1})
	require.ErrorContains(t, err, "Store")
	require.ErrorContains(t, err, "DB")
	require.ErrorContains(t, err, "MaxWaiting")
}
