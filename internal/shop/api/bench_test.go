package api_test

import (
	"database/sql"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	_ "modernc.org/sqlite" // the driver
)

// connections is how many post at a time.
const connections = 64

// BenchmarkPlace has 64 connections place orders, with the view kept beside it.
func BenchmarkPlace(b *testing.B) {
	s := serve(b, file(b))
	post(b, s.url+"/api/orders", http.StatusAccepted)
}

// BenchmarkBareInsert is what a handler does that only has one durable insert to make, into a table of its own.
func BenchmarkBareInsert(b *testing.B) {
	db, err := sql.Open("sqlite", "file:"+file(b)+"?_txlock=immediate&_pragma=journal_mode(wal)&_pragma=synchronous(full)")
	require.NoError(b, err)
	defer db.Close()
	db.SetMaxOpenConns(1)
	_, err = db.ExecContext(b.Context(), `CREATE TABLE orders (id TEXT PRIMARY KEY, body TEXT)`)
	require.NoError(b, err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			_, err = db.ExecContext(r.Context(), `INSERT INTO orders VALUES ($1, $2)`, uuid.Must(uuid.NewV7()).String(), string(body))
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	defer server.Close()
	post(b, server.URL, http.StatusAccepted)
}

// post posts b.N orders, and tells how long the slowest of a hundred took.
func post(b *testing.B, url string, want int) {
	b.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: connections, DialContext: (&net.Dialer{}).DialContext}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: patience}
	var left atomic.Int64
	left.Store(int64(b.N))
	times := make([][]time.Duration, connections)
	var crowd errgroup.Group
	b.ResetTimer()
	for i := range connections {
		crowd.Go(func() error {
			for left.Add(-1) >= 0 {
				began := time.Now()
				r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url, strings.NewReader(anOrder))
				if err != nil {
					return err
				}
				r.Header.Set("Content-Type", jsonType)
				response, err := client.Do(r)
				if err != nil {
					return err
				}
				_, err = io.Copy(io.Discard, response.Body)
				if err = errors.Join(err, response.Body.Close()); err != nil {
					return err
				}
				if response.StatusCode != want {
					return errors.New(response.Status)
				}
				times[i] = append(times[i], time.Since(began))
			}
			return nil
		})
	}
	require.NoError(b, crowd.Wait())
	b.StopTimer()
	all := slices.Concat(times...)
	slices.Sort(all)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "orders/s")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
}
