package postgres_test

import (
	"context"
	"database/sql"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/localpostgres"
	"github.com/evdemo/evdemo/internal/postgrestest"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox"
	"github.com/evdemo/evdemo/worker/inbox/postgres"
)

// eventSource is of usual length.
const eventSource = "/evdemo/publisher"

func eventKey(n int64) worker.Key {
	return worker.Key{Consumer: "payments", Source: eventSource, ID: fmt.Sprintf("0198c1d2-7e3f-7000-8000-%012d", n)}
}

// durableURL is a database whose commits are on disk.
func durableURL(b *testing.B) string {
	b.Helper()
	server := postgrestest.Server(b, func(c *localpostgres.Config) { c.NoSync = false })
	return server.URL("postgres")
}

// onceInParallel handles b.N events, 32 at a time.
func onceInParallel(b *testing.B, handle func(context.Context) error) {
	b.Helper()
	url := durableURL(b)
	store, err := postgres.Open(b.Context(), postgres.Config{URL: url, MaxConns: 32})
	require.NoError(b, err)
	defer func() { require.NoError(b, store.Close()) }()
	db, err := sql.Open("pgx", url)
	require.NoError(b, err)
	defer db.Close()
	_, err = db.ExecContext(b.Context(), `CREATE TABLE effects (id TEXT)`)
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

// BenchmarkBare32 inserts the same records on 32 connections, with nothing around it, and with an effect in the
// same transaction: the measure for the others.
func BenchmarkBare32(b *testing.B) {
	for _, effect := range []bool{false, true} {
		b.Run(fmt.Sprintf("effect=%v", effect), func(b *testing.B) { insertBare(b, effect) })
	}
}

func insertBare(b *testing.B, effect bool) {
	b.Helper()
	db, err := sql.Open("pgx", durableURL(b))
	require.NoError(b, err)
	defer db.Close()
	db.SetMaxIdleConns(32)
	_, err = db.ExecContext(b.Context(), `CREATE TABLE effects (id TEXT); CREATE TABLE handled (consumer text, source text, id text,
		handled_at timestamptz DEFAULT now(), PRIMARY KEY (consumer, source, id))`)
	require.NoError(b, err)
	var next atomic.Int64
	b.SetParallelism(max(32/runtime.GOMAXPROCS(0), 1))
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := insertOne(b.Context(), db, eventKey(next.Add(1)), effect); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

func insertOne(ctx context.Context, db *sql.DB, key worker.Key, effect bool) error {
	const record = `INSERT INTO handled (consumer, source, id) VALUES ($1, $2, $3)`
	if !effect {
		_, err := db.ExecContext(ctx, record, key.Consumer, key.Source, key.ID)
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing, once committed
	if _, err := tx.ExecContext(ctx, record, key.Consumer, key.Source, key.ID); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO effects VALUES ('effect')`); err != nil {
		return err
	}
	return tx.Commit()
}
