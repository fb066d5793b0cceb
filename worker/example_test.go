package worker_test

import (
	"context"
	"fmt"
	"time"

	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox"
)

// Payments are handled after the orders that they are for, whichever comes first.
func ExampleGate() {
	ctx := context.Background()
	store, err := inbox.Open(ctx, inbox.Config{Path: "shop.db"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	w, err := worker.New(worker.Config{
		URLs: []string{exampleURL()}, Queue: "payments",
		Gate: &worker.Gate{Store: store, Group: "shop", Types: []string{"order.created", "payment.made"}},
	}, func(_ context.Context, d *worker.Delivery) error {
		fmt.Println(d.Event.Type)
		return nil
	})
	if err == nil {
		err = w.Run(ctx)
	}
	fmt.Println(err)
}

// The events of the last hour, to the end that the log has now.
func ExampleReadLog() {
	err := worker.ReadLog(context.Background(), worker.LogConfig{
		URLs: []string{exampleURL()}, Topic: "orders", From: worker.LogTime(time.Now().Add(-time.Hour)),
	}, func(_ context.Context, e *worker.Entry) error {
		fmt.Println(e.Offset, e.Event.ID)
		return nil
	})
	fmt.Println(err)
}
