package scenario

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/naive"
	"github.com/evdemo/evdemo/internal/stage"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/webhook"
)

const poisonGood, poisonWasted = 2000, 500 // good orders, and attempts after which the broken mode is ended

// poison: an event that always fails keeps a consumer from all others, unless it is put aside.
func poison() stage.Scenario {
	return stage.Scenario{
		Name:  "poison",
		Title: "One bad event among thousands, and who waits behind it",
		Lesson: "Sooner or later an event comes that a program cannot handle, and a program that gives it back to the queue at once gets it again at " +
			"once, and nothing else: it is always busy, and nothing gets done. A worker that tries it a few times, with pauses in between, and " +
			"then puts it aside into a dead-letter queue, goes on with the others. There the event waits until the program is mended, and is then sent back.",
		Broken: "an event that fails is given back to the queue at once.",
		Fixed:  "an event that fails is tried three times while others go on, and then put aside; the program is mended, and the event sent back.",
		Play:   playPoison,
		Parts:  map[string]stage.Part{"consumer": poisonPart},
		Figures: []stage.Figure{
			{Key: "attempts", Label: "attempts at the bad order (Broken: it is never put aside, and the scenario ends them after 500)"},
			{Key: "beside", Label: "good orders handled between its first and its last attempt"},
			{Key: "stuck", Label: "good orders still waiting at the last of these attempts"},
			{Key: "rate", Label: "good orders handled beside the bad one", Unit: "/s"},
			{Key: "dead", Label: "orders put aside in the dead-letter queue"},
			{Key: "missing", Label: "orders never handled"},
		},
		Claims: []stage.Claim{
			{Text: "Broken: hundreds of attempts are wasted on one order, and the good ones behind it wait.", By: []string{"attempts", "stuck"}, Holds: func(was, _ stage.Figures) bool {
				return was.Of("attempts") >= poisonWasted && was.Of("stuck") > 0
			}},
			{Text: "Broken: not one good order is handled beside it.", By: []string{"beside", "rate"}, Holds: func(was, _ stage.Figures) bool {
				return was.Of("beside") == 0 && was.Of("rate") == 0
			}},
			{Text: "Fixed: while the bad order waits to be tried again, good ones are handled.", By: []string{"beside"}, Holds: func(_, now stage.Figures) bool {
				return now.Of("beside") > 0
			}},
			{Text: "Fixed: the bad order is put aside after three attempts.", By: []string{"attempts", "dead"}, Holds: func(_, now stage.Figures) bool {
				return now.Of("attempts") == 3 && now.Of("dead") == 1
			}},
			never("Fixed: every good order is handled, and in the end so is the bad one.", "missing"),
		},
		Try: []string{
			"evdemo publish --queue payments --count 20; evdemo work --queue payments --fail-rate 0.5 --retry 1s --max-attempts 2 --idle-timeout 2s",
			"evdemo dlq show payments; evdemo dlq redrive payments --all; evdemo work --queue payments    # what was put aside, sent back, and handled",
		},
	}
}

func playPoison(ctx context.Context, s *stage.Stage) error {
	queue, book, events := s.Name("orders"), s.Ledger("orders"), made(s, poisonGood+1)
	book.Expect("service", "service")
	var err error
	if retry := []time.Duration{50 * time.Millisecond, 100 * time.Millisecond}; s.Fixed() {
		err = s.Topology(ctx, topology.Spec{Queues: map[string]topology.Queue{"orders": {Retry: retry, MaxAttempts: 3}}})
	} else {
		err = plainQueue(s, "orders")
	}
	if err != nil {
		return err
	}
	bad, attempts, mended := events[500+s.Rand.IntN(1000)].ID, new(atomic.Int32), new(atomic.Bool)
	good := func() int { n, _ := book.Done("service"); return n }
	var first, last atomic.Int64 // how many good orders were handled at these attempts at the bad one
	endpoint, err := s.Endpoint(ctx, func(w http.ResponseWriter, _ *http.Request, e event.Event) {
		if e.ID == bad && !mended.Load() {
			if last.Store(int64(good())); attempts.Add(1) == 1 {
				first.Store(last.Load())
			}
			http.Error(w, "this order has no address", http.StatusInternalServerError)
			return
		}
		book.Effect("service", "service", e.ID)
	})
	if err != nil {
		return err
	}
	s.Say("%d orders. For one of them, somewhere in the middle, the service that handles them answers with an error.", len(events))
	if err := s.Publish(ctx, book, publisher.ToQueue(queue), 0, events...); err != nil {
		return err
	}
	work := []string{"work", "--queue", queue, "--http", endpoint, "--no-declare", "--retry", "50ms,100ms", "--max-attempts", "3"}
	if s.Fixed() {
		_, err = s.Start(ctx, "worker", nil, work...)
	} else {
		_, err = s.StartPart(ctx, "consumer", "consumer", nil, map[string]string{"queue": queue, "service": endpoint})
	}
	if err != nil {
		return err
	}
	if err := s.Await(ctx, "that the bad order has come", time.Minute, func() bool { return attempts.Load() > 0 }); err != nil {
		return err
	}
	before, came := good(), time.Now()
	enough, others := int32(poisonWasted), 0
	if s.Fixed() {
		enough, others = 3, poisonGood
	}
	tried := s.Await(ctx, "that enough has been tried", time.Minute, func() bool { return attempts.Load() >= enough })
	if err := errors.Join(tried, handled(ctx, s, book, "service", others)); err != nil {
		return err
	}
	s.Measure("rate", float64(good()-before)/time.Since(came).Seconds())
	s.Count("beside", int(last.Load()-first.Load()))
	s.Count("stuck", poisonGood-int(last.Load()))
	if err := s.StopAll(); err != nil {
		return err
	}
	s.Count("attempts", int(attempts.Load()))
	mended.Store(true)
	if s.Fixed() {
		err = poisonRedrive(ctx, s, work)
	}
	s.Count("missing", book.Account().Consumers[0].Missing)
	return err
}

// poisonRedrive looks at what was put aside, sends it back, and has it handled.
func poisonRedrive(ctx context.Context, s *stage.Stage, work []string) error {
	letters, err := s.Do(ctx, "dlq", "show", s.Name("orders"))
	if err != nil {
		return err
	}
	s.Count("dead", bytes.Count(letters, []byte("\n")))
	s.Say("The service is mended. What was put aside, and why, as evdemo dlq show tells it; evdemo dlq redrive sends it back, to a worker.\n  %s", bytes.TrimSpace(letters))
	if _, err := s.Do(ctx, "dlq", "redrive", s.Name("orders"), "--all"); err != nil {
		return err
	}
	_, err = s.Do(ctx, append(work, "--count", "1", "--idle-timeout", "10s")...)
	return err
}

// poisonPart is a consumer that gives back at once what the service does not handle.
func poisonPart(ctx context.Context, p *stage.Player) error {
	service, err := webhook.New(webhook.Config{URL: p.Args["service"]})
	if err != nil {
		return err
	}
	defer service.Close()
	consumer := naive.Consumer{URL: p.URL, TLS: p.TLS, Queue: p.Args["queue"], Prefetch: 1, Ready: p.Ready}
	return consumer.Run(ctx, func(e event.Event) error { return service.Handle(ctx, &worker.Delivery{Event: e}) })
}
