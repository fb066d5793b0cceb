package scenario

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/localbroker"
	"github.com/evdemo/evdemo/internal/naive"
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
		Title: "Four ways to lose an event without a word, and what keeps it",
		Lesson: "A broker forgets an event as soon as it believes that somebody else has it, and keeps on disk only what it is told to. " +
			"So a worker that acknowledges before it works, a message that is transient, a publisher that does not wait for the broker's confirm, " +
			"and a program that writes to its database and then to the broker each lose events in a crash, and none of them says so. " +
			"Acknowledging after the work, durable queues, confirms, and a relay that publishes what the database has, lose nothing: at worst an event comes twice.",
		Broken: "automatic acknowledgement; transient messages; no confirms; orders saved and then published, with errors ignored.",
		Fixed:  "acknowledged when done; persistent in a replicated queue; confirmed; orders saved as events, and relayed from there.",
		Play:   playLostEvents,
		Parts:  map[string]stage.Part{"auto-ack": autoAckPart, "publish": publishPart},
		Figures: []stage.Figure{
			{Key: lostJobs, Label: "a worker is killed: events lost of 200"},
			{Key: lostStored, Label: "the broker is killed: lost of 300 that it had"},
			{Key: lostSent, Label: "the broker is killed: lost of those sent meanwhile"},
			{Key: lostOrders, Label: "the broker is away: orders without their event"},
		},
		Claims: []stage.Claim{
			loses(lostJobs, "Broken: a killed worker takes what was acknowledged in advance with it."),
			loses(lostStored, "Broken: transient messages do not outlive the broker."),
			loses(lostSent, "Broken: what was sent without confirms is not all there."),
			loses(lostOrders, "Broken: there are orders of which nobody will ever hear."),
			{
				Text: "Fixed: with the same kills nothing is lost, in none of the four ways.", By: []string{lostJobs, lostStored, lostSent, lostOrders},
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
	if err := s.Settle(ctx, quiet, attempted, func() int { n, _ := book.Done("reader"); return n }); err != nil {
		return err
	}
	s.Count(queue, book.Account().Consumers[0].Missing)
	return worker.Stop()
}

// publishNaively has three programs publish, each with its own mistake. They are at it when it returns, and stop ends them.
func publishNaively(ctx context.Context, s *stage.Stage, _ *localbroker.Node) (stop func() error, err error) {
	var programs []*stage.Process
	for _, queue := range []string{lostStored, lostSent, lostOrders} {
		book := s.Ledger(queue)
		if err := naive.Declare(s.URL(), s.Name(queue)); err != nil {
			return nil, err
		}
		program, err := s.StartPart(ctx, "publisher of "+queue, "publish", func(line []byte) { book.Attempt(stage.ID(line)) },
			map[string]string{"queue": s.Name(queue), "how": queue})
		if err != nil {
			return nil, err
		}
		programs = append(programs, program)
	}
	begun := func() bool {
		return s.Ledger(lostStored).Attempts() == storedEvents && s.Ledger(lostSent).Attempts() > 1000
	}
	return func() error { return errors.Join(programs[0].Stop(), programs[1].Stop(), programs[2].Stop()) },
		s.Await(ctx, "that all programs publish", time.Minute, begun)
}

const storedEvents = 300

// publishPart publishes without confirms: events that are stored, more than the broker can take, or orders that are saved.
func publishPart(ctx context.Context, p *stage.Player) error {
	how := p.Args["how"]
	to := naive.Publisher{URL: p.URL, Queue: p.Args["queue"], Transient: how == lostStored}
	defer to.Close()
	p.Ready()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil && (how != lostStored || n < storedEvents); n++ {
		e, err := event.New("order.created", "demo", map[string]int{"number": n})
		if err != nil {
			return err
		}
		err = to.Publish(ctx, e)
		if how == lostSent && err != nil {
			return nil // the broker is gone; what it was sent before is believed to be there
		}
		if err := p.Print(e); err != nil { // that it was sent or, of an order, that it is saved
			return err
		}
		if how == lostOrders {
			<-tick.C
		}
	}
	<-ctx.Done()
	return nil
}

// publishSafely does the same with what evdemo has for it.
func publishSafely(ctx context.Context, s *stage.Stage, node *localbroker.Node) (stop func() error, err error) {
	if err := node.AwaitDurable(ctx, s.Name(lostStored), s.Name(lostSent), s.Name(lostOrders)); err != nil {
		return nil, err
	}
	if err := s.Publish(ctx, s.Ledger(lostStored), publisher.ToQueue(s.Name(lostStored)), 0, made(s, storedEvents)...); err != nil {
		return nil, err
	}
	db := filepath.Join(s.Dir, "orders.db")
	store, err := eventstore.Open(ctx, eventstore.Config{DB: db})
	if err != nil {
		return nil, err
	}
	s.OnClose(func(context.Context) error { return store.Close() })
	if _, err := s.Start(ctx, "relay", nil, "store", "relay", "--db", db, "--queue", s.Name(lostOrders), "--no-declare"); err != nil {
		return nil, err
	}
	var both errgroup.Group
	saving, enough := context.WithCancel(ctx)
	both.Go(func() error {
		return s.Publish(ctx, s.Ledger(lostSent), publisher.ToQueue(s.Name(lostSent)), 1000, made(s, 5000)...)
	})
	both.Go(func() error {
		for number := 1; saving.Err() == nil; number++ {
			e := made(s, 1)[0]
			s.Ledger(lostOrders).Attempt(e.ID)
			if _, err := store.Append(ctx, eventstore.StreamWrite{Stream: "order-" + strconv.Itoa(number), Events: []event.Event{e}}); err != nil {
				return err
			}
			if err := s.Pause(ctx, 10*time.Millisecond); err != nil {
				return err
			}
		}
		return nil
	})
	begun := func() bool { return s.Ledger(lostSent).Attempts() > 1000 }
	return func() error { enough(); return both.Wait() }, s.Await(ctx, "that all publish", time.Minute, begun)
}

// autoAckPart is a worker whose events are acknowledged before it has begun.
func autoAckPart(ctx context.Context, p *stage.Player) error {
	return naive.Consumer{URL: p.URL, Queue: p.Args["queue"], AutoAck: true, Ready: p.Ready}.Run(ctx, func(e event.Event) error {
		work := time.NewTimer(3 * time.Millisecond)
		defer work.Stop()
		<-work.C
		return p.Print(e)
	})
}
