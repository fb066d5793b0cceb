package scenario

import (
	"time"

	"github.com/evdemo/evdemo/event"
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
