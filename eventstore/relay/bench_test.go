package relay_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/eventstore/relay"
	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/postgrestest"
	"github.com/evdemo/evdemo/publisher"
)

// benchEvents is how many events a round publishes.
const benchEvents = 30_000

// BenchmarkRelay publishes a log, beside a bare loop that publishes the same events from memory.
func BenchmarkRelay(b *testing.B) {
	for _, database := range []string{"SQLite", "PostgreSQL"} {
		b.Run(database, func(b *testing.B) {
			db := filepath.Join(b.TempDir(), "store.db")
			if database == "PostgreSQL" {
				db = postgrestest.URL(b)
			}
			store := open(b, eventstore.Config{DB: db})
			events := fill(b, store)
			url := brokertest.URL(b)
			var bare, relayed time.Duration
			b.ResetTimer()
			for b.Loop() {
				bare += publishBare(b, url, events)
				relayed += publishLog(b, url, store)
			}
			total := float64(b.N * benchEvents)
			b.ReportMetric(total/bare.Seconds(), "bare/s")
			b.ReportMetric(total/relayed.Seconds(), "relayed/s")
			b.ReportMetric(bare.Seconds()/relayed.Seconds(), "ratio")
		})
	}
}

// fill appends events of 300 bytes, and gives what the log has then.
func fill(b *testing.B, store *eventstore.Store) (log []eventstore.Recorded) {
	b.Helper()
	data := make([]byte, 300)
	for i := range data {
		data[i] = 'x'
	}
	copy(data, `{"pad":"`)
	copy(data[len(data)-2:], `"}`)
	for from := 0; from < benchEvents; from += 500 {
		batch := make([]event.Event, 500)
		for i := range batch {
			batch[i] = numbered(from + i)
			batch[i].Data = data
		}
		_, err := store.Append(b.Context(), eventstore.StreamWrite{Stream: streamOf(from / 500), Events: batch})
		require.NoError(b, err)
	}
	for r, err := range store.Read(b.Context(), eventstore.Query{}) {
		require.NoError(b, err)
		log = append(log, r)
	}
	return log
}

// publishBare sends what is in memory through a publisher, with the relay's window and headers.
func publishBare(b *testing.B, url string, log []eventstore.Recorded) time.Duration {
	b.Helper()
	to, p := publisher.ToQueue(queue(b, url)), publish(b, url)
	began := time.Now()
	for i := range log {
		r := &log[i]
		require.NoError(b, p.Send(b.Context(), publisher.Message{Event: r.Event, To: to, Headers: map[string]any{
			relay.HeaderStream: r.Stream, relay.HeaderVersion: r.Version, relay.HeaderPosition: r.Position,
		}}, nil))
	}
	require.NoError(b, p.Close(b.Context()))
	require.Equal(b, int64(len(log)), p.Stats().Confirmed)
	return time.Since(began)
}

func publishLog(b *testing.B, url string, store *eventstore.Store) time.Duration {
	b.Helper()
	q, p := queue(b, url), publish(b, url)
	r, err := relay.New(relay.Config{Store: store, Publisher: p, To: relay.ToQueue(q), Name: q, CatchUp: true})
	require.NoError(b, err)
	began := time.Now()
	require.NoError(b, r.Run(b.Context()))
	took := time.Since(began)
	require.Equal(b, int64(benchEvents), r.Stats().Published)
	return took
}
