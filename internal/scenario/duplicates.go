package scenario

import (
	"context"
	"net/http"
	"path/filepath"
	"sync"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/ledger"
	"github.com/evdemo/evdemo/internal/stage"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
)

const duplicatesOrders, duplicatesKill = 100, 40

// duplicates: an event that comes several times is charged for several times, unless its id is remembered on both sides.
func duplicates() stage.Scenario {
	return stage.Scenario{
		Name:  "duplicates",
		Title: "One order, charged several times",
		Lesson: "A program that gets no answer does the same thing again, so events come more than once, and a worker that dies after its work " +
			"but before it says so has that work done again. A worker can remember which events it has handled, but no worker can remember " +
			"what it did in the moment in which it died. So what must happen once also needs a service that knows the event's id and does nothing the second time.",
		Broken: "each event that comes is charged for.",
		Fixed:  "the worker remembers the ids of what it has handled (--dedup), and the payment service those of what it has charged for.",
		Play:   playDuplicates,
		Figures: []stage.Figure{
			{Key: "requests", Label: "for 100 orders, each of which came three times: requests to the payment service"},
			{Key: "again", Label: "for 100 orders: how many it was asked for more than once"},
			{Key: "charges", Label: "for 100 orders: charges made"},
			{Key: "overcharged", Label: "customers charged more than once"},
			{Key: "missing", Label: "customers never charged"},
		},
		Claims: []stage.Claim{
			loses("overcharged", "Broken: customers are charged more than once."),
			{Text: "Fixed: the worker drops the copies, but asks a second time for what it had in hand when it was killed.", By: []string{"requests", "again"}, Holds: func(_, now stage.Figures) bool {
				return now.Of("requests") == duplicatesOrders+now.Of("again") && now.Of("again") > 0 && now.Of("again") < duplicatesOrders/10
			}},
			{Text: "Fixed: the service knows that event by its id, and there are as many charges as orders.", By: []string{"charges"}, Holds: func(_, now stage.Figures) bool {
				return now.Of("charges") == duplicatesOrders
			}},
			never("Fixed: no customer is charged twice, and none is forgotten.", "overcharged", "missing"),
		},
		Try: []string{
			"evdemo publish --count 3 --dry-run > orders.jsonl; evdemo publish --queue payments --file orders.jsonl    # the second command several times",
			"evdemo work --queue payments --dedup handled.db    # then without --dedup",
		},
	}
}

func playDuplicates(ctx context.Context, s *stage.Stage) error {
	if err := s.Topology(ctx, topology.Spec{Queues: map[string]topology.Queue{"payments": {}}}); err != nil {
		return err
	}
	book, events, queue := s.Ledger("payments"), made(s, duplicatesOrders), s.Name("payments")
	book.Expect("requests", "service")
	book.Expect("charges", "service")
	endpoint, err := duplicatesService(ctx, s, book, duplicatesKill)
	if err != nil {
		return err
	}
	s.Say("%d orders. Their publisher acts as if it had heard no answer, and sends each event three times, with the same id.", duplicatesOrders)
	for _, account := range []*ledger.Ledger{book, ledger.New(), ledger.New()} { // copies are no new events, and not on the books
		if err := s.Publish(ctx, account, publisher.ToQueue(queue), 0, events...); err != nil {
			return err
		}
		s.Rand.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	}
	work := []string{"work", "--queue", queue, "--http", endpoint, "--no-declare"}
	if s.Fixed() { // a worker that was killed is soon taken for dead, so that the play is short
		work = append(work, "--dedup", filepath.Join(s.Dir, "handled.db"), "--dedup-lease", "500ms")
	}
	first, err := s.Start(ctx, "worker-1", nil, work...)
	if err != nil {
		return err
	}
	if err := handled(ctx, s, book, "charges", duplicatesKill); err != nil {
		return err
	}
	s.Say("The payment service has made its charge number %d. Before it answers, the worker is killed (SIGKILL). Another one goes on, and gets again the few events that the first had not yet acknowledged.", duplicatesKill)
	if err := first.Kill(); err != nil {
		return err
	}
	if _, err := s.Start(ctx, "worker-2", nil, work...); err != nil {
		return err
	}
	number := func(of string) int { _, members := book.Done(of); return members[0].Effects }
	asked := func() int { return number("requests") }
	if err := s.Settle(ctx, patience, duplicatesOrders+1, asked); err != nil { // each order once, and one again
		return err
	}
	if err := s.Settle(ctx, quiet, 3*duplicatesOrders+1, asked); err != nil {
		return err
	}
	s.Count("requests", asked())
	s.Count("charges", number("charges"))
	s.Count("missing", book.Account().Consumers[1].Missing)
	return s.StopAll()
}

// duplicatesService charges customers, in the fixed mode once for the id of an event. To one of the requests it gives no answer.
func duplicatesService(ctx context.Context, s *stage.Stage, book *ledger.Ledger, unanswered int) (url string, err error) {
	mu, requests, asked, again, times, overcharged := new(sync.Mutex), 0, map[string]int{}, 0, map[string]int{}, 0
	return s.Endpoint(ctx, func(_ http.ResponseWriter, r *http.Request, e event.Event) {
		mu.Lock()
		requests++
		number := requests
		book.Effect("requests", "service", e.ID)
		if asked[e.ID]++; asked[e.ID] == 2 {
			again++
		}
		if !s.Fixed() || times[e.ID] == 0 {
			if times[e.ID]++; times[e.ID] == 2 {
				overcharged++
			}
			book.Effect("charges", "service", e.ID)
		}
		s.Count("again", again)
		s.Count("overcharged", overcharged)
		mu.Unlock()
		if number == unanswered {
			<-r.Context().Done()
		}
	})
}
