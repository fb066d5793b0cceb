package relay_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/eventstore/relay"
	"github.com/evdemo/evdemo/internal/postgrestest"
	"github.com/evdemo/evdemo/publisher"
)

const (
	// patience bounds every wait, on a machine on which many tests run at once.
	patience = 2 * time.Minute
	// shortLease is for tests that wait for one to run out.
	shortLease = 500 * time.Millisecond

	childEnv = "EVDEMO_RELAY_CHILD"
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

// onBoth runs a test on SQLite and on PostgreSQL.
func onBoth(t *testing.T, test func(t *testing.T, db string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, filepath.Join(t.TempDir(), "store.db"))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, postgrestest.URL(t))
	})
}

// open opens a store that is closed with the test.
func open(tb testing.TB, config eventstore.Config) *eventstore.Store {
	tb.Helper()
	store, err := eventstore.Open(tb.Context(), config)
	require.NoError(tb, err)
	tb.Cleanup(func() { assert.NoError(tb, store.Close()) })
	return store
}

func openFile(tb testing.TB) *eventstore.Store {
	tb.Helper()
	return open(tb, eventstore.Config{DB: filepath.Join(tb.TempDir(), "store.db")})
}

// publish opens a publisher that is closed with the test.
func publish(tb testing.TB, url string) *publisher.Publisher {
	tb.Helper()
	p, err := publisher.Open(tb.Context(), publisher.Config{URLs: []string{url}})
	require.NoError(tb, err)
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), time.Second)
		defer cancel()
		_ = p.Close(ctx) // not all tests have a broker at their end
	})
	return p
}

// streams is how many streams the events of a test are in.
const streams = 7

func streamOf(n int) string { return fmt.Sprintf("order-%d", n%streams) }

// appendEvents appends events from to before to, in turn to each stream, ten to a transaction.
func appendEvents(ctx context.Context, store *eventstore.Store, from, to int) error {
	for from < to {
		until := min(from+10, to)
		writes := make([]eventstore.StreamWrite, 0, 10)
		for n := from; n < until; n++ {
			writes = append(writes, eventstore.StreamWrite{Stream: streamOf(n), Events: []event.Event{numbered(n)}})
		}
		if _, err := store.Append(ctx, writes...); err != nil {
			return err
		}
		from = until
	}
	return nil
}

func numbered(n int) event.Event {
	return event.Event{
		ID: fmt.Sprintf("event-%d", n), Source: "test", Type: "order.created", DataContentType: "application/json",
		Time: time.Date(2026, 1, 2, 3, 4, 5, n, time.UTC), Data: fmt.Appendf(nil, `{"n":%d}`, n),
	}
}

// running is a relay that runs in the background.
type running struct {
	*relay.Relay
	t     testing.TB
	stop  context.CancelFunc
	ended chan error
}

func run(tb testing.TB, config relay.Config) *running {
	tb.Helper()
	r, err := relay.New(config)
	require.NoError(tb, err)
	ctx, cancel := context.WithCancel(tb.Context())
	running := &running{Relay: r, t: tb, stop: cancel, ended: make(chan error, 1)}
	go func() { running.ended <- r.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		select {
		case err := <-running.ended:
			running.ended <- err
		case <-time.After(patience):
			tb.Error("the relay does not end")
		}
	})
	return running
}

// end stops the relay and gives what Run returned.
func (r *running) end() error {
	r.t.Helper()
	r.stop()
	return r.wait()
}

// wait waits until the relay has ended.
func (r *running) wait() error {
	r.t.Helper()
	select {
	case err := <-r.ended:
		r.ended <- err // for the cleanup
		return err
	case <-time.After(patience):
		require.FailNow(r.t, "the relay does not end")
		return nil
	}
}

// eventually waits for a condition.
func eventually(tb testing.TB, condition func() bool, what string) {
	tb.Helper()
	require.Eventually(tb, condition, patience, 5*time.Millisecond, what)
}
