package sink_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/postgrestest"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/sink"
)

func TestAnalytics(t *testing.T) {
	t.Parallel()
	subject{kind: "analytics", place: databaseFile, check: checkAnalytics}.run(t)
}

func TestAnalyticsOnPostgres(t *testing.T) {
	t.Parallel()
	onPostgres := func(t *testing.T) place {
		t.Helper()
		return place{URL: postgrestest.URL(t)}
	}
	subject{kind: "analytics", place: onPostgres, check: checkAnalytics, shared: true}.run(t)
}

func databaseFile(t *testing.T) place {
	t.Helper()
	return place{Dir: filepath.Join(t.TempDir(), "sink.db")}
}

// checkAnalytics compares every figure with what is counted here in another way.
func checkAnalytics(t *testing.T, at place, orders int) {
	t.Helper()
	r, err := sink.OpenReport(t.Context(), at.Dir+at.URL)
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Close()) }()
	type dayType struct{ day, eventType string }
	want := map[dayType]sink.Total{}
	created := map[string]time.Time{}
	var longest time.Duration
	for _, e := range history(orders) {
		k := dayType{e.Time.Format(time.DateOnly), e.Type}
		total := want[k]
		total.Day, total.Type = k.day, k.eventType
		total.Events++
		switch e.Type {
		case shop.OrderCreated:
			created[e.Subject] = e.Time
			total.Amount += amountOf(e.Subject)
		case shop.OrderShipped:
			longest = max(longest, e.Time.Sub(created[e.Subject]))
			total.Amount += amountOf(e.Subject)
		case shop.OrderCancelled, shop.PaymentProcessed, shop.PaymentRefunded:
			total.Amount += amountOf(e.Subject)
		}
		want[k] = total
	}
	totals, err := r.Totals(t.Context())
	require.NoError(t, err)
	require.Len(t, totals, len(want))
	for _, total := range totals {
		require.Equal(t, want[dayType{total.Day, total.Type}], total)
	}
	checkRevenue(t, r, orders)
	counted, err := r.Orders(t.Context())
	require.NoError(t, err)
	assert.Equal(t, sink.Orders{Shipped: int64(orders - orders/5), Cancelled: int64(orders / 5)}, counted)
	took, err := r.ShippingTime(t.Context())
	require.NoError(t, err)
	assert.Equal(t, int64(orders-orders/5), took.Orders)
	assert.Equal(t, longest, took.Max)
	assert.Equal(t, longest, took.Median, "all orders took as long")
}

func amountOf(orderID string) int64 {
	for n := range crashOrders {
		if o := orderOf(n); o.OrderID == orderID {
			return int64(o.Amount)
		}
	}
	panic("no order " + orderID)
}

// checkRevenue counts what was not paid back: an SKU of which all was paid back is there with nothing.
func checkRevenue(t *testing.T, r *sink.Report, orders int) {
	t.Helper()
	want := map[string]sink.Revenue{}
	for n := range orders {
		for _, item := range orderOf(n).Items {
			v := want[item.SKU]
			v.SKU = item.SKU
			if !cancelled(n) {
				v.Pieces += int64(item.Quantity)
				v.Amount += int64(item.Quantity * item.Price)
			}
			want[item.SKU] = v
		}
	}
	revenue, err := r.Revenue(t.Context())
	require.NoError(t, err)
	require.Len(t, revenue, len(want))
	for _, v := range revenue {
		assert.Equal(t, want[v.SKU], v)
	}
}

func TestAnalyticsMistakes(t *testing.T) {
	t.Parallel()
	_, err := sink.OpenAnalytics(t.Context(), sink.AnalyticsConfig{})
	require.ErrorContains(t, err, "no database")
	_, err = sink.OpenAnalytics(t.Context(), sink.AnalyticsConfig{DB: "postgres://user:secret@%%"})
	require.ErrorContains(t, err, "postgres://")
	assert.NotContains(t, err.Error(), "secret")
	_, err = sink.OpenReport(t.Context(), filepath.Join(t.TempDir(), "none.db"))
	require.ErrorContains(t, err, "no such file")
	_, err = sink.OpenReport(t.Context(), postgrestest.URL(t))
	require.ErrorContains(t, err, "no analytics there")
}

// A report can be read while the sink is open, and of orders it says what is known, whatever came first.
func TestAnalyticsKnowsHalfAnOrder(t *testing.T) {
	t.Parallel()
	at := databaseFile(t)
	a, err := sink.OpenAnalytics(t.Context(), sink.AnalyticsConfig{DB: at.Dir})
	require.NoError(t, err)
	r, err := sink.OpenReport(t.Context(), at.Dir)
	require.NoError(t, err)
	events := history(5)
	expect := func(want sink.Orders, shippedOf int64, handled ...event.Event) {
		t.Helper()
		require.NoError(t, handleAll(t.Context(), a, handled, 1, 1))
		got, err := r.Orders(t.Context())
		require.NoError(t, err)
		assert.Equal(t, want, got)
		took, err := a.Report().ShippingTime(t.Context())
		require.NoError(t, err)
		assert.Equal(t, shippedOf, took.Orders)
	}
	expect(sink.Orders{}, 0)
	expect(sink.Orders{Shipped: 1}, 0, events[4])
	expect(sink.Orders{Shipped: 1, Pending: 1}, 0, events[7])
	expect(sink.Orders{Shipped: 1, Pending: 1}, 1, events[0])
	both := events[4]
	both.ID, both.Type = "odd", shop.OrderCancelled
	expect(sink.Orders{Shipped: 1, Pending: 1}, 1, both)
	require.NoError(t, r.Close())
	require.NoError(t, a.Close(t.Context()))
}
