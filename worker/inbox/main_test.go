package inbox_test

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
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/postgrestest"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox"
)

const (
	// patience bounds every wait.
	patience = 60 * time.Second
	// shortLease is for tests that wait for one to run out.
	shortLease = 300 * time.Millisecond

	childEnv = "EVDEMO_INBOX_CHILD"
)

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
	Path   string
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
	store, err := inbox.Open(ctx, inbox.Config{Path: c.Path, Lease: shortLease, BusyTimeout: patience})
	if err != nil {
		return err
	}
	if c.Hang {
		_, err = store.Once(ctx, eventKey(0), func(ctx context.Context) error {
			if err := addEffect(ctx, store.DB(), eventKey(0)); err != nil {
				return err
			}
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
func (c child) work(ctx context.Context, store *inbox.Store) error {
	handle := worker.Wrap(chargeOnce, worker.Dedup(store))
	random := rand.New(rand.NewPCG(c.Seed, 0))
	var group errgroup.Group
	group.SetLimit(8)
	for _, n := range random.Perm(c.Keys * c.Offers) {
		group.Go(func() error {
			key := eventKey(int64(n % c.Keys))
			d := &worker.Delivery{Queue: key.Consumer, Event: event.Event{Source: key.Source, ID: key.ID}}
			if err := handle(ctx, d); !errors.Is(err, worker.ErrDuplicate) {
				return err
			}
			return nil
		})
	}
	return group.Wait()
}

// chargeOnce has its effect in the store's transaction.
func chargeOnce(ctx context.Context, d *worker.Delivery) error {
	return inbox.Transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
		return addEffect(ctx, tx, worker.Key{Consumer: d.Queue, Source: d.Event.Source, ID: d.Event.ID})
	})
}

// execer is a transaction or a pool.
type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

func addEffect(ctx context.Context, db execer, key worker.Key) error {
	_, err := db.ExecContext(ctx, `INSERT INTO effects VALUES (?)`, key.ID)
	return err
}

// start runs the child and waits until it has opened the store.
func (c child) start(t *testing.T) *exec.Cmd {
	t.Helper()
	spec, err := json.Marshal(c)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
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

// dbPath is a file with a table for effects, which nobody has open.
func dbPath(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "inbox.db")
	db := independent(t, path)
	_, err := db.ExecContext(t.Context(), `CREATE TABLE effects (id TEXT NOT NULL)`)
	require.NoError(t, err)
	return path
}

// independent opens the file apart from the code under test.
func independent(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(60000)")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// open opens a store that is closed with the test.
func open(t *testing.T, config inbox.Config) *inbox.Store {
	t.Helper()
	store, err := inbox.Open(t.Context(), config)
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
func effects(t *testing.T, path string, key worker.Key) int {
	t.Helper()
	return count(t, independent(t, path), `SELECT count(*) FROM effects WHERE id = ?`, key.ID)
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
		called, err := store.Once(ctx, key, handle)
		result <- outcome{called, err}
	}()
	return result
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
