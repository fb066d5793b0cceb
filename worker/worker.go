package worker

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

	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/topology"
)

const (
	// DefaultPrefetch is how many events the broker may send ahead.
	DefaultPrefetch = 100
	// DefaultAckInterval is how long a finished event may wait for its acknowledgement.
	DefaultAckInterval = 5 * time.Millisecond
	// DefaultDrainTimeout is how long running handlers may take once the worker is stopped.
	DefaultDrainTimeout = 30 * time.Second
	// DefaultConnectTimeout bounds the wait for the first connection.
	DefaultConnectTimeout = 10 * time.Second

	maxPrefetch = 65535 // the protocol's own limit
	maxAckBatch = 256
	// drainGrace is what handlers that heed their context get after the drain timeout.
	drainGrace = time.Second
)

// Config says what to consume and how. URLs and one of Queue and Topic are needed; everything
// else has a useful zero value.
type Config struct {
	// URLs are the nodes of one broker, tried in turn: amqp://user:password@host:port/vhost, or
	// amqps:// for TLS.
	URLs []string
	// TLS is used for amqps:// URLs. Default: the system's roots, with verification.
	TLS *tls.Config
	// ConnectionName is shown in RabbitMQ's management UI. Default "evdemo worker".
	ConnectionName string
	// ConnectTimeout bounds the wait for the first connection. Default 10 s. Once connected, a
	// lost connection is dialled again until Run's context ends.
	ConnectTimeout time.Duration
	// Declare is declared on every new connection before anything is consumed, and again when
	// the queue is deleted under the worker. Default: nothing.
	Declare topology.Resources

	// Queue is the queue to compete on. Give this or Topic.
	Queue string
	// Topic is the topic to listen to. What is published while the listener is not connected is
	// not seen; each such gap is logged.
	Topic string
	// Name is the worker's in the headers of events that it gives up. Default: ConnectionName.
	Name string
	// Retry is the schedule of delays between attempts at an event that has failed; the last is
	// used for all further attempts. Each has a retry tier, which Declare should declare: see
	// topology.Spec.QueueResources. Delays are spread over the second half of each, so that what
	// failed together does not come back together. Default: topology.DefaultRetry; empty but not
	// nil means no retry. A listener does not retry.
	Retry []time.Duration
	// MaxAttempts at one event before it is dead-lettered. Default topology.DefaultMaxAttempts.
	MaxAttempts int
	// AcceptRaw hands messages that cannot be read as events to the handler, see
	// Delivery.Foreign. Default: they are dead-lettered with the reason invalid. A listener gets
	// them in any case.
	AcceptRaw bool
	// Concurrency is how many handlers run at a time. Default 1.
	Concurrency int
	// OrderedBy keeps the events of one key in order while those of others go on, up to Concurrency
	// at a time: no two events with the same key are in hand at once, and none is begun before the
	// one ahead of it is done, also where that was delivered over a connection that is lost. The key ""
	// is no key. A failed event with a key is tried again in its place, after the delays of Retry and up
	// to MaxAttempts, and what has the same key waits, which takes of the prefetch. Overtaken are dead
	// letters, what a Gate holds, and what is to wait for more than 10 min, as RetryAfter may ask for.
	// Attempts in place are forgotten when the worker or its connection ends. Events come in the order
	// of the queue for as long as the broker has one consumer on it: where others compete, or a broken
	// connection has not ended yet on the broker's side, only a single active consumer keeps it; see
	// topology.Queue.SingleActive. The function must be quick, and always give the same key for an
	// event. Default: no order.
	OrderedBy func(*Delivery) string
	// Gate holds events back until those that they come after have been handled. Default: none.
	Gate *Gate
	// Prefetch is how many events the broker may send ahead of their acknowledgement, 1 to
	// 65,535. A high one is fast; a low one shares a short queue of slow work evenly. While the
	// first event of a subscription is in hand it is one more. Default 100, or twice Concurrency
	// where that is more.
	Prefetch int
	// AckInterval is how long a finished event may wait so that one acknowledgement serves
	// many. With Prefetch 1 nothing waits. Default 5 ms.
	AckInterval time.Duration

	// Limit ends Run with nil when so many events have been handled with success. Default 0:
	// no limit. No event beyond it is started.
	Limit int
	// IdleTimeout ends Run with nil when, connected and with no handler running, no event has
	// come for so long. Default 0: never.
	IdleTimeout time.Duration
	// DrainTimeout is how long running handlers may take once Run's context has ended. Default
	// 30 s.
	DrainTimeout time.Duration
	// Logger receives connection changes and failures of handlers. Default: nothing is logged.
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	c.ConnectionName = cmp.Or(c.ConnectionName, "evdemo worker")
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, DefaultConnectTimeout)
	c.Concurrency = cmp.Or(c.Concurrency, 1)
	c.Prefetch = cmp.Or(c.Prefetch, min(max(DefaultPrefetch, 2*c.Concurrency), maxPrefetch))
	c.AckInterval = cmp.Or(c.AckInterval, DefaultAckInterval)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, DefaultDrainTimeout)
	c.Name = cmp.Or(c.Name, c.ConnectionName)
	c.MaxAttempts = cmp.Or(c.MaxAttempts, topology.DefaultMaxAttempts)
	if c.Retry == nil {
		c.Retry = topology.DefaultRetry()
	}
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	var errs []error
	if (c.Queue == "") == (c.Topic == "") {
		errs = append(errs, errors.New("give either Queue or Topic"))
	}
	if c.Concurrency < 1 {
		errs = append(errs, fmt.Errorf("concurrency %d is less than 1", c.Concurrency))
	}
	if c.Prefetch < 1 || c.Prefetch > maxPrefetch {
		errs = append(errs, fmt.Errorf("prefetch %d is not within 1 to %d", c.Prefetch, maxPrefetch))
	}
	if c.MaxAttempts < 1 {
		errs = append(errs, fmt.Errorf("max attempts %d is less than 1", c.MaxAttempts))
	}
	for _, delay := range c.Retry {
		if delay < time.Millisecond {
			errs = append(errs, fmt.Errorf("retry delay %v is less than 1ms", delay))
		}
	}
	if c.Limit < 0 {
		errs = append(errs, fmt.Errorf("limit %d is negative", c.Limit))
	}
	if min(c.ConnectTimeout, c.AckInterval, c.IdleTimeout, c.DrainTimeout) < 0 {
		errs = append(errs, errors.New("a duration is negative"))
	}
	var err error
	if c.Gate, err = c.Gate.withDefaults(c.Queue); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, c.session().Check())
	return c, errors.Join(errs...)
}

