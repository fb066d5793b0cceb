package scenario

import (
	"context"
	"slices"

	"github.com/evdemo/evdemo/internal/shop/service"
	"github.com/evdemo/evdemo/internal/stage"
)

// orchestration: a shop that a coordinator runs, beside a program that makes one call after the other and remembers nothing.
func orchestration() stage.Scenario {
	return stage.Scenario{
		Name:  "orchestration",
		Title: "A shop with one program in charge: what it has to remember, and what it has to take back",
		Lesson: "One program, the coordinator, can ask for the payment, the goods and the parcel of an order in turn. It may be killed between any two of them, and " +
			"each of them may be refused, so it stores what it is about to ask for, asks again with the same number after a crash, so that nothing is done twice, " +
			"and takes back what was done when a later step is refused. The whole flow stands in one place, and in exchange each step is two " +
			"messages, a command and its answer, and for a new one the coordinator has to be changed.",
		Broken:  "a checkout program calls bank, warehouse and carrier in turn; if one of them refuses it only cancels the order, and after a crash it begins the order anew.",
		Fixed:   "the shop with a coordinator, with as many kills: of the coordinator, of payment, and of inventory with shipping.",
		Play:    playOrchestration,
		Parts:   map[string]stage.Part{"checkout": checkoutPart},
		Figures: slices.Concat(shopFigures(), stepFigures()),
		Claims: slices.Concat([]stage.Claim{
			{
				Text: "Broken: customers whose order was in hand when the program was killed are charged twice.", By: []string{"twice"},
				Holds: func(was, _ stage.Figures) bool { return was.Of("twice") > 0 },
			},
			{
				Text: "Broken: customers have paid for orders that were then refused, and the money stays where it is.", By: []string{"kept"},
				Holds: func(was, _ stage.Figures) bool { return was.Of("kept") > 0 },
			},
		}, shopClaims(), []stage.Claim{
			{
				Text: "Fixed: a step more is two events more that are handed to a program, the command and its answer.",
				By:   []string{"deliveries4", "deliveries5"},
				Holds: func(_, now stage.Figures) bool {
					return now.Of("deliveries5")-now.Of("deliveries4") == 2
				},
			},
			{
				Text:  "Fixed: a step more is four events more in the log: the command, its answer, and a note of the coordinator on each.",
				By:    []string{"events4", "events5"},
				Holds: func(_, now stage.Figures) bool { return now.Of("events5")-now.Of("events4") == 4 },
			},
		}),
		Try: []string{
			"evdemo shop run --saga orchestration --db shop-o.db --topic-prefix o.    # a shop of its own, until Ctrl-C; in another terminal:",
			"evdemo shop place --count 100 --db shop-o.db; evdemo store streams --db shop-o.db    # saga-order-... is what the coordinator remembers",
			"evdemo shop check --db shop-o.db --sinks \"\" --wait 1m",
		},
	}
}

func playOrchestration(ctx context.Context, s *stage.Stage) error {
	const (
		coordinator = "coordinator"
		payment     = "payment"
		goods       = "inventory shipping"
	)
	if !s.Fixed() {
		return playCheckout(ctx, s)
	}
	s.Say("Starting the shop as four processes, the coordinator among them. Payment, inventory and shipping each refuse one in five of the orders that come to them, so about half of all are shipped.")
	p, err := openShop(ctx, s, service.Orchestration, "order fraud loyalty email sms push", coordinator, payment, goods)
	if err != nil {
		return err
	}
	s.Say("Customers place %d orders. Coordinator, payment, and inventory with shipping are killed with SIGKILL in mid-work, and started again.", shopOrders)
	if err := p.storm(ctx, coordinator, payment, goods); err != nil {
		return err
	}
	if err := p.finish(ctx); err != nil {
		return err
	}
	s.Say("What does a step more cost? Apart from the shop and the broker, %d orders go through 4 steps, one after the other, then %d through 5. An event that there is an order comes first, and is counted, too.", stepOrders, stepOrders)
	return measureStep(ctx, s, service.Orchestration)
}
