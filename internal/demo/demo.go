// Package demo runs the suite's two-minute tour: real processes on a real broker, one of them
// killed in the middle, and a verdict by a ledger kept outside of them. Where nothing is installed it runs
// within one process, on a bus in memory.
package demo

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/evdemo/evdemo/internal/ledger"
)

const (
	topic  = "orders"
	queue  = "payments"
	victim = "worker-2"

	publishRate   = 600                  // events per second, so that a person can follow
	workerLatency = 6 * time.Millisecond // so that the workers are busy when one is killed
	patience      = 8 * time.Second      // without a new effect, before the demo gives up
	longest       = 2 * time.Minute      // for all of it, on the slowest machine
	strayEvents   = 5                    // that the stray worker of the broken mode loses
)

// ErrLeftBehind reports that not everything which the demo made could be removed.
var ErrLeftBehind = errors.New("not removed")

// Config says where and how to run the demo.
type Config struct {
	// Memory runs the demo within this process, on a bus in memory: consumers are goroutines, and nothing
	// is durable. Executable, URLs, TLS, Environment and ConnectTimeout are not used then.
	Memory bool
	// Executable is evdemo itself, which the demo starts as child processes.
	Executable string
	// URLs and TLS lead to the broker.
	URLs []string
	TLS  *tls.Config
	// Environment is what the child processes get; it must lead them to the same broker.
	Environment []string
	// Events are the events to publish, as JSONL of CloudEvents.
	Events []byte
	// Broken adds a worker that takes events and loses them, which the ledger must show.
	Broken bool
	// Screen is where progress is shown; Live redraws a table there, as on a terminal.
	Screen io.Writer
	Live   bool
	// Logger receives what the child processes, or the bus in memory, log. Default: nothing is logged.
	Logger *slog.Logger
	// ConnectTimeout bounds the wait for the first connection.
	ConnectTimeout time.Duration
}

// Report is what the demo has found.
type Report struct {
	Account     ledger.Account `json:"account"`
	Claims      []ledger.Claim `json:"claims"`
	Killed      string         `json:"killed"`
	Redelivered int            `json:"redelivered"`
	Seconds     float64        `json:"seconds"`
	Holds       bool           `json:"holds"`
}

// run is one demo under way.
type run struct {
	Config
	venue       venue
	killing     string        // how the venue kills
	patience    time.Duration // without a new effect
	prefix      string
	ledger      *ledger.Ledger
	ids         []string
	actors      []actor
	victim      actor
	killed      bool
	redelivered int // valid once the actors have ended
	screen      *screen
	began       time.Time
}

// venue is where a demo takes place: a broker with processes, or this process alone.
type venue interface {
	// prepare makes the topology and says on the screen where that is. What it made is removed by remove,
	// also when ctx has ended; where prepare fails nothing is left.
	prepare(ctx context.Context) (remove func(context.Context) error, err error)
	// start starts a consumer, which the end of ctx does not end.
	start(ctx context.Context, p part) (actor, error)
	// publish publishes the events to the topic and enters their outcomes into the ledger. Where ctx ends
	// it stops in good order: what it has not sent gets no outcome, and that is no error.
	publish(ctx context.Context) error
}

// part is what one consumer is to do.
type part struct {
	name    string
	queue   string          // it works on this queue; if empty it listens to the topic
	group   string          // as a member of this group; if empty it gets every event
	latency time.Duration   // of its work on one event
	limit   int             // it ends after so many events; 0: when told to
	effect  func(id string) // called for every event that it has handled; nil: its effects are lost
}

// actor is a consumer: a process or a goroutine.
type actor interface {
	awaitConsuming(ctx context.Context) error
	// kill ends it as a crash would. It has no effect after that, or none that counts.
	kill()
	// stop tells it to drain.
	stop()
	// end waits until it has ended, which is soon after stop, and gives the number of events that it got
	// and that had been delivered before. One that was killed tells of none.
	end() (redelivered int)
}

// newRun makes a run without anything under way.
func newRun(config Config) *run {
	r := &run{Config: config, prefix: "demo-" + rand.Text()[:8] + ".", ledger: ledger.New()}
	if r.Logger == nil {
		r.Logger = slog.New(slog.DiscardHandler)
	}
	r.screen = newScreen(r)
	r.venue, r.killing, r.patience = &processes{run: r}, "SIGKILL", patience
	if r.Memory {
		r.venue, r.killing, r.patience = &memory{run: r}, "its context is cut", memoryPatience
	}
	return r
}

// Run runs the demo and removes everything that it made, also where it fails or ctx ends. The
// report's Holds says whether the ledger proves the claims.
func Run(ctx context.Context, config Config) (report Report, err error) {
	r := newRun(config)
	if r.ids, err = readIDs(config.Events); err != nil {
		return report, err
	}
	remove, err := r.venue.prepare(ctx)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, remove(ctx)) }()
	defer r.endActors()
	if err := r.startConsumers(ctx); err != nil {
		return report, err
	}
	if err := r.publishAndKill(ctx); err != nil {
		return report, err
	}
	r.endActors()
	return r.report(), nil
}

func readIDs(events []byte) ([]string, error) {
	var ids []string
	for line := range bytes.Lines(events) {
		var e struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal(line, &e); err != nil || e.ID == "" {
			return nil, fmt.Errorf("sample event %d has no id", len(ids)+1)
		}
		ids = append(ids, e.ID)
	}
	return ids, nil
}

