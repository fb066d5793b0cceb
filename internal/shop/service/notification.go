package service

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/saga"
	"github.com/evdemo/evdemo/worker"
)

// Customers hear of an order on three channels, each a service of its own: one that is down holds up no other.
func newEmail(config Config) (Service, error) {
	service := channel(Email, shop.OrderShipped, shop.OrderCancelled)
	service.React[shop.EmailBounced] = func(_ context.Context, t *saga.Turn[notified]) error {
		d, err := deliveryOf(t)
		if err == nil && len(t.State().About) > 0 && !t.State().Failed { // others' mail bounces too
			t.Emit(shop.NotificationFailed, shop.Notification{
				OrderID: d.OrderID, UserID: d.UserID, Channel: Email, About: t.Trigger.Type, Reason: d.Reason,
			})
		}
		return err
	}
	return take(config, Email, service)
}

// Whose e-mail does not arrive gets an SMS.
func newSMS(config Config) (Service, error) {
	service := channel(SMS, shop.OrderShipped)
	service.React[shop.NotificationFailed] = func(_ context.Context, t *saga.Turn[notified]) error {
		var n shop.Notification
		if err := t.Read(&n); err != nil || n.Channel != Email || t.State().About[shop.NotificationFailed] {
			return err
		}
		t.Emit(shop.NotificationSent, shop.Notification{
			OrderID: n.OrderID, UserID: n.UserID, Channel: SMS, About: t.Trigger.Type,
			Text: fmt.Sprintf("We could not reach you by e-mail about your order %s.", n.OrderID),
		})
		return nil
	}
	return take(config, SMS, service)
}

func newPush(config Config) (Service, error) {
	return take(config, Push, channel(Push, shop.OrderShipped, shop.OrderCancelled))
}

// notified is what a customer was told about an order on one channel.
type notified struct {
	About  map[string]bool
	Failed bool
}

// channel tells customers of orders.
func channel(name string, about ...string) saga.Service[notified] {
	tell := func(t *saga.Turn[notified], order shop.Order) error {
		if t.State().About[t.Trigger.Type] {
			return nil
		}
		text := fmt.Sprintf("Your order %s is on its way.", order.OrderID)
		if t.Trigger.Type == shop.OrderCancelled {
			text = fmt.Sprintf("Your order %s was cancelled. What you paid, you get back.", order.OrderID)
		}
		t.Emit(shop.NotificationSent, shop.Notification{
			OrderID: order.OrderID, UserID: order.UserID, Channel: name, About: t.Trigger.Type, Text: text,
		})
		return nil
	}
	return saga.Service[notified]{Streams: perOrder("notification-" + name), React: on(tell, about...), Fold: eventstore.Fold[notified]{
		Name: "notification", Version: 1,
		Initial: func() notified { return notified{About: map[string]bool{}} },
		Apply: func(n notified, r eventstore.Recorded) (notified, error) {
			var sent shop.Notification
			if err := json.Unmarshal(r.Data, &sent); err != nil {
				return n, err
			}
			n.About[sent.About] = true
			n.Failed = n.Failed || r.Type == shop.NotificationFailed
			return n, nil
		},
	}}
}

func deliveryOf(t *saga.Turn[notified]) (d shop.Delivery, err error) {
	if err = t.Read(&d); err == nil && (d.OrderID == "" || d.OrderID != t.Trigger.Subject) {
		err = worker.Permanent(fmt.Errorf("%s %s has the subject %q, and is about order %q", t.Trigger.Type, t.Trigger.ID, t.Trigger.Subject, d.OrderID))
	}
	return d, err
}
