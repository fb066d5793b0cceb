package sink_test

import (
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/event"
)

// BenchmarkHandle hands over events of orders, 64 at a time, to the sinks that wait for the disk themselves.
func BenchmarkHandle(b *testing.B) {
	for _, kind := range []string{"lake", "analytics", "search", "crm"} {
		b.Run(kind, func(b *testing.B) {
			s, err := open(b.Context(), kind, place{Dir: filepath.Join(b.TempDir(), "sink")})
			require.NoError(b, err)
			events := history(1 + b.N/7)
			for i := range events {
				events[i].ID = "event-" + strconv.Itoa(i)
			}
			var group errgroup.Group
			group.SetLimit(concurrency)
			b.ResetTimer()
			for i := range b.N {
				group.Go(func() error { return skipped(s.Handle(b.Context(), delivery([]event.Event{events[i%len(events)]}, 0))) })
			}
			require.NoError(b, group.Wait())
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			require.NoError(b, s.Close(b.Context()))
		})
	}
}
