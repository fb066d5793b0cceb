package cmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/eventstore/relay"
	"github.com/evdemo/evdemo/internal/shop/api"
	"github.com/evdemo/evdemo/internal/shop/ingress"
	"github.com/evdemo/evdemo/internal/shop/sink"
	"github.com/evdemo/evdemo/internal/shop/view"
	"github.com/evdemo/evdemo/worker"
)

const serveLong = `Serve the shop over HTTP: orders are placed and looked at, and webhooks of providers come in. It runs until
SIGINT or SIGTERM.

POST /api/orders answers with 202 as soon as the order is durable in the event store; what becomes of it is up
to the services, which "evdemo shop run" runs on the same --db. GET /api/orders/ID shows the order, its
/history what happened, and GET /api/openapi.yaml tells everything there is. No broker is needed.

--db is as with "evdemo store", and is made where it is not there. While the database is away requests are
answered with 503 and nothing is lost. Any number of servers may share one.

Webhooks of a provider are taken once its secret is given, with a flag or, where nobody sees it in a list of
processes, in the environment: EVDEMO_STRIPE_SECRET, EVDEMO_SMS_SECRET, EVDEMO_MAIL_SECRET. Of several
secrets, separated by commas, each is accepted.

Whoever can reach the address can place orders and look at all of them: there is no login. So it is an address
of this machine by default. --rate and --rate-per-client answer with 429 what is beyond them.

After SIGTERM /readyz answers 503; --drain-delay later no more connections are taken, and requests under way
are finished within --drain-timeout.

Database: reads and writes. Broker: nothing.

Exit codes: 0 done, also after SIGINT or SIGTERM, when requests under way were answered; 2 wrong usage, or the
address cannot be listened on; 3 some requests were cut off; 4 no database; 1 anything else.`

const serveExample = `  evdemo serve --db shop.db
  evdemo serve --db postgres://shop@localhost/shop --addr 127.0.0.1:8081
  EVDEMO_STRIPE_SECRET=whsec_... evdemo serve --db shop.db --rate 5000 --rate-per-client 50`

const (
	serveRetryFor = 5 * time.Second
	// serveMargin is how much longer than the store tries an order may take, so that the store says what has become of it.
	serveMargin = 5 * time.Second
)

type serveOptions struct {
	storeOptions
	operateOptions

	addr                string
	rate, ratePerClient float64
	maxBody             int64
	drainDelay          time.Duration
	drainTimeout        time.Duration
	stripe, sms, mail   string
	webhookTolerance    time.Duration
	cache               string
}

