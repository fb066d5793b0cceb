package scenario

import (
	"context"
	"slices"

	"github.com/evdemo/evdemo/internal/shop/service"
	"github.com/evdemo/evdemo/internal/shop/system"
	"github.com/evdemo/evdemo/internal/stage"
)

// choreography: a shop whose services react to each other's events, with nobody in charge, and services that are killed.
func choreography() stage.Scenario {
	return stage.Scenario{
		Name:  "choreography",
		Title: "A shop in which nobody is in charge: each service reacts to what the others have done",
		Lesson: "An order passes through several services with data of their own, so each does its part when it hears that the part before is done, " +
			"and takes it back when it hears that a later one was refused. However often services are killed, each order comes to a right end, as long " +
			"as no service tells the broker that it is done with an event before what follows from it is stored. Nobody has to be asked when " +
			"a step is added, and in exchange nobody can tell at a glance how far an order is.",
		Broken:  "beside the payment service an old copy runs, which somebody forgot: it takes events from the same queue, does nothing, and tells the broker that it is done with them.",
		Fixed:   "the same shop with the same kills, without the old copy.",
		Play:    playChoreography,
		Figures: slices.Concat(shopFigures(), stepFigures()),
		Claims: slices.Concat([]stage.Claim{
			{
				Text: "Broken: there are orders that never come to an end.", By: []string{"open"},
				Holds: func(was, _ stage.Figures) bool { return was.Of("open") > 0 },
			},
			{
				Text: "Broken: evdemo shop check, which reads the log and nothing else, finds it out.", By: []string{"wrong"},
				Holds: func(was, _ stage.Figures) bool { return was.Of("wrong") > 0 },
			},
		}, shopClaims(), []stage.Claim{
			{
				Text: "Fixed: a step more is one event more, which is handed to one program more.",
				By:   []string{"events4", "events5", "deliveries4", "deliveries5"},
				Holds: func(_, now stage.Figures) bool {
					return now.Of("events5")-now.Of("events4") == 1 && now.Of("deliveries5")-now.Of("deliveries4") == 1
				},
			},
		}),
		Try: []string{
			"evdemo shop run                      # the shop, until Ctrl-C; in another terminal:",
			"evdemo shop place --count 100; evdemo shop check --sinks \"\" --wait 1m",
			"evdemo shop prove --orders 200 --kills 8 --broker-kills 1    # many more kills, of the broker too",
		},
	}
}

func playChoreography(ctx context.Context, s *stage.Stage) error {
	const (
		payment = "payment"
		goods   = "inventory shipping"
	)
	s.Say("Starting the shop as three processes; one has payment, one inventory and shipping. Each of the three refuses one in five of the orders that come to it.")
	p, err := openShop(ctx, s, service.Choreography, "order fraud loyalty email sms push", payment, goods)
	if err != nil {
		return err
	}
	if !s.Fixed() {
		s.Say("Starting the old copy: evdemo work on the queue of payment. It acknowledges what it gets, and does nothing: one event at a time, while payment handles four.")
		if _, err := s.Start(ctx, "stray", nil, "work", "--queue", s.Name(system.Queue(service.Payment)), "--no-declare", "--accept-raw", "--latency", "20ms"); err != nil {
			return err
		}
	}
	s.Say("Customers place %d orders. Payment, and then inventory with shipping, are killed with SIGKILL in mid-work, and started again.", shopOrders)
	if err := p.storm(ctx, payment, goods); err != nil {
		return err
	}
	if err := p.finish(ctx); err != nil || !s.Fixed() {
		return err
	}
	s.Say("What does a step more cost? Apart from the shop and the broker, %d orders go through 4 steps, one after the other, then %d through 5. An event that there is an order comes first, and is counted, too.", stepOrders, stepOrders)
	return measureStep(ctx, s, service.Choreography)
}
