// Gifts is a service that joins the shop of "evdemo shop run": whoever orders for 50 EUR or more gets a gift, once.
package main

import (
	"context"
	"errors"
	"log"
	"os"
	"os/signal"

	"github.com/evdemo/evdemo/bus"
	"github.com/evdemo/evdemo/bus/rabbitmq"
	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/saga"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	store, noStore := eventstore.Open(ctx, eventstore.Config{DB: os.Getenv("EVDEMO_DB"), Existing: true})
	gifts, noService := saga.NewParticipant(store, saga.Service[int]{
		Name: "shop/gifts", Streams: func(e event.Event) []string { return []string{"gift-" + e.Subject} },
		Fold: eventstore.Fold[int]{Apply: func(gifts int, _ eventstore.Recorded) (int, error) { return gifts + 1, nil }},
		React: map[string]func(context.Context, *saga.Turn[int]) error{"order.shipped": func(_ context.Context, t *saga.Turn[int]) error {
			var shipped struct{ Order struct{ Amount int } }
			if err := t.Read(&shipped); err != nil || shipped.Order.Amount < 5000 || t.State() > 0 {
				return err
			}
			t.Emit("gift.sent", shipped)
			return nil
		}},
	})
	b, noBus := rabbitmq.Open(ctx, rabbitmq.Config{URLs: []string{os.Getenv("AMQP_URL")}})
	if err := errors.Join(noStore, noService, noBus); err != nil {
		log.Fatal(err)
	}
	log.Print(errors.Join(b.Listen(ctx, "shop.shipping", bus.Options{Group: "gifts"}, gifts.Handle), b.Close(ctx), store.Close()))
}
