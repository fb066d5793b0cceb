package scenario

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/stage"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
)

// ordering: several handlers at a time overtake each other, unless the events of one order wait for each other.
func ordering() stage.Scenario {
	return stage.Scenario{
		Name:  "ordering",
		Title: "Many handlers at a time, and events that overtake each other",
		Lesson: "A queue hands out events one after the other as they came, but of several handlers one is done sooner than another, so that the " +
			"delivery of a parcel is handled before its packing. One handler alone keeps the sequence, and is slow. The sequence only matters " +
			"among events with the same key, such as the number of an order: let these wait for each other, and no others.",
		Broken: "first one handler, for comparison; then two workers with four handlers each, on one queue.",
		Fixed:  "eight handlers, one event of each order at a time (--ordered-by subject); a second worker stands by (the queue is single-active: it serves one worker at a time).",
		Play:   playOrdering,
		Figures: []stage.Figure{
			{Key: "one_overtaken", Label: "one handler: events handled after a later one of the same order"},
			{Key: "one_rate", Label: "one handler: rate of events handled", Unit: "/s"},
			{Key: "eight_overtaken", Label: "eight handlers: events handled after a later one of the same order"},
			{Key: "eight_stale", Label: "eight handlers: of 50 orders, those left in an earlier state than delivered"},
			{Key: "eight_missing", Label: "eight handlers: events never handled"},
			{Key: "eight_rate", Label: "eight handlers: rate of events handled", Unit: "/s"},
		},
		Claims: []stage.Claim{
			{Text: "Broken: with one handler no event is overtaken; with eight some are.", By: []string{"one_overtaken", "eight_overtaken"}, Holds: func(was, _ stage.Figures) bool {
				return was.Of("one_overtaken") == 0 && was.Of("eight_overtaken") > 0
			}},
			loses("eight_stale", "Broken: delivered orders are left in the state of an earlier event."),
			never("Fixed: no event is overtaken or missing, and all orders end as delivered, although a worker was killed.", "eight_overtaken", "eight_stale", "eight_missing"),
			{Text: "Fixed: eight handlers are still more than one and a half times as fast as one.", By: []string{"one_rate", "eight_rate"}, Holds: func(was, now stage.Figures) bool {
				return now.Of("eight_rate") > 1.5*was.Of("one_rate")
			}},
		},
		Try: []string{
			"evdemo publish --queue payments --count 100 --seed 1",
			"evdemo work --queue payments --ordered-by data.user_id --concurrency 8 --fail-rate 0.1 --retry 300ms    # a user waits, others go on",
		},
	}
}

func playOrdering(ctx context.Context, s *stage.Stage) error {
	if err := s.Topology(ctx, topology.Spec{Queues: map[string]topology.Queue{"one": {}, "eight": {SingleActive: s.Fixed()}}}); err != nil {
		return err
	}
	if s.Fixed() {
		s.Say("50 orders with 5 events each again. The worker that has the queue is killed halfway (SIGKILL). The other one goes on, and what the first one had in hand comes again (extra, in the ledger).")
		file := filepath.Join(s.Dir, "topology.yaml") // without which the workers do not know that the queue is single-active
		if err := os.WriteFile(file, []byte("queues: {"+s.Name("eight")+": {single-active: true}}"), 0o600); err != nil {
			return err
		}
		return orderingRun(ctx, s, "eight", 2, "--topology", file, "--concurrency", "8", "--ordered-by", "subject")
	}
	s.Say("50 orders are created, paid, packed, shipped and delivered, five of them at a time. A handler takes 1 to 23 ms for an event.")
	if err := orderingRun(ctx, s, "one", 1, "--no-declare"); err != nil {
		return err
	}
	return orderingRun(ctx, s, "eight", 2, "--no-declare", "--concurrency", "4")
}

// orderingRun has workers handle the events of 50 orders, and counts. In the fixed mode the first of them is killed halfway.
func orderingRun(ctx context.Context, s *stage.Stage, queue string, workers int, args ...string) error {
	book := s.Ledger(queue)
	book.Expect("service", "service")
	endpoint, err := orderingService(ctx, s, queue)
	if err != nil {
		return err
	}
	crew := make([]*stage.Process, workers)
	for n := range crew {
		args := append([]string{"work", "--queue", s.Name(queue), "--http", endpoint}, args...)
		if crew[n], err = s.Start(ctx, "worker-"+strconv.Itoa(n+1), nil, args...); err != nil {
			return err
		}
	}
	events, began := orderingEvents(s), time.Now()
	if err := s.Publish(ctx, book, publisher.ToQueue(s.Name(queue)), 0, events...); err != nil {
		return err
	}
	if err := handled(ctx, s, book, "service", len(events)/2); err != nil {
		return err
	}
	if s.Fixed() {
		if err := crew[0].Kill(); err != nil {
			return err
		}
	}
	if err := handled(ctx, s, book, "service", len(events)); err != nil {
		return err
	}
	s.Measure(queue+"_rate", float64(len(events))/time.Since(began).Seconds())
	s.Count(queue+"_missing", book.Account().Consumers[0].Missing)
	return s.StopAll()
}

func orderingSteps() []string {
	return []string{"order.created", "order.paid", "order.packed", "order.shipped", "order.delivered"}
}

// orderingEvents makes the events of 50 orders, five of which are under way at a time. Their data is how long each event takes.
func orderingEvents(s *stage.Stage) (events []event.Event) {
	for first := 1; first <= 50; first += 5 {
		var steps [5]int
		for _, slot := range s.Rand.Perm(5 * len(orderingSteps())) {
			order := slot % 5
			events = append(events, s.Event(orderingSteps()[steps[order]], "order-"+strconv.Itoa(first+order), 1+s.Rand.IntN(23)))
			steps[order]++
		}
	}
	return events
}

// orderingService counts what it is told after a later event of its order. What comes again, as after a kill, counts as it came first.
func orderingService(ctx context.Context, s *stage.Stage, queue string) (url string, err error) {
	mu, overtaken, heard := new(sync.Mutex), 0, map[string][]int{}
	return s.Endpoint(ctx, func(_ http.ResponseWriter, r *http.Request, e event.Event) {
		takes, _ := strconv.Atoi(string(e.Data)) // which was made here
		if s.Pause(r.Context(), time.Duration(takes)*time.Millisecond) != nil {
			return // the worker has gone
		}
		mu.Lock()
		defer mu.Unlock()
		step, stale := slices.Index(orderingSteps(), e.Type), 0
		steps := append(heard[e.Subject], step)
		if slices.Max(steps) > step && slices.Index(steps, step) == len(steps)-1 {
			overtaken++
		}
		heard[e.Subject] = steps
		for _, steps := range heard {
			if steps[len(steps)-1] < slices.Max(steps) {
				stale++
			}
		}
		s.Count(queue+"_overtaken", overtaken)
		s.Count(queue+"_stale", stale)
		s.Ledger(queue).Effect("service", "service", e.ID)
	})
}
