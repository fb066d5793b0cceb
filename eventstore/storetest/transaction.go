package storetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/evdemo/evdemo/eventstore"
)

func transactionChecks() []Check {
	return []Check{
		{"a transaction's events are there when it is committed", true, transactionJoins},
		{"a transaction that is rolled back leaves nothing", true, transactionRolledBack},
		{"an outcome leaves the transaction usable", false, transactionOutcomes},
		{"AppendTx works in a transaction of another connection", false, transactionOfOthers},
		{"appends wait for a transaction that has appended", true, transactionHoldsOthersUp},
		{"transactions that are open stop no reader", false, transactionsAndReaders},
	}
}

// transact runs fn in a transaction of A's, and commits it.
func (c *C) transact(fn func(tx *sql.Tx)) {
	c.Helper()
	tx := c.begin()
	fn(tx)
	c.no(tx.Commit())
}

// begin begins a transaction of A's, which ends with the check at the latest.
func (c *C) begin() *sql.Tx {
	c.Helper()
	tx, err := c.A.DB().BeginTx(c.Ctx, nil)
	c.no(err)
	c.Cleanup(func() { _ = tx.Rollback() })
	return tx
}

func (c *C) execute(tx *sql.Tx, statement string) {
	c.Helper()
	if _, err := tx.ExecContext(c.Ctx, statement); err != nil {
		c.Fatalf("%s: %v", statement, err)
	}
}

// number is the one number that a query gives.
func (c *C) number(in interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}, query string,
) (n int64) {
	c.Helper()
	if err := in.QueryRowContext(c.Ctx, query).Scan(&n); err != nil {
		c.Fatalf("%s: %v", query, err)
	}
	return n
}

func transactionJoins(c *C) {
	c.fill("a", 2)
	all := events(4)
	c.transact(func(tx *sql.Tx) {
		c.execute(tx, `CREATE TABLE mine (n bigint)`)
		c.execute(tx, `INSERT INTO mine VALUES (7)`)
		got, err := c.A.AppendTx(c.Ctx, tx, at("a", 2, all[0]), to("b", all[1]))
		c.no(err)
		c.equal("positions", got.Positions, []int64{3, 4})
		got, err = c.A.AppendTx(c.Ctx, tx, at("a", 3, all[2], all[0]), at("b", 1), to("c", all[3]))
		c.no(err)
		c.equal("positions", got.Positions, []int64{5, 3, 6})
		c.equal("versions", got.Versions, []int64{3, 1, 1})
		c.equal("added", got.Added, 2)
		c.equal("what others see before the commit", c.head(), int64(2))
	})
	c.equal("head", c.head(), int64(6))
	c.equal("the application's row", c.number(c.raw(), `SELECT n FROM mine`), int64(7))
	c.equal("the next position", c.append(to("a", events(1)...)).Positions, []int64{7})
	again, err := c.B.Append(c.Ctx, to("b", all[1]))
	c.no(err)
	c.equal("added by the same once more", again.Added, 0)
	c.equal("ids", ids(c.log())[2:6], []string{all[0].ID, all[1].ID, all[2].ID, all[3].ID})
}

func transactionRolledBack(c *C) {
	c.transact(func(tx *sql.Tx) { c.execute(tx, `CREATE TABLE mine (n bigint)`) })
	all := events(3)
	for range 3 {
		tx := c.begin()
		c.execute(tx, `INSERT INTO mine VALUES (7)`)
		got, err := c.A.AppendTx(c.Ctx, tx, to("a", all...))
		c.no(err)
		c.equal("added", got.Added, 3)
		c.no(tx.Rollback())
		c.equal("head", c.head(), int64(0))
	}
	got, err := c.B.Append(c.Ctx, at("a", 0, all...))
	c.no(err)
	c.equal("positions", got.Positions, []int64{1, 2, 3})
	c.equal("added", got.Added, 3)
	c.equal("the application's rows", c.number(c.raw(), `SELECT count(*) FROM mine`), int64(0))
	c.log()
}

