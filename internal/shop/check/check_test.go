package check

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/service"
	"github.com/evdemo/evdemo/internal/shop/sink"
	"github.com/evdemo/evdemo/internal/shop/system"
	"github.com/evdemo/evdemo/worker"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/blevesearch/bleve_index_api.AnalysisWorker"))
}

// soundShop is a shop in which every order has ended, with its sinks, and nothing open but the store.
func soundShop(t *testing.T, flow service.Flow) (*eventstore.Store, sink.Places) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	dir := t.TempDir()
	store, err := eventstore.Open(ctx, eventstore.Config{DB: filepath.Join(dir, "shop.db")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	random := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		write, err := shop.Placed(shop.Sample(random))
		require.NoError(t, err)
		_, err = store.Append(ctx, write)
		require.NoError(t, err)
	}
	places := sink.Places{Dir: filepath.Join(dir, "sinks")}
	for !runFor(ctx, t, store, flow, places) {
		require.NoError(t, ctx.Err())
	}
	return store, places
}

// runFor runs the shop until every order has ended, and tells whether the sinks have all of it then.
func runFor(ctx context.Context, t *testing.T, store *eventstore.Store, flow service.Flow, places sink.Places) bool {
	t.Helper()
	sinks, err := system.OpenSinks(ctx, system.SinkConfig{Places: places, Names: system.SinkNames()})
	require.NoError(t, err)
	running, end := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		_, err := system.Run(running, system.Config{
			Store: store, Flow: flow, Sinks: sinks, Faults: system.Faults{Seed: 3, Refuse: map[string]float64{service.Shipping: 0.4}},
		})
		ended <- err
	}()
	require.Eventually(t, func() bool {
		report, err := Log(ctx, store, func(Finding) {})
		require.NoError(t, err)
		truth, err := readTruth(ctx, store)
		require.NoError(t, err)
		n := 0
		for _, err := range sink.ReadLake(ctx, places.Lake()) {
			require.NoError(t, err)
			n++
		}
		return report.Sound() && n == len(truth.events)
	}, time.Minute, 50*time.Millisecond)
	end()
	require.NoError(t, <-ended)
	require.NoError(t, sinks.Close(ctx))
	report := Report{Findings: map[Rule]int{}}
	require.NoError(t, Sinks(ctx, store, places, Elsewhere{}, &report, func(Finding) {}))
	return report.Sound()
}

// copied is a copy of a shop.
func copied(t *testing.T, store *eventstore.Store, places sink.Places) (*eventstore.Store, sink.Places) {
	t.Helper()
	dir := t.TempDir()
	_, err := store.Backup(t.Context(), filepath.Join(dir, "shop.db"))
	require.NoError(t, err)
	require.NoError(t, os.CopyFS(filepath.Join(dir, "sinks"), os.DirFS(places.Dir)))
	other, err := eventstore.Open(t.Context(), eventstore.Config{DB: filepath.Join(dir, "shop.db")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, other.Close()) })
	return other, sink.Places{Dir: filepath.Join(dir, "sinks")}
}

func TestASoundShop(t *testing.T) {
	t.Parallel()
	for _, flow := range []service.Flow{service.Choreography, service.Orchestration} {
		t.Run(string(flow), func(t *testing.T) {
			t.Parallel()
			store, places := soundShop(t, flow)
			fail := func(f Finding) { t.Error(f) }
			report, err := Log(t.Context(), store, fail)
			require.NoError(t, err)
			require.NoError(t, Sinks(t.Context(), store, places, Elsewhere{}, &report, fail))
			require.True(t, report.Sound())
			require.Equal(t, 20, report.Shipped+report.Cancelled)
			require.Positive(t, report.Shipped)
			require.Positive(t, report.Cancelled)
			require.Len(t, report.Sinks, 5)
			for _, s := range report.Sinks {
				require.Positive(t, s.Count, s)
			}
		})
	}
}

// last is the last event of a type.
func last(t *testing.T, store *eventstore.Store, eventType string) eventstore.Recorded {
	t.Helper()
	for r, err := range store.Read(t.Context(), eventstore.Query{Types: []string{eventType}, Backwards: true, Limit: 1}) {
		require.NoError(t, err)
		return r
	}
	require.Fail(t, "there is none", eventType)
	return eventstore.Recorded{}
}

