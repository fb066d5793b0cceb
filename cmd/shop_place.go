package cmd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/time/rate"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop"
)

const shopPlaceLong = `Place orders as customers do, made up by a seed: one to three articles of the catalogue, by one of 500 users.
Their ids go to standard output, each once its order is stored; what becomes of it is up to "shop run".

Broker: not used. Database: written; it is made where there is none.

Exit codes: 0 all are placed; 2 wrong usage; 3 interrupted, or failed, after some were placed; 4 no database;
1 anything else.`

const shopPlaceExample = `  evdemo shop place
  evdemo shop place --count 1000 --rate 200 --seed 7 -o json`

type shopPlaceOptions struct {
	storeOptions

	count  int
	rate   float64
	seed   uint64
	output *output
}

// newShopPlaceCommand builds "shop place". Tests pass run to look at what was parsed.
func newShopPlaceCommand(app *App, run func(context.Context, *App, *shopPlaceOptions) error) *cobra.Command {
	if run == nil {
		run = runShopPlace
	}
	opts := &shopPlaceOptions{}
	cmd := &cobra.Command{
		Use:     "place",
		Short:   "Place orders as customers do",
		Long:    shopPlaceLong,
		Example: shopPlaceExample,
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
	flags.IntVar(&opts.count, "count", 1, "how many orders")
	flags.Float64Var(&opts.rate, "rate", 0, "how many per second at most (0: as fast as they are stored)")
	flags.Uint64Var(&opts.seed, "seed", 0, "seed of what is ordered (0: another one each time)")
	opts.output = outputFlag(flags, "table", "json")
	return cmd
}

func (o *shopPlaceOptions) check() error {
	err := o.storeOptions.check()
	if o.count < 1 {
		err = errors.Join(err, fmt.Errorf("--count %d: want 1 or more", o.count))
	}
	if !(o.rate >= 0) || o.rate > 1e9 { // which NaN is not
		err = errors.Join(err, fmt.Errorf("--rate %v: want 0 or more", o.rate))
	}
	return err
}

// placeTogether is how many orders are stored at once where nobody says how fast.
const placeTogether = 100

func runShopPlace(ctx context.Context, app *App, opts *shopPlaceOptions) (err error) {
	store, err := opts.create(ctx, app)
	if err != nil {
		return interrupted(ctx, "the event store was open", err)
	}
	defer closing(store, &err)
	seed := opts.seed
	if seed == 0 {
		seed = rand.Uint64() //nolint:gosec // sample data, not secrets
	}
	app.Logger().Info("placing orders", "count", opts.count, "seed", seed)
	random := rand.New(rand.NewPCG(seed, seed)) //nolint:gosec // sample data, not secrets
	together, limit := placeTogether, rate.Inf
	if opts.rate > 0 {
		together, limit = max(1, min(placeTogether, int(opts.rate/10))), rate.Limit(opts.rate)
	}
	limiter := rate.NewLimiter(limit, together)
	placed, begin := 0, time.Now()
	for placed < opts.count && err == nil {
		n := min(together, opts.count-placed)
		if err = limiter.WaitN(ctx, n); err == nil {
			err = placeOrders(ctx, app, store, opts, random, n)
		}
		if err == nil {
			placed += n
		}
	}
	took := time.Since(begin)
	app.Logger().Info("orders are placed", "orders", placed, "per_second", int(float64(placed)/took.Seconds()))
	if err != nil && placed > 0 {
		return &exitError{exitIncomplete, fmt.Errorf("%d of %d orders are placed: %w", placed, opts.count, explainStore(err))}
	}
	return interrupted(ctx, "an order was placed", err)
}

// placeOrders places some orders together: all of them or none.
func placeOrders(ctx context.Context, app *App, store *eventstore.Store, opts *shopPlaceOptions, random *rand.Rand, n int) error {
	made := make([]shop.Order, n)
	writes := make([]eventstore.StreamWrite, n)
	for i := range made {
		made[i] = shop.Sample(random)
		var err error
		if writes[i], err = shop.Placed(made[i]); err != nil {
			return err
		}
	}
	if _, err := store.Append(ctx, writes...); err != nil {
		return err
	}
	for i := range made {
		if opts.output.json() {
			if err := writeJSON(app.Out, made[i]); err != nil {
				return err
			}
		} else if !app.global.quiet {
			fmt.Fprintln(app.Out, made[i].OrderID)
		}
	}
	return nil
}
