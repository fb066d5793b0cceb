// Package sink is what reads along with the shop's events: a data lake, analytics, a cache, a search index, outgoing
// webhooks and a CRM.
//
// Each [Sink] is a group of its own on the topics that it names, so each has every event, and none knows of another.
// Delivery to it is at least once, out of order and from several queues; its effect is once for each event all the same:
// a sink knows an event again by its source and id, for as long as it has its files, however often and however late the
// event is delivered. What Handle has returned nil for survives the end of the process at any moment.
//
// The events of a sink are those whose source begins with shop/. Others on the same topics are skipped, as are messages
// that are no events.
package sink

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/worker"
)

// Sink reads along. Each sink is a group on the topics it names.
type Sink interface {
	// Name is also the group's.
	Name() string
	// Topics are those whose events the sink wants.
	Topics() []string
	// Handle is a [worker.Handler]. It returns nil, or worker.ErrDuplicate, once the effect of the event is durable, and
	// worker.ErrSkip for one that is not the sink's. An event that cannot be understood is refused with worker.Permanent.
	// It may be called from any number of goroutines, which share the wait for the disk.
	Handle(ctx context.Context, d *worker.Delivery) error
	// Close finishes what was begun and closes the files. No Handle may be called any more. ctx bounds what can be left to
	// the next time; the files are closed in any case.
	Close(ctx context.Context) error
}

// maxAttribute is how long an id, a source and a type may be: they are keys in databases.
const maxAttribute = 1024

// admit tells whether an event is one that sinks read, and can be read.
func admit(d *worker.Delivery) error {
	e := d.Event
	if d.Foreign != nil || !strings.HasPrefix(e.Source, "shop/") {
		return worker.ErrSkip
	}
	if topic, _ := shop.Topic(e.Type); topic == shop.Commands {
		return worker.ErrSkip
	}
	if err := e.Validate(); err != nil {
		return worker.Permanent(err)
	}
	if max(len(e.ID), len(e.Source), len(e.Type), len(e.Subject)) > maxAttribute {
		return worker.Permanent(fmt.Errorf("event %.40q: %w", e.ID, ErrTooLong))
	}
	if len(e.Data) > 0 && (!utf8.Valid(e.Data) || !json.Valid(e.Data)) {
		return worker.Permanent(fmt.Errorf("event %s of type %s: %w", e.ID, e.Type, ErrNotJSON))
	}
	return nil
}

// key is what an event is known again by.
type key struct{ source, id string }

func keyOf(d *worker.Delivery) key { return key{d.Event.Source, d.Event.ID} }
