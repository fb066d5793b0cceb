package scenario

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
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
)

// publishNaively has three programs publish, each with its own mistake. They are at it when it returns, and stop ends them.
func publishNaively(ctx context.Context, s *stage.Stage, _ *localbroker.Node) (stop func() error, err error) {
	var programs []*stage.Process
	for _, queue := range []string{lostStored, lostSent, lostOrders} {
		book := s.Ledger(queue)
		program, err := s.StartPart(ctx, "publisher of "+queue, "publish", func(line []byte) { book.Attempt(stage.ID(line)) },
			map[string]string{"queue": s.Name(queue), "how": queue, "db": filepath.Join(s.Dir, queue+".db")})
		if err != nil {
			return nil, err
		}
		programs = append(programs, program)
	}
	begun := func() bool {
		return s.Ledger(lostStored).Attempts() == storedEvents && s.Ledger(lostSent).Attempts() > 1000 && s.Ledger(lostOrders).Attempts() > 100
	}
	return func() error { return errors.Join(programs[0].Stop(), programs[1].Stop(), programs[2].Stop()) },
		s.Await(ctx, "that all programs publish", time.Minute, begun)
}

const storedEvents = 300

// publishPart publishes events that the broker has in time, some that it gets when it is killed, or orders that are saved and, one by
// one, confirmed: only that an error is ignored is their mistake.
func publishPart(ctx context.Context, p *stage.Player) error {
	how := p.Args["how"]
	orders, err := sql.Open("sqlite", "file:"+p.Args["db"])
	if err != nil {
		return err
	}
	defer orders.Close()
	if _, err := orders.ExecContext(ctx, "CREATE TABLE orders (id TEXT PRIMARY KEY)"); err != nil {
		return err
	}
	to := naive.Publisher{URL: p.URL, Queue: p.Args["queue"], Transient: how == lostStored, Confirms: how == lostOrders}
	defer to.Close()
	p.Ready()
	pace, ok := map[string]time.Duration{lostStored: time.Millisecond, lostSent: 200 * time.Microsecond, lostOrders: 10 * time.Millisecond}[how]
	if !ok {
		return fmt.Errorf("no publisher is known as %q", how)
	}
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil && (how != lostStored || n < storedEvents); n++ {
		e, err := event.New("order.created", "demo", map[string]int{"number": n})
		if err != nil {
			return err
		}
		<-tick.C
		if how == lostOrders {
			if _, err := orders.ExecContext(context.WithoutCancel(ctx), "INSERT INTO orders VALUES (?)", e.ID); err != nil {
				return err
			}
		}
		err = to.Publish(ctx, e)
		if err != nil && how == lostSent {
			return nil // the broker is gone; what it was sent before is believed to be there
		}
		if err := p.Print(e); err != nil { // it was sent or, if it is an order, saved
			return err
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
	store, err := eventstore.Open(ctx, eventstore.Config{DB: db, BusyTimeout: time.Minute})
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
			s.Ledger(lostOrders).Outcome(e.ID, "stored")
			if err := s.Pause(ctx, 10*time.Millisecond); err != nil {
				return err
			}
		}
		return nil
	})
	s.OnClose(func(context.Context) error { enough(); _ = both.Wait(); return nil }) // also where the play ends before stop is called
	begun := func() bool { return s.Ledger(lostSent).Attempts() > 1000 && s.Ledger(lostOrders).Attempts() > 50 }
	return func() error { enough(); return both.Wait() }, s.Await(ctx, "that all publish", time.Minute, begun)
}