func (c Config) session() session.Config {
	return session.Config{URLs: c.URLs, TLS: c.TLS, Name: c.ConnectionName, Logger: c.Logger}
}

// Worker consumes from one queue or topic. Make it with New and run it once.
type Worker struct {
	config Config
	call   Handler
	counts counters
	policy *policy
	passer *passer
	lanes  lanes
	keeper *gatekeeper // nil without a gate

	handling context.Context // what handlers get; ends with the drain timeout
	giveUp   context.CancelFunc
	stop     context.CancelCauseFunc // ends Run as the end of its context does

	slots    chan struct{}  // one per running handler
	tickets  chan struct{}  // one per event that may still be started; nil without a limit
	handlers sync.WaitGroup // running handlers, and failed events that are being passed on

	drainOnce sync.Once
	drained   error

	started      atomic.Bool
	lastActivity atomic.Int64 // time of the last delivery or subscription, for IdleTimeout
	inHand       atomic.Int64
	subscribed   atomic.Bool
	subscribedAt time.Time // of the last subscription; touched by the consuming loop only
	lostAt       time.Time
}

var (
	errLimit = errors.New("limit reached")
	errIdle  = errors.New("idle timeout")
)

// New checks the configuration and makes a worker. It does not connect.
func New(config Config, handle Handler) (*Worker, error) {
	config, err := config.withDefaults()
	if handle == nil {
		err = errors.Join(err, errors.New("no handler"))
	}
	if err != nil {
		return nil, fmt.Errorf("new worker: %w", err)
	}
	if config.Topic != "" {
		config.AcceptRaw = true
	}
	if config.Limit > 0 { // more than the limit would only be given back
		config.Prefetch = min(config.Prefetch, config.Limit)
	}
	w := &Worker{
		config: config, call: Recover()(handle), slots: make(chan struct{}, config.Concurrency),
		policy: newPolicy(config.Queue, config.Retry, config.MaxAttempts), passer: newPasser(config),
		lanes: lanes{busy: map[string]*lane{}, due: make(chan resumed)},
	}
	if config.Gate != nil {
		w.keeper = newGatekeeper(w)
	}
	if config.Limit > 0 {
		w.tickets = make(chan struct{}, config.Limit)
		for range config.Limit {
			w.tickets <- struct{}{}
		}
	}
	return w, nil
}

