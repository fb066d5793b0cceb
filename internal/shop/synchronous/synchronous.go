// Package synchronous is the shop's order flow with nothing in between: an order service that calls one service after the
// other over HTTP while the customer waits. It is what the flows that are driven by events are compared with, and the
// services are the very same.
//
// It has what such a system has. The customer waits for as long as all services take together. A service that is away fails
// every order, also one that only sends e-mails: then the order is shipped, and the customer gets an error. And money and
// stock must be right all the same, so the order service has to do for itself what a bus and a store would do for all:
//
//   - What it asks of a service is in the log before it is asked, in the stream calls-ORDER, and is asked again with the same
//     event id until it is answered. The services decide on each id once.
//   - Shipping is where an order cannot be taken back any more. Before that, whatever fails or is not heard of is taken back:
//     the commands to do so are in the log together, as one decision. From then on nothing goes forward.
//   - What cannot be finished while the customer waits is tried again until it is, and after a restart it is found in the log.
//     Nobody waits for an order that a dead process has left: it is called off, unless shipping was asked for.
//
// Those decisions are appended under the version of the order's stream. So a second process on the same store, which takes
// for left behind what the first has in hand, may call orders off that nobody wanted to; it cannot make them wrong.
package synchronous

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop/service"
	"github.com/evdemo/evdemo/internal/shop/system"
)

// Flow is that of a store whose orders are placed here.
const Flow service.Flow = "synchronous"

// Defaults of Config.
const (
	DefaultTimeout      = 5 * time.Second
	DefaultAttempts     = 3
	DefaultPause        = 100 * time.Millisecond
	DefaultLongestPause = 5 * time.Second
	DefaultCustomers    = 256
	DefaultDrainTimeout = 15 * time.Second
)

// Config says how orders are taken. Store is required.
type Config struct {
	Store *eventstore.Store
	// Faults are made on purpose, and Down are services that nobody serves: who calls them is refused the connection.
	Faults system.Faults
	Down   []string
	// Timeout is how long a call may take, default 5 s, and Attempts how often a service is called while a customer waits,
	// default 3. Once one has failed an order, what is to be taken back is tried once before the customer is answered.
	Timeout  time.Duration
	Attempts int
	// Pause is that before the second attempt, default 100 ms. Each further one is twice as long, up to LongestPause, default
	// 5 s, which is how often an order is tried to be finished that could not be.
	Pause, LongestPause time.Duration
	// Customers is how many may wait at a time; more are turned away. Default 256.
	Customers int
	// DrainTimeout is how long customers may still wait after the end of Run's context. Default 15 s.
	DrainTimeout time.Duration
	// Logger receives what fails. Default: nothing is logged.
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	var mistakes []error
	if c.Store == nil {
		mistakes = append(mistakes, errors.New("synchronous: Config.Store is needed"))
	}
	if c.Timeout < 0 || c.Pause < 0 || c.LongestPause < 0 || c.DrainTimeout < 0 || c.Attempts < 0 || c.Customers < 0 {
		mistakes = append(mistakes, errors.New("synchronous: a number or a time in Config is negative"))
	}
	mistakes = append(mistakes, c.checkNames())
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.Attempts = cmp.Or(c.Attempts, DefaultAttempts)
	c.Pause = cmp.Or(c.Pause, DefaultPause)
	c.LongestPause = max(c.Pause, cmp.Or(c.LongestPause, DefaultLongestPause))
	c.Customers = cmp.Or(c.Customers, DefaultCustomers)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, DefaultDrainTimeout)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, errors.Join(mistakes...)
}

// names are all services.
func names() []string {
	return []string{
		service.Order, service.Fraud, service.Payment, service.Inventory, service.Shipping, service.Loyalty,
		service.Email, service.SMS, service.Push,
	}
}

// checkNames finds faults of services that there are not.
func (c *Config) checkNames() error {
	var mistakes []error
	named := slices.Concat(c.Down, slices.Collect(maps.Keys(c.Faults.Slow)), slices.Collect(maps.Keys(c.Faults.Fail)),
		slices.Collect(maps.Keys(c.Faults.Refuse)))
	slices.Sort(named)
	for _, name := range slices.Compact(named) {
		if !slices.Contains(names(), name) {
			mistakes = append(mistakes, fmt.Errorf("%q: %w: want some of %s", name, system.ErrName, strings.Join(names(), ", ")))
		}
	}
	if slices.Contains(c.Down, service.Order) {
		mistakes = append(mistakes,
			fmt.Errorf("%q: %w that can be down: it is the one that takes the orders", service.Order, system.ErrName))
	}
	return errors.Join(mistakes...)
}

// Counts is what became of the orders that were in hand.
type Counts struct {
	// Shipped and Cancelled were answered as such: the customer knows.
	Shipped   int64 `json:"shipped"`
	Cancelled int64 `json:"cancelled"`
	// Failed were answered with an error, whatever became of them.
	Failed int64 `json:"failed"`
	// Finished came to their end when nobody waited for it any more.
	Finished int64 `json:"finished_later"`
	// Unfinished are left to the next Run.
	Unfinished int64 `json:"unfinished"`
}

// Run serves the services on ports of their own, takes orders that come in on a listener, which it closes, and finishes what
// earlier ones have left, until ctx ends. Then it takes no more orders, and returns once those customers are answered who
// wait; where that takes longer than Config.DrainTimeout they are cut off, and that is an error.
//
// A store keeps to the flow that it was begun with: another's is refused with system.ErrFlow.
func Run(ctx context.Context, config Config, listener net.Listener) (Counts, error) {
	defer listener.Close()
	config, err := config.withDefaults()
	if err != nil {
		return Counts{}, err
	}
	if err := system.KeepFlow(ctx, config.Store, Flow); err != nil {
		return Counts{}, unlessEnded(ctx, err)
	}
	services, err := config.serve(ctx)
	if err != nil {
		return Counts{}, err
	}
	defer services.close(ctx)
	o := newOrders(config, services)
	background, stop := context.WithCancel(ctx)
	defer o.later.Wait()
	defer stop()
	if err := o.resume(ctx, background); err != nil { // before any order is in hand here
		return o.counts(), unlessEnded(ctx, err)
	}
	err = o.answer(ctx, background, listener)
	stop()
	o.later.Wait()
	return o.counts(), err
}

// unlessEnded is an error that is not the end of ctx.
func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// answer takes orders.
func (o *orders) answer(ctx, background context.Context, listener net.Listener) error {
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	server := &http.Server{
		Handler: &desk{orders: o, working: working, background: background}, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(o.config.Logger.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	var err error
	select {
	case err = <-served:
		err = fmt.Errorf("serve HTTP: %w", err)
		o.close()
	case <-ctx.Done():
		err = o.drain(ctx, server)
		if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
			err = errors.Join(err, ended)
		}
	}
	stop()
	o.live.Wait()
	return err
}

// drain waits for the customers, and for the orders of those who have left.
func (o *orders) drain(ctx context.Context, server *http.Server) error {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.config.DrainTimeout)
	defer cancel()
	err := server.Shutdown(limited)
	o.close()
	done := make(chan struct{})
	go func() {
		o.live.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-limited.Done():
		err = limited.Err()
	}
	if err != nil {
		_ = server.Close()
		err = fmt.Errorf("customers were cut off who would have waited for longer than %v: %w", o.config.DrainTimeout, err)
	}
	return err
}
