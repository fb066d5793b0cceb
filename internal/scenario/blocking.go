package scenario

import (
	"context"
	"net/http"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/stage"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
)

// blocking: a handler that waits for a slow service holds up events that have nothing to do with it.
func blocking() stage.Scenario {
	const (
		slow      = "report.requested"
		fast      = "order.created"
		slowCalls = 4
		fastOnes  = 400
		callTakes = time.Second
	)
	play := func(ctx context.Context, s *stage.Stage) error {
		if err := s.Topology(ctx, topology.Spec{Queues: map[string]topology.Queue{"jobs": {}}}); err != nil {
			return err
		}
		book, waited := s.Ledger("jobs"), &stage.Times{}
		book.Expect("worker", "worker")
		endpoint, err := s.Endpoint(ctx, func(_ http.ResponseWriter, r *http.Request, e event.Event) {
			if e.Type == slow {
				_ = s.Pause(r.Context(), callTakes) // the service that is slow today
			} else {
				waited.Add(time.Since(e.Time))
			}
			book.Effect("worker", "worker", e.ID)
		})
		if err != nil {
			return err
		}
		concurrency := "1"
		if s.Fixed() {
			concurrency = "16"
		}
		s.Say("Starting evdemo work --concurrency %s. It posts each event to a service; %d reports take that service %v each.", concurrency, slowCalls, callTakes)
		if _, err := s.Start(ctx, "worker", nil, "work", "--queue", s.Name("jobs"), "--http", endpoint, "--concurrency", concurrency, "--no-declare"); err != nil {
			return err
		}
		var events []event.Event
		for i := range fastOnes {
			if i%(fastOnes/slowCalls) == 0 {
				events = append(events, s.Event(slow, "", nil))
			}
			events = append(events, s.Event(fast, "", nil))
		}
		s.Say("Publishing %d orders, which take no time at all, and %d reports among them.", fastOnes, slowCalls)
		if err := s.Publish(ctx, book, publisher.ToQueue(s.Name("jobs")), 0, events...); err != nil {
			return err
		}
		if err := handled(ctx, s, book, "worker", len(events)); err != nil {
			return err
		}
		s.Measure("p50", waited.Quantile(0.5))
		s.Measure("p99", waited.Quantile(0.99))
		s.Count("missing", book.Account().Consumers[0].Missing)
		return s.StopAll()
	}
	return stage.Scenario{
		Name:  "blocking",
		Title: "A slow call in a handler, and who waits for it",
		Lesson: "A handler that waits for a slow service keeps its worker from everything behind that event, however little " +
			"it has to do with it. The events are not lost, they are late, and the queue looks like an outage. A worker with " +
			"several handlers at a time goes on with the others, and still acknowledges each event only when it is done.",
		Broken: "one handler at a time, which waits for the slow service.",
		Fixed:  "the same handler, 16 at a time.",
		Play:   play,
		Figures: []stage.Figure{
			{Key: "p50", Label: "half of the orders wait at most", Unit: "ms"},
			{Key: "p99", Label: "99 of 100 orders wait at most", Unit: "ms"},
			{Key: "missing", Label: "events never handled"},
		},
		Claims: []stage.Claim{
			{
				Text: "Broken: orders wait for reports, longer than one of the slow calls takes.", By: []string{"p99"},
				Holds: func(was, _ stage.Figures) bool { return was.Of("p99") > stage.Milliseconds(callTakes) },
			},
			{
				Text: "Fixed: 99 of 100 orders wait less than a quarter of what they wait in Broken.", By: []string{"p99"},
				Holds: func(was, now stage.Figures) bool { return now.Of("p99") < was.Of("p99")/4 },
			},
			{
				Text: "Fixed: every event is handled.", By: []string{"missing"},
				Holds: func(_, now stage.Figures) bool { return now.Of("missing") == 0 },
			},
		},
		Try: []string{
			"evdemo work --queue payments --latency 2s --concurrency 1    # then with --concurrency 16",
			"evdemo publish --queue payments --count 20",
		},
	}
}
