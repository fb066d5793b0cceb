package view_test

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/postgrestest"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/view"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Main(m)) }

// patience bounds every wait.
const patience = time.Minute

func databases() map[string]func(tb testing.TB) string {
	return map[string]func(tb testing.TB) string{"SQLite": file, "PostgreSQL": postgrestest.URL}
}

func file(tb testing.TB) string {
	tb.Helper()
	return filepath.Join(tb.TempDir(), "a shop?.db")
}

// open opens a store and a view of it, which is not kept yet.
func open(t *testing.T, db string, change ...func(*view.Config)) (*eventstore.Store, *view.Orders) {
	t.Helper()
	store, err := eventstore.Open(t.Context(), eventstore.Config{
		DB: db, RetryFor: time.Second, Unsynced: !strings.HasPrefix(db, "postgres"), // no power fails here, and servers do
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	config := view.Config{Store: store, DB: db, Lease: time.Second}
	for _, c := range change {
		c(&config)
	}
	orders, err := view.Open(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, orders.Close()) })
	return store, orders
}

// keep keeps the view until stop is called, or the test ends.
func keep(t *testing.T, orders *view.Orders) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- orders.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
	}
	t.Cleanup(stop)
	return stop
}

// flow appends the events of one order, each to the stream of its service, and each caused by the one before.
type flow struct {
	t     *testing.T
	store *eventstore.Store
	order shop.Order
	last  event.Event
}

func newFlow(t *testing.T, store *eventstore.Store, id string) *flow {
	t.Helper()
	return &flow{t: t, store: store, order: shop.Order{
		OrderID: id, UserID: "user-1", Items: []shop.Item{{SKU: "item-1", Quantity: 2, Price: 50}}, Amount: 100, Currency: shop.Currency,
	}}
}

func (f *flow) create() eventstore.Recorded {
	f.t.Helper()
	e, err := event.New(shop.OrderCreated, "shop/order", f.order)
	require.NoError(f.t, err)
	e.Subject = f.order.OrderID
	return f.append(f.order.OrderID, e.WithExtension(event.ExtCorrelationID, e.ID))
}

func (f *flow) then(eventType string, d shop.Decision) eventstore.Recorded {
	f.t.Helper()
	d.Order = f.order
	e, err := event.Caused(f.last, eventType, "shop/test", d)
	require.NoError(f.t, err)
	return f.append("test-"+f.order.OrderID, e)
}

func (f *flow) append(stream string, e event.Event) eventstore.Recorded {
	f.t.Helper()
	appended, err := f.store.Append(f.t.Context(), eventstore.StreamWrite{Stream: stream, Events: []event.Event{e}})
	require.NoError(f.t, err)
	f.last = e
	return eventstore.Recorded{Event: e, Position: appended.Positions[0], RecordedAt: appended.RecordedAt}
}

// look waits until a position has been seen, and gives the order.
func look(t *testing.T, orders *view.Orders, id string, position int64) view.Order {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, orders.Wait(ctx, position))
	found, err := orders.Get(ctx, id)
	require.NoError(t, err)
	order := decoded(t, found.State)
	require.Equal(t, found.Version, order.Version)
	return order
}

func decoded(t require.TestingT, state []byte) (order view.Order) {
	require.NoError(t, json.Unmarshal(state, &order))
	return order
}

func orderID(n int) string { return "order-" + strconv.Itoa(n) }
