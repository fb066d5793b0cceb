package relay_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/eventstore/relay"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
)

func exampleURL() string {
	if url := os.Getenv("AMQP_URL"); url != "" {
		return url
	}
	return "amqp://guest:guest@localhost:5672/"
}

// An order is appended, and nothing is published by whoever does that. The relay publishes it: here until it has caught
// up, in a service without CatchUp, until ctx ends.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	store, err := eventstore.Open(ctx, eventstore.Config{DB: filepath.Join(dir, "orders.db")})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	created, err := event.New("order.created", "shop", map[string]any{"amount": 100})
	if err == nil {
		_, err = store.Append(ctx, eventstore.StreamWrite{Stream: "order-1", Events: []event.Event{created}})
	}
	if err != nil {
		fmt.Println(err)
		return
	}

	p, err := publisher.Open(ctx, publisher.Config{URLs: []string{exampleURL()}, Declare: topology.Default().TopicResources("orders")})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close(ctx)
	r, err := relay.New(relay.Config{Store: store, Publisher: p, To: relay.ToTopic("orders"), CatchUp: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = r.Run(ctx)
	fmt.Println("published:", r.Stats().Published, err)
	// Output: published: 1 <nil>
}
