package sink

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/pglink"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/sqlitefile"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox"
	"github.com/evdemo/evdemo/worker/inbox/postgres"
)

const (
	// forever is for how long analytics knows an event again: a log may be replayed from its beginning.
	forever = 100 * 365 * 24 * time.Hour
	// slots is in how many rows a sum is kept, which transactions on PostgreSQL would wait for each other for.
	slots = 8
)

// The tables, on both databases. Sums are of all slots together. A time is in microseconds since 1970.
const analyticsSchema = `
CREATE TABLE IF NOT EXISTS analytics_days (
	day TEXT NOT NULL, type TEXT NOT NULL, slot INTEGER NOT NULL,
	events BIGINT NOT NULL, amount BIGINT NOT NULL,
	PRIMARY KEY (day, type, slot)
);
CREATE TABLE IF NOT EXISTS analytics_skus (
	sku TEXT NOT NULL, slot INTEGER NOT NULL,
	pieces BIGINT NOT NULL, revenue BIGINT NOT NULL,
	PRIMARY KEY (sku, slot)
);
CREATE TABLE IF NOT EXISTS analytics_orders (
	order_id TEXT PRIMARY KEY,
	created BIGINT, shipped BIGINT, cancelled BIGINT
)`

// AnalyticsConfig says where analytics has its tables. DB is needed.
type AnalyticsConfig struct {
	// DB is an SQLite file of its own, in a folder that exists, or the URL of a database on PostgreSQL
	// (postgres://user@host:5432/database), which several processes may share.
	DB string
	// Logger receives what goes wrong in the background. Default: nothing is logged.
	Logger *slog.Logger
}

// Analytics keeps sums in a database: how many events of each type there were on each UTC day, and of what amount; the
// revenue of each SKU; how many orders are pending, shipped or cancelled; and how long it took to ship. [Report] reads
// them. An event is counted in the transaction that remembers it, so exactly once.
type Analytics struct {
	store interface {
		worker.DedupStore
		Close() error
	}
	lock   *flock.Flock // nil on PostgreSQL
	report *Report
	handle worker.Handler
}

// OpenAnalytics opens the database, and makes the tables where there are none. The error wraps [ErrInUse] where another
// process has the file open.
func OpenAnalytics(ctx context.Context, config AnalyticsConfig) (*Analytics, error) {
	if config.DB == "" {
		return nil, errors.New("open analytics: no database")
	}
	config.Logger = cmp.Or(config.Logger, slog.New(slog.DiscardHandler))
	a := &Analytics{}
	open := a.openSQLite
	if pglink.IsURL(config.DB) {
		open = a.openPostgres
	}
	if err := open(ctx, config); err != nil {
		return nil, fmt.Errorf("open analytics: %w", err)
	}
	a.handle = worker.Wrap(a.count, worker.Dedup(a.store))
	return a, nil
}

func (a *Analytics) openSQLite(ctx context.Context, config AnalyticsConfig) (err error) {
	if a.lock, err = lockFile(config.DB + ".lock"); err != nil {
		return fmt.Errorf("%s: %w", config.DB, err)
	}
	store, err := inbox.Open(ctx, inbox.Config{Path: config.DB, Retention: forever, Logger: config.Logger})
	if err != nil {
		return errors.Join(err, a.lock.Unlock())
	}
	if err := makeTables(ctx, store.DB(), analyticsSchema); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", config.DB, sqlitefile.Explain(err)), store.Close(), a.lock.Unlock())
	}
	a.store, a.report = store, &Report{db: store.DB(), sqlite: true}
	return nil
}

func (a *Analytics) openPostgres(ctx context.Context, config AnalyticsConfig) error {
	store, err := postgres.Open(ctx, postgres.Config{URL: config.DB, Retention: forever, Logger: config.Logger})
	if err != nil {
		return err
	}
	if a.report, err = openPostgresReport(ctx, config.DB); err == nil {
		err = a.report.makePostgresTables(ctx)
	}
	if err != nil {
		return errors.Join(err, store.Close(), a.report.Close())
	}
	a.store = store
	return nil
}

// Name implements [Sink].
func (a *Analytics) Name() string { return AnalyticsName }

// Topics implements [Sink]: all, but for the commands'.
func (a *Analytics) Topics() []string { return Topics(AnalyticsName) }

// Report reads what was counted. It ends with the sink.
func (a *Analytics) Report() *Report { return a.report }

