package demo

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/evdemo/evdemo/eventstore/relay"
	"github.com/evdemo/evdemo/internal/ledger"
	"github.com/evdemo/evdemo/internal/shop/check"
	"github.com/evdemo/evdemo/internal/shop/service"
	"github.com/evdemo/evdemo/internal/shop/sink"
	"github.com/evdemo/evdemo/internal/shop/system"
)

// Report is what the tour has found.
type Report struct {
	Account ledger.Account `json:"account"`
	// Check is what a program found that reads only the event store and the sinks.
	Check   check.Report   `json:"check"`
	Claims  []ledger.Claim `json:"claims"`
	Killed  string         `json:"killed"`
	Seed    uint64         `json:"seed"`
	Seconds float64        `json:"seconds"`
	Holds   bool           `json:"holds"`
}

// report works out the claims.
func (r *run) report(ctx context.Context, payments []ledger.Member) (report Report, err error) {
	report = Report{Account: r.ledger.Account(), Killed: victim, Seed: r.Seed}
	if report.Check, err = r.check(ctx); err != nil {
		return report, err
	}
	unpublished := int64(0)
	if !r.Memory {
		lag, err := relay.LagOf(ctx, r.store, system.RelayName)
		if err != nil {
			return report, err
		}
		unpublished = lag.Events()
	}
	for i, c := range report.Account.Consumers {
		if c.Name == service.Payment {
			report.Account.Consumers[i].Members = payments
		}
	}
	report.Claims = claims(report.Account, report.Check, unpublished)
	report.Holds = !slices.ContainsFunc(report.Claims, func(c ledger.Claim) bool { return !c.Holds })
	report.Seconds = time.Since(r.began).Seconds()
	return report, nil
}

// check has the shop checked from outside.
func (r *run) check(ctx context.Context) (check.Report, error) {
	ignore := func(check.Finding) {} // the report counts them
	report, err := check.Log(ctx, r.store, ignore)
	if err != nil {
		return report, fmt.Errorf("check the event store: %w", err)
	}
	if err := check.Sinks(ctx, r.store, sink.Places{Dir: r.sinks}, check.Elsewhere{}, &report, ignore); err != nil {
		return report, fmt.Errorf("check the sinks: %w", err)
	}
	return report, nil
}

// claims are what the tour is to prove.
func claims(a ledger.Account, found check.Report, unpublished int64) []ledger.Claim {
	kept := a.Outcomes[stored]
	all := []ledger.Claim{ledger.Claimf(kept == a.Attempted && a.Unaccounted == 0 && unpublished == 0,
		"every order is in the event store, where the shop keeps all that has happened, and was published from there", "%d placed, %d stored, %d events not published", a.Attempted, kept, unpublished)}
	for _, c := range a.Consumers {
		text := c.Name + " had every order, once"
		holds := c.Missing == 0 && c.Extra == 0 && c.Effects == a.Attempted
		switch c.Name {
		case service.Payment:
			text = "the payment processes shared the orders, and the killed one lost none and charged none twice"
			holds = holds && !slices.ContainsFunc(c.Members, func(m ledger.Member) bool { return m.Effects == 0 })
		case broadcast:
			text = "the process that listens heard of every order" // again, where the relay had to publish it again
			holds = c.Missing == 0 && c.Effects == a.Attempted
		}
		all = append(all, ledger.Claimf(holds, text, "%d done, %d missing, %d extra", c.Effects, c.Missing, c.Extra))
	}
	wrong := 0
	for _, n := range found.Findings {
		wrong += n
	}
	return append(all, ledger.Claimf(found.Sound(), "a program that reads only what the shop has stored (events, data lake, analytics, search, customers) finds nothing wrong",
		"%d orders, %d shipped, %d things wrong", found.Orders, found.Shipped, wrong))
}
