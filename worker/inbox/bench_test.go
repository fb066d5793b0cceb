package inbox_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox"
)

// eventSource is of usual length.
const eventSource = "/evdemo/publisher"

func eventKey(n int64) worker.Key {
	return worker.Key{Consumer: "payments", Source: eventSource, ID: fmt.Sprintf("0198c1d2-7e3f-7000-8000-%012d", n)}
}

// onceInParallel handles b.N events, 32 at a time.
func onceInParallel(b *testing.B, handle func(context.Context) error) {
	b.Helper()
	store, err := inbox.Open(b.Context(), inbox.Config{Path: filepath.Join(b.TempDir(), "inbox.db")})
	require.NoError(b, err)
	defer func() { require.NoError(b, store.Close()) }()
	_, err = store.DB().ExecContext(b.Context(), `CREATE TABLE effects (id TEXT)`)
	require.NoError(b, err)
	var next atomic.Int64
	b.SetParallelism(max(32/runtime.GOMAXPROCS(0), 1))
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			called, err := store.Once(b.Context(), eventKey(next.Add(1)), handle)
			if err != nil || !called {
				b.Errorf("called %v, error %v", called, err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkOnce32 is deduplication at concurrency 32, of a handler that does nothing.
func BenchmarkOnce32(b *testing.B) {
	onceInParallel(b, func(context.Context) error { return nil })
}

// BenchmarkTransact32 is the same with an effect in the store's transaction.
func BenchmarkTransact32(b *testing.B) {
	onceInParallel(b, func(ctx context.Context) error {
		return inbox.Transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO effects VALUES ('effect')`)
			return err
		})
	})
}

// BenchmarkBare inserts the same records in a loop, with nothing around it: the measure for the others.
func BenchmarkBare(b *testing.B) {
	for _, group := range []int{1, 32} {
		b.Run(fmt.Sprintf("group=%d", group), func(b *testing.B) { insertBare(b, group) })
	}
}

func insertBare(b *testing.B, group int) {
	b.Helper()
	path := filepath.Join(b.TempDir(), "inbox.db")
	store, err := inbox.Open(b.Context(), inbox.Config{Path: path}) // makes the table
	require.NoError(b, err)
	require.NoError(b, store.Close())
	db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_pragma=synchronous(FULL)&_pragma=busy_timeout(5000)")
	require.NoError(b, err)
	defer db.Close()
	db.SetMaxOpenConns(1)
	insert, err := db.PrepareContext(b.Context(), `INSERT INTO evdemo_inbox_handled VALUES (?, ?, ?, ?)`)
	require.NoError(b, err)
	b.ResetTimer()
	for n := 0; n < b.N; n += group {
		tx, err := db.BeginTx(b.Context(), nil)
		require.NoError(b, err)
		stmt := tx.StmtContext(b.Context(), insert)
		for i := n; i < min(n+group, b.N); i++ {
			key := eventKey(int64(i))
			_, err = stmt.ExecContext(b.Context(), key.Consumer, key.Source, key.ID, int64(i))
			require.NoError(b, err)
		}
		require.NoError(b, tx.Commit())
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
