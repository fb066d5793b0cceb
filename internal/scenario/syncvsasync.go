package scenario

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/service"
	"github.com/evdemo/evdemo/internal/shop/system"
	"github.com/evdemo/evdemo/internal/stage"
)

// syncOrders are placed while the mail service is healthy, slow, and down, by syncCustomers at a time.
const syncOrders, syncCustomers, syncSlow = 30, 10, 600 * time.Millisecond

// syncVsAsync: who waits for a service that is slow, and what fails with one that is down.
func syncVsAsync() stage.Scenario {
	var figures []stage.Figure
	for _, mail := range []string{"healthy", "slow", "down"} {
		label := "mail service " + mail + ": "
		figures = append(figures, stage.Figure{Key: mail + "50", Label: label + "half of the customers wait at most (p50)", Unit: "ms"},
			stage.Figure{Key: mail + "99", Label: label + "99 of 100 customers wait at most (p99)", Unit: "ms"},
			stage.Figure{Key: mail + "ok", Label: label + "orders answered with success", Unit: "%"})
	}
	return stage.Scenario{
		Name:  "sync-vs-async",
		Needs: stage.Either,
		Title: "Who waits when a shop's mail service is slow, and what fails when it is down",
		Lesson: "A shop that calls its services (payment, shipping, mail and others) one after the other while the customer waits is as slow as all of them together, and answers with an error when one of them is down. " +
			"An event-driven shop writes down that an order was placed and answers at once; the services hear of it afterwards, so one that is slow is late alone, and what is meant for one that is down waits in its queue. " +
			"Most e-mails are sent later for that, but no customer waits for them any more.",
		Broken: "the shop calls eight services in turn over HTTP, and then answers (evdemo shop sync).",
		Fixed:  "the shop stores the order, and answers (evdemo serve); the services hear of it afterwards (evdemo shop run).",
		Play:   playSync,
		Figures: append(figures,
			stage.Figure{Key: "healthytook", Label: "mail service healthy: half of the e-mails are sent after", Unit: "ms"},
			stage.Figure{Key: "slowtook", Label: "mail service slow: half of the e-mails are sent after", Unit: "ms"},
			stage.Figure{Key: "backtook", Label: "mail service down, then back: half of the e-mails are sent after (its outage included)", Unit: "ms"},
			stage.Figure{Key: "downshare", Label: "mail service down: orders that are shipped", Unit: "%"},
			stage.Figure{Key: "backshare", Label: "mail service back: e-mails of those orders that are sent in the end", Unit: "%"},
		),
		Claims: []stage.Claim{
			{Text: "Broken: with the mail service slow, at least half of the customers wait for it.", By: []string{"slow50"}, Holds: func(was, _ stage.Figures) bool { return was.Of("slow50") >= stage.Milliseconds(syncSlow) }},
			{Text: "Broken: with the mail service down, every customer is told of an error, although all orders are shipped.", By: []string{"downok", "downshare"}, Holds: func(was, _ stage.Figures) bool { return was.Of("downok") == 0 && was.Of("downshare") == 100 }},
			{Text: "Fixed: with the mail service slow, half of the customers have their answer in less than half the time that half of them need in Broken.", By: []string{"slow50"}, Holds: func(was, now stage.Figures) bool { return now.Of("slow50") < was.Of("slow50")/2 }},
			{Text: "Fixed: with the mail service slow, 99 of 100 customers have their answer before half of the e-mails are sent.", By: []string{"slow99", "slowtook"}, Holds: func(_, now stage.Figures) bool { return now.Of("slow99") < now.Of("slowtook") }},
			{Text: "Fixed: all orders are answered with success, whatever the mail service does.", By: []string{"healthyok", "slowok", "downok"}, Holds: func(_, now stage.Figures) bool { return now.Of("healthyok")+now.Of("slowok")+now.Of("downok") == 300 }},
			{Text: "Fixed: with the mail service down, all orders are shipped, and the e-mails are sent when it is back.", By: []string{"downshare", "backshare"}, Holds: func(_, now stage.Figures) bool { return now.Of("downshare") == 100 && now.Of("backshare") == 100 }},
		},
		Try: []string{
			"evdemo shop sync --slow email=2s    # and in another terminal:",
			`curl -s 127.0.0.1:8081/api/orders -H 'Content-Type: application/json' -d '{"user_id":"user-1","items":["item-1"]}'`,
			"evdemo serve --db shop.db & evdemo shop run --slow email=2s    # the same order to port 8080",
		},
	}
}

