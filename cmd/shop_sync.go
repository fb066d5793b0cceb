package cmd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/internal/shop/synchronous"
	"github.com/evdemo/evdemo/internal/shop/system"
)

// shopSyncDB is where the synchronous shop is when nothing else is said: no store has both kinds.
const shopSyncDB = "shop-sync.db"

const shopSyncLong = `Run the shop without events in between, for comparison: an order service that calls fraud, payment,
inventory, shipping, loyalty, email, sms and push in turn over HTTP, while the customer waits. It runs until
SIGINT or SIGTERM.

POST /api/orders, with the same body as in "evdemo serve", answers when the order has come to its end: 201
with the status, shipped or cancelled. A service that is away fails the order: 503, or 504 where it was too
slow. The answer tells how long each call took. GET /api/orders/ID tells how far an order is.

--slow, --fail and --refuse break services, as in "shop run"; one that is --down refuses the connection. A
call that fails, or takes longer than --timeout, is made --attempts times with the same event. Then what was
done is taken back, in the background if need be, until it is. What a killed process has left is found in
the store by the next one, and called off unless it was to be shipped: "shop check" finds nothing wrong in
the end.

The services are those of "shop run", each on a port of its own on this machine. A store belongs to this
command or to "shop run", whichever began it. Give each a store of its own, and one process per store: a
second one takes for left behind what the first has in hand, and calls it off.

Whoever can reach the address can place orders and look at all of them: there is no login.

Database: read and written; it is made where there is none. Broker: nothing.

Exit codes: 0 done, also after SIGINT or SIGTERM; 2 wrong usage, a store of the other kind, or the address
cannot be listened on; 3 customers were cut off who waited still; 4 no database; 1 anything else.`

const shopSyncExample = `  evdemo shop sync
  evdemo shop sync --slow payment=2s --refuse shipping=0.05
  evdemo shop sync --addr 127.0.0.1:8081 --db shop-sync.db --fail payment=0.2 --down email`

type shopSyncOptions struct {
	storeOptions
	faultOptions

	addr         string
	timeout      time.Duration
	attempts     int
	customers    int
	drainTimeout time.Duration
	output       *output
}

// newShopSyncCommand builds "shop sync". Tests pass run to look at what was parsed.
func newShopSyncCommand(app *App, run func(context.Context, *App, *shopSyncOptions) error) *cobra.Command {
	if run == nil {
		run = runShopSync
	}
	opts := &shopSyncOptions{}
	cmd := &cobra.Command{
		Use:     "sync",
		Short:   "Run the shop without events in between: one service calls the others while the customer waits",
		Long:    shopSyncLong,
		Example: shopSyncExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opts.check(); err != nil {
				return usageError(err)
			}
			return run(cmd.Context(), app, opts)
		},
	}
	flags := cmd.Flags()
	opts.addShopFlags(flags)
	flags.Lookup("db").DefValue, opts.db = shopSyncDB, shopSyncDB
	flags.StringVar(&opts.addr, "addr", "127.0.0.1:8081", "HOST:PORT to listen on; port 0 is any that is free")
	opts.faultOptions.addFlags(flags)
	flags.DurationVar(&opts.timeout, "timeout", synchronous.DefaultTimeout, "how long a call of a service may take")
	flags.IntVar(&opts.attempts, "attempts", synchronous.DefaultAttempts, "how often a service is called before its order fails")
	flags.IntVar(&opts.customers, "customers", synchronous.DefaultCustomers, "how many may wait at a time; more are turned away")
	flags.DurationVar(&opts.drainTimeout, "drain-timeout", synchronous.DefaultDrainTimeout,
		"after an interrupt, how long customers may still wait")
	opts.output = outputFlag(flags, "table", "json")
	return cmd
}

func (o *shopSyncOptions) check() error {
	mistakes := []error{o.storeOptions.check()}
	if _, _, err := net.SplitHostPort(o.addr); err != nil {
		mistakes = append(mistakes, fmt.Errorf("--addr %.60q: want HOST:PORT, as in 127.0.0.1:8081", o.addr))
	}
	if o.timeout <= 0 {
		mistakes = append(mistakes, fmt.Errorf("--timeout %v: want more than 0", o.timeout))
	}
	if o.attempts < 1 || o.attempts > 100 {
		mistakes = append(mistakes, fmt.Errorf("--attempts %d: want 1 to 100", o.attempts))
	}
	if o.customers < 1 || o.customers > 100_000 {
		mistakes = append(mistakes, fmt.Errorf("--customers %d: want 1 to 100000", o.customers))
	}
	if o.drainTimeout < 0 {
		mistakes = append(mistakes, fmt.Errorf("--drain-timeout %v: want 0 or more", o.drainTimeout))
	}
	return errors.Join(append(mistakes, o.faultOptions.check())...)
}

func runShopSync(ctx context.Context, app *App, opts *shopSyncOptions) (err error) {
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
	app.tellListening("the shop is open", listener.Addr(), opts.db)
	counts, err := synchronous.Run(ctx, synchronous.Config{
		Store: store, Faults: opts.faults, Down: opts.down, Timeout: opts.timeout, Attempts: opts.attempts, Customers: opts.customers,
		DrainTimeout: max(opts.drainTimeout, 1), Logger: app.Logger(),
	}, listener)
	switch {
	case errors.Is(err, system.ErrName), errors.Is(err, system.ErrFlow):
		return usageError(err)
	case errors.Is(err, context.DeadlineExceeded):
		err = &exitError{exitIncomplete, err}
	}
	return errors.Join(opts.report(app, counts), explainStore(err))
}

// report tells what became of the orders.
func (o *shopSyncOptions) report(app *App, counts synchronous.Counts) error {
	if o.output.json() {
		return writeJSON(app.Out, counts)
	}
	t := newTable(app.Out, "shipped", "cancelled", "failed", "finished later", "unfinished")
	t.AppendRow(table.Row{
		thousands(counts.Shipped), thousands(counts.Cancelled), thousands(counts.Failed),
		thousands(counts.Finished), thousands(counts.Unfinished),
	})
	t.Render()
	return nil
}
