package scenario

import (
	"context"
	"slices"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/ledger"
	"github.com/evdemo/evdemo/internal/stage"
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

// never claims that in the fixed mode all of these figures are 0.
func never(text string, figures ...string) stage.Claim {
	return stage.Claim{Text: text, By: figures, Holds: func(_, now stage.Figures) bool {
		return !slices.ContainsFunc(figures, func(figure string) bool { return now.Of(figure) != 0 })
	}}
}

// handled waits until a consumer has had an effect for n events.
func handled(ctx context.Context, s *stage.Stage, book *ledger.Ledger, consumer string, n int) error {
	return s.Await(ctx, "that events are handled", time.Minute, func() bool {
		done, _ := book.Done(consumer)
		return done >= n
	})
}
