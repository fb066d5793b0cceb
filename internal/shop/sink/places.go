package sink

import "path/filepath"

// Names of the sinks.
const (
	LakeName      = "lake"
	AnalyticsName = "analytics"
	CacheName     = "cache"
	SearchName    = "search"
	WebhooksName  = "webhooks"
	CRMName       = "crm"
)

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
