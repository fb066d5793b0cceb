package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/sink"
)

// Elsewhere says which sinks are not in the folder.
type Elsewhere struct {
	// AnalyticsDB is the analytics database, where it is not a file in the folder.
	AnalyticsDB string
	// Without are sinks that are not compared.
	Without []string
}

// Sinks compares what the sinks in a folder have with the log, adds what it compared to the report and calls found with
// everything that is wrong. The sinks must have ended: while one of them is open the error wraps [sink.ErrInUse]. Of the lake
// and the CRM everything is compared, of the index each order's status, and of analytics how many events and orders there are.
func Sinks(
	ctx context.Context, store *eventstore.Store, places sink.Places, elsewhere Elsewhere, report *Report, found func(Finding),
) error {
	if _, err := os.Stat(places.Dir); err != nil {
		return err
	}
	truth, err := readTruth(ctx, store)
	if err != nil {
		return err
	}
	r := &reconciling{ledger: ledger{report: report, found: found}, truth: truth}
	for _, one := range []struct {
		name, place string
		compare     func(context.Context, string) error
	}{
		{sink.CRMName, places.CRM(), r.crm}, // which is first to tell that it is in use
		{sink.LakeName, places.Lake(), r.lake},
		{sink.AnalyticsName, places.Analytics(), r.analytics},
		{sink.SearchName, places.Search(), r.search},
	} {
		if slices.Contains(elsewhere.Without, one.name) {
			continue
		}
		if one.name == sink.AnalyticsName && elsewhere.AnalyticsDB != "" {
			one.place = elsewhere.AnalyticsDB
		} else if _, err := os.Stat(one.place); errors.Is(err, fs.ErrNotExist) {
			r.wrong(SinkMissing, "", "there is no %s in %s", one.name, places.Dir)
			continue
		}
		if err := one.compare(ctx, one.place); err != nil {
			return fmt.Errorf("%s: %w", one.name, err)
		}
	}
	return nil
}

// truth is what sinks are to have, by the log.
type truth struct {
	events    map[string]bool // by key
	types     map[string]int64
	status    map[string]string // of each order
	customers map[string]sink.Customer
}

// key identifies an event.
func key(source, id string) string { return source + "\x00" + id }

func readTruth(ctx context.Context, store *eventstore.Store) (*truth, error) {
	t := &truth{events: map[string]bool{}, types: map[string]int64{}, status: map[string]string{}, customers: map[string]sink.Customer{}}
	for r, err := range store.Read(ctx, eventstore.Query{}) {
		if err != nil {
			return nil, err
		}
		topic, published := shop.Topic(r.Type)
		if !published || topic == shop.Commands || !strings.HasPrefix(r.Source, "shop/") {
			continue
		}
		t.events[key(r.Source, r.ID)] = true
		t.types[r.Type]++
		t.customer(r.Event)
	}
	return t, nil
}

func (t *truth) customer(e event.Event) {
	var d shop.Decision
	var err error
	if e.Type == shop.OrderCreated {
		err = json.Unmarshal(e.Data, &d.Order)
	} else {
		err = json.Unmarshal(e.Data, &d)
	}
	if err != nil || d.Order.OrderID == "" { // the log's own check says so where that is wrong
		return
	}
	c := t.customers[d.Order.UserID]
	c.UserID = d.Order.UserID
	switch e.Type {
	case shop.OrderCreated:
		c.Placed++
		t.status[d.Order.OrderID] = "pending"
	case shop.OrderShipped:
		c.Shipped++
		t.status[d.Order.OrderID] = "shipped"
	case shop.OrderCancelled:
		c.Cancelled++
		t.status[d.Order.OrderID] = "cancelled"
	case shop.PaymentProcessed:
		c.Spent += int64(d.Amount)
	case shop.PaymentRefunded:
		c.Spent -= int64(d.Amount)
	case shop.LoyaltyAwarded:
		c.Points += int64(d.Points)
	}
	t.customers[d.Order.UserID] = c
}

// reconciling compares sinks with the truth.
type reconciling struct {
	ledger
	truth *truth
}

func (r *reconciling) compared(name, what string, count, wrong int) {
	r.report.Sinks = append(r.report.Sinks, Compared{Sink: name, What: what, Count: count, Wrong: wrong})
}

func (r *reconciling) lake(ctx context.Context, dir string) error {
	lines := newSeen(r, "the lake")
	for e, err := range sink.ReadLake(ctx, dir) {
		if err != nil {
			return err
		}
		lines.event(e.Source, e.ID, e.Type)
	}
	lines.end("JSON lines")
	rows := newSeen(r, "the lake's Parquet")
	for row, err := range sink.ReadParquet(dir) {
		if err != nil {
			return err
		}
		rows.event(row.Source, row.ID, row.Type)
	}
	rows.end("Parquet rows")
	return nil
}

