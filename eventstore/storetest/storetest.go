// Package storetest is the suite that an event store has to pass on every database: what package eventstore promises,
// as checks that fail where it is not kept.
//
//	func TestPostgreSQL(t *testing.T) {
//		storetest.Run(t, func(tb testing.TB) string { return postgrestest.URL(tb) })
//	}
package storetest

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/evdemo/evdemo/eventstore"
)

// patience bounds each check.
const patience = 2 * time.Minute

// Check is one promise. Do fails where the store does not keep it.
type Check struct {
	Name string
	// Shared means that the promise holds between two Stores on one database too, as they are in two processes.
	Shared bool
	Do     func(c *C)
}

// Checks are all checks, in no order that matters.
func Checks() []Check {
	var all []Check
	for _, some := range [][]Check{
		appendChecks(), eventChecks(), transactionChecks(), crowdChecks(), readChecks(), followChecks(), stateChecks(),
		leaseChecks(), projectionChecks(), verifyChecks(), backupChecks(), groupChecks(), rewoundChecks(),
	} {
		all = append(all, some...)
	}
	return all
}

// Run puts stores through all checks. Fresh gives the Config.DB of a database that is new and empty; what it leaves
// behind is for tb.Cleanup. A check that is Shared is made twice: with one Store and with two.
func Run(t *testing.T, fresh func(tb testing.TB) string) {
	t.Helper()
	for _, check := range Checks() {
		t.Run(strings.ReplaceAll(check.Name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			if !check.Shared {
				check.Do(New(t, fresh))
				return
			}
			t.Run("one-store", func(t *testing.T) {
				t.Parallel()
				check.Do(New(t, fresh))
			})
			t.Run("two-stores", func(t *testing.T) {
				t.Parallel()
				c := New(t, fresh)
				c.B = c.Open(eventstore.Config{})
				check.Do(c)
			})
		})
	}
}

// C is what a check works with. Its methods may be called from the check's goroutine alone.
type C struct {
	testing.TB
	// Ctx bounds the check.
	Ctx context.Context //nolint:containedctx // it is the argument of each check
	// DB is where the stores are, and Fresh gives another one, empty.
	DB    string
	Fresh func(tb testing.TB) string
	// A and B are stores on DB: the same, or two.
	A, B *eventstore.Store
}

// New opens a store for a check, and closes it with the test.
func New(tb testing.TB, fresh func(tb testing.TB) string) *C {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	tb.Cleanup(cancel)
	c := &C{TB: tb, Ctx: ctx, DB: fresh(tb), Fresh: fresh}
	c.A = c.Open(eventstore.Config{})
	c.B = c.A
	return c
}

// Open opens a store, on the check's database unless told, and closes it with the test.
func (c *C) Open(config eventstore.Config) *eventstore.Store {
	c.Helper()
	if config.DB == "" {
		config.DB = c.DB
	}
	config.Unsynced = true // what survives a power failure is not looked at here
	config.BusyTimeout = time.Minute
	s, err := eventstore.Open(c.Ctx, config)
	c.no(err)
	c.Cleanup(func() {
		if err := s.Close(); err != nil {
			c.Errorf("close: %v", err)
		}
	})
	return s
}

// onPostgres tells which database this is.
func (c *C) onPostgres() bool { return strings.HasPrefix(c.DB, "postgres") }

// raw opens the database beside the stores, as a program does that knows nothing of them.
func (c *C) raw() *sql.DB {
	c.Helper()
	driver, source := "sqlite", "file:"+c.DB+"?_pragma=busy_timeout(60000)"
	if c.onPostgres() {
		driver, source = "pgx", c.DB
	}
	db, err := sql.Open(driver, source)
	c.no(err)
	c.Cleanup(func() { _ = db.Close() })
	return db
}

// tamper runs SQL beside the stores, once nothing keeps the log from being changed.
func (c *C) tamper(statements ...string) {
	c.Helper()
	db := c.raw()
	guards := []string{`DROP TRIGGER IF EXISTS evdemo_store_events_stay`, `DROP TRIGGER IF EXISTS evdemo_store_events_remain`}
	if c.onPostgres() {
		guards = []string{`DROP TRIGGER IF EXISTS evdemo_store_events_stay ON evdemo_store_events`}
	}
	for _, s := range append(guards, statements...) {
		if _, err := db.ExecContext(c.Ctx, s); err != nil {
			c.Fatalf("%s: %v", s, err)
		}
	}
}
