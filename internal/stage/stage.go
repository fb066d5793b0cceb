package stage

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/child"
	"github.com/evdemo/evdemo/internal/ledger"
	"github.com/evdemo/evdemo/internal/link"
	"github.com/evdemo/evdemo/internal/localbroker"
	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
)

const (
	// cleanUpLimit bounds the removal of what was made on a broker.
	cleanUpLimit = 30 * time.Second
	// closeGrace is how long processes may take to end that nobody has ended during the play.
	closeGrace = 2 * time.Second
	// look is how often a condition is looked at that is waited for.
	look = 5 * time.Millisecond
)

// Stage is where one mode of a scenario is played. Its methods are for the goroutine of the play, but for Do, Measure, Count,
// Ledger, Say, Await, Settle, Pause and Fail, which any may call.
type Stage struct {
	// Mode is which of the two times this is.
	Mode Mode
	// Rand is random by the seed, the same in both modes.
	Rand *rand.Rand
	// Dir is a directory for the files of this mode, and removed with it.
	Dir string
	// Prefix is what all names on the broker begin with.
	Prefix string

	run       *run
	fail      context.CancelCauseFunc // ends the play
	urls      []string
	group     *child.Group // of the processes, once there are any
	processes []*Process
	closers   []func(ctx context.Context) error // in the order of their making
	publisher *publisher.Publisher
	conn      *session.Session

	mu      sync.Mutex // guards what follows, and the making of group
	figures Figures
	books   []book
}

// book is a ledger with a name.
type book struct {
	name   string
	ledger *ledger.Ledger
}

// Ledger is the account with this name of what was published and of its effects, which this process keeps. The report has all
// of them.
func (s *Stage) Ledger(name string) *ledger.Ledger {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.books {
		if b.name == name {
			return b.ledger
		}
	}
	s.books = append(s.books, book{name, ledger.New()})
	return s.books[len(s.books)-1].ledger
}

// Fixed tells whether this is the mode that should work.
func (s *Stage) Fixed() bool { return s.Mode == Fixed }

// Measure enters a figure.
func (s *Stage) Measure(key string, value float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.figures[key] = value
}

// Count enters a figure that is a number of things.
func (s *Stage) Count(key string, n int) { s.Measure(key, float64(n)) }

// Say tells the person what happens now. A line that begins with a space, such as one that a command has printed, is left as it is.
func (s *Stage) Say(format string, args ...any) {
	for line := range strings.SplitSeq(fmt.Sprintf(format, args...), "\n") {
		if !strings.HasPrefix(line, " ") {
			line = wrap(line, "")
		}
		s.run.say("%s", sayIndent+strings.ReplaceAll(line, "\n", "\n"+sayIndent))
	}
}

// sayIndent is before what is said during a mode.
const sayIndent = "  "

// Name is the name of something on the broker.
func (s *Stage) Name(name string) string { return s.Prefix + name }

// URL is the broker's; of several, the first one's.
func (s *Stage) URL() string { return append(s.urls, "")[0] }

// TLS is what is used for an amqps:// URL; nil for the system's.
func (s *Stage) TLS() *tls.Config { return s.run.TLS }

// Session is a connection of this process to the broker, the same each time while it lives.
func (s *Stage) Session(ctx context.Context) (*session.Session, error) {
	if s.conn != nil && s.conn.Err() == nil {
		return s.conn, nil
	}
	conn, err := session.DialWithin(ctx, s.session(), s.run.ConnectTimeout)
	if err != nil {
		return nil, err
	}
	s.conn = conn
	s.OnClose(func(context.Context) error { conn.Close(); return nil })
	return conn, nil
}

func (s *Stage) session() session.Config { return s.run.session(s.urls) }

