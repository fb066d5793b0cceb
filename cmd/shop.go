package cmd

import (
	"github.com/spf13/cobra"
)

const shopLong = `An order system to watch, to break and to learn from: services that react to each other's events, over
RabbitMQ or in one process, and come to the right end all the same.

A customer places an order, with "shop place" or over HTTP with "evdemo serve". Fraud, payment, inventory and
shipping take it from there, and notifications and loyalty follow; where a step fails, what was done before is
taken back and the order is cancelled. Sinks read along: a data lake, analytics, a cache, a search index,
outgoing webhooks and a CRM.

--db, or EVDEMO_DB, is the event store that all of them share: an SQLite file, or postgres://user@host/name.
Every decision of every service is an event in it; "evdemo store" looks into it.`

func newShopCommand(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "shop",
		Short: "Run an order system of many services, break it, and prove that it holds",
		Long:  shopLong,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newShopRunCommand(app, nil),
		newShopPlaceCommand(app, nil),
		newShopCheckCommand(app, nil),
		newShopSearchCommand(app, nil),
		newShopSyncCommand(app, nil),
		newShopProveCommand(app, nil),
	)
	return cmd
}

// Where a shop is when nothing else is said.
const (
	shopDB    = "shop.db"
	shopSinks = "shop-sinks"
)
