package filter

import (
	"log/slog"
	"sync"

	"github.com/evdemo/evdemo/event"
)

// Picker picks events by a filter. One for which the filter cannot be worked out is not picked, which is
// logged once. It may be used by several goroutines.
type Picker struct {
	filter *Filter
	log    *slog.Logger
	warn   sync.Once
}

// NewPicker makes a picker. Without a filter it picks everything.
func NewPicker(filter *Filter, log *slog.Logger) *Picker { return &Picker{filter: filter, log: log} }

// Picks tells whether an event is picked.
func (p *Picker) Picks(e event.Event, headers map[string]any) bool {
	if p.filter == nil {
		return true
	}
	ok, err := p.filter.Match(e, headers)
	if err != nil {
		p.warn.Do(func() {
			p.log.Warn("filter cannot be worked out for an event, which counts as filtered out; said once",
				slog.String("id", e.ID), slog.Any("error", err))
		})
	}
	return ok && err == nil
}
