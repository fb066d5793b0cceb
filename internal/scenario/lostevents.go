package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/evdemo/evdemo/internal/ledger"
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
			"Acknowledging after the work, persistent messages in a quorum queue, confirms, and a relay that publishes what the database has, lose nothing: at worst an event comes twice.",
		Broken: "acknowledged before the work; transient messages; persistent ones without confirms; orders saved and then published, with errors ignored.",
		Fixed:  "acknowledged after the work; persistent messages in a quorum queue, which is on disk; confirms; orders saved as events, and published from there by a relay.",
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
			loses(lostSent, "Broken: persistent messages are lost too, and without confirms nobody is told."),
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
	mark := s.Event("mark", "", nil)
	if !s.Fixed() {
		for _, queue := range []string{lostStored, lostSent, lostOrders} {
			if err := errors.Join(plainQueue(s, queue), s.Publish(ctx, ledger.New(), publisher.ToQueue(s.Name(queue)), 0, mark)); err != nil {
				return err
			}
		}
	}
	if err := killWorker(ctx, s, mark.ID); err != nil {
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
		marked, err := drainLost(ctx, s, queue, mark.ID)
		if err == nil && !marked && !s.Fixed() {
			err = fmt.Errorf("queue %s has lost what was persistent and confirmed, too: this says nothing of the others", queue)
		}
		if err != nil {
			return err
		}
	}
	return s.StopAll()
}
