// Package demo runs the suite's two-minute tour: real processes on a real broker, one of them
// killed in the middle, and a verdict by a ledger kept outside of them.
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
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/evdemo/evdemo/internal/ledger"
	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/topology"
)

const (
	topic  = "orders"
	queue  = "payments"
	victim = "worker-2"

	publishRate   = 600                  // events per second, so that a person can follow
	workerLatency = 6 * time.Millisecond // so that the workers are busy when one is killed
	patience      = 8 * time.Second      // without a new effect, before the demo gives up
	longest       = 2 * time.Minute      // for all of it, on the slowest machine
	cleanUpLimit  = 30 * time.Second
	strayEvents   = 5 // that the stray worker of the broken mode loses
)

// ErrLeftBehind reports that not everything which the demo made could be removed.
var ErrLeftBehind = errors.New("not removed")

// Config says where and how to run the demo.
type Config struct {
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
	// Logger receives what the child processes log. Default: nothing is logged.
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
	prefix    string
	resources topology.Resources
	dir       string
	ledger    *ledger.Ledger
	ids       []string
	children  []*child
	screen    *screen
	began     time.Time
}

// Run runs the demo and removes everything that it made, also where it fails or ctx ends. The
// report's Holds says whether the ledger proves the claims.
func Run(ctx context.Context, config Config) (report Report, err error) {
	r := &run{Config: config, prefix: "demo-" + rand.Text()[:8] + ".", ledger: ledger.New()}
	r.screen = newScreen(r)
	if r.ids, err = readIDs(config.Events); err != nil {
		return report, err
	}
	if r.dir, err = os.MkdirTemp("", "evdemo-demo-"); err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.dir)) }()
	r.resources = topology.Default().WithPrefix(r.prefix).Resources()
	s, err := session.DialWithin(ctx, r.session(), r.ConnectTimeout)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, r.cleanUp(ctx)) }()
	if err := r.apply(ctx, s); err != nil {
		return report, err
	}
	defer r.endChildren()
	if err := r.startConsumers(ctx); err != nil {
		return report, err
	}
	if err := r.publishAndKill(ctx); err != nil {
		return report, err
	}
	r.endChildren()
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

func (r *run) session() session.Config {
	return session.Config{URLs: r.URLs, TLS: r.TLS, Name: "evdemo demo"}
}

func (r *run) apply(ctx context.Context, s *session.Session) error {
	defer s.Close()
	r.screen.say("Broker: %s at %s. Everything made here begins with %q and is removed at the end.", s.ServerVersion(), s.Addr(), r.prefix)
	return r.resources.Apply(ctx, s)
}

// cleanUp removes what apply made, also when ctx has ended.
func (r *run) cleanUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpLimit)
	defer cancel()
	s, err := session.DialWithin(ctx, r.session(), cleanUpLimit)
	if err == nil {
		defer s.Close()
		err = r.resources.Delete(ctx, s, topology.EvenShared())
	}
	if err != nil {
		return fmt.Errorf("%w: what begins with %q: %w", ErrLeftBehind, r.prefix, err)
	}
	return nil
}

// startConsumers starts three workers and three listeners and waits until each consumes.
func (r *run) startConsumers(ctx context.Context) error {
	r.ledger.Expect("email", "email")
	r.ledger.Expect("analytics", "analytics")
	r.ledger.Expect("broadcast", "broadcast")
	r.ledger.Expect(queue, "worker-1", "worker-2", "worker-3")
	for _, name := range []string{"worker-1", "worker-2", "worker-3"} {
		r.consumer(queue, name, "work", "--queue", r.prefix+queue, "--latency", workerLatency.String(), "--prefetch", "10")
	}
	r.consumer("email", "email", "listen", "--topic", r.prefix+topic, "--group", "email")
	r.consumer("analytics", "analytics", "listen", "--topic", r.prefix+topic, "--group", "analytics")
	r.consumer("broadcast", "broadcast", "listen", "--topic", r.prefix+topic)
	if r.Broken {
		r.children = append(r.children, &child{name: "stray", args: []string{
			"work", "--queue", r.prefix + queue, "--count", fmt.Sprint(strayEvents), "--no-declare",
		}})
	}
	for _, c := range r.children {
		if err := c.start(ctx, r); err != nil {
			return err
		}
	}
	for _, c := range r.children {
		if err := c.awaitConsuming(ctx); err != nil {
			return err
		}
	}
	r.screen.say("3 workers compete on the queue %s; 3 listeners (groups email and analytics, one broadcast) are on the topic %s.", queue, topic)
	if r.Broken {
		r.screen.say("Broken on purpose: a stray worker takes %d events off %s and loses them.", strayEvents, queue)
	}
	return nil
}

