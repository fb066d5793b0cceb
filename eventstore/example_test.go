package eventstore_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
)

// newStore opens a store in a new file; done closes it and removes the file.
func newStore(ctx context.Context) (s *eventstore.Store, done func()) {
	folder, err := os.MkdirTemp("", "evdemo-example-")
	if err != nil {
		panic(err)
	}
	s, err = eventstore.Open(ctx, eventstore.Config{DB: filepath.Join(folder, "orders.db")})
	if err != nil {
		panic(err)
	}
	return s, func() {
		if err := errors.Join(s.Close(), os.RemoveAll(folder)); err != nil {
			panic(err)
		}
	}
}

// happened is an event, of arguments that are known to be right.
func happened(kind string, data any) event.Event {
	e, err := event.New(kind, "shop", data)
	if err != nil {
		panic(err)
	}
	return e
}

func ExampleStore_Append() {
	ctx := context.Background()
	store, done := newStore(ctx)
	defer done()

	placed := happened("order.placed", map[string]int{"cents": 1200})
	order := eventstore.StreamWrite{Stream: "order-1", Expect: eventstore.NoStream, Events: []event.Event{placed}}
	stock := eventstore.StreamWrite{Stream: "stock", Events: []event.Event{happened("item.reserved", nil)}}
	appended, err := store.Append(ctx, order, stock) // both or neither
	fmt.Fprintln(os.Stdout, appended.Positions, err)

	// Whoever did not hear of the outcome makes the same append again.
	appended, err = store.Append(ctx, order, stock)
	fmt.Fprintln(os.Stdout, appended.Positions, appended.Added, err)

	// Another order with this number is a conflict.
	order.Events = []event.Event{happened("order.placed", nil)}
	_, err = store.Append(ctx, order)
	if conflict, ok := errors.AsType[*eventstore.ConflictError](err); ok {
		fmt.Fprintln(os.Stdout, conflict)
	}
	// Output:
	// [1 2] <nil>
	// [1 2] 0 <nil>
	// stream order-1: expected no events, found version 1: read it again and decide anew
}

func ExampleStore_AppendTx() {
	ctx := context.Background()
	store, done := newStore(ctx)
	defer done()

	tx, err := store.DB().BeginTx(ctx, nil)
	if err != nil {
		panic(err)
	}
	defer func() { _ = tx.Rollback() }()
	_, err = tx.ExecContext(ctx, `CREATE TABLE orders (number INTEGER, state TEXT); INSERT INTO orders VALUES (1, 'placed')`)
	if err != nil {
		panic(err)
	}
	// Last, since other appends wait until the transaction has ended.
	_, err = store.AppendTx(ctx, tx, eventstore.StreamWrite{Stream: "order-1", Events: []event.Event{happened("order.placed", nil)}})
	fmt.Fprintln(os.Stdout, err, tx.Commit())
	version, err := store.Version(ctx, "order-1")
	fmt.Fprintln(os.Stdout, version, err)
	// Output:
	// <nil> <nil>
	// 1 <nil>
}

func ExampleStore_Read() {
	ctx := context.Background()
	store, done := newStore(ctx)
	defer done()
	for i := range 5 {
		_, err := store.Append(ctx, eventstore.StreamWrite{Stream: "order-1", Events: []event.Event{happened("item.added", i)}})
		if err != nil {
			panic(err)
		}
	}

	for r, err := range store.Read(ctx, eventstore.Query{Stream: "order-1", FromVersion: 2, Backwards: true, Limit: 3}) {
		if err != nil {
			panic(err) // the last thing that comes
		}
		fmt.Fprintln(os.Stdout, r.Version, r.Type, string(r.Data))
	}
	// Output:
	// 5 item.added 4
	// 4 item.added 3
	// 3 item.added 2
}

// balance is the state of an account, and its fold.
type balance struct{ Cents int }

func balanceFold() eventstore.Fold[balance] {
	return eventstore.Fold[balance]{
		Name: "balance", Version: 1,
		Apply: func(b balance, r eventstore.Recorded) (balance, error) {
			var cents int
			if err := json.Unmarshal(r.Data, &cents); err != nil {
				return b, err
			}
			b.Cents += cents
			return b, nil
		},
	}
}

