package publisher

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/semaphore"

	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/topology"
)

const (
	// DefaultWindow is how many events may be unconfirmed at a time.
	DefaultWindow = 1000
	// DefaultConnectTimeout bounds the wait for the first connection.
	DefaultConnectTimeout = 10 * time.Second
	// maxHeavyBytes bounds the data of events larger than 64 KiB that are on their way at a time;
	// a single larger one still is.
	maxHeavyBytes = 64 << 20
	// maxWindow keeps the memory that a window takes within reason.
	maxWindow = 1 << 20
)

// Config says how to publish. Only URLs has no useful zero value.
type Config struct {
	// URLs are the nodes of one broker, tried in turn: amqp://user:password@host:port/vhost, or
	// amqps:// for TLS.
	URLs []string
	// TLS is used for amqps:// URLs. Default: the system's roots, with verification.
	TLS *tls.Config
	// ConnectionName is shown in RabbitMQ's management UI. Default "evdemo publisher".
	ConnectionName string
	// ConnectTimeout bounds the wait for the first connection. Default 10 s. Once connected, a
	// lost connection is dialled again for as long as the publisher lives.
	ConnectTimeout time.Duration
	// Window is how many events may be unconfirmed at a time; Send waits while it is full, and
	// while 64 MiB of events larger than 64 KiB are unconfirmed. Default 1000, at most 1,048,576.
	Window int
	// Declare is declared on every new connection before anything is sent. Default: nothing.
	Declare topology.Resources
	// Logger receives connection changes and refusals. Default: nothing is logged.
	Logger *slog.Logger
	// TracerProvider gives each event a producer span "send DESTINATION" from Send to its outcome,
	// under the semantic conventions of OpenTelemetry for messaging on RabbitMQ. Its parent is the
	// span in Send's context, else the one that the event's extension traceparent names. The event
	// that goes out names the new span there; the caller's does not change. Every outcome but
	// Confirmed is an error, and its error.type; that of an event which was not accepted is invalid,
	// closed, cancelled or timeout. The span ends before done is called, so its processor should not
	// wait for anything. A raw message goes out as it is, and gets no span. Default: no tracing.
	TracerProvider trace.TracerProvider
}

func (c Config) withDefaults() (Config, error) {
	if c.ConnectionName == "" {
		c.ConnectionName = "evdemo publisher"
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = DefaultConnectTimeout
	}
	if c.Window == 0 {
		c.Window = DefaultWindow
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	var errs []error
	if c.ConnectTimeout < 0 {
		errs = append(errs, fmt.Errorf("connect timeout %v is negative", c.ConnectTimeout))
	}
	if c.Window < 1 || c.Window > maxWindow {
		errs = append(errs, fmt.Errorf("publisher window %d is not within 1 to %d", c.Window, maxWindow))
	}
	errs = append(errs, c.session().Check())
	return c, errors.Join(errs...)
}

func (c Config) session() session.Config {
	return session.Config{URLs: c.URLs, TLS: c.TLS, Name: c.ConnectionName, Logger: c.Logger}
}

// Publisher publishes events over one connection at a time. All its methods may be called from
// several goroutines at once.
type Publisher struct {
	config    Config
	slots     chan struct{}       // one per accepted event without an outcome
	heavy     *semaphore.Weighted // the bytes of those with much data
	queue     chan *pending       // accepted, not yet on the wire; never holds more than slots does
	sequence  atomic.Int64
	counts    counters
	connected atomic.Bool
	tracer    trace.Tracer // nil where nothing is traced

	mu     sync.RWMutex // held for reading while an event is put into queue
	closed bool

	draining sync.Mutex         // several calls of Close drain one after the other
	stop     context.CancelFunc // ends the run loop
	abort    context.CancelFunc // ends its connection without waiting for the broker
	stopped  chan struct{}      // closed when the run loop has ended
}

// pending is an accepted event on its way to an outcome.
type pending struct {
	message  Message
	wire     amqp.Publishing
	weight   int64
	done     func(Result)
	attempts int
}

// weigh gives what an event takes of maxHeavyBytes. Most events are light and cost nothing: the
// window bounds them.
func weigh(m Message) int64 {
	const light = 64 << 10
	size := int64(len(m.Event.Data))
	if m.Raw != nil {
		size = int64(len(m.Raw.Body))
	}
	if size > light {
		return min(size, maxHeavyBytes)
	}
	return 0
}

// Open connects to the broker, declares Config.Declare and starts the publisher. It returns an
// error that wraps ErrURL, ErrUnreachable or ErrLogin where there is no connection, and a
// *topology.ConflictError where what is to be declared exists with other arguments.
//
// ctx bounds Open only. The publisher lives until Close.
func Open(ctx context.Context, config Config) (*Publisher, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("open publisher: %w", err)
	}
	first, err := config.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("open publisher: %w", err)
	}
	p := &Publisher{
		config:  config,
		slots:   make(chan struct{}, config.Window),
		heavy:   semaphore.NewWeighted(maxHeavyBytes),
		queue:   make(chan *pending, config.Window),
		stopped: make(chan struct{}),
		tracer:  config.tracer(),
	}
	var running, aborted context.Context
	running, p.stop = context.WithCancel(context.WithoutCancel(ctx))
	aborted, p.abort = context.WithCancel(context.WithoutCancel(ctx))
	go p.run(running, &line{Publisher: p, aborted: aborted}, first)
	return p, nil
}

