package cmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop/check"
	"github.com/evdemo/evdemo/internal/shop/sink"
	"github.com/evdemo/evdemo/internal/shop/system"
)

const shopCheckLong = `Prove a shop from outside: read its event store from the first event to the last, and what its sinks have, and
find every order that has not come to its right end.

What must hold: every order ends, once; nothing is shipped that was not charged; no charge without reserved
stock or a refund; stock moves as orders do; customers are told once; and every sink has each event of the log
once. What is under way is a finding: wait for it with --wait. Sinks are compared when "shop run" has ended.

Broker: not used. Database and sinks: read.

Exit codes: 0 all of it holds; 5 something does not; 2 wrong usage, or no event store there; 4 no database; 1
anything else.`

const shopCheckExample = `  evdemo shop check
  evdemo shop check --sinks "" --wait 1m
  evdemo shop check --db postgres://shop@localhost/shop -o json`

type shopCheckOptions struct {
	storeOptions

	sinks string
	check.Elsewhere

	wait   time.Duration
	most   int
	output *output
}

// newShopCheckCommand builds "shop check". Tests pass run to look at what was parsed.
func newShopCheckCommand(app *App, run func(context.Context, *App, *shopCheckOptions) error) *cobra.Command {
	if run == nil {
		run = runShopCheck
	}
	opts := &shopCheckOptions{}
	cmd := &cobra.Command{
		Use:     "check",
		Short:   "Prove that every order came to its right end",
		Long:    shopCheckLong,
		Example: shopCheckExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, name := range opts.Without {
				if !slices.Contains(system.SinkNames(), name) {
					return usageErrorf("--without %.40q: want some of %s", name, strings.Join(system.SinkNames(), ", "))
				}
			}
			err := errors.Join(opts.check(), notNegative("--findings", int64(opts.most)))
			if opts.wait < 0 {
				err = errors.Join(err, fmt.Errorf("--wait %v: want 0 or more", opts.wait))
			}
			if err != nil {
				return usageError(err)
			}
			return run(cmd.Context(), app, opts)
		},
	}
	flags := cmd.Flags()
	opts.addShopFlags(flags)
	flags.StringVar(&opts.sinks, "sinks", shopSinks, "folder of the sinks; \"\" checks the log alone")
	flags.StringVar(&opts.AnalyticsDB, "analytics-db", "", "postgres:// URL of the analytics database, where it is not in the folder")
	flags.StringSliceVar(&opts.Without, "without", nil, "sinks that are not compared: crm, where it is not the stand-in")
	flags.DurationVar(&opts.wait, "wait", 0, "how long to wait for what is under way, until all of the log holds")
	flags.IntVar(&opts.most, "findings", 20, "how many findings to show (0: all)")
	opts.output = outputFlag(flags, "table", "json")
	return cmd
}

func runShopCheck(ctx context.Context, app *App, opts *shopCheckOptions) (err error) {
	store, err := opts.open(ctx, app)
	if err != nil {
		return interrupted(ctx, "the event store was open", err)
	}
	defer closing(store, &err)
	if err := awaitSound(ctx, store, opts.wait); err != nil {
		return interrupted(ctx, "all orders had ended", err)
	}
	var findings []check.Finding
	shown := func(f check.Finding) {
		if opts.most == 0 || len(findings) < opts.most {
			findings = append(findings, f)
		}
	}
	report, err := checkShop(ctx, store, opts.sinks, opts.Elsewhere, shown)
	if err != nil {
		return interrupted(ctx, "all of it was read", err)
	}
	if opts.output.json() {
		err = writeJSON(app.Out, struct {
			check.Report
			First []check.Finding `json:"first,omitempty"`
		}{report, findings})
	} else {
		showCheck(app, report, findings)
	}
	if err == nil && !report.Sound() {
		n := 0
		for _, of := range report.Findings {
			n += of
		}
		err = &exitError{exitClaim, fmt.Errorf("%d things are not as they must be", n)}
	}
	return err
}

// awaitSound waits until nothing is wrong with the log, or the time is over.
func awaitSound(ctx context.Context, store *eventstore.Store, wait time.Duration) error {
	over := time.After(wait)
	for wait > 0 {
		report, err := check.Log(ctx, store, func(check.Finding) {})
		if err != nil || report.Sound() {
			return err
		}
		select {
		case <-time.After(waitTick):
		case <-over:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// waitTick is how often the log is looked at while orders are under way.
const waitTick = 500 * time.Millisecond

// checkShop checks the log, and the sinks where there are any.
func checkShop(
	ctx context.Context, store *eventstore.Store, sinks string, elsewhere check.Elsewhere, found func(check.Finding),
) (check.Report, error) {
	report, err := check.Log(ctx, store, found)
	if err != nil || sinks == "" {
		return report, err
	}
	err = check.Sinks(ctx, store, sink.Places{Dir: sinks}, elsewhere, &report, found)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = usageErrorf("there are no sinks in %s: say where with --sinks, or check the log alone with --sinks \"\"", sinks)
	case errors.Is(err, sink.ErrInUse):
		err = fmt.Errorf("%w: the sinks are compared when they have ended; --sinks \"\" checks the log alone", err)
	}
	return report, err
}

func showCheck(app *App, r check.Report, findings []check.Finding) {
	for _, f := range findings {
		fmt.Fprintln(app.Out, f)
	}
	for _, rule := range slices.Sorted(maps.Keys(r.Findings)) {
		fmt.Fprintf(app.Out, "broken %d times: %s\n", r.Findings[rule], rule)
	}
	fmt.Fprintf(app.Out, "%s events: %s orders, %s shipped, %s cancelled, %s open; charged %s, refunded %s cents\n",
		thousands(r.Events), thousands(int64(r.Orders)), thousands(int64(r.Shipped)), thousands(int64(r.Cancelled)),
		thousands(int64(r.Open)), thousands(int64(r.Charged)), thousands(int64(r.Refunded)))
	for _, s := range r.Sinks {
		fmt.Fprintf(app.Out, "%s: %s %s compared with the log, %s wrong\n", s.Sink, thousands(int64(s.Count)), s.What, thousands(int64(s.Wrong)))
	}
}
