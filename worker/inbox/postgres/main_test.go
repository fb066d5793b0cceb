package postgres_test

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/postgrestest"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox"
	"github.com/evdemo/evdemo/worker/inbox/postgres"
)

const (
	// patience bounds every wait.
	patience = 60 * time.Second

	childEnv = "EVDEMO_INBOX_POSTGRES_CHILD"
)

var errHandler = errors.New("handler failed")

// TestMain runs this binary as a child where a test has started it as one.
func TestMain(m *testing.M) {
	if spec := os.Getenv(childEnv); spec != "" {
		if err := runChild(context.Background(), spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(postgrestest.Main(m))
}

// child says what a process of its own is to do: handle every key so many times over, in an order of its
// own, or claim the first and hang.
type child struct {
	URL    string
	Keys   int
	Offers int
	Seed   uint64
	Hang   bool
}

func runChild(ctx context.Context, spec string) error {
	var c child
	if err := json.Unmarshal([]byte(spec), &c); err != nil {
		return err
	}
	store, err := postgres.Open(ctx, postgres.Config{URL: c.URL, Timeout: patience})
	if err != nil {
		return err
	}
	if c.Hang {
		_, err = store.Once(ctx, eventKey(0), func(context.Context) error {
			fmt.Fprintln(os.Stdout, "ready")
			<-time.After(patience)
			return errors.New("was not killed")
		})
		return err
	}
	fmt.Fprintln(os.Stdout, "ready")
	if err := c.work(ctx, store); err != nil {
		return err
	}
	return store.Close()
}

// work handles as a worker does.
func (c child) work(ctx context.Context, store *postgres.Store) error {
	handle := worker.Wrap(chargeOnce, worker.Dedup(store))
	random := rand.New(rand.NewPCG(c.Seed, 0)) //nolint:gosec // a test
	var group errgroup.Group
	group.SetLimit(8)
	for _, n := range random.Perm(c.Keys * c.Offers) {
		group.Go(func() error {
			if err := handle(ctx, delivery(eventKey(int64(n%c.Keys)))); !errors.Is(err, worker.ErrDuplicate) {
				return err
			}
			return nil
		})
	}
	return group.Wait()
}

func delivery(key worker.Key) *worker.Delivery {
	return &worker.Delivery{Queue: key.Consumer, Event: event.Event{Source: key.Source, ID: key.ID}}
}

// chargeOnce has its effect in the store's transaction.
func chargeOnce(ctx context.Context, d *worker.Delivery) error {
	return transact(worker.Key{Consumer: d.Queue, Source: d.Event.Source, ID: d.Event.ID}, nil)(ctx)
}

// transact is a handler that has one effect and then does what more there is.
func transact(key worker.Key, more func(context.Context, *sql.Tx) error) func(context.Context) error {
	return func(ctx context.Context) error {
		return inbox.Transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
			if err := addEffect(ctx, tx, key); err != nil || more == nil {
				return err
			}
			return more(ctx, tx)
		})
	}
}

func addEffect(ctx context.Context, tx *sql.Tx, key worker.Key) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO effects VALUES ($1)`, key.ID)
	return err
}

// start runs the child and waits until it has opened the store.
func (c child) start(t *testing.T) *exec.Cmd {
	t.Helper()
	spec, err := json.Marshal(c)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), os.Args[0]) //nolint:gosec // itself
	cmd.Env = append(os.Environ(), childEnv+"="+string(spec))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
	return cmd
}

// database is one with a table for effects.
func database(t *testing.T) (url string) {
	t.Helper()
	url = postgrestest.URL(t)
	makeEffects(t, url)
	return url
}

func makeEffects(t *testing.T, url string) {
	t.Helper()
	_, err := independent(t, url).ExecContext(t.Context(), `CREATE TABLE effects (id TEXT NOT NULL)`)
	require.NoError(t, err)
}

// independent opens the database apart from the code under test.
func independent(t *testing.T, url string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// open opens a store that is closed with the test.
func open(t *testing.T, config postgres.Config) *postgres.Store {
	t.Helper()
	if config.Timeout == 0 {
		config.Timeout = patience
	}
	store, err := postgres.Open(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}

// count gives the result of a query that counts.
func count(t *testing.T, db *sql.DB, query string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, db.QueryRowContext(t.Context(), query, args...).Scan(&n))
	return n
}

// effects counts an event's.
func effects(t *testing.T, db *sql.DB, key worker.Key) int {
	t.Helper()
	return count(t, db, `SELECT count(*) FROM effects WHERE id = $1`, key.ID)
}

// claims counts the locks that are held for attempts.
func claims(t *testing.T, db *sql.DB) int {
	t.Helper()
	return count(t, db, `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
}

// expect calls Once and checks what comes.
func expect(t *testing.T, store worker.DedupStore, key worker.Key, handle func(context.Context) error, called bool, wrapped error) {
	t.Helper()
	got, err := store.Once(t.Context(), key, handle)
	require.ErrorIs(t, err, wrapped)
	require.Equal(t, called, got)
}

// outcome is what Once returned.
type outcome struct {
	called bool
	err    error
}

// once calls Once in the background.
func once(ctx context.Context, store worker.DedupStore, key worker.Key, handle func(context.Context) error) <-chan outcome {
	result := make(chan outcome, 1)
	go func() {
		defer func() { _ = recover() }()
		called, err := store.Once(ctx, key, handle)
		result <- outcome{called, err}
	}()
	return result
}

// hold begins an attempt that ends with what is sent.
func hold(t *testing.T, store worker.DedupStore, key worker.Key) (finish chan<- error, result <-chan outcome) {
	t.Helper()
	begun, end := make(chan struct{}), make(chan error)
	result = once(t.Context(), store, key, func(context.Context) error {
		close(begun)
		return <-end
	})
	await(t, begun)
	return end, result
}

func await[T any](t *testing.T, c <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-c:
	case <-time.After(patience):
		require.FailNow(t, "nothing came")
	}
	return value
}

func succeed(context.Context) error { return nil }

// inTransaction is a function that has its effect and then waits.
func inTransaction(key worker.Key, begun, proceed chan struct{}) func(context.Context, *sql.Tx) error {
	return func(ctx context.Context, tx *sql.Tx) error {
		close(begun)
		<-proceed
		return addEffect(ctx, tx, key)
	}
}
