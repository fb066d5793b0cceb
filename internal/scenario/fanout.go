package scenario

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/stage"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
)

// fanoutOrders are published while all services are there, and as many while email is away, for fanoutAway and longer.
const fanoutOrders, fanoutAway = 60, time.Second

// fanout: what happens is to be heard by all who care, not by one of them.
func fanout() stage.Scenario {
	return stage.Scenario{
		Name:  "fanout",
		Title: "Four services want to hear of every order, one of them is killed, and a fifth joins late",
		Lesson: "A queue is for sharing work: each event goes to one of the programs that read from it (to another, if that one dies), so four services on one queue miss most of what happens. " +
			"Fan-out is for telling everybody: an order is published once, to a topic, and each service that subscribes to the topic has a queue of its own with every order in it. " +
			"So a service that was killed finds in its queue what it has missed, the others notice nothing, and one that joins late reads the log that the topic keeps.",
		Broken: "four services (analytics, loyalty, search and email) read from one queue.",
		Fixed:  "all four subscribe to one topic, each under a name of its own (its group), and so each has a queue of its own.",
		Play:   playFanout,
		Figures: []stage.Figure{
			{Key: "lost", Label: "notices that never came, of 480 (120 orders to each of 4 services)"},
			{Key: "caught", Label: "60 orders while email is dead: heard by email in the end"},
			{Key: "delay", Label: "60 orders while email is dead: half reach email within (its outage included)", Unit: "ms"},
			{Key: "during", Label: "60 orders while email is dead: half reach the others within", Unit: "ms"},
			{Key: "before", Label: "60 orders before it is killed: half reach the others within", Unit: "ms"},
			{Key: "late", Label: "120 orders before audit joins: heard by audit in the end"},
		},
		Claims: []stage.Claim{
			{Text: "Broken: more than half of all notices never come.", By: []string{"lost"}, Holds: func(was, _ stage.Figures) bool { return was.Of("lost") > 240 }},
			{Text: "Broken: email hears of no order that was published in its outage.", By: []string{"caught"}, Holds: func(was, _ stage.Figures) bool { return was.Of("caught") == 0 }},
			{Text: "Fixed: every service hears of every order, also the one that was killed.", By: []string{"lost", "caught"}, Holds: func(_, now stage.Figures) bool { return now.Of("lost") == 0 && now.Of("caught") >= fanoutOrders }},
			{Text: "Fixed: the others do not notice the outage of email: the time in which orders reach them changes by less than a tenth of the time that email needs.", By: []string{"before", "during", "delay"}, Holds: func(_, now stage.Figures) bool {
				return math.Abs(now.Of("during")-now.Of("before")) < now.Of("delay")/10
			}},
			{Text: "Audit, which joins late, hears of no earlier order in Broken, and of all of them in Fixed.", By: []string{"late"}, Holds: func(was, now stage.Figures) bool { return was.Of("late") == 0 && now.Of("late") == 2*fanoutOrders }},
		},
		Try: []string{
			"evdemo listen --topic orders --group email    # in two more terminals with --group analytics, and with --from first",
			"evdemo publish --topic orders --count 10    # also while one of them is away",
		},
	}
}

func playFanout(ctx context.Context, s *stage.Stage) error {
	services, book, name := []string{"analytics", "loyalty", "search", "email"}, s.Ledger("orders"), s.Name("orders")
	spec, to, perOrder := topology.Spec{Queues: map[string]topology.Queue{"orders": {}}}, publisher.ToQueue(name), 1
	if s.Fixed() {
		spec, to = topology.Spec{Topics: map[string]topology.Topic{"orders": {Groups: services, Log: &topology.Log{}}}}, publisher.ToTopic(name)
		perOrder = len(services)
	}
	if err := s.Topology(ctx, spec); err != nil {
		return err
	}
	times := map[string]*stage.Times{"before": {}, "during": {}, "delay": {}}
	start := func(service string) (*stage.Process, error) {
		command := []string{"work", "--queue", name, "--no-declare", "-o", "json"}
		if s.Fixed() {
			command = []string{"listen", "--topic", name, "--group", service, "--no-declare", "-o", "json"}
		}
		return s.Start(ctx, service, func(line []byte) {
			var e event.Event
			_ = json.Unmarshal(line, &e) // what is no event has no id, which the ledger finds
			if service == "email" {      // its times are accounted for apart
				e.Subject = map[string]string{"during": "delay"}[e.Subject]
			}
			if took := times[e.Subject]; took != nil {
				took.Add(time.Since(e.Time))
			}
			book.Effect(service, service, e.ID)
		}, command...)
	}
	heard := func(services ...string) (notices int) {
		for _, service := range services {
			n, _ := book.Done(service)
			notices += n
		}
		return notices
	}
	publish := func(when string, notices int) error {
		for range fanoutOrders {
			if err := s.Publish(ctx, book, to, 0, s.Event("order.created", when, nil)); err != nil {
				return err
			}
		}
		return s.Settle(ctx, still(s), notices, func() int { return heard(services...) })
	}
	var email *stage.Process
	var err error
	for _, service := range services {
		book.Expect(service, service)
		if email, err = start(service); err != nil { // the last one is email
			return err
		}
	}
	s.Say("Four programs listen. %d orders are published, then email is killed with SIGKILL, and %d more are published.", fanoutOrders, fanoutOrders)
	if err := publish("before", fanoutOrders*perOrder); err != nil {
		return err
	}
	if err := errors.Join(email.Kill(), publish("during", fanoutOrders*(perOrder+max(1, perOrder-1))), s.Pause(ctx, fanoutAway)); err != nil {
		return err
	}
	s.Say("%v after the last order email is started again, and with it audit, a fifth service, for the first time.", fanoutAway)
	book.Expect("audit", "audit")
	if s.Fixed() {
		log, err := s.Do(ctx, "listen", "--topic", name, "--from", "first", "--count", strconv.Itoa(2*fanoutOrders), "--idle-timeout", "10s", "--no-declare", "-o", "json")
		if err != nil {
			return err
		}
		for line := range bytes.Lines(log) {
			book.Effect("audit", "audit", stage.ID(line))
		}
	} else if _, err := start("audit"); err != nil {
		return err
	}
	if _, err := start("email"); err != nil {
		return err
	}
	if err := s.Settle(ctx, still(s), 2*fanoutOrders*len(services), func() int { return heard(services...) }); err != nil {
		return err
	}
	s.Count("lost", 2*fanoutOrders*len(services)-heard(services...))
	s.Count("caught", times["delay"].Len())
	s.Count("late", heard("audit"))
	s.Measure("before", times["before"].Quantile(0.5))
	s.Measure("during", times["during"].Quantile(0.5))
	s.Measure("delay", times["delay"].Quantile(0.5)) // none in Broken
	return s.StopAll()
}