// Handle implements [Sink].
func (a *Analytics) Handle(ctx context.Context, d *worker.Delivery) error {
	if err := admit(d); err != nil {
		return err
	}
	once := *d
	once.Queue = a.Name() // one consumer, from whichever queue it comes
	return a.handle(ctx, &once)
}

// count has an event counted in the transaction that records it.
func (a *Analytics) count(ctx context.Context, d *worker.Delivery) error {
	t, err := tallyOf(d.Event)
	if err != nil {
		return err
	}
	return inbox.Transact(ctx, func(ctx context.Context, tx *sql.Tx) error { return a.report.add(ctx, tx, t) })
}

// Close implements [Sink].
func (a *Analytics) Close(context.Context) error {
	err := a.store.Close()
	if a.lock == nil {
		return errors.Join(err, a.report.Close()) // on SQLite it has the store's connections
	}
	return errors.Join(err, a.lock.Unlock())
}

// tally is what one event adds.
type tally struct {
	day, eventType string
	slot           int
	amount         int
	skus           map[string]sold
	orderID        string // empty where the order's state stays
	column         string // of the order, which gets the moment
	moment         int64
}

type sold struct{ pieces, revenue int }

// tallyOf reads an event.
func tallyOf(e event.Event) (tally, error) {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(e.Source + "\x00" + e.ID))
	t := tally{day: e.Time.UTC().Format(dayLayout), eventType: e.Type, slot: int(hash.Sum32() % slots), moment: e.Time.UnixMicro()}
	if !aboutOrder(e.Type) {
		return t, nil
	}
	d, err := decisionOf(e)
	if err != nil {
		return t, err
	}
	switch e.Type {
	case shop.OrderCreated:
		t.orderID, t.column, t.amount = d.Order.OrderID, "created", d.Order.Amount
	case shop.OrderShipped:
		t.orderID, t.column, t.amount = d.Order.OrderID, "shipped", d.Order.Amount
	case shop.OrderCancelled:
		t.orderID, t.column, t.amount = d.Order.OrderID, "cancelled", d.Order.Amount
	case shop.PaymentProcessed:
		t.amount, t.skus = d.Amount, soldOf(d.Order, 1)
	case shop.PaymentRefunded:
		t.amount, t.skus = d.Amount, soldOf(d.Order, -1)
	default:
		t.amount = d.Amount
	}
	return t, nil
}

// aboutOrder tells whether events of a type have a decision about an order for their data.
func aboutOrder(eventType string) bool {
	switch topic, _ := shop.Topic(eventType); topic {
	case shop.Orders, shop.Fraud, shop.Payments, shop.Inventory, shop.Shipping, shop.Loyalty:
		return true
	default:
		return false
	}
}

func soldOf(o shop.Order, sign int) map[string]sold {
	skus := map[string]sold{}
	for _, item := range o.Items {
		s := skus[item.SKU]
		skus[item.SKU] = sold{s.pieces + sign*item.Quantity, s.revenue + sign*item.Quantity*item.Price}
	}
	return skus
}

// add adds a tally. Rows are always taken in the same order, so that transactions never wait for each other in a circle.
func (r *Report) add(ctx context.Context, tx *sql.Tx, t tally) error {
	const day = `INSERT INTO analytics_days AS a (day, type, slot, events, amount) VALUES ($1, $2, $3, 1, $4)
		ON CONFLICT (day, type, slot) DO UPDATE SET events = a.events + 1, amount = a.amount + excluded.amount`
	if _, err := tx.ExecContext(ctx, r.bind(day), t.day, t.eventType, t.slot, t.amount); err != nil {
		return err
	}
	const sku = `INSERT INTO analytics_skus AS a (sku, slot, pieces, revenue) VALUES ($1, $2, $3, $4)
		ON CONFLICT (sku, slot) DO UPDATE SET pieces = a.pieces + excluded.pieces, revenue = a.revenue + excluded.revenue`
	for _, name := range slices.Sorted(maps.Keys(t.skus)) {
		s := t.skus[name]
		if _, err := tx.ExecContext(ctx, r.bind(sku), name, t.slot, s.pieces, s.revenue); err != nil {
			return err
		}
	}
	if t.orderID == "" {
		return nil
	}
	order := strings.ReplaceAll(`INSERT INTO analytics_orders (order_id, COLUMN) VALUES ($1, $2)
		ON CONFLICT (order_id) DO UPDATE SET COLUMN = excluded.COLUMN`, "COLUMN", t.column)
	_, err := tx.ExecContext(ctx, r.bind(order), t.orderID, t.moment)
	return err
}
