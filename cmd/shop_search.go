package cmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/internal/shop/sink"
)

const shopSearchLong = `Search the orders in the index that the sink "search" keeps, while it runs or afterwards.

QUERY has words, which are looked for everywhere, or FIELD:VALUE with the fields id, user, sku, status,
amount, created and tracking. What begins with + must match, what begins with - must not; put -- in front of a
QUERY that begins with one. Without a QUERY all orders are found.

Broker and database: not used.

Exit codes: 0 done, also where nothing is found; 2 wrong usage, or no index there; 1 anything else.`

const shopSearchExample = `  evdemo shop search
  evdemo shop search 'status:shipped user:user-7'
  evdemo shop search '+status:cancelled +amount:>=5000' --limit 50 -o json`

type shopSearchOptions struct {
	query  string
	sinks  string
	limit  int
	output *output
}

// newShopSearchCommand builds "shop search". Tests pass run to look at what was parsed.
func newShopSearchCommand(app *App, run func(context.Context, *App, *shopSearchOptions) error) *cobra.Command {
	if run == nil {
		run = runShopSearch
	}
	opts := &shopSearchOptions{}
	cmd := &cobra.Command{
		Use:     "search [QUERY]",
		Short:   "Search the orders",
		Long:    shopSearchLong,
		Example: shopSearchExample,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.query = strings.Join(args, "")
			if opts.limit < 1 || opts.limit > sink.MaxHits {
				return usageErrorf("--limit %d: want 1 to %d", opts.limit, sink.MaxHits)
			}
			return run(cmd.Context(), app, opts)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.sinks, "sinks", shopSinks, "folder of the sinks")
	flags.IntVar(&opts.limit, "limit", sink.DefaultHits, "how many orders to show at most")
	opts.output = outputFlag(flags, "table", "json")
	return cmd
}

func runShopSearch(ctx context.Context, app *App, opts *shopSearchOptions) error {
	dir := sink.Places{Dir: opts.sinks}.Search()
	found, err := sink.FindOrders(ctx, dir, opts.query, opts.limit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return usageErrorf("there is no search index in %s: say where the sinks are with --sinks, or let \"evdemo shop run\" make one", dir)
	case errors.Is(err, sink.ErrQuery):
		return usageError(err)
	case err != nil:
		return err
	case opts.output.json():
		return writeJSON(app.Out, found)
	}
	t := newTable(app.Out, "order", "user", "articles", "status", "cents", "created", "tracking")
	for _, h := range found.Hits {
		t.AppendRow(table.Row{h.OrderID, h.UserID, strings.Join(h.SKUs, " "), h.Status, thousands(int64(h.Amount)), h.Created.Format(time.DateTime), h.Tracking})
	}
	t.Render()
	_, err = fmt.Fprintf(app.Out, "%d of %s\n", len(found.Hits), thousands(int64(found.Total))) //nolint:gosec // as many as there are orders
	return err
}
