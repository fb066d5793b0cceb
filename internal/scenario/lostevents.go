package scenario

import (
	"context"
	"errors"
	"time"

	"github.com/evdemo/evdemo/internal/stage"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
)

// The queues of lostEvents, one for each way to lose an event.
const (
	lostJobs   = "jobs"   // whose worker is killed
	lostStored = "stored" // events that the broker had before it was killed
	lostSent   = "sent"   // events that are sent while it is killed
	lostOrders = "orders" // of each there is a row in a database
)

// lostEvents: four ways to lose events, and what to do instead.
func lostEvents() stage.Scenario {
	return stage.Scenario{
		Name:  "lost-events",
		Needs: stage.OwnBroker,
		Title: "Four ways to lose an event without a word, and what keeps it",
		Lesson: "A broker forgets an event as soon as it believes that somebody else has it, and keeps on disk only what it is told to. " +
			"So a worker that acknowledges before it works, a message that is kept in memory only (transient), a publisher that does not wait for the broker's confirm, " +
			"and a program that writes to its database and then to the broker each lose events in a crash, and none of them says so. " +
			"Acknowledging after the work, persistent messages in a replicated queue, confirms, and a relay that publishes what the database has, lose nothing: at worst an event comes twice.",
		Broken: "acknowledged before the work; transient messages; no confirms; orders saved and then published, with errors ignored.",
		Fixed:  "acknowledged after the work; persistent messages in a replicated queue; confirms; orders saved as events, and published from there by a relay.",
		Play:   playLostEvents,
		Parts:  map[string]stage.Part{"auto-ack": autoAckPart, "publish": publishPart},
		Figures: []stage.Figure{
			{Key: lostJobs, Label: "lost of 200 jobs, when their worker is killed (jobs, in the ledger)"},
			{Key: lostStored, Label: "lost of 300 events that the broker has, when it is killed (stored)"},
			{Key: lostSent, Label: "lost of the events that are being sent then (sent)"},
			{Key: lostOrders, Label: "saved orders whose event was never sent (orders)"},
		},
		Claims: []stage.Claim{
			loses(lostJobs, "Broken: a killed worker takes what was acknowledged in advance with it."),
			loses(lostStored, "Broken: transient messages do not outlive the broker."),
			loses(lostSent, "Broken: what was sent without confirms is not all there."),
			loses(lostOrders, "Broken: there are orders of which nobody will ever hear."),
			{
				Text: "Fixed: with the same kills nothing is lost in any of the four ways.", By: []string{lostJobs, lostStored, lostSent, lostOrders},
				Holds: func(_, now stage.Figures) bool {
					return now.Of(lostJobs) == 0 && now.Of(lostStored) == 0 && now.Of(lostSent) == 0 && now.Of(lostOrders) == 0
				},
			},
		},
		Try: []string{
			"evdemo broker start; evdemo publish --count 100000 --rate 1000 --outcomes outcomes.jsonl    # kill the broker meanwhile: evdemo broker status names its process",
			"evdemo store relay --db orders.db --topic orders    # stop the broker, evdemo store append, start the broker",
		},
	}
}

func loses(figure, text string) stage.Claim {
	return stage.Claim{Text: text, By: []string{figure}, Holds: func(was, _ stage.Figures) bool { return was.Of(figure) > 0 }}
}

func playLostEvents(ctx context.Context, s *stage.Stage) error {
	node, err := s.OwnNode(ctx)
	if err != nil {
		return err
	}
	queues := map[string]topology.Queue{lostJobs: {}}
	if s.Fixed() {
		queues[lostStored], queues[lostSent], queues[lostOrders] = topology.Queue{}, topology.Queue{}, topology.Queue{}
	}
	if err := s.Topology(ctx, topology.Spec{Queues: queues}); err != nil {
		return err
	}
	if err := killWorker(ctx, s); err != nil {
		return err
	}
	publish := publishNaively
	if s.Fixed() {
		publish = publishSafely
	}
	s.Say("The broker has 300 events, and more are being sent, and orders saved, when it is killed with SIGKILL. It is back in seconds.")
	stop, err := publish(ctx, s, node)
	if err != nil {
		return err
	}
	if err := errors.Join(node.Kill(), s.Pause(ctx, time.Second)); err != nil { //nolint:contextcheck // Kill has a limit of its own
		return err
	}
	if err := node.Restart(ctx); err != nil {
		return err
	}
	if err := stop(); err != nil {
		return err
	}
	for _, queue := range []string{lostStored, lostSent, lostOrders} {
		s.Ledger(queue).Expect("reader", "reader")
		if !s.Fixed() { // a queue that was made a moment before may be lost with what was in it
			if err := plainQueue(s, queue); err != nil {
				return err
			}
		}
		if err := drainLost(ctx, s, queue, "reader"); err != nil {
			return err
		}
	}
	return s.StopAll()
}

// killWorker kills a worker in mid-work, and has another one do what is left.
func killWorker(ctx context.Context, s *stage.Stage) error {
	const jobs, done = 200, 40
	book, queue := s.Ledger(lostJobs), s.Name(lostJobs)
	book.Expect("reader", "killed", "reader")
	s.Say("A worker has done %d of %d jobs when it is killed with SIGKILL. Another one takes over.", done, jobs)
	err := s.Publish(ctx, book, publisher.ToQueue(queue), 0, made(s, jobs)...)
	if err != nil {
		return err
	}
	var worker *stage.Process
	if effect := stage.Effects(book, "reader", "killed"); s.Fixed() {
		worker, err = s.Start(ctx, "worker", effect, "work", "--queue", queue, "--no-declare", "--latency", "3ms", "-o", "json")
	} else {
		worker, err = s.StartPart(ctx, "worker", "auto-ack", effect, map[string]string{"queue": queue})
	}
	if err != nil {
		return err
	}
	if err := s.Await(ctx, "that the worker has begun", time.Minute, func() bool { n, _ := book.Done("reader"); return n >= done }); err != nil {
		return err
	}
	worker.Kill()
	return drainLost(ctx, s, lostJobs, "reader")
}

// drainLost works off a queue, and counts what is missing.
func drainLost(ctx context.Context, s *stage.Stage, queue, member string) error {
	book := s.Ledger(queue)
	worker, err := s.Start(ctx, queue, stage.Effects(book, "reader", member), "work", "--queue", s.Name(queue), "--no-declare", "-o", "json")
	if err != nil {
		return err
	}
	attempted := book.Account().Attempted
	if err := s.Settle(ctx, still(s), attempted, func() int { n, _ := book.Done("reader"); return n }); err != nil {
		return err
	}
	s.Count(queue, book.Account().Consumers[0].Missing)
	return worker.Stop()
}