// startConsumers starts three workers and three listeners and waits until each consumes.
func (r *run) startConsumers(ctx context.Context) error {
	r.ledger.Expect("email", "email")
	r.ledger.Expect("analytics", "analytics")
	r.ledger.Expect("broadcast", "broadcast")
	r.ledger.Expect(queue, "worker-1", "worker-2", "worker-3")
	parts := []part{
		r.worker("worker-1"), r.worker("worker-2"), r.worker("worker-3"),
		r.listener("email", "email"), r.listener("analytics", "analytics"), r.listener("broadcast", ""),
	}
	if r.Broken {
		parts = append(parts, part{name: "stray", queue: queue, limit: strayEvents})
	}
	for _, p := range parts {
		a, err := r.venue.start(ctx, p)
		if err != nil {
			return err
		}
		r.actors = append(r.actors, a)
		if p.name == victim {
			r.victim = a
		}
	}
	for _, a := range r.actors {
		if err := a.awaitConsuming(ctx); err != nil {
			return err
		}
	}
	r.screen.say("3 workers compete on the queue %s; 3 listeners (groups email and analytics, one broadcast) are on the topic %s.", queue, topic)
	if r.Broken {
		r.screen.say("Broken on purpose: a stray worker takes %d events off %s and loses them.", strayEvents, queue)
	}
	return nil
}

// worker is the part of a worker on the queue.
func (r *run) worker(name string) part {
	return part{name: name, queue: queue, latency: workerLatency, effect: func(id string) { r.ledger.Effect(queue, name, id) }}
}

// listener is the part of a listener to the topic, alone or in a group.
func (r *run) listener(name, group string) part {
	return part{name: name, group: group, effect: func(id string) { r.ledger.Effect(name, name, id) }}
}

// publishAndKill publishes everything, kills a worker in the middle of it, and waits until every
// consumer is done or patience is at its end.
func (r *run) publishAndKill(ctx context.Context) error {
	r.began = time.Now()
	r.screen.say("Publishing %d orders; %s is killed (%s) in the middle.", len(r.ids), victim, r.killing)
	ctx, cancel := context.WithTimeoutCause(ctx, longest, errPatience)
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	stalled := time.AfterFunc(r.patience, func() { giveUp(errPatience) })
	defer stalled.Stop()
	effects := 0
	publish := r.startPublish(ctx)
	defer publish.stop()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for !r.killed || !r.done(publish) {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			publish.stop()
			<-publish.ended
			if context.Cause(ctx) != errPatience { //nolint:errorlint // the very cause set above
				return context.Cause(ctx)
			}
			r.screen.say("Gave up waiting: nothing more came for %v.", r.patience)
			return publish.err
		}
		if publish.isEnded() && publish.err != nil {
			break // what it did not send nobody will get
		}
		if n := r.effects(); n > effects {
			effects = n
			stalled.Reset(r.patience)
		}
		r.screen.draw()
		if n, _ := r.ledger.Done(queue); !r.killed && n >= len(r.ids)/3 {
			r.killed = true
			r.victim.kill()
			r.screen.say("Killed %s.", victim)
		}
	}
	r.screen.draw()
	return publish.err
}

var errPatience = errors.New("patience is at its end")

// publication is the publishing under way.
type publication struct {
	stop  context.CancelFunc
	ended chan struct{} // closed when it has ended and its outcomes are in the ledger
	err   error         // valid once ended is closed
}

// startPublish starts the publishing, which only stop ends early.
func (r *run) startPublish(ctx context.Context) *publication {
	for _, id := range r.ids {
		r.ledger.Attempt(id)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	p := &publication{stop: stop, ended: make(chan struct{})}
	go func() { // publishAndKill waits for it
		defer close(p.ended)
		p.err = r.venue.publish(ctx)
	}()
	return p
}

func (p *publication) isEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// done tells whether the publisher has ended and every consumer has had as many effects as
// there were events.
func (r *run) done(publish *publication) bool {
	if !publish.isEnded() {
		return false
	}
	for _, name := range []string{"email", "analytics", "broadcast", queue} {
		if n, _ := r.ledger.Done(name); n < len(r.ids) {
			return false
		}
	}
	return true
}

// effects counts the events with an effect over all consumers.
func (r *run) effects() (n int) {
	for _, name := range []string{"email", "analytics", "broadcast", queue} {
		distinct, _ := r.ledger.Done(name)
		n += distinct
	}
	return n
}

// endActors tells every consumer to drain, waits, and so has all that they had to say.
func (r *run) endActors() {
	for _, a := range r.actors {
		a.stop()
	}
	r.redelivered = 0
	for _, a := range r.actors {
		r.redelivered += a.end()
	}
}

// report works out the claims.
func (r *run) report() Report {
	report := Report{
		Account: r.ledger.Account(), Killed: victim, Redelivered: r.redelivered, Seconds: time.Since(r.began).Seconds(),
	}
	a := report.Account
	confirmed := a.Outcomes["confirmed"]
	report.Claims = append(report.Claims, ledger.Claimf(confirmed == a.Attempted && a.Unaccounted == 0,
		"every published event was confirmed", "%d published, %d confirmed, %d without an outcome", a.Attempted, confirmed, a.Unaccounted))
	for _, c := range a.Consumers {
		text := fmt.Sprintf("listener %s got every event", c.Name)
		if c.Name == queue {
			text = fmt.Sprintf("the workers shared %s, and the killed one lost nothing", queue)
		}
		busy := !slices.ContainsFunc(c.Members, func(m ledger.Member) bool { return m.Effects == 0 })
		report.Claims = append(report.Claims, ledger.Claimf(c.Missing == 0 && c.Effects == a.Attempted && busy,
			text, "%d effects, %d missing, %d extra", c.Effects, c.Missing, c.Extra))
	}
	report.Holds = !slices.ContainsFunc(report.Claims, func(c ledger.Claim) bool { return !c.Holds })
	return report
}
