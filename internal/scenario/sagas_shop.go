package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/service"
	"github.com/evdemo/evdemo/internal/shop/system"
	"github.com/evdemo/evdemo/internal/stage"
)

// shopPlay is a shop of several processes on the broker, and an event store in a file.
type shopPlay struct {
	s     *stage.Stage
	flow  service.Flow
	seed  string
	db    string
	store *eventstore.Store
	book  *shopBook
	teams map[string]*stage.Process
}

// openShop starts a shop, one process for each team of services. The first is never killed: it publishes for all.
func openShop(ctx context.Context, s *stage.Stage, flow service.Flow, teams ...string) (p *shopPlay, err error) {
	p = &shopPlay{s: s, flow: flow, db: filepath.Join(s.Dir, "shop.db"), seed: strconv.FormatUint(s.Rand.Uint64(), 10), book: newShopBook(s), teams: map[string]*stage.Process{}}
	store, err := eventstore.Open(ctx, eventstore.Config{DB: p.db, BusyTimeout: time.Minute})
	if err != nil {
		return nil, err
	}
	s.OnClose(func(context.Context) error { return store.Close() })
	p.store = store
	s.Remove(system.Resources(flow, s.Prefix))
	for _, team := range teams {
		if err := p.start(ctx, team); err != nil {
			return nil, err
		}
	}
	following, stop := context.WithCancel(ctx)
	followed := make(chan error, 1)
	go func() {
		err := p.follow(following)
		if err != nil {
			s.Fail(err)
		}
		followed <- err
	}()
	s.OnClose(func(context.Context) error { stop(); return <-followed })
	return p, nil
}

// start starts the process of a team. One order in five is refused by each of payment, inventory and shipping.
func (p *shopPlay) start(ctx context.Context, team string) (err error) {
	args := slices.Concat([]string{"shop", "run"}, strings.Fields(team), []string{
		"--db", p.db, "--saga", string(p.flow), "--topic-prefix", p.s.Prefix, "--sinks", p.s.Dir, "--seed", p.seed, "--concurrency", "4",
		"--refuse", "payment=0.2,inventory=0.2,shipping=0.2", "--slow", "payment=20ms,inventory=20ms,shipping=20ms",
	})
	p.teams[team], err = p.s.Start(ctx, team, nil, args...)
	return err
}

// follow reads the log as an outsider, until ctx ends.
func (p *shopPlay) follow(ctx context.Context) error {
	types := []string{shop.OrderCreated, shop.PaymentProcessed, shop.PaymentFailed, shop.PaymentRefunded, shop.OrderShipped, shop.OrderCancelled}
	for r, err := range p.store.Follow(ctx, eventstore.Query{Types: types}) {
		if ctx.Err() != nil {
			return nil // that is its end
		}
		var d shop.Decision
		if err == nil {
			err = json.Unmarshal(r.Data, &d)
		}
		if err != nil {
			return fmt.Errorf("follow the shop: %w", err)
		}
		p.book.enter(r.Type, r.Subject, d.Amount)
	}
	return nil
}

// place has customers place orders, all at once.
func (p *shopPlay) place(ctx context.Context, n int) (err error) {
	writes := make([]eventstore.StreamWrite, n)
	for i := range writes {
		order := shop.Sample(p.s.Rand)
		order.OrderID = fmt.Sprintf("order-%06d", p.book.ledger.Attempts()+1)
		p.book.ledger.Attempt(order.OrderID)
		if writes[i], err = shop.Placed(order); err != nil {
			return err
		}
	}
	if _, err = p.store.Append(ctx, writes...); err != nil {
		return err
	}
	for _, w := range writes {
		p.book.ledger.Outcome(w.Events[0].Subject, "stored")
	}
	return nil
}

// storm has orders placed in as many waves as there are teams to be killed, and kills each in the middle of its wave.
func (p *shopPlay) storm(ctx context.Context, killed ...string) error {
	wave := shopOrders / len(killed)
	for _, team := range killed {
		before := p.book.paid()
		if err := p.place(ctx, wave); err != nil {
			return err
		}
		if err := p.s.Settle(ctx, quiet, before+wave/4, p.book.paid); err != nil {
			return err
		}
		if err := p.teams[team].Kill(); err != nil {
			return err
		}
		if err := p.start(ctx, team); err != nil {
			return err
		}
	}
	return nil
}

// check has "evdemo shop check" count what is wrong. In the fixed mode it may wait for what is still under way.
func (p *shopPlay) check(ctx context.Context) error {
	args := []string{"shop", "check", "--db", p.db, "--sinks", "", "-o", "json"}
	if p.s.Fixed() {
		args = append(args, "--wait", "30s")
	}
	var report struct{ Findings map[string]int }
	out, err := p.s.Do(ctx, args...)
	if unread := json.Unmarshal(out, &report); unread != nil {
		return errors.Join(err, unread)
	}
	wrong := 0
	for _, n := range report.Findings {
		wrong += n
	}
	p.s.Count("wrong", wrong)
	return nil
}

// finish waits until all orders have ended or, where it is broken, nothing happens any more. Then it measures.
func (p *shopPlay) finish(ctx context.Context) error {
	still, want, count := time.Minute, shopOrders, p.book.ended
	if !p.s.Fixed() {
		still, want, count = quiet, math.MaxInt, func() int { n, _ := p.store.Head(ctx); return int(n) }
	}
	if err := p.s.Settle(ctx, still, want, count); err != nil {
		return err
	}
	p.book.measure(p.s)
	p.s.Say("%d of %d orders have come to an end, and nothing happens any more. Now evdemo shop check reads the log, which is all events that the shop has stored.", p.book.ended(), shopOrders)
	return errors.Join(p.check(ctx), p.s.StopAll())
}