func transactionOutcomes(c *C) {
	there := c.fill("a", 2)
	bad := events(1)[0]
	bad.Type = ""
	all := events(3)
	c.transact(func(tx *sql.Tx) {
		c.execute(tx, `CREATE TABLE mine (n bigint)`)
		_, err := c.A.AppendTx(c.Ctx, tx, to("b", events(3)...), at("a", 1, events(1)...))
		has[*eventstore.ConflictError](c, "conflict", err)
		c.execute(tx, `INSERT INTO mine VALUES (1)`)
		got, err := c.A.AppendTx(c.Ctx, tx, at("b", 0, all[0]))
		c.no(err)
		c.equal("positions", got.Positions, []int64{3})
		for range 2 {
			_, err = c.A.AppendTx(c.Ctx, tx, to("c", events(2)...), to("c", there[0]))
			has[*eventstore.DuplicateError](c, "duplicate", err)
			_, err = c.A.AppendTx(c.Ctx, tx, at("b", 0, events(1)...))
			has[*eventstore.ConflictError](c, "conflict with the transaction itself", err)
			_, err = c.A.AppendTx(c.Ctx, tx, to("c", bad))
			has[*eventstore.InvalidError](c, "invalid", err)
		}
		got, err = c.A.AppendTx(c.Ctx, tx, at("b", 1, all[1]), at("c", 0, all[2]))
		c.no(err)
		c.equal("positions", got.Positions, []int64{4, 5})
		c.execute(tx, `INSERT INTO mine VALUES (2)`)
	})
	c.equal("events", ids(c.log())[2:], []string{all[0].ID, all[1].ID, all[2].ID})
	c.equal("the application's rows", c.number(c.raw(), `SELECT count(*) FROM mine`), int64(2))
}

// transactionOfOthers appends in a transaction that has begun with BEGIN alone, on a connection of the application's own.
func transactionOfOthers(c *C) {
	tx, err := c.raw().BeginTx(c.Ctx, nil)
	c.no(err)
	_, err = c.A.AppendTx(c.Ctx, tx, to("a", events(2)...))
	c.no(err)
	c.no(tx.Commit())
	c.equal("the next position", c.append(at("a", 2, events(1)...)).Positions, []int64{3})
	c.log()
}

// transactionHoldsOthersUp has an append wait while a transaction with a lower position is open: a follower that saw
// the higher one first would never see the lower.
func transactionHoldsOthersUp(c *C) {
	for _, commit := range []bool{true, false} {
		before := c.head()
		tx := c.begin()
		got, err := c.A.AppendTx(c.Ctx, tx, to("slow", events(2)...))
		c.no(err)
		c.equal("positions", got.Positions, []int64{before + 1, before + 2})
		done := make(chan error, 1)
		other := eventstore.Appended{}
		go func() {
			var err error
			other, err = c.B.Append(c.Ctx, to("fast", events(1)...))
			done <- err
		}()
		rest(c.Ctx, 20*step)
		select {
		case err := <-done:
			c.Fatalf("an append at %v overtook an open transaction (%v)", other.Positions, err)
		default:
		}
		want := before + 1
		if commit {
			c.no(tx.Commit())
			want += 2
		} else {
			c.no(tx.Rollback())
		}
		c.no(<-done)
		c.equal("the position of what waited", other.Positions, []int64{want})
	}
	c.log()
}

// transactionsAndReaders has as many transactions open as there can be, and reads by the same store.
func transactionsAndReaders(c *C) {
	c.fill("a", 200)
	most := 2
	s := c.Open(eventstore.Config{MaxConns: most})
	if !c.onPostgres() {
		most = 1
	}
	ctx, cancel := context.WithTimeout(c.Ctx, patience/4)
	defer cancel()
	for range most {
		tx, err := s.DB().BeginTx(ctx, nil)
		c.no(err)
		defer func() { _ = tx.Rollback() }()
		c.equal("what a transaction sees", c.number(tx, `SELECT count(*) FROM evdemo_store_events`), int64(200))
	}
	c.holds(s.DB().Stats().InUse == most, "%d connections are in use", s.DB().Stats().InUse)
	state, err := eventstore.Load(ctx, s, "a", tally())
	c.no(err)
	c.equal("version", state.Version, int64(200))
	all, err := collect(s.Read(ctx, eventstore.Query{}))
	c.no(err)
	c.equal("events", len(all), 200)
	_, err = s.Checkpoint(ctx, "x")
	c.no(err)
	for _, err := range s.Follow(ctx, eventstore.Query{Limit: 200}) {
		c.no(err)
	}
	v, err := s.Verify(ctx, func(f eventstore.Finding) { c.Errorf("found %s", f) })
	c.no(err)
	c.equal("events that are verified", v.Events, int64(200))
}

// inTransaction appends in a transaction of a store's; hold runs before its end. It tells whether that is a commit.
func inTransaction(ctx context.Context, s *eventstore.Store, hold func(), commit bool, writes ...eventstore.StreamWrite) error {
	tx, err := s.DB().BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if _, err := s.AppendTx(ctx, tx, writes...); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	hold()
	if commit {
		return tx.Commit()
	}
	return tx.Rollback()
}