// Topology declares what spec says, with the names of this stage, and has it removed with the stage. What consumers declare
// that join later is to be in it, too.
func (s *Stage) Topology(ctx context.Context, spec topology.Spec) error {
	resources := spec.WithPrefix(s.Prefix).Resources()
	conn, err := session.DialWithin(ctx, s.session(), s.run.ConnectTimeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	s.Remove(resources)
	return resources.Apply(ctx, conn)
}

// Remove has resources removed with the stage, whoever declares them.
func (s *Stage) Remove(resources topology.Resources) {
	if s.run.Memory || s.run.node != nil { // there is nothing, or it goes with the node
		return
	}
	s.OnClose(func(ctx context.Context) error {
		conn, err := session.DialWithin(ctx, s.session(), cleanUpLimit)
		if err == nil {
			defer conn.Close()
			err = resources.Delete(ctx, conn, topology.EvenShared())
		}
		if err != nil {
			return fmt.Errorf("%w: what begins with %q: %w", ErrLeftBehind, s.Prefix, err)
		}
		return nil
	})
}

// OwnNode is a node of RabbitMQ for this scenario alone, that may be killed. From then on it is this stage's broker. Both modes
// have the same one.
func (s *Stage) OwnNode(ctx context.Context) (*localbroker.Node, error) {
	node, err := s.run.ownNode(ctx)
	if err == nil {
		s.urls = []string{node.URL()}
	}
	return node, err
}

// Link makes a network to the broker that can be broken. Accepted may be nil.
func (s *Stage) Link(ctx context.Context, accepted func()) (*link.Link, error) {
	l, err := link.New(ctx, s.URL(), accepted)
	if err == nil {
		s.OnClose(func(context.Context) error { l.Close(); return nil })
	}
	return l, err
}

// Endpoint serves HTTP like Serve, for workers with --http: what is posted there are events. Handle decides on the answer; where
// it writes none, the event is handled.
func (s *Stage) Endpoint(ctx context.Context, handle func(w http.ResponseWriter, r *http.Request, e event.Event)) (url string, err error) {
	return s.Serve(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client has gone
		}
		e, err := event.DecodeHTTP(r.Header, body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		handle(w, r, e)
	}))
}

// Serve serves HTTP on loopback until the end of the stage, and gives its URL. It stands for the world outside: what is posted
// there has happened.
func (s *Stage) Serve(ctx context.Context, handler http.Handler) (url string, err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(listener) }()
	s.OnClose(func(context.Context) error { err := server.Close(); <-ended; return err })
	return "http://" + listener.Addr().String(), nil
}

// Await waits until a condition holds, for limit at most. What says what was waited for, where it does not come.
func (s *Stage) Await(ctx context.Context, what string, limit time.Duration, holds func() bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("waited %v for this: %s", limit, what))
	defer cancel()
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Settle waits until a count has come to want or has not changed for quiet: what has not come by then will not come. Between two
// looks no more than a moment of that passes, so that a machine with too much to do does not hear silence.
func (s *Stage) Settle(ctx context.Context, quiet time.Duration, want int, count func() int) error {
	const moment = 10 * look
	last, silence, before := -1, time.Duration(0), time.Now()
	return s.Await(ctx, "that nothing more comes", 2*time.Minute, func() bool {
		n, now := count(), time.Now()
		silence += min(now.Sub(before), moment)
		before = now
		if n != last {
			last, silence = n, 0
		}
		return n >= want || silence > quiet
	})
}

// Pause lets time pass that belongs to the play, such as that of an outage. It is not for waiting for something.
func (s *Stage) Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Fail ends the play, which then comes to no verdict. It is for what runs beside it.
func (s *Stage) Fail(err error) { s.fail(err) }

// OnClose has something done at the end of the stage, also where ctx has ended by then. What was made last ends first.
func (s *Stage) OnClose(end func(context.Context) error) { s.closers = append(s.closers, end) }

// openStage makes a stage, with nothing on it.
func (r *run) openStage(mode Mode) (s *Stage, err error) {
	s = &Stage{
		Mode: mode, Rand: rand.New(rand.NewPCG(r.Seed, 0)), Prefix: r.prefix + string(mode) + ".", run: r,
		urls: r.URLs, figures: Figures{},
	}
	if s.Dir, err = os.MkdirTemp("", "evdemo-demo-"); err != nil {
		return nil, err
	}
	return s, nil
}

// endAll ends all processes: those that do not end by themselves are killed. What declares something at this moment is to stop
// before that is removed.
func (s *Stage) endAll() {
	var ending sync.WaitGroup
	for _, p := range s.processes {
		ending.Go(func() { p.terminate(closeGrace) })
	}
	ending.Wait()
}

// Close ends all processes and removes what was made, also where ctx has ended by then. It is for who has called [Open].
func (s *Stage) Close(ctx context.Context) (err error) {
	if ctx.Err() != nil {
		s.run.say("  Ending the processes, and removing what was made.")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpLimit)
	defer cancel()
	s.endAll()
	if s.group != nil {
		s.group.Close()
	}
	for _, end := range slices.Backward(s.closers) {
		err = errors.Join(err, end(ctx))
	}
	if left := os.RemoveAll(s.Dir); left != nil {
		err = errors.Join(err, fmt.Errorf("%w: %w", ErrLeftBehind, left))
	}
	return err
}