func appendTo(t *testing.T, store *eventstore.Store, stream string, e event.Event) {
	t.Helper()
	_, err := store.Append(t.Context(), eventstore.StreamWrite{Stream: stream, Events: []event.Event{e}})
	require.NoError(t, err)
}

// again appends the last event of one type once more, as another type.
func again(t *testing.T, store *eventstore.Store, eventType, as string) {
	t.Helper()
	r := last(t, store, eventType)
	e := r.Event
	e.ID, e.Type = event.NewID(), as
	appendTo(t, store, r.Stream, e)
}

// refund gives back what was paid for an order that was shipped.
func refund(t *testing.T, store *eventstore.Store) {
	t.Helper()
	r := last(t, store, shop.OrderShipped)
	var d shop.Decision
	require.NoError(t, json.Unmarshal(r.Data, &d))
	d.Amount, d.Reference, d.Reason = d.Order.Amount, "refund-1", "a mistake"
	e, err := event.Caused(r.Event, shop.PaymentRefunded, "shop/payment", d)
	require.NoError(t, err)
	appendTo(t, store, "payment-"+r.Subject, e)
}

// backwards places an order, and has everything happen to it in the wrong order.
func backwards(t *testing.T, store *eventstore.Store) {
	t.Helper()
	order := shop.Sample(rand.New(rand.NewPCG(4, 4)))
	write, err := shop.Placed(order)
	require.NoError(t, err)
	_, err = store.Append(t.Context(), write)
	require.NoError(t, err)
	for _, eventType := range []string{shop.OrderShipped, shop.InventoryReserved, shop.PaymentProcessed, shop.FraudCleared} {
		e, err := event.Caused(write.Events[0], eventType, "shop/test", shop.Decision{Order: order, Amount: order.Amount, Reference: "r"})
		require.NoError(t, err)
		appendTo(t, store, "test-"+order.OrderID, e)
	}
}

func TestEachRuleCanBreak(t *testing.T) {
	t.Parallel()
	original, itsPlaces := soundShop(t, service.Orchestration)
	for name, one := range map[string]struct {
		do    func(t *testing.T, store *eventstore.Store)
		rules []Rule
	}{
		"an order is open": {func(t *testing.T, store *eventstore.Store) {
			t.Helper()
			write, err := shop.Placed(shop.Sample(rand.New(rand.NewPCG(9, 9))))
			require.NoError(t, err)
			_, err = store.Append(t.Context(), write)
			require.NoError(t, err)
		}, []Rule{Ends, SagaEnds}},
		"shipped twice": {func(t *testing.T, s *eventstore.Store) { t.Helper(); again(t, s, shop.OrderShipped, shop.OrderShipped) }, []Rule{Once}},
		"shipped and cancelled": {func(t *testing.T, s *eventstore.Store) {
			t.Helper()
			again(t, s, shop.OrderShipped, shop.OrderCancelled)
		}, []Rule{Ends, Covered, Told}},
		"shipped and refunded": {func(t *testing.T, s *eventstore.Store) { t.Helper(); refund(t, s) }, []Rule{Paid}},
		"refunded twice": {func(t *testing.T, s *eventstore.Store) {
			t.Helper()
			again(t, s, shop.PaymentRefunded, shop.PaymentRefunded)
		}, []Rule{Once, Covered}},
		"released": {func(t *testing.T, s *eventstore.Store) {
			t.Helper()
			again(t, s, shop.OrderShipped, shop.InventoryReleased)
		}, []Rule{Covered, Kept, InStock}},
		"charged twice": {func(t *testing.T, s *eventstore.Store) {
			t.Helper()
			again(t, s, shop.PaymentProcessed, shop.PaymentProcessed)
		}, []Rule{Once}},
		"stock taken twice":    {func(t *testing.T, s *eventstore.Store) { t.Helper(); again(t, s, shop.StockTaken, shop.StockTaken) }, []Rule{InStock}},
		"stock returned twice": {func(t *testing.T, s *eventstore.Store) { t.Helper(); again(t, s, shop.StockTaken, shop.StockReturned) }, []Rule{InStock}},
		"points twice": {func(t *testing.T, s *eventstore.Store) {
			t.Helper()
			again(t, s, shop.LoyaltyAwarded, shop.LoyaltyAwarded)
		}, []Rule{Once}},
		"points for nothing": {func(t *testing.T, s *eventstore.Store) {
			t.Helper()
			again(t, s, shop.OrderCancelled, shop.LoyaltyAwarded)
		}, []Rule{Points}},
		"told twice": {func(t *testing.T, s *eventstore.Store) {
			t.Helper()
			again(t, s, shop.NotificationSent, shop.NotificationSent)
		}, []Rule{Told}},
		"shipped before it was paid": {func(t *testing.T, s *eventstore.Store) {
			t.Helper()
			backwards(t, s)
		}, []Rule{InOrder}},
		"other goods are shipped": {func(t *testing.T, s *eventstore.Store) {
			t.Helper()
			r := last(t, s, shop.OrderShipped)
			var d shop.Decision
			require.NoError(t, json.Unmarshal(r.Data, &d))
			d.Order.Items = []shop.Item{{SKU: "item-40", Quantity: 1000}}
			e, err := event.Caused(r.Event, shop.LoyaltyAwarded, "shop/loyalty", d)
			require.NoError(t, err)
			appendTo(t, s, r.Stream, e)
		}, []Rule{Same}},
		"not readable": {func(t *testing.T, s *eventstore.Store) {
			t.Helper()
			e, err := event.New(shop.PaymentProcessed, "shop/payment", []byte(`[]`))
			require.NoError(t, err)
			appendTo(t, s, "payment-x", e)
		}, []Rule{Known}},
		"of no order": {func(t *testing.T, s *eventstore.Store) {
			t.Helper()
			e, err := event.New(shop.PaymentProcessed, "shop/payment", shop.Decision{Order: shop.Order{OrderID: "nobody's"}})
			require.NoError(t, err)
			appendTo(t, s, "payment-x", e)
		}, []Rule{Known}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, places := copied(t, original, itsPlaces)
			one.do(t, store)
			var found []Finding
			report, err := Log(t.Context(), store, func(f Finding) { found = append(found, f) })
			require.NoError(t, err)
			require.False(t, report.Sound())
			rules := map[Rule]int{}
			for _, f := range found {
				rules[f.Rule]++
				require.NotEmpty(t, f.String())
			}
			require.Equal(t, rules, report.Findings)
			for _, rule := range one.rules {
				require.Positive(t, rules[rule], "%s: %v", rule, found)
			}
			require.NoError(t, Sinks(t.Context(), store, places, Elsewhere{}, &report, func(f Finding) { found = append(found, f) }))
			if name != "stock taken twice" && name != "stock returned twice" { // those are published: the sinks have not heard of it
				require.Positive(t, report.Findings[SinkMissing], found)
			}
		})
	}
}

