package scenario

import (
	"bytes"
	"context"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/stage"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
)

// causalityTopics are where what happens to an order is published, each because of the one before it.
func causalityTopics() []string { return []string{"orders", "payments", "parcels"} }

// causality: an event is handled before the one that caused it, unless a gate holds it back.
func causality() stage.Scenario {
	return stage.Scenario{
		Name:  "causality",
		Title: "An effect that arrives before its cause",
		Lesson: "An order leads to a payment, and the payment to a parcel, but each of these events has a " +
			"queue of its own, and no queue waits for another. So a worker may hear of the parcel before anyone has heard of the order. " +
			"Where each event names its cause, a gate in front of the workers can keep it until that cause has been handled.",
		Broken: "three workers, one for each queue, which handle what comes as it comes.",
		Fixed:  "the same workers with one gate (--causal FILE), in which an event waits until its cause has been handled.",
		Play:   playCausality,
		Figures: []stage.Figure{
			{Key: "early", Label: "of 60 effects, those that are published before their cause"},
			{Key: "handled", Label: "of 60 effects, those that are handled before their cause"},
			{Key: "missing", Label: "of 90 events, those that are never handled"},
			{Key: "traced", Label: "events of an order that its trace connects"},
		},
		Claims: []stage.Claim{
			loses("handled", "Broken: effects are handled before their causes."),
			never("Fixed: none is handled before its cause, and none is lost in the gate.", "handled", "missing"),
			{Text: "Fixed: what caused what can be told from the events, whichever came first.", By: []string{"traced"}, Holds: func(_, now stage.Figures) bool {
				return now.Of("traced") == 3
			}},
		},
		Try: []string{
			`echo '{"event_id":"paid-8","type":"payment.made","source":"shop","parent":"order-8","data":{}}' | evdemo publish --queue shipments`,
			"evdemo work --queue shipments --causal gate.db --count 2    # waits; now publish order-8 in the same way, without a parent",
			"evdemo trace paid-8    # draws what an event has to do with, where its topic keeps a log: publish with --topic orders for that",
		},
	}
}

func playCausality(ctx context.Context, s *stage.Stage) error {
	spec := topology.Spec{Topics: map[string]topology.Topic{}}
	for _, topic := range causalityTopics() {
		spec.Topics[topic] = topology.Topic{Groups: []string{"shop"}}
		if s.Fixed() {
			spec.Topics[topic] = topology.Topic{Groups: []string{"shop"}, Log: &topology.Log{}} // for the trace
		}
	}
	if err := s.Topology(ctx, spec); err != nil {
		return err
	}
	endpoint, err := causalityService(ctx, s)
	if err != nil {
		return err
	}
	for _, topic := range causalityTopics() {
		args := []string{"work", "--queue", s.Name(topic + ".shop"), "--http", endpoint, "--no-declare"}
		if s.Fixed() {
			args = append(args, "--causal", filepath.Join(s.Dir, "gate.db"), "--causal-group", "shop")
		}
		if _, err := s.Start(ctx, "worker of "+topic, nil, args...); err != nil {
			return err
		}
	}
	s.Say("30 orders: each is created, and that causes a payment, and that causes a parcel. The 90 events are published shuffled.")
	parcel, err := causalityPublish(ctx, s)
	if err != nil {
		return err
	}
	if err := handled(ctx, s, s.Ledger("shop"), "workers", 90); err != nil {
		return err
	}
	s.Count("missing", s.Ledger("shop").Account().Consumers[0].Missing)
	if !s.Fixed() {
		return s.StopAll()
	}
	args := []string{"trace", parcel.ID}
	for _, topic := range causalityTopics() {
		args = append(args, "--topic", s.Name(topic))
	}
	tree, err := s.Do(ctx, args...)
	if err != nil {
		return err
	}
	s.Say("The parcel of %s was published before the two events that led to it, and was handled after them. evdemo trace draws what caused what, from the topics' logs:", parcel.Subject)
	s.Say("  %s", bytes.ReplaceAll(bytes.TrimSpace(tree), []byte("\n"), []byte("\n  ")))
	s.Count("traced", bytes.Count(tree, []byte(parcel.Subject)))
	return s.StopAll()
}

// causalityPublish publishes the events of 30 orders in an order that the seed decides, and gives a parcel that comes first of all events
// of its order.
func causalityPublish(ctx context.Context, s *stage.Stage) (parcel event.Event, err error) {
	types := []string{"order.created", "payment.made", "parcel.sent"}
	events, shuffled, early := make([]event.Event, 90), s.Rand.Perm(90), 0
	for i := range events {
		if i%3 == 0 {
			events[i] = s.Event(types[0], "order-"+strconv.Itoa(1+i/3), nil)
		} else if events[i], err = event.Caused(events[i-1], types[i%3], "demo", nil); err != nil {
			return parcel, err
		}
	}
	for n, i := range shuffled {
		if i%3 > 0 && !slices.Contains(shuffled[:n], i-1) {
			early++
		}
		if parcel.ID == "" && i%3 == 2 && !slices.Contains(shuffled[:n], i-1) && !slices.Contains(shuffled[:n], i-2) {
			parcel = events[i]
		}
		if err := s.Publish(ctx, s.Ledger("shop"), publisher.ToTopic(s.Name(causalityTopics()[i%3])), 0, events[i]); err != nil {
			return parcel, err
		}
	}
	s.Count("early", early)
	return parcel, nil
}

// causalityService is told of events by the workers, and counts those of whose cause it has not been told.
func causalityService(ctx context.Context, s *stage.Stage) (url string, err error) {
	book, mu, told, before := s.Ledger("shop"), new(sync.Mutex), map[string]bool{"": true}, 0
	book.Expect("workers", "workers")
	s.Count("handled", 0)
	return s.Endpoint(ctx, func(_ http.ResponseWriter, _ *http.Request, e event.Event) {
		mu.Lock()
		defer mu.Unlock()
		if !told[e.ParentID()] {
			before++
			s.Count("handled", before)
		}
		told[e.ID] = true
		book.Effect("workers", "workers", e.ID)
	})
}
