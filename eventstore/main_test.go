package eventstore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/eventstore/storetest"
	"github.com/evdemo/evdemo/internal/postgrestest"
)

// childEnv makes the test binary another process with a store: what it does is the variable's value.
const childEnv = "EVDEMO_EVENTSTORE_CHILD"

func TestMain(m *testing.M) {
	if what := os.Getenv(childEnv); what != "" {
		if err := child(context.Background(), what, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(postgrestest.Main(m))
}

// child is what a process does that a test has started.
func child(ctx context.Context, what string, args []string) error {
	switch what {
	case "append":
		return appendUntilKilled(ctx, args[0])
	case "open":
		return openOnce(ctx, args[0])
	case "small disk":
		return onSmallDisk(ctx, args[0])
	default:
		return fmt.Errorf("no such child: %s", what)
	}
}

// file is the path of a store that does not exist yet.
func file(tb testing.TB) string {
	tb.Helper()
	return filepath.Join(tb.TempDir(), "store.db")
}

// databases are those that everything is tested on.
func databases() map[string]func(tb testing.TB) string {
	return map[string]func(tb testing.TB) string{"SQLite": file, "PostgreSQL": postgrestest.URL}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for name, fresh := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, fresh)
		})
	}
}

// open opens a store and closes it with the test.
func open(t *testing.T, config eventstore.Config) *eventstore.Store {
	t.Helper()
	s, err := eventstore.Open(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// events makes n new ones.
func events(t *testing.T, n int) []event.Event {
	t.Helper()
	all := make([]event.Event, n)
	for i := range all {
		e, err := event.New("step", "test", i)
		require.NoError(t, err)
		all[i] = e
	}
	return all
}

// fill appends n events to a stream.
func fill(t *testing.T, s *eventstore.Store, stream string, n int) {
	t.Helper()
	_, err := s.Append(t.Context(), eventstore.StreamWrite{Stream: stream, Events: events(t, n)})
	require.NoError(t, err)
}

// read reads the whole log.
func read(t *testing.T, s *eventstore.Store) (all []eventstore.Recorded) {
	t.Helper()
	for r, err := range s.Read(t.Context(), eventstore.Query{}) {
		require.NoError(t, err)
		all = append(all, r)
	}
	return all
}

// sound fails the test unless nothing is wrong with a store.
func sound(t *testing.T, s *eventstore.Store) eventstore.Verification {
	t.Helper()
	v, err := s.Verify(t.Context(), func(f eventstore.Finding) { t.Error(f) })
	require.NoError(t, err)
	return v
}