// seen is what a sink has of the events.
type seen struct {
	r      *reconciling
	where  string
	counts map[string]int
	wrong  int
}

func newSeen(r *reconciling, where string) *seen {
	return &seen{r: r, where: where, counts: make(map[string]int, len(r.truth.events))}
}

func (s *seen) event(source, id, eventType string) {
	k := key(source, id)
	if s.counts[k]++; s.counts[k] == 2 {
		s.wrong++
		s.r.wrong(SinkOnce, "", "%s has %s %s of %s more than once", s.where, eventType, id, source)
	}
	if !s.r.truth.events[k] {
		s.wrong++
		s.r.wrong(SinkAgrees, "", "%s has %s %s of %s, which is not in the log", s.where, eventType, id, source)
	}
}

func (s *seen) end(what string) {
	for k := range s.r.truth.events {
		if s.counts[k] == 0 {
			source, id, _ := strings.Cut(k, "\x00")
			s.wrong++
			s.r.wrong(SinkMissing, "", "%s does not have event %s of %s", s.where, id, source)
		}
	}
	s.r.compared(sink.LakeName, what, len(s.r.truth.events), s.wrong)
}

func (r *reconciling) analytics(ctx context.Context, db string) error {
	report, err := sink.OpenReport(ctx, db)
	if err != nil {
		return err
	}
	defer report.Close()
	totals, err := report.Totals(ctx)
	if err != nil {
		return err
	}
	types := map[string]int64{}
	for _, t := range totals {
		types[t.Type] += t.Events
	}
	wrong := r.equal("analytics", "events", r.truth.types, types)
	orders, err := report.Orders(ctx)
	if err != nil {
		return err
	}
	want := map[string]int64{}
	for _, status := range r.truth.status {
		want[status]++
	}
	has := map[string]int64{"pending": orders.Pending, "shipped": orders.Shipped, "cancelled": orders.Cancelled}
	maps.DeleteFunc(has, func(_ string, n int64) bool { return n == 0 })
	wrong += r.equal("analytics", "orders", want, has)
	r.compared(sink.AnalyticsName, "sums", len(r.truth.types)+len(want), wrong)
	return nil
}

// equal compares counts by name.
func (r *reconciling) equal(by, what string, want, has map[string]int64) (wrong int) {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if has[name] != want[name] {
			wrong++
			r.wrong(SinkAgrees, "", "%s counts %d %s %s, and the log has %d", by, has[name], name, what, want[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(has)) {
		if _, there := want[name]; !there {
			wrong++
			r.wrong(SinkAgrees, "", "%s counts %d %s %s, and the log has none", by, has[name], name, what)
		}
	}
	return wrong
}

func (r *reconciling) search(ctx context.Context, dir string) (err error) {
	index, err := sink.OpenSearch(ctx, sink.SearchConfig{Dir: dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, index.Close(ctx)) }()
	wrong := 0
	all, err := index.Search(ctx, "", 1)
	if err != nil {
		return err
	}
	if int(all.Total) != len(r.truth.status) { //nolint:gosec // as many as there are orders
		wrong++
		r.wrong(SinkAgrees, "", "the search index has %d orders, and the log %d", all.Total, len(r.truth.status))
	}
	for _, id := range slices.Sorted(maps.Keys(r.truth.status)) {
		found, err := index.Search(ctx, fmt.Sprintf("+id:%q", id), 2)
		switch {
		case err != nil:
			return err
		case len(found.Hits) != 1:
			wrong++
			r.wrong(SinkMissing, id, "the search index has it %d times", len(found.Hits))
		case found.Hits[0].Status != r.truth.status[id]:
			wrong++
			r.wrong(SinkAgrees, id, "it is %s in the search index, and %s in the log", found.Hits[0].Status, r.truth.status[id])
		}
	}
	r.compared(sink.SearchName, "orders", len(r.truth.status), wrong)
	return nil
}

func (r *reconciling) crm(ctx context.Context, db string) (err error) {
	server, err := sink.OpenCRMServer(ctx, db)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	has := map[string]sink.Customer{}
	for after := ""; ; {
		page, err := server.Customers(ctx, after)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		for _, c := range page {
			has[c.UserID] = c
		}
		after = page[len(page)-1].UserID
	}
	wrong := 0
	for _, user := range slices.Sorted(maps.Keys(r.truth.customers)) {
		if has[user] != r.truth.customers[user] {
			wrong++
			r.wrong(SinkAgrees, "", "the CRM has %+v, and by the log it is %+v", has[user], r.truth.customers[user])
		}
		delete(has, user)
	}
	for _, user := range slices.Sorted(maps.Keys(has)) {
		wrong++
		r.wrong(SinkAgrees, "", "the CRM has customer %s, and the log has not", user)
	}
	r.compared(sink.CRMName, "customers", len(r.truth.customers), wrong)
	return nil
}