// A sink that has too much, too little or something else is found.
func TestSinksThatDisagree(t *testing.T) {
	t.Parallel()
	store, places := soundShop(t, service.Choreography)
	one := last(t, store, shop.OrderShipped).Event
	one.ID = event.NewID()
	sinks, err := system.OpenSinks(t.Context(), system.SinkConfig{Places: places, Names: system.SinkNames()})
	require.NoError(t, err)
	for _, s := range sinks.All {
		require.NoError(t, s.Handle(t.Context(), &worker.Delivery{Event: one}))
	}
	report := Report{Findings: map[Rule]int{}}
	require.ErrorIs(t, Sinks(t.Context(), store, places, Elsewhere{}, &report, func(Finding) {}), sink.ErrInUse)
	require.NoError(t, sinks.Close(t.Context()))
	var found []Finding
	require.NoError(t, Sinks(t.Context(), store, places, Elsewhere{}, &report, func(f Finding) { found = append(found, f) }))
	require.Equal(t, 4, report.Findings[SinkAgrees], found) // the lake twice, analytics and the CRM; the index has it already

	require.NoError(t, os.RemoveAll(places.Search()))
	report = Report{Findings: map[Rule]int{}}
	require.NoError(t, Sinks(t.Context(), store, places, Elsewhere{}, &report, func(Finding) {}))
	require.Equal(t, 1, report.Findings[SinkMissing])
	report = Report{Findings: map[Rule]int{}}
	require.NoError(t, Sinks(t.Context(), store, places, Elsewhere{Without: []string{"search"}}, &report, func(Finding) {}))
	require.Zero(t, report.Findings[SinkMissing])
	require.ErrorIs(t, Sinks(t.Context(), store, sink.Places{Dir: filepath.Join(places.Dir, "none")}, Elsewhere{}, &report, func(Finding) {}), os.ErrNotExist)
}
