package stage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/evdemo/evdemo/internal/localbroker"
	"github.com/evdemo/evdemo/internal/session"
)

// run is one scenario under way.
type run struct {
	Config
	scenario Scenario
	saying   sync.Mutex
	prefix   string
	broker   string // and its version
	node     *localbroker.Node
	nodeDir  string
}

// Run plays a scenario in both modes. The report's Holds says whether all claims hold. An error means that there is no verdict:
// ctx has ended, or something did not work that is not what the scenario is about. In any case everything that was started has
// ended and what was made has been removed when it returns, or the error wraps ErrLeftBehind.
func Run(ctx context.Context, scenario Scenario, config Config) (report Report, err error) {
	r := newRun(scenario, config)
	r.say("%s: %s\n\n%s", r.scenario.Name, r.scenario.Title, wrap(r.scenario.Lesson, ""))
	began := time.Now()
	if err := r.open(ctx, scenario.Dials()); err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, r.close()) }() //nolint:contextcheck // it has a limit of its own
	was, err := r.play(ctx, Broken)
	if err != nil {
		return report, err
	}
	now, err := r.play(ctx, Fixed)
	if err != nil {
		return report, err
	}
	if report, err = newReport(scenario, was, now); err != nil {
		return report, err
	}
	report.Seed, report.Broker = config.Seed, r.broker
	report.Seconds = time.Since(began).Seconds()
	return report, nil
}

// Open makes a stage for a play that is no scenario, and has one mode only. Close must be called in the end.
func Open(ctx context.Context, config Config) (*Stage, error) {
	r := newRun(Scenario{Name: "tour"}, config)
	if err := r.open(ctx, true); err != nil {
		return nil, err
	}
	s, err := r.openStage(Fixed)
	if err == nil {
		s.fail = func(error) {}
	}
	return s, err
}

func newRun(scenario Scenario, config Config) *run {
	r := &run{Config: config, scenario: scenario, prefix: "demo-" + rand.Text()[:8] + ".", broker: "no broker"}
	if r.Logger == nil {
		r.Logger = slog.New(slog.DiscardHandler)
	}
	if r.Screen == nil {
		r.Screen = io.Discard
	}
	return r
}

func (r *run) session(urls []string) session.Config {
	return session.Config{URLs: urls, TLS: r.TLS, Name: "evdemo demo " + r.scenario.Name}
}

// open looks for the broker, and says where it is.
func (r *run) open(ctx context.Context, dial bool) error {
	if !dial || r.Memory {
		return nil
	}
	conn, err := session.DialWithin(ctx, r.session(r.URLs), r.ConnectTimeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	r.broker = conn.ServerVersion()
	r.say("\nBroker: %s at %s. What is made there has a name that begins with %q, and is removed at the end.", r.broker, conn.Addr(), r.prefix)
	return nil
}

// play plays one mode, and removes what it made.
func (r *run) play(ctx context.Context, mode Mode) (p played, err error) {
	intro := map[Mode]string{Broken: "BROKEN: " + r.scenario.Broken, Fixed: "FIXED: " + r.scenario.Fixed}[mode]
	r.say("\n%s", wrap(intro, ""))
	s, err := r.openStage(mode)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, s.Close(ctx)) }()
	playing, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	s.fail = fail
	if err := r.scenario.Play(playing, s); err != nil {
		return p, fmt.Errorf("%s, %s: %w", r.scenario.Name, mode, r.explain(ctx, playing, err))
	}
	p.figures = s.figures
	for _, b := range s.books {
		p.accounts = append(p.accounts, Account{Mode: mode, Name: b.name, Account: b.ledger.Account()})
	}
	return p, nil
}

// explain says more of why a play has failed: because a process has, or because the broker is not there any more.
func (r *run) explain(ctx, playing context.Context, err error) error {
	if cause := context.Cause(playing); ctx.Err() == nil && cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	if ctx.Err() != nil || r.Memory || !r.scenario.Dials() {
		return err
	}
	conn, gone := session.DialWithin(ctx, r.session(r.URLs), brokerLimit)
	if gone != nil {
		return fmt.Errorf("the broker is gone: %w: %w", gone, err)
	}
	conn.Close()
	return err
}

// brokerLimit is how long a broker may take to answer that should be there.
const brokerLimit = 5 * time.Second

// played is what has come of a mode.
type played struct {
	figures  Figures
	accounts []Account
}

func (r *run) say(format string, args ...any) {
	r.saying.Lock()
	defer r.saying.Unlock()
	fmt.Fprintf(r.Screen, format+"\n", args...)
}

// ownNode starts the node of a scenario that harms its broker.
func (r *run) ownNode(ctx context.Context) (*localbroker.Node, error) {
	if r.node != nil {
		return r.node, nil
	}
	r.say("%s", wrap("Starting a node of RabbitMQ for this scenario alone, since it will be killed.", sayIndent))
	dir, err := os.MkdirTemp("", "evdemo-demo-node-")
	if err != nil {
		return nil, err
	}
	node, err := localbroker.Start(ctx, localbroker.Config{Dir: filepath.Join(dir, "node"), Logger: r.Logger})
	if err != nil {
		if ctx.Err() != nil { // else its log, which the error names, is for people to read
			err = errors.Join(err, os.RemoveAll(dir))
		}
		return nil, err
	}
	r.nodeDir = dir
	r.node, r.broker = node, "RabbitMQ "+node.Version()
	return node, nil
}

func (r *run) close() error {
	if r.node == nil {
		return nil
	}
	return errors.Join(r.node.Remove(), os.RemoveAll(r.nodeDir))
}
