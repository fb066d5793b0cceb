package sink

import (
	"path/filepath"
	"slices"

	"github.com/evdemo/evdemo/internal/shop"
)

// Names of the sinks.
const (
	LakeName      = "lake"
	AnalyticsName = "analytics"
	CacheName     = "cache"
	SearchName    = "search"
	WebhooksName  = "webhooks"
	CRMName       = "crm"
)

// Topics are those whose events a sink wants, whether it is open or not: lake, analytics and webhooks all that has happened.
func Topics(name string) []string {
	switch name {
	case CacheName: // what changes an order
		return []string{shop.Orders, shop.Fraud, shop.Payments, shop.Inventory, shop.Shipping, shop.Loyalty}
	case SearchName:
		return []string{shop.Orders, shop.Shipping}
	case CRMName:
		return []string{shop.Orders, shop.Payments, shop.Shipping, shop.Loyalty}
	default: // commands are what is asked for
		return slices.DeleteFunc(shop.Topics(), func(topic string) bool { return topic == shop.Commands })
	}
}

// Places says where in a folder each sink keeps what it has.
type Places struct{ Dir string }

// Lake is the folder of the data lake.
func (p Places) Lake() string { return filepath.Join(p.Dir, LakeName) }

// Analytics is the file of the analytics database.
func (p Places) Analytics() string { return filepath.Join(p.Dir, "analytics.db") }

// Search is the folder of the search index.
func (p Places) Search() string { return filepath.Join(p.Dir, SearchName) }

// CRM is the file of the CRM's stand-in.
func (p Places) CRM() string { return filepath.Join(p.Dir, "crm.db") }

// Webhooks is the file in which it is remembered who was told.
func (p Places) Webhooks() string { return filepath.Join(p.Dir, "webhooks.db") }