// lossKnown is how long after a call has failed it may take until it is known that the connection is lost.
const lossKnown = 100 * time.Millisecond

// connect gives the first session, on which everything is declared. One that is lost while that is done is no session yet:
// there is another one, after a pause, until Config.ConnectTimeout is over.
func (c *Config) connect(ctx context.Context) (*session.Session, error) {
	deadline, pauses := time.Now().Add(c.ConnectTimeout), session.NewBackOff()
	var last error
	for within := c.ConnectTimeout; ; within = time.Until(deadline) {
		first, err := session.DialWithin(ctx, c.session(), within)
		if err != nil {
			return nil, cmp.Or(last, err)
		}
		if err = c.Declare.Apply(ctx, first); err == nil {
			return first, nil
		}
		lost := false
		select {
		case <-first.Done():
			lost = true
		case <-time.After(lossKnown):
		}
		first.Close()
		pause := pauses.NextBackOff()
		if !lost || time.Until(deadline) <= pause {
			return nil, err
		}
		last = err
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Publish sends one event and waits for its outcome. It returns nil for Confirmed, an
// *OutcomeError for every other outcome, and ErrInvalid or ErrClosed where nothing was sent.
//
// When ctx ends first the outcome is Unknown, also if the event has never left this process:
// the publisher goes on trying to send it.
func (p *Publisher) Publish(ctx context.Context, m Message) error {
	results := make(chan Result, 1)
	if err := p.Send(ctx, m, func(r Result) { results <- r }); err != nil {
		return err
	}
	select {
	case r := <-results:
		if r.Outcome == Confirmed {
			return nil
		}
		return &OutcomeError{ID: m.ID(), Outcome: r.Outcome, Err: r.Err}
	case <-ctx.Done():
		return &OutcomeError{ID: m.ID(), Outcome: Unknown, Err: ctx.Err()}
	}
}

// Send accepts one event and returns as soon as the window has room for it. If Send returns
// nil, done is called exactly once with the outcome, from another goroutine; done must return
// quickly and must not call Send or Publish. If Send returns an error, nothing was sent and
// done is not called: ErrInvalid, ErrClosed, or the context's error where the window stayed
// full. The message, its headers and the event's data must not be changed before done is called.
func (p *Publisher) Send(ctx context.Context, m Message, done func(Result)) error {
	if p.tracer != nil && m.Raw == nil {
		return p.sendTraced(ctx, m, done)
	}
	return p.send(ctx, m, done)
}

func (p *Publisher) send(ctx context.Context, m Message, done func(Result)) error {
	wire, err := encode(m, p.sequence.Add(1))
	if err != nil {
		return err
	}
	weight := weigh(m)
	if err := p.heavy.Acquire(ctx, weight); err != nil {
		return err
	}
	if err := p.accept(ctx, &pending{message: m, wire: wire, weight: weight, done: done}); err != nil {
		p.heavy.Release(weight)
		return err
	}
	return nil
}

// accept waits for room in the window and puts an event into the queue.
func (p *Publisher) accept(ctx context.Context, e *pending) error {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-p.stopped:
		return ErrClosed
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		<-p.slots
		return ErrClosed
	}
	p.counts.sent.Add(1)
	p.queue <- e
	return nil
}

// Close stops accepting events and waits until each accepted one has its outcome, however long
// the broker is away. When ctx ends first, the rest get the outcome Unknown with
// ErrUnconfirmed, and Close returns the context's error. It closes the connection and waits for
// every goroutine of the publisher; calling it again is safe.
func (p *Publisher) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	defer p.abort()

	err := p.drain(ctx)
	p.stop()
	<-p.stopped
	return err
}

// Ready tells whether there is a connection to the broker. Without one, events wait in the window.
func (p *Publisher) Ready() bool { return p.connected.Load() }

// drain takes every slot of the window: then nothing is without an outcome.
func (p *Publisher) drain(ctx context.Context) error {
	p.draining.Lock()
	defer p.draining.Unlock()
	for range p.config.Window {
		select {
		case p.slots <- struct{}{}:
		case <-p.stopped:
			return nil
		case <-ctx.Done():
			p.stop() // first, so that the aborted connection is not dialled again
			p.abort()
			return ctx.Err()
		}
	}
	return nil
}

// finish reports an outcome and makes room in the window.
func (p *Publisher) finish(e *pending, outcome Outcome, err error) {
	p.counts.count(outcome)
	<-p.slots
	p.heavy.Release(e.weight)
	if e.done != nil {
		e.done(Result{Message: e.message, Outcome: outcome, Err: err, Attempts: e.attempts})
	}
}
