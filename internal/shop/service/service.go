// Package service is the order system's services: one file of business logic each, which says what a service makes of an
// event, and knows no broker and no other service.
//
// The services are the same in both flows. As choreography each reacts to what the one before it has done; as orchestration
// each does what the coordinator of order.go asks for.
package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/saga"
	"github.com/evdemo/evdemo/worker"
)

// Flow says who decides what comes next.
type Flow string

// The flows.
const (
	Choreography  Flow = "choreography"
	Orchestration Flow = "orchestration"
)

// Names of the services, and of their groups on the topics.
const (
	Order       = "order"
	Fraud       = "fraud"
	Payment     = "payment"
	Inventory   = "inventory"
	Shipping    = "shipping"
	Loyalty     = "loyalty"
	Email       = "email"
	SMS         = "sms"
	Push        = "push"
	Coordinator = "coordinator" // of the saga, where it is orchestrated
)

// Config says how the services do business. Store is required.
type Config struct {
	Store *eventstore.Store
	// Flow is Choreography unless it is set.
	Flow Flow
	// Stock says how many pieces of an article there were in the beginning. Default: shop.InStock.
	Stock func(sku string) int
	// Refuse says whether a service refuses an order, for no reason but this. It must give the same answer each time.
	// Default: none is refused.
	Refuse func(service, orderID string) bool
	// StepTimeout is how long the coordinator waits for fraud, payment and inventory. Default 1 min.
	StepTimeout time.Duration
}

// Service is one service, ready to be called.
type Service struct {
	Name string
	// Topics have the events that it reacts to, Types.
	Topics []string
	Types  []string
	// Handle is a worker.Handler: at least once in, exactly once out.
	Handle worker.Handler
	// Run is what the service does besides, until ctx ends; nil for nothing.
	Run func(ctx context.Context) error
	// Ask has it decide, and gives the answer; nil for the coordinator.
	Ask func(ctx context.Context, e event.Event) ([]event.Event, error)
}

// All are the services of a flow.
func All(config Config) ([]Service, error) {
	switch {
	case config.Store == nil:
		return nil, errors.New("shop: want a store")
	case config.Flow == "":
		config.Flow = Choreography
	case config.Flow != Choreography && config.Flow != Orchestration:
		return nil, fmt.Errorf("shop: %q is no flow: want %s or %s", config.Flow, Choreography, Orchestration)
	}
	if config.Stock == nil {
		config.Stock = shop.InStock
	}
	if config.Refuse == nil {
		config.Refuse = func(string, string) bool { return false }
	}
	if config.StepTimeout <= 0 {
		config.StepTimeout = time.Minute
	}
	all := []func(Config) (Service, error){
		newOrder, newFraud, newPayment, newInventory, newShipping, newLoyalty, newEmail, newSMS, newPush,
	}
	if config.Flow == Orchestration {
		all = append(all, newCoordinator)
	}
	services := make([]Service, len(all))
	for i, make := range all {
		var err error
		if services[i], err = make(config); err != nil {
			return nil, err
		}
	}
	return services, nil
}

// take makes a service of what it reacts to.
func take[S any](config Config, name string, service saga.Service[S]) (Service, error) {
	service.Name = "shop/" + name
	p, err := saga.NewParticipant(config.Store, service)
	if err != nil {
		return Service{}, err
	}
	return Service{Name: name, Types: p.Types(), Topics: topics(p.Types()), Handle: p.Handle, Ask: p.Ask}, nil
}

func topics(types []string) (topics []string) {
	for _, t := range types {
		if topic, ok := shop.Topic(t); ok {
			topics = append(topics, topic)
		}
	}
	slices.Sort(topics)
	return slices.Compact(topics)
}

// reaction is what a service makes of an order that it hears of.
type reaction[S any] func(t *saga.Turn[S], order shop.Order) error

// about reads the order that an event is about.
func about[S any](react reaction[S]) func(context.Context, *saga.Turn[S]) error {
	return func(_ context.Context, t *saga.Turn[S]) error {
		order, err := orderOf(t)
		if err != nil {
			return err
		}
		return react(t, order)
	}
}

func orderOf[S any](t *saga.Turn[S]) (order shop.Order, err error) {
	if t.Trigger.Type == shop.OrderCreated {
		err = t.Read(&order)
	} else {
		var d shop.Decision
		err = t.Read(&d)
		order = d.Order
	}
	if err == nil && (order.OrderID == "" || order.OrderID != t.Trigger.Subject) { // streams are named by the subject
		err = worker.Permanent(fmt.Errorf("%s %s has the subject %q, and is about order %q", t.Trigger.Type, t.Trigger.ID, t.Trigger.Subject, order.OrderID))
	}
	return order, err
}

// on has the same reaction to several types.
func on[S any](react reaction[S], types ...string) map[string]func(context.Context, *saga.Turn[S]) error {
	all := make(map[string]func(context.Context, *saga.Turn[S]) error, len(types))
	for _, t := range types {
		all[t] = about(react)
	}
	return all
}

// perOrder names the one stream that a service has for each order.
func perOrder(kind string) func(event.Event) []string {
	return func(e event.Event) []string { return []string{kind + "-" + e.Subject} }
}

// state is that of a service which only has to know what has happened already: the type of the last event.
func state(kind string) eventstore.Fold[string] {
	return eventstore.Fold[string]{Name: kind, Version: 1, Apply: func(_ string, r eventstore.Recorded) (string, error) { return r.Type, nil }}
}

// Names are the names of the services of a flow.
func Names(flow Flow) []string {
	names := []string{Order, Fraud, Payment, Inventory, Shipping, Loyalty, Email, SMS, Push}
	if flow == Orchestration {
		names = append(names, Coordinator)
	}
	return names
}

// Topics are those that a service wants in one of the flows: the same in both, so that its queue is.
func Topics(name string) []string { return wanted()[name] }

func wanted() map[string][]string {
	return map[string][]string{
		Order:       {shop.Commands, shop.Fraud, shop.Payments},
		Fraud:       {shop.Commands, shop.Orders},
		Payment:     {shop.Commands, shop.Fraud, shop.Inventory, shop.Shipping},
		Inventory:   {shop.Commands, shop.Payments, shop.Shipping},
		Shipping:    {shop.Commands, shop.Inventory},
		Loyalty:     {shop.Commands, shop.Shipping},
		Email:       {shop.Orders, shop.Providers, shop.Shipping},
		SMS:         {shop.Notifications, shop.Shipping},
		Push:        {shop.Orders, shop.Shipping},
		Coordinator: {shop.Fraud, shop.Inventory, shop.Loyalty, shop.Orders, shop.Payments, shop.Shipping},
	}
}
