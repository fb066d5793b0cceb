package saga_test

import (
	"context"
	"encoding/json"
	"errors"
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
	"github.com/evdemo/evdemo/internal/postgrestest"
	"github.com/evdemo/evdemo/worker"
)

const (
	// patience bounds every wait, on a machine on which many tests run at once.
	patience = 2 * time.Minute

	childEnv = "EVDEMO_SAGA_CHILD"
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

// tester is what helpers need of a test, or of a check of a property.
type tester interface {
	require.TestingT
	Helper()
	Context() context.Context
}

// onBoth runs a test on SQLite and on PostgreSQL.
func onBoth(t *testing.T, test func(t *testing.T, db string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, file(t))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, postgrestest.URL(t))
	})
}

// file is the path of a store that does not exist yet.
func file(tb testing.TB) string {
	tb.Helper()
	return filepath.Join(tb.TempDir(), "store.db")
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
	return open(tb, eventstore.Config{DB: file(tb)})
}

// happened is an event about something.
func happened(tb tester, eventType, subject string, data any) event.Event {
	tb.Helper()
	e, err := event.New(eventType, "test", data)
	require.NoError(tb, err)
	e.Subject = subject
	return e
}

// caused is an event that answers another.
func caused(tb tester, by event.Event, eventType string, data any) event.Event {
	tb.Helper()
	e, err := event.Caused(by, eventType, "test", data)
	require.NoError(tb, err)
	return e
}

// deliver hands an event to a handler.
func deliver(ctx context.Context, handle worker.Handler, e event.Event) error {
	return handle(ctx, &worker.Delivery{Event: e, Attempt: 1})
}

func mustDeliver(tb tester, handle worker.Handler, events ...event.Event) {
	tb.Helper()
	for _, e := range events {
		require.NoError(tb, deliver(tb.Context(), handle, e))
	}
}

// read reads what a query asks for.
func read(tb tester, store *eventstore.Store, q eventstore.Query) (all []eventstore.Recorded) {
	tb.Helper()
	for r, err := range store.Read(context.WithoutCancel(tb.Context()), q) {
		require.NoError(tb, err)
		all = append(all, r)
	}
	return all
}

// types are the types of a stream's events.
func types(tb tester, store *eventstore.Store, stream string) []string {
	tb.Helper()
	all := []string{}
	for _, r := range read(tb, store, eventstore.Query{Stream: stream}) {
		all = append(all, r.Type)
	}
	return all
}

// last is the last event of a type in a stream.
func last(tb tester, store *eventstore.Store, stream, eventType string) event.Event {
	tb.Helper()
	for _, r := range read(tb, store, eventstore.Query{Stream: stream, Backwards: true}) {
		if r.Type == eventType {
			return r.Event
		}
	}
	require.FailNow(tb, "there is no "+eventType+" in "+stream)
	return event.Event{}
}

// dataOf reads an event's data.
func dataOf[T any](tb tester, e event.Event) (data T) {
	tb.Helper()
	require.NoError(tb, json.Unmarshal(e.Data, &data))
	return data
}

// background runs something until the test ends, or stop is called, which waits for its end.
func background(tb testing.TB, run func(context.Context) error) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	stop = func() {
		cancel()
		select {
		case err := <-ended:
			ended <- err // for the cleanup
			if !errors.Is(err, context.Canceled) {
				tb.Errorf("it ended with %v", err)
			}
		case <-time.After(patience):
			tb.Error("it does not end")
		}
	}
	tb.Cleanup(stop)
	return stop
}

// eventually waits for a condition.
func eventually(tb testing.TB, condition func() bool, what string) {
	tb.Helper()
	require.Eventually(tb, condition, patience, 2*time.Millisecond, what)
}
