package service

import (
	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/saga"
)

// newOrder has the orders' own streams, which begin with order.created when a customer places one. It cancels what cannot be
// shipped, once what was paid for it is given back.
func newOrder(config Config) (Service, error) {
	cancel := func(t *saga.Turn[string], order shop.Order) error {
		if t.State() == shop.OrderCancelled {
			return nil
		}
		var d shop.Decision
		if err := t.Read(&d); err != nil {
			return err
		}
		reason := d.Reason
		if t.Trigger.Type != shop.CancelOrder {
			reason = t.Trigger.Type + ": " + d.Reason
		}
		t.Emit(shop.OrderCancelled, shop.Decision{Order: order, Reason: reason})
		return nil
	}
	react := on(cancel, shop.FraudSuspected, shop.PaymentFailed, shop.PaymentRefunded)
	if config.Flow == Orchestration {
		react = on(cancel, shop.CancelOrder)
	}
	return take(config, Order, saga.Service[string]{Streams: func(e event.Event) []string { return []string{e.Subject} }, Fold: state(Order), React: react})
}

// newCoordinator runs the flow where it is orchestrated. Fraud, payment and inventory have a time in which to answer, and what
// they may have done is taken back. Shipping is where it cannot be taken back any more: it is waited for, and so is what
// comes after it.
func newCoordinator(config Config) (Service, error) {
	c, err := saga.NewCoordinator(saga.CoordinatorConfig{
		Store: config.Store, Source: "shop/" + Coordinator,
		Definition: saga.Definition{
			Name: "order", Starts: []string{shop.OrderCreated},
			Steps: []saga.Step{
				{
					Name: Fraud, Do: ask(shop.CheckFraud), Timeout: config.StepTimeout,
					Done: []string{shop.FraudCleared}, Failed: []string{shop.FraudSuspected},
				},
				{
					Name: Payment, Do: ask(shop.ChargePayment), Timeout: config.StepTimeout,
					Done: []string{shop.PaymentProcessed}, Failed: []string{shop.PaymentFailed},
					Undo: ask(shop.RefundPayment), Undone: []string{shop.PaymentRefunded, shop.PaymentVoided},
				},
				{
					Name: Inventory, Do: ask(shop.ReserveInventory), Timeout: config.StepTimeout,
					Done: []string{shop.InventoryReserved}, Failed: []string{shop.InventoryRejected},
					Undo: ask(shop.ReleaseInventory), Undone: []string{shop.InventoryReleased},
				},
				{Name: Shipping, Do: ask(shop.ShipOrder), Done: []string{shop.OrderShipped}, Failed: []string{shop.ShippingFailed}},
				{Name: Loyalty, Do: ask(shop.AwardLoyalty), Done: []string{shop.LoyaltyAwarded}},
			},
			Compensated: func(i *saga.Instance) ([]saga.Command, error) {
				cancel, err := ask(shop.CancelOrder)(i)
				return []saga.Command{cancel}, err
			},
		},
	})
	if err != nil {
		return Service{}, err
	}
	return Service{Name: Coordinator, Types: c.Types(), Topics: topics(c.Types()), Handle: c.Handle, Run: c.Run}, nil
}

// ask makes the command of a step: the order, and why if it is being taken back.
func ask(command string) func(*saga.Instance) (saga.Command, error) {
	return func(i *saga.Instance) (saga.Command, error) {
		var order shop.Order
		err := i.Read(&order)
		return saga.Command{Type: command, Data: shop.Decision{Order: order, Reason: i.Reason}}, err
	}
}
