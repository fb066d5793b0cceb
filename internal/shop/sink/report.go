package sink

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/evdemo/evdemo/internal/pglink"
	"github.com/evdemo/evdemo/internal/sqlitefile"
)

// Report reads what [Analytics] has counted. It may be used from several goroutines.
type Report struct {
	db     *sql.DB
	sqlite bool
}

// OpenReport reads the database of an [Analytics], which may be open in another process. Close it after use.
func OpenReport(ctx context.Context, db string) (*Report, error) {
	r := &Report{sqlite: true}
	var err error
	if pglink.IsURL(db) {
		r, err = openPostgresReport(ctx, db)
	} else if _, err = os.Stat(db); err == nil {
		r.db, err = sql.Open("sqlite", dataSource(db, "ro"))
	}
	if err == nil {
		var n int
		if err = r.db.QueryRowContext(ctx, `SELECT count(*) FROM analytics_orders WHERE 1 = 0`).Scan(&n); err != nil {
			err = fmt.Errorf("no analytics there: %w", sqlitefile.Explain(err))
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open analytics: %w", err), r.Close())
	}
	return r, nil
}

// openPostgresReport makes a pool of connections. No error shows a password.
func openPostgresReport(ctx context.Context, url string) (*Report, error) {
	pool, err := pglink.ParseConfig(url)
	if errors.Is(err, pglink.ErrPassword) {
		return nil, fmt.Errorf("not a URL for PostgreSQL: %w", err)
	}
	if err != nil {
		return nil, errors.New("not a URL for PostgreSQL: write postgres://user@host:5432/database")
	}
	// Where the inbox has its tables these are as well: transactions are on its connections.
	home, err := pglink.FindHome(ctx, pool.ConnConfig, "evdemo_inbox_handled")
	if err != nil {
		return nil, err
	}
	pglink.SetUp(pool.ConnConfig, map[string]string{"search_path": home.SearchPath})
	return &Report{db: stdlib.OpenDB(*pool.ConnConfig)}, nil
}

// makePostgresTables makes the tables, one process at a time.
func (r *Report) makePostgresTables(ctx context.Context) error {
	return transact(ctx, r.db, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtext('evdemo analytics'))`); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, analyticsSchema)
		return err
	})
}

// bind writes a statement's parameters as the database has them.
func (r *Report) bind(query string) string {
	if r.sqlite {
		return strings.ReplaceAll(query, "$", "?")
	}
	return query
}

// Close closes the connections.
func (r *Report) Close() error {
	if r == nil || r.db == nil {
		return nil
	}
	return r.db.Close()
}

// Total is what there was of a type on a UTC day. Amount is in cents: what was ordered, shipped or cancelled, by order.*,
// and what was paid, or given back, by payment.*.
type Total struct {
	Day    string `json:"day"` // YYYY-MM-DD
	Type   string `json:"type"`
	Events int64  `json:"events"`
	Amount int64  `json:"amount"`
}

// Totals gives the totals of all days and types, in their order.
func (r *Report) Totals(ctx context.Context) ([]Total, error) {
	const query = `SELECT day, type, CAST(sum(events) AS BIGINT), CAST(sum(amount) AS BIGINT) FROM analytics_days
		GROUP BY day, type ORDER BY day, type`
	return collect(ctx, r.db, query, func(rows *sql.Rows, t *Total) error {
		return rows.Scan(&t.Day, &t.Type, &t.Events, &t.Amount)
	})
}

// Revenue is what was paid for a SKU, less what was given back.
type Revenue struct {
	SKU    string `json:"sku"`
	Pieces int64  `json:"pieces"`
	Amount int64  `json:"amount"` // cents
}

// Revenue gives the revenue of all SKUs that were ever paid for, in the order of their names.
func (r *Report) Revenue(ctx context.Context) ([]Revenue, error) {
	const query = `SELECT sku, CAST(sum(pieces) AS BIGINT), CAST(sum(revenue) AS BIGINT) FROM analytics_skus
		GROUP BY sku ORDER BY sku`
	return collect(ctx, r.db, query, func(rows *sql.Rows, v *Revenue) error {
		return rows.Scan(&v.SKU, &v.Pieces, &v.Amount)
	})
}

// Orders is how many orders there are in each state. One that was shipped counts as shipped, whatever else is known.
type Orders struct {
	Pending   int64 `json:"pending"`
	Shipped   int64 `json:"shipped"`
	Cancelled int64 `json:"cancelled"`
}

// Orders counts the orders.
func (r *Report) Orders(ctx context.Context) (o Orders, err error) {
	const query = `SELECT count(*) - count(coalesce(shipped, cancelled)), count(shipped),
		count(coalesce(shipped, cancelled)) - count(shipped) FROM analytics_orders`
	err = r.db.QueryRowContext(ctx, query).Scan(&o.Pending, &o.Shipped, &o.Cancelled)
	return o, sqlitefile.Explain(err)
}

// ShippingTime is how long it took from order.created to order.shipped, by the times of the events.
type ShippingTime struct {
	Orders int64         `json:"orders"` // of which both are known
	Mean   time.Duration `json:"mean_ns"`
	Median time.Duration `json:"median_ns"`
	P99    time.Duration `json:"p99_ns"`
	Max    time.Duration `json:"max_ns"`
}

// ShippingTime measures the orders that were shipped.
func (r *Report) ShippingTime(ctx context.Context) (s ShippingTime, err error) {
	const took = ` FROM (SELECT shipped - created AS took FROM analytics_orders WHERE shipped IS NOT NULL AND created IS NOT NULL) AS t `
	var mean float64
	var longest int64
	const all = `SELECT count(*), CAST(coalesce(avg(took), 0) AS DOUBLE PRECISION), coalesce(max(took), 0)` + took
	err = r.db.QueryRowContext(ctx, all).Scan(&s.Orders, &mean, &longest)
	if err != nil || s.Orders == 0 {
		return s, sqlitefile.Explain(err)
	}
	s.Mean, s.Max = time.Duration(mean*1000), time.Duration(longest)*time.Microsecond
	for _, p := range []struct {
		into    *time.Duration
		percent int64
	}{{&s.Median, 50}, {&s.P99, 99}} {
		var micros int64
		rank := (s.Orders*p.percent + 99) / 100
		err := r.db.QueryRowContext(ctx, r.bind(`SELECT took`+took+`ORDER BY took LIMIT 1 OFFSET $1`), rank-1).Scan(&micros)
		if err != nil {
			return s, sqlitefile.Explain(err)
		}
		*p.into = time.Duration(micros) * time.Microsecond
	}
	return s, nil
}

// collect reads all rows of a query.
func collect[T any](ctx context.Context, db *sql.DB, query string, scan func(*sql.Rows, *T) error, args ...any) (all []T, err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, sqlitefile.Explain(err)
	}
	defer rows.Close()
	for rows.Next() {
		var one T
		if err := scan(rows, &one); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, sqlitefile.Explain(rows.Err())
}