func playSync(ctx context.Context, s *stage.Stage) error {
	db := filepath.Join(s.Dir, "shop.db")
	store, err := eventstore.Open(ctx, eventstore.Config{DB: db, BusyTimeout: time.Minute})
	if err != nil {
		return err
	}
	s.OnClose(func(context.Context) error { return store.Close() })
	url, command := "", []string{"shop", "sync", "--db", db, "--addr", "127.0.0.1:0", "--attempts", "2"}
	if s.Fixed() {
		s.Remove(system.Resources(service.Choreography, s.Prefix))
		command = []string{"shop", "run", "--db", db, "--topic-prefix", s.Prefix, "--sinks", s.Dir, "email"}
		others := append(slices.Clone(command[:len(command)-1]), "order", "fraud", "payment", "inventory", "shipping", "loyalty", "sms", "push")
		if _, err := s.Start(ctx, "others", nil, others...); err != nil {
			return err
		}
		server, err := s.Start(ctx, "serve", nil, "serve", "--db", db, "--addr", "127.0.0.1:0")
		if err != nil {
			return err
		}
		url = server.URL()
	}
	s.Say("%d orders are placed in each state of the mail service, by %d customers at a time.", syncOrders, syncCustomers)
	var placed map[string]time.Time
	for _, mail := range []string{"healthy", "slow", "down", "back"} {
		var part *stage.Process // that has the mail service in it; in Fixed there is none while that is down
		if mail != "down" || !s.Fixed() {
			faults := map[string][]string{"slow": {"--slow", "email=" + syncSlow.String()}, "down": {"--down", "email"}}[mail]
			if part, err = s.Start(ctx, "mail "+mail, nil, slices.Concat(command, faults)...); err != nil {
				return err
			}
			url = cmp.Or(part.URL(), url)
		}
		more := map[string]string{
			"slow": ", and takes " + syncSlow.String() + " for each e-mail", "down": ", and nobody answers for it",
			"back": ", and the shop finishes the orders that it has stored",
		}
		if s.Fixed() {
			more["back"] = ", and finds in its queue what it has missed"
		}
		s.Say("The mail service is %s%s.", mail, more[mail])
		if mail != "back" {
			var accepted int
			waited := &stage.Times{}
			if placed, accepted, err = placeOrders(ctx, s, url, syncOrders, syncCustomers, waited); err != nil {
				return err
			}
			s.Measure(mail+"50", waited.Quantile(0.5))
			s.Measure(mail+"99", waited.Quantile(0.99))
			s.Measure(mail+"ok", 100*float64(accepted)/syncOrders)
		}
		if err := syncAwait(ctx, s, store, mail, placed); err != nil {
			return err
		}
		if part != nil {
			if err := part.Kill(); err != nil {
				return err
			}
		}
	}
	return s.StopAll()
}

// syncAwait waits until the e-mails of orders are sent or, while the mail service is down, until the orders are shipped.
func syncAwait(ctx context.Context, s *stage.Stage, store *eventstore.Store, mail string, placed map[string]time.Time) (err error) {
	prefix, took := cmp.Or(map[string]string{"down": "shipment-"}[mail], "notification-email-"), &stage.Times{}
	query := eventstore.Query{Types: []string{shop.NotificationSent, shop.OrderShipped}}
	settled := s.Settle(ctx, patience, syncOrders, func() int {
		for r, failed := range store.Read(ctx, query) {
			if failed != nil {
				err = failed
				break
			}
			if began, ok := placed[strings.TrimPrefix(r.Stream, prefix)]; ok {
				took.Add(r.RecordedAt.Sub(began))
			}
			query.After = r.Position
		}
		return took.Len()
	})
	s.Measure(mail+"took", took.Quantile(0.5))
	s.Measure(mail+"share", 100*float64(took.Len())/syncOrders)
	return errors.Join(err, settled)
}
