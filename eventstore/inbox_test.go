package eventstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/postgrestest"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox"
	"github.com/evdemo/evdemo/worker/inbox/postgres"
)

var errStopped = errors.New("stopped in the middle")

// A handler that appends in the inbox's transaction has appended exactly once for each event, however often that is
// delivered and wherever an attempt fails: what was handled, and what followed from it, commit together.
func TestHandledAndAppendedTogether(t *testing.T) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		db := filepath.Join(t.TempDir(), "shop.db")
		received, err := inbox.Open(t.Context(), inbox.Config{Path: db, BusyTimeout: time.Minute})
		require.NoError(t, err)
		defer func() { require.NoError(t, received.Close()) }()
		testHandledAndAppended(t, db, received)
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		db := postgrestest.URL(t)
		received, err := postgres.Open(t.Context(), postgres.Config{URL: db})
		require.NoError(t, err)
		defer func() { require.NoError(t, received.Close()) }()
		testHandledAndAppended(t, db, received)
	})
}

func testHandledAndAppended(t *testing.T, db string, received worker.DedupStore) {
	t.Helper()
	const events, deliveries = 60, 4
	store, err := eventstore.Open(t.Context(), eventstore.Config{DB: db, BusyTimeout: time.Minute})
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close()) }()
	seed := rand.Uint64() //nolint:gosec // a test
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, seed)) //nolint:gosec // a test
	var group sync.WaitGroup
	queue := make(chan int)
	failures := make(chan bool, events*deliveries)
	for range 8 {
		group.Go(func() {
			for n := range queue {
				stop := <-failures
				_, err := received.Once(t.Context(), worker.Key{Consumer: "billing", ID: fmt.Sprint(n)}, func(ctx context.Context) error {
					return bill(ctx, store, n, stop)
				})
				if stop && !errors.Is(err, errStopped) && err != nil || !stop && err != nil {
					t.Errorf("event %d: %v", n, err)
				}
			}
		})
	}
	for delivery := range deliveries {
		for _, n := range random.Perm(events) {
			failures <- delivery < deliveries-1 && random.IntN(2) == 0 // the last attempt may succeed
			queue <- n
		}
	}
	close(queue)
	group.Wait()
	billed := map[string]int{}
	for r, err := range store.Read(t.Context(), eventstore.Query{Types: []string{"bill.sent"}}) {
		require.NoError(t, err)
		billed[r.Stream]++
	}
	assert.Len(t, billed, events)
	for stream, n := range billed {
		assert.Equal(t, 1, n, "%s", stream)
	}
}

// bill handles an event, and may fail behind the append.
func bill(ctx context.Context, store *eventstore.Store, n int, stop bool) error {
	return inbox.Transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
		e, err := event.New("bill.sent", "billing", map[string]int{"order": n})
		if err != nil {
			return err
		}
		// Of no expectation: only the transaction keeps it from being there twice.
		_, err = store.AppendTx(ctx, tx, eventstore.StreamWrite{Stream: fmt.Sprintf("bill-%d", n), Events: []event.Event{e}})
		if err == nil && stop {
			err = errStopped
		}
		return err
	})
}