// consumer plans a child whose every line of output is an effect for the ledger.
func (r *run) consumer(consumer, name string, args ...string) {
	r.children = append(r.children, &child{
		name:   name,
		args:   append(args, "--name", name, "--no-declare", "-o", "json"),
		effect: func(id string) { r.ledger.Effect(consumer, name, id) },
	})
}

// publishAndKill publishes everything, kills a worker in the middle of it, and waits until every
// consumer is done or patience is at its end.
func (r *run) publishAndKill(ctx context.Context) error {
	r.began = time.Now()
	r.screen.say("Publishing %d orders; %s is killed (SIGKILL) in the middle.", len(r.ids), victim)
	ctx, cancel := context.WithTimeoutCause(ctx, longest, errPatience)
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	stalled := time.AfterFunc(patience, func() { giveUp(errPatience) })
	defer stalled.Stop()
	effects := 0
	publish, outcomes, err := r.startPublish(ctx)
	if err != nil {
		return err
	}
	killed := false
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for !killed || !r.done(publish) {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			publish.stop()
			publish.end()
			if context.Cause(ctx) != errPatience { //nolint:errorlint // the very cause set above
				return context.Cause(ctx)
			}
			r.screen.say("Gave up waiting: nothing more came for %v.", patience)
			return r.readOutcomes(outcomes)
		}
		if publish.ended() && publish.failure() != nil {
			break // what it did not send nobody will get
		}
		if n := r.effects(); n > effects {
			effects = n
			stalled.Reset(patience)
		}
		r.screen.draw()
		if n, _ := r.ledger.Done(queue); !killed && n >= len(r.ids)/3 {
			killed = true
			r.childNamed(victim).kill()
			r.screen.say("Killed %s.", victim)
		}
	}
	r.screen.draw()
	return errors.Join(r.readOutcomes(outcomes), publish.failure())
}

var errPatience = errors.New("patience is at its end")

func (r *run) startPublish(ctx context.Context) (publish *child, outcomes string, err error) {
	file := filepath.Join(r.dir, "orders.jsonl")
	outcomes = filepath.Join(r.dir, "outcomes.jsonl")
	if err := os.WriteFile(file, r.Events, 0o600); err != nil {
		return nil, "", err
	}
	for _, id := range r.ids {
		r.ledger.Attempt(id)
	}
	publish = &child{name: "publish", args: []string{
		"publish", "--topic", r.prefix + topic, "--file", file,
		"--rate", fmt.Sprint(publishRate), "--outcomes", outcomes, "--no-declare", "-o", "json",
	}}
	return publish, outcomes, publish.start(ctx, r)
}

// done tells whether the publisher has ended and every consumer has had as many effects as
// there were events.
func (r *run) done(publish *child) bool {
	if !publish.ended() {
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

func (r *run) readOutcomes(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("the publisher left no outcomes: %w", err)
	}
	for line := range bytes.Lines(content) {
		var o struct {
			ID      string `json:"id"`
			Outcome string `json:"outcome"`
		}
		if err := json.Unmarshal(line, &o); err != nil {
			return fmt.Errorf("read outcomes: %w", err)
		}
		r.ledger.Outcome(o.ID, o.Outcome)
	}
	return nil
}

func (r *run) childNamed(name string) *child {
	i := slices.IndexFunc(r.children, func(c *child) bool { return c.name == name })
	return r.children[i]
}

// endChildren tells every child to drain, waits, and so has all that they had to say.
func (r *run) endChildren() {
	for _, c := range r.children {
		c.stop()
	}
	for _, c := range r.children {
		c.end()
	}
}

// report works out the claims.
func (r *run) report() Report {
	report := Report{Account: r.ledger.Account(), Killed: victim, Seconds: time.Since(r.began).Seconds()}
	for _, c := range r.children {
		report.Redelivered += c.redelivered()
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
