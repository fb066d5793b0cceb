package demo

import (
	"context"
	"encoding/json"
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/evdemo/evdemo/eventstore/relay"
	"github.com/evdemo/evdemo/internal/ledger"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/service"
	"github.com/evdemo/evdemo/internal/shop/system"
	"github.com/evdemo/evdemo/internal/stage"
	"github.com/evdemo/evdemo/topology"
)

// processes is a venue on a broker, where everybody is a process of their own.
type processes struct {
	*run
	victim   *stage.Process
	payments []*paymentProcess
	queues   topology.Resources // all of the shop's
}

// paymentProcess is one of those that compete for payments.
type paymentProcess struct {
	name    string
	handled atomic.Int64 // which it tells at its end; one that was killed tells of none
}

func (p *processes) start(ctx context.Context) error {
	resources := system.Resources(service.Choreography, p.stage.Prefix)
	p.queues = topology.Resources{Queues: resources.Queues}
	p.stage.Remove(resources)
	// It is first: with it is the relay, which nobody kills here.
	if err := p.startOthers(ctx); err != nil {
		return err
	}
	for i := range 3 {
		one := &paymentProcess{name: service.Payment + "-" + strconv.Itoa(i+1)}
		args := append(p.arguments(service.Payment), "--slow", service.Payment+"="+latency.String(), "--concurrency", strconv.Itoa(concurrency))
		process, err := p.stage.Start(ctx, one.name, one.read, args...)
		if err != nil {
			return err
		}
		if p.payments = append(p.payments, one); one.name == victim {
			p.victim = process
		}
	}
	_, err := p.stage.Start(ctx, broadcast, p.hear, "listen", "--topic", p.stage.Name(shop.Orders), "--no-declare", "-o", "json")
	if err != nil {
		return err
	}
	p.stage.Say("A shop runs as four processes. Three are payment: they share one queue, and each order goes to one of them. In the fourth are all " +
		"other parts: each has a queue of its own, and hears of every order (that is called fan-out). A fifth process, broadcast, only listens.")
	if !p.Broken {
		return nil
	}
	p.stage.Say("Broken on purpose: a stray worker takes %d events off the queue of payment and loses them.", strayEvents)
	_, err = p.stage.Start(ctx, "stray", nil, "work", "--queue", p.stage.Name(system.Queue(service.Payment)), "--no-declare",
		"--accept-raw", "--prefetch", "1", "--count", strconv.Itoa(strayEvents), "-o", "json")
	return err
}

func (p *processes) arguments(parts ...string) []string {
	return append(append([]string{"shop", "run"}, parts...), "--db", p.db, "--sinks", p.sinks, "--topic-prefix", p.stage.Prefix, "-o", "json")
}

// hear enters into the ledger what the listener has printed.
func (p *processes) hear(line []byte) {
	var e struct{ Type, Subject string }
	if json.Unmarshal(line, &e) == nil && e.Type == shop.OrderCreated {
		p.ledger.Effect(broadcast, broadcast, e.Subject)
	}
}

func (p *paymentProcess) read(line []byte) {
	var counts []system.Count
	if json.Unmarshal(line, &counts) == nil && len(counts) == 1 {
		p.handled.Store(counts[0].Handled)
	}
}

func (p *processes) kill(context.Context) error {
	if err := p.victim.Kill(); err != nil {
		return err
	}
	p.stage.Say("Killed %s with SIGKILL. What it had in hand goes to the other two. A charge is stored under its order, once, so that none is made twice.", victim)
	return nil
}

// startOthers starts a process of all parts but payment.
func (p *processes) startOthers(ctx context.Context) error {
	_, err := p.stage.Start(ctx, "shop", nil, p.arguments(others()...)...)
	return err
}

// end ends all processes. Of the one that was killed, all that is known is that it did what the others did not.
//
// What a process has in hand and has not begun it gives back to the broker, which cannot be seen before. So what is left is
// worked off by another one, for as long as there is less each time.
func (p *processes) end(ctx context.Context) (members []ledger.Member, err error) {
	for before := math.MaxInt; ; {
		if err := p.awaitEmpty(ctx); err != nil {
			return nil, err
		}
		if err := p.stage.StopAll(); err != nil {
			return nil, err
		}
		left, err := p.returned(ctx)
		if err != nil {
			return nil, err
		}
		if left == 0 || left >= before {
			break
		}
		before = left
		if err := p.startOthers(ctx); err != nil {
			return nil, err
		}
	}
	if err := p.awaitWatch(ctx); err != nil {
		return nil, err
	}
	rest, _ := p.ledger.Done(service.Payment)
	for _, one := range p.payments {
		handled := int(one.handled.Load())
		rest -= handled
		members = append(members, ledger.Member{Name: one.name, Effects: handled})
	}
	for i := range members {
		if members[i].Name == victim {
			members[i].Effects = max(0, rest)
		}
	}
	return members, nil
}

// awaitEmpty waits until all is published, and nothing waits in a queue. What stays there the verdict finds.
func (p *processes) awaitEmpty(ctx context.Context) (err error) {
	waited := p.stage.Await(ctx, "that all queues are empty", patience, func() bool {
		var left int
		left, err = p.left(ctx)
		return err != nil || left == 0
	})
	if err == nil && waited != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// returned is how many events wait after processes have ended. The broker counts what they gave back a moment later.
func (p *processes) returned(ctx context.Context) (left int, err error) {
	for look := 0; look < 3 && left == 0 && err == nil; look++ {
		if err = p.stage.Pause(ctx, 100*time.Millisecond); err == nil {
			left, err = p.left(ctx)
		}
	}
	return left, err
}

// left is how many events wait to be published, or to be handled.
func (p *processes) left(ctx context.Context) (n int, err error) {
	lag, err := relay.LagOf(ctx, p.store, system.RelayName)
	if err != nil {
		return 0, err
	}
	conn, err := p.stage.Session(ctx)
	if err != nil {
		return 0, err
	}
	states, err := p.queues.Inspect(ctx, conn)
	for _, state := range states {
		n += state.Messages
	}
	return n + int(lag.Events()), err
}