// Run connects, declares Config.Declare and consumes until ctx ends, the limit is reached, or
// the idle timeout passes. Then it stops taking events, gives back what no handler has begun,
// waits for running handlers, acknowledges what they finished, and returns nil.
//
// It returns an error that wraps ErrURL, ErrUnreachable or ErrLogin where the first connection
// fails, a *topology.ConflictError, ErrQueueGone or ErrRefused where it cannot consume, and
// ErrDrainTimeout. A lost connection is no error. When Run returns, no goroutine of the worker is
// left, but for handlers that outlived the drain timeout.
func (w *Worker) Run(ctx context.Context) error {
	if w.started.Swap(true) {
		return ErrRunning
	}
	w.handling, w.giveUp = context.WithCancel(context.WithoutCancel(ctx))
	defer w.giveUp()
	ctx, w.stop = context.WithCancelCause(ctx)
	defer w.stop(nil)

	first, err := session.DialWithin(ctx, w.config.session(), w.config.ConnectTimeout)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("run worker: %w", err)
	}
	if w.config.IdleTimeout > 0 {
		idle := make(chan struct{})
		go func() {
			defer close(idle)
			w.watchIdle(ctx)
		}()
		defer func() { w.stop(nil); <-idle }()
	}
	closeGate := w.openGate(ctx)
	err = session.Keep(ctx, w.config.session(), first, w.consume)
	if ctx.Err() != nil {
		err = nil
	}
	if drained := w.drain(); err == nil {
		err = drained
	}
	closeGate(gateEnd)
	w.passer.close(ctx)
	closeGate(0)
	if err != nil {
		return fmt.Errorf("run worker: %w", err)
	}
	return nil
}

// openGate runs the gate, if there is one, until it is closed, which is after the last handler. To close it
// waits for what is being sent on, at most for so long; 0 is for as long as it takes.
func (w *Worker) openGate(ctx context.Context) (closeGate func(within time.Duration)) {
	if w.keeper == nil {
		return func(time.Duration) {}
	}
	if !w.config.Gate.Store.Durable() {
		w.config.Logger.Warn("what the gate holds is in memory: it is lost if this process is killed")
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	go w.keeper.run(ctx)
	return func(within time.Duration) {
		cancel()
		var late <-chan time.Time
		if within > 0 {
			late = time.After(within)
		}
		select {
		case <-w.keeper.stopped:
		case <-late:
		}
	}
}

// drain waits for running handlers, at most for the drain timeout. Only the first call waits.
func (w *Worker) drain() error {
	w.drainOnce.Do(func() { w.drained = w.awaitHandlers() })
	return w.drained
}

func (w *Worker) awaitHandlers() error {
	done := make(chan struct{})
	go func() { // ends with the last handler
		defer close(done)
		w.handlers.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-time.After(w.config.DrainTimeout):
	}
	w.giveUp()
	select {
	case <-done:
	case <-time.After(drainGrace):
	}
	return ErrDrainTimeout
}

// watchIdle ends Run when nothing has come for the idle timeout.
func (w *Worker) watchIdle(ctx context.Context) {
	timer := time.NewTimer(w.config.IdleTimeout)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		left := w.config.IdleTimeout
		if w.subscribed.Load() && w.inHand.Load() == 0 { // in this order: the end of a handler is activity
			left -= time.Since(time.Unix(0, w.lastActivity.Load()))
		}
		if left <= 0 {
			w.stop(errIdle)
			return
		}
		timer.Reset(left)
	}
}

// Ready tells whether the worker is connected and consuming.
func (w *Worker) Ready() bool { return w.subscribed.Load() }

// touch notes that something happened, where an idle timeout cares.
func (w *Worker) touch() {
	if w.config.IdleTimeout > 0 {
		w.lastActivity.Store(time.Now().UnixNano())
	}
}