// newServeCommand builds "serve". Tests pass run to look at what was parsed.
func newServeCommand(app *App, run func(context.Context, *App, *serveOptions) error) *cobra.Command {
	if run == nil {
		run = runServe
	}
	opts := &serveOptions{}
	cmd := &cobra.Command{
		Use:     "serve",
		Short:   "Serve the shop over HTTP: orders, their state and history, and webhooks",
		Long:    serveLong,
		Example: serveExample,
		Args:    requireNoArgs("db"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opts.check(); err != nil {
				return usageError(err)
			}
			return run(cmd.Context(), app, opts)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.addr, "addr", "127.0.0.1:8080", "HOST:PORT to listen on; port 0 is any that is free")
	opts.storeOptions.addFlags(flags)
	opts.retryFor, flags.Lookup("retry-for").DefValue = serveRetryFor, serveRetryFor.String() // somebody waits for each answer
	flags.Float64Var(&opts.rate, "rate", 0, "how many requests a second are answered (0: no limit)")
	flags.Float64Var(&opts.ratePerClient, "rate-per-client", 0, "how many of them of one client address (0: no limit)")
	flags.Int64Var(&opts.maxBody, "max-body", api.DefaultMaxBody, "largest body of an order, in bytes")
	flags.StringVar(&opts.stripe, "stripe-secret", "", "secret that Stripe signs its webhooks with: whsec_...")
	flags.StringVar(&opts.sms, "sms-secret", "", "secret of the SMS gateway's webhooks (Standard Webhooks): whsec_ and base64")
	flags.StringVar(&opts.mail, "mail-secret", "", "secret of the mail service's webhooks (Standard Webhooks): whsec_ and base64")
	flags.DurationVar(&opts.webhookTolerance, "webhook-tolerance", ingress.DefaultTolerance, "how far the time in a webhook's signature may be off")
	flags.DurationVar(&opts.drainDelay, "drain-delay", 0, "after an interrupt, how long to go on serving while /readyz says that it ends")
	flags.StringVar(&opts.cache, "cache", "", "where orders are cached: memory, or redis://HOST:PORT, which \"shop run --cache\" invalidates (default: not)")
	flags.DurationVar(&opts.drainTimeout, "drain-timeout", api.DefaultDrainTimeout, "after that, how long to wait for requests under way")
	opts.operateOptions.addFlags(flags)
	return cmd
}

func (o *serveOptions) check() error {
	mistakes := []error{o.storeOptions.check()}
	if _, _, err := net.SplitHostPort(o.addr); err != nil {
		mistakes = append(mistakes, fmt.Errorf("--addr %.60q: want HOST:PORT, as in 127.0.0.1:8080", o.addr))
	}
	for _, limit := range []struct {
		flag  string
		value float64
	}{{"--rate", o.rate}, {"--rate-per-client", o.ratePerClient}} {
		if !(limit.value >= 0 && limit.value <= 1e9) {
			mistakes = append(mistakes, fmt.Errorf("%s %v: want 0 to 1000000000 requests a second", limit.flag, limit.value))
		}
	}
	if o.maxBody < 1 || o.maxBody > 64<<20 {
		mistakes = append(mistakes, fmt.Errorf("--max-body %d: want 1 to %d bytes", o.maxBody, 64<<20))
	}
	if o.webhookTolerance < time.Second {
		mistakes = append(mistakes, fmt.Errorf("--webhook-tolerance %v: want 1s or more", o.webhookTolerance))
	}
	if o.drainDelay < 0 || o.drainTimeout < 0 {
		mistakes = append(mistakes, errors.New("--drain-delay and --drain-timeout: want 0 or more"))
	}
	// A secret that is none is found before anything is opened: no store is needed for that.
	_, err := ingress.New(ingress.Config{Store: &eventstore.Store{}, Secrets: o.secrets()})
	return errors.Join(append(mistakes, err)...)
}

// secrets are those that the flags name. None are those of a provider that is not served.
func (o *serveOptions) secrets() ingress.Secrets {
	return ingress.Secrets{Stripe: splitSecrets(o.stripe), SMS: splitSecrets(o.sms), Mail: splitSecrets(o.mail)}
}

func splitSecrets(text string) (secrets []string) {
	for one := range strings.SplitSeq(text, ",") {
		if one = strings.TrimSpace(one); one != "" {
			secrets = append(secrets, one)
		}
	}
	return secrets
}

func runServe(ctx context.Context, app *App, opts *serveOptions) (err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", opts.addr)
	if err != nil {
		return usageError(fmt.Errorf("--addr: %w", err))
	}
	defer listener.Close()
	store, err := opts.create(ctx, app)
	if err != nil {
		return interrupted(ctx, "the event store was open", err)
	}
	defer closing(store, &err)
	orders, err := view.Open(ctx, view.Config{Store: store, DB: opts.db, Logger: app.Logger()})
	if err != nil {
		return interrupted(ctx, "the view of orders was open", err)
	}
	defer func() { err = errors.Join(err, orders.Close()) }()
	cache, follow, err := opts.openCache(ctx, app, store)
	if err != nil {
		return interrupted(ctx, "the cache was open", err)
	}
	server, err := opts.server(app, store, orders, cache)
	if err != nil {
		return err
	}
	watched, err := opts.watch(ctx, app)
	if err != nil {
		return err
	}
	defer watched.close(ctx)
	ready := func() bool { return ctx.Err() == nil && orders.Ping(ctx) == nil }
	if err := watched.serve(ctx, ready); err != nil {
		return err
	}
	app.tellListening("serving", listener.Addr(), opts.db)
	return opts.serve(ctx, listener, server, orders, follow)
}

func (o *serveOptions) server(app *App, store *eventstore.Store, orders *view.Orders, cache sink.Cache) (*api.API, error) {
	config := api.Config{
		Store: store, Orders: orders, MaxBody: o.maxBody, AppendTimeout: o.retryFor + serveMargin, Rate: o.rate, RatePerClient: o.ratePerClient,
		DrainDelay: o.drainDelay, DrainTimeout: max(o.drainTimeout, 1), Logger: app.Logger(),
	}
	var webhooks http.Handler
	webhooks, err := ingress.New(ingress.Config{
		Store: store, Secrets: o.secrets(), Tolerance: o.webhookTolerance, Logger: app.Logger(),
	})
	if err != nil {
		return nil, usageError(err)
	}
	config.Webhooks, config.Cache = webhooks, cache
	return api.New(config)
}

// openCache opens what is asked for, if anything is. In memory somebody has to follow the log for it.
func (o *serveOptions) openCache(ctx context.Context, app *App, store *eventstore.Store) (c sink.Cache, follow func(context.Context) error, err error) {
	follow = func(ctx context.Context) error { <-ctx.Done(); return nil }
	switch o.cache {
	case "":
		return nil, follow, nil
	case "memory":
	default:
		redis, err := sink.OpenRedisCache(ctx, sink.RedisConfig{URL: o.cache, Logger: app.Logger()})
		if err != nil {
			return nil, nil, err
		}
		return redis, func(ctx context.Context) error { <-ctx.Done(); return redis.Close() }, nil
	}
	memory, err := sink.NewMemoryCache(0)
	if err != nil {
		return nil, nil, err
	}
	head, err := store.Head(ctx)
	if err != nil {
		return nil, nil, err
	}
	invalidate := sink.NewCacheSink(memory)
	return memory, func(ctx context.Context) error {
		for ctx.Err() == nil {
			for r, err := range store.Follow(ctx, eventstore.Query{After: head}) {
				if err != nil { // the database is away, and what is cached is as it was then
					app.Logger().Debug("the cache cannot follow the log; trying again", slog.Any("error", err))
					break
				}
				head = r.Position
				_ = invalidate.Handle(ctx, &worker.Delivery{Event: r.Event, Headers: relay.Headers(&r)}) // in memory it can only be nobody's event
			}
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}
		return nil
	}, nil
}

// tellListening says where somebody listens for orders, and whether others can reach it.
func (a *App) tellListening(what string, addr net.Addr, db string) {
	a.Logger().Info(what, slog.String("url", "http://"+addr.String()), slog.String("db", eventstore.Location(db)))
	if at, ok := addr.(*net.TCPAddr); !ok || !at.IP.IsLoopback() {
		a.Logger().Warn("orders can be placed and read from other machines, without a login", slog.String("address", addr.String()))
	}
}

// serve serves, and keeps the view until every request is answered.
func (o *serveOptions) serve(
	ctx context.Context, listener net.Listener, server *api.API, orders *view.Orders, follow func(context.Context) error,
) error {
	var group errgroup.Group
	serving, over := context.WithCancel(ctx) // ends too where the view cannot be kept
	defer over()
	viewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group.Go(func() error {
		defer over()
		if err := orders.Run(viewing); viewing.Err() == nil {
			return explainStore(err)
		}
		return nil
	})
	group.Go(func() error {
		defer over()
		return explainStore(follow(viewing))
	})
	group.Go(func() error {
		defer stop()
		err := server.Serve(serving, listener)
		if errors.Is(err, context.DeadlineExceeded) {
			return &exitError{exitIncomplete, err}
		}
		return err
	})
	return group.Wait()
}
