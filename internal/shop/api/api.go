// Package api is the shop's HTTP: orders are placed and looked at, and the word of providers comes in.
//
// An order is accepted, with 202, once its order.created is durable in the event store; what becomes of it is up to the
// services, which other processes may run. Nothing else is written, so a request that fails has left nothing, and one of
// which nobody knows whether it did says so. With an Idempotency-Key a request may be made again as often as one likes, by
// any number of clients at once, and is one order.
//
// What the endpoints take and answer is in openapi.yaml, which is served as well, and to which the tests hold every answer.
// Whatever fails is answered with problem details, RFC 9457.
package api

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop/problem"
	"github.com/evdemo/evdemo/internal/shop/sink"
	"github.com/evdemo/evdemo/internal/shop/view"
)

// Defaults of Config.
const (
	DefaultMaxBody       = 64 << 10
	DefaultAppendTimeout = 10 * time.Second
	DefaultHeaderTimeout = 5 * time.Second
	DefaultReadTimeout   = 10 * time.Second
	DefaultIdleTimeout   = time.Minute
	DefaultDrainTimeout  = 15 * time.Second
)

// Config says what the API serves, and what a client may take. Store and Orders are required.
type Config struct {
	// Store is where orders are placed, and Orders the view of it, which somebody must run.
	Store  *eventstore.Store
	Orders *view.Orders
	// Cache, if set, is asked for orders before the view is, but for those who wait for a version. Somebody must invalidate in it
	// what events change: a sink.CacheSink. It may be behind by as long as that takes.
	Cache sink.Cache
	// Webhooks answers POST /webhooks/{provider}. Nil: there are none.
	Webhooks http.Handler
	// MaxBody is the largest body of an order, in bytes. Default 64 KiB.
	MaxBody int64
	// AppendTimeout is how long an order may take to be stored before the client is told that it was not, or that nobody
	// knows. Default 10 s.
	AppendTimeout time.Duration
	// Rate is how many requests a second are answered, and RatePerClient how many of one client address, each with as many
	// at once. 0 is no limit. /healthz and /readyz do not count.
	Rate, RatePerClient float64
	// HeaderTimeout and ReadTimeout are how long a client may take for the headers, and for the whole request. Default 5 s and
	// 10 s. IdleTimeout is how long a connection may wait for its next request. Default 1 min.
	HeaderTimeout, ReadTimeout, IdleTimeout time.Duration
	// DrainDelay is for how long everything is served still after /readyz has begun to say that it will not be, so that
	// load balancers have heard of it. Default 0. DrainTimeout is how long requests under way may take after that. Default
	// 15 s.
	DrainDelay, DrainTimeout time.Duration
	// Logger is told of what is nobody's request to blame for. Default: nothing is logged.
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	var mistakes []error
	if c.Store == nil || c.Orders == nil {
		mistakes = append(mistakes, errors.New("api: Config.Store and Orders are both needed"))
	}
	for name, negative := range map[string]bool{
		"MaxBody": c.MaxBody < 0, "AppendTimeout": c.AppendTimeout < 0, "Rate": c.Rate < 0, "RatePerClient": c.RatePerClient < 0,
		"HeaderTimeout": c.HeaderTimeout < 0, "ReadTimeout": c.ReadTimeout < 0, "IdleTimeout": c.IdleTimeout < 0,
		"DrainDelay": c.DrainDelay < 0, "DrainTimeout": c.DrainTimeout < 0,
	} {
		if negative {
			mistakes = append(mistakes, fmt.Errorf("api: Config.%s is negative", name))
		}
	}
	c.MaxBody = cmp.Or(c.MaxBody, DefaultMaxBody)
	c.AppendTimeout = cmp.Or(c.AppendTimeout, DefaultAppendTimeout)
	c.HeaderTimeout = cmp.Or(c.HeaderTimeout, DefaultHeaderTimeout)
	c.ReadTimeout = cmp.Or(c.ReadTimeout, DefaultReadTimeout)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, DefaultIdleTimeout)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, DefaultDrainTimeout)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, errors.Join(mistakes...)
}

// API answers requests. It is an http.Handler; [API.Serve] is that with limits on what a slow client may take.
type API struct {
	config   Config
	limits   *limits
	buffers  sync.Pool // of *bytes.Buffer: bodies
	draining context.Context
	drain    context.CancelFunc
}

// New makes an API.
func New(config Config) (*API, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	a := &API{config: config, buffers: sync.Pool{New: func() any { return new(bytes.Buffer) }}}
	a.limits = newLimits(config.Rate, config.RatePerClient)
	a.draining, a.drain = context.WithCancel(context.Background())
	return a, nil
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer a.recovered(w, r)
	path := r.URL.EscapedPath()
	switch path {
	case "/healthz":
		a.only(w, r, a.health, http.MethodGet, http.MethodHead)
		return
	case "/readyz":
		a.only(w, r, a.ready, http.MethodGet, http.MethodHead)
		return
	}
	if wait := a.limits.take(r.RemoteAddr); wait > 0 {
		tooMany(w, r, wait)
		return
	}
	switch {
	case path == "/api/orders":
		a.only(w, r, a.place, http.MethodPost)
	case path == "/api/openapi.yaml":
		a.only(w, r, a.document, http.MethodGet, http.MethodHead)
	case strings.HasPrefix(path, "/webhooks/") && a.config.Webhooks != nil:
		a.config.Webhooks.ServeHTTP(w, r)
	default:
		a.order(w, r, path)
	}
}

// order routes /api/orders/{id} and /api/orders/{id}/history.
func (a *API) order(w http.ResponseWriter, r *http.Request, path string) {
	rest, ok := strings.CutPrefix(path, "/api/orders/")
	segment, below, deeper := strings.Cut(rest, "/")
	id, err := url.PathUnescape(segment)
	if !ok || err != nil || segment == "" || deeper && below != "history" {
		problem.Write(w, r, http.StatusNotFound, "", "There is nothing here. GET /api/openapi.yaml tells what there is.", nil)
		return
	}
	answer := a.get
	if deeper {
		answer = a.history
	}
	a.only(w, r, func(w http.ResponseWriter, r *http.Request) {
		if !isOrderID(id) {
			unknownOrder(w, r)
			return
		}
		answer(w, r, id)
	}, http.MethodGet, http.MethodHead)
}

// only answers requests with one of the methods.
func (a *API) only(w http.ResponseWriter, r *http.Request, answer http.HandlerFunc, methods ...string) {
	if slices.Contains(methods, r.Method) {
		answer(w, r)
		return
	}
	allow := strings.Join(methods, ", ")
	w.Header().Set("Allow", allow)
	problem.Write(w, r, http.StatusMethodNotAllowed, "", "Here this takes "+allow+".", nil)
}

// recovered answers a request whose handler has panicked. Nobody knows whether it had begun to.
func (a *API) recovered(w http.ResponseWriter, r *http.Request) {
	cause := recover()
	if cause == nil {
		return
	}
	if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(cause)
	}
	a.config.Logger.ErrorContext(r.Context(), "api: a request made the program panic", slog.String("path", r.URL.Path),
		slog.Any("cause", cause), slog.String("stack", string(debug.Stack())))
	internalError(w, r)
}