func ExampleLoad() {
	ctx := context.Background()
	store, done := newStore(ctx)
	defer done()
	for _, cents := range []int{1000, -300, 50} {
		_, err := store.Append(ctx, eventstore.StreamWrite{Stream: "account-1", Events: []event.Event{happened("money.moved", cents)}})
		if err != nil {
			panic(err)
		}
	}

	now, err := eventstore.Load(ctx, store, "account-1", balanceFold(), eventstore.SnapshotEvery(3))
	fmt.Fprintln(os.Stdout, now.Value.Cents, "at version", now.Version, "from", now.Replayed, "events", err)
	now, err = eventstore.Load(ctx, store, "account-1", balanceFold())
	fmt.Fprintln(os.Stdout, now.Value.Cents, "at version", now.Version, "from snapshot", now.Snapshot, err)
	then, err := eventstore.Load(ctx, store, "account-1", balanceFold(), eventstore.AtVersion(2))
	fmt.Fprintln(os.Stdout, then.Value.Cents, "at version", then.Version, err)
	// Output:
	// 750 at version 3 from 3 events <nil>
	// 750 at version 3 from snapshot 3 <nil>
	// 700 at version 2 <nil>
}

func ExampleUpdate() {
	ctx := context.Background()
	store, done := newStore(ctx)
	defer done()

	errPoor := errors.New("not enough money")
	move := func(cents int) error {
		_, err := eventstore.Update(ctx, store, "account-1", balanceFold(), func(s eventstore.State[balance]) ([]event.Event, error) {
			if s.Value.Cents+cents < 0 {
				return nil, errPoor
			}
			return []event.Event{happened("money.moved", cents)}, nil
		})
		return err
	}
	fmt.Fprintln(os.Stdout, move(1000))
	fmt.Fprintln(os.Stdout, move(-600))
	fmt.Fprintln(os.Stdout, move(-600))
	// Output:
	// <nil>
	// <nil>
	// not enough money
}

func ExampleStore_Project() {
	ctx := context.Background()
	store, done := newStore(ctx)
	defer done()
	for _, item := range []string{"tea", "cup", "tea"} {
		_, err := store.Append(ctx, eventstore.StreamWrite{Stream: "order-1", Events: []event.Event{happened("item.sold", item)}})
		if err != nil {
			panic(err)
		}
	}

	err := store.Project(ctx, eventstore.Projection{
		Name: "sales", Version: 1, Types: []string{"item.sold"}, CatchUp: true,
		Reset: func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `DROP TABLE IF EXISTS sales; CREATE TABLE sales (item TEXT PRIMARY KEY, n INTEGER)`)
			return err
		},
		Apply: func(ctx context.Context, tx *sql.Tx, r eventstore.Recorded) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO sales VALUES ($1, 1) ON CONFLICT (item) DO UPDATE SET n = n + 1`, string(r.Data))
			return err
		},
	})
	var n int
	fmt.Fprintln(os.Stdout, err, store.DB().QueryRowContext(ctx, `SELECT n FROM sales WHERE item = '"tea"'`).Scan(&n), n)
	// Output:
	// <nil> <nil> 2
}

func ExampleStore_Follow() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	store, done := newStore(ctx)
	defer done()

	appending := make(chan error, 1)
	go func() {
		var err error
		for i := range 3 {
			_, failed := store.Append(ctx, eventstore.StreamWrite{Stream: "order-1", Events: []event.Event{happened("item.added", i)}})
			err = errors.Join(err, failed)
		}
		appending <- err
	}()
	for r, err := range store.Follow(ctx, eventstore.Query{}) {
		if err != nil {
			panic(err)
		}
		fmt.Fprintln(os.Stdout, r.Position, r.Type, string(r.Data))
		if r.Position == 3 {
			break
		}
	}
	fmt.Fprintln(os.Stdout, <-appending)
	// Output:
	// 1 item.added 0
	// 2 item.added 1
	// 3 item.added 2
	// <nil>
}
