package view

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/audit"
	"github.com/evdemo/evdemo/internal/shop"
)

// maxSteps is how many events a history tells of. An order that goes all ways there are has some thirty.
const maxSteps = 1000

// History is what happened about an order.
type History struct {
	OrderID string `json:"order_id"`
	Steps   []Step `json:"steps"`
	// Truncated says that there is more than these.
	Truncated bool `json:"truncated"`
}

// Step is one event: when, who, what, and why.
type Step struct {
	// Position is the event's place in the log, and Stream and StreamVersion that in its stream.
	Position      int64  `json:"position"`
	Stream        string `json:"stream"`
	StreamVersion int64  `json:"stream_version"`
	// At is when it was stored, and Time when it says that it happened.
	At   time.Time `json:"at"`
	Time time.Time `json:"time,omitzero"`
	// Who brought it about: what the event says of that (authid), the customer for order.created, the service otherwise.
	Who    string `json:"who"`
	Source string `json:"source"`
	ID     string `json:"id"`
	Type   string `json:"type"`
	// Changes are what it changed of the order as GET shows it, apart from the version and the time of the last change.
	Changes []audit.Change `json:"changes"`
	// Reason is what the event says, and Cause the id of the event that brought it about.
	Reason string `json:"reason,omitempty"`
	Cause  string `json:"cause,omitempty"`
}

// first is the event that began an order, whose stream is named by its id.
func (o *Orders) first(ctx context.Context, id string) (eventstore.Recorded, error) {
	for r, err := range o.config.Store.Read(ctx, eventstore.Query{Stream: id, Limit: 1}) {
		if err != nil {
			return eventstore.Recorded{}, err
		}
		if r.Type == shop.OrderCreated {
			return r, nil
		}
	}
	return eventstore.Recorded{}, ErrUnknown
}

func flowOf(r *eventstore.Recorded) string { return cmp.Or(r.CorrelationID(), r.ID) }

// AsOf gives the order as it was at a time, by when events were stored: the fold over the same events as the view's. Its
// error is [ErrUnknown], [ErrNotYet], or trouble with the database. A moment just gone by may still gain events.
func (o *Orders) AsOf(ctx context.Context, id string, at time.Time) (Order, error) {
	first, err := o.first(ctx, id)
	if err != nil {
		return Order{}, err
	}
	if first.RecordedAt.After(at) {
		return Order{}, fmt.Errorf("%w: it was stored at %s", ErrNotYet, first.RecordedAt.Format(time.RFC3339Nano))
	}
	var order Order
	for r, err := range o.config.Store.Read(ctx, eventstore.Query{Correlation: flowOf(&first), AsOf: at}) {
		if err != nil {
			return Order{}, err
		}
		if orderOf(&r) == id {
			order, _ = order.apply(&r) // what cannot be read is told where the view is kept
		}
	}
	return order, nil
}

// History tells what happened about an order: the events of its flow, those of all services and what they asked each other
// for, and what else was stored about it, as word from outside. Its error is [ErrUnknown], or trouble with the database.
func (o *Orders) History(ctx context.Context, id string) (History, error) {
	first, err := o.first(ctx, id)
	if err != nil {
		return History{}, err
	}
	events := map[int64]eventstore.Recorded{}
	for _, q := range []eventstore.Query{{Correlation: flowOf(&first)}, {Subject: id}} {
		q.Limit = maxSteps + 1
		for r, err := range o.config.Store.Read(ctx, q) {
			if err != nil {
				return History{}, err
			}
			events[r.Position] = r
		}
	}
	h := History{OrderID: id, Steps: make([]Step, 0, len(events))}
	var t teller
	for _, position := range slices.Sorted(maps.Keys(events)) {
		if len(h.Steps) == maxSteps {
			h.Truncated = true
			break
		}
		r := events[position]
		step, err := t.tell(id, &r)
		if err != nil {
			return History{}, err
		}
		h.Steps = append(h.Steps, step)
	}
	return h, nil
}

// teller makes the steps of a history, in their order.
type teller struct {
	order Order
	state audit.State // the order as JSON
}

func (t *teller) tell(id string, r *eventstore.Recorded) (Step, error) {
	var said details
	if json.Unmarshal(r.Data, &said) != nil {
		said = details{}
	}
	s := Step{
		Position: r.Position, Stream: r.Stream, StreamVersion: r.Version, At: r.RecordedAt, Time: r.Time,
		Who: r.Extension("authid"), Source: r.Source, ID: r.ID, Type: r.Type, Changes: []audit.Change{},
		Reason: said.Reason, Cause: r.CausationID(),
	}
	if orderOf(r) == id {
		t.order, _ = t.order.apply(r)
	}
	if t.order.ID != "" {
		if err := t.compare(&s); err != nil {
			return Step{}, err
		}
	}
	if s.Who == "" && r.Type == shop.OrderCreated {
		s.Who = t.order.UserID
	}
	s.Who = cmp.Or(s.Who, r.Source)
	return s, nil
}

// compare finds what has changed of the order.
func (t *teller) compare(s *Step) error {
	text, err := json.Marshal(t.order)
	if err != nil {
		return err
	}
	var members map[string]any
	if err := json.Unmarshal(text, &members); err != nil {
		return err
	}
	for _, name := range []string{"reason", "reference"} { // which are left out where they are empty
		if _, there := members[name]; !there {
			members[name] = nil
		}
	}
	delete(members, "version")
	delete(members, "updated_at")
	if text, err = json.Marshal(members); err != nil {
		return err
	}
	after := event.Event{Type: s.Type, DataContentType: event.ContentTypeJSON, Data: text}
	t.state = audit.Merge(t.state, after, func(c audit.Change) { s.Changes = append(s.Changes, c) })
	return nil
}
