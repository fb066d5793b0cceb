package scenario

import (
	"context"
	"slices"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/ledger"
	"github.com/evdemo/evdemo/internal/naive"
	"github.com/evdemo/evdemo/internal/stage"
	"github.com/evdemo/evdemo/topology"
)

// quiet is how long nothing may come until it is said that nothing more will.
const quiet = 1500 * time.Millisecond

// made makes events that say no more than that there was an order.
func made(s *stage.Stage, n int) []event.Event {
	events := make([]event.Event, n)
	for i := range events {
		events[i] = s.Event("order.created", "", map[string]int{"number": i + 1})
	}
	return events
}

// plainQueue makes a queue as first examples do: durable, and nothing more.
func plainQueue(s *stage.Stage, name string) error {
	s.Remove(topology.Resources{Queues: []topology.QueueDef{{Name: s.Name(name)}}})
	return naive.Declare(s.URL(), s.TLS(), s.Name(name))
}

// never claims that in the fixed mode all of these figures are 0.
func never(text string, figures ...string) stage.Claim {
	return stage.Claim{Text: text, By: figures, Holds: func(_, now stage.Figures) bool {
		return !slices.ContainsFunc(figures, func(figure string) bool { return now.Of(figure) != 0 })
	}}
}

// patience is how long nothing may come where everything should: it is not waited for unless something is missing.
const patience = 15 * time.Second

// handled waits until a consumer has had an effect for n events, or has had no more for too long.
func handled(ctx context.Context, s *stage.Stage, book *ledger.Ledger, consumer string, n int) error {
	return s.Settle(ctx, patience, n, func() int { done, _ := book.Done(consumer); return done })
}

// still is how long nothing may come: in the broken mode that is the usual end.
func still(s *stage.Stage) time.Duration {
	if s.Fixed() {
		return patience
	}
	return quiet
}
