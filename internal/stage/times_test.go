package stage

import (
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestQuantile(t *testing.T) {
	t.Parallel()
	var times Times
	require.True(t, math.IsNaN(times.Quantile(0.5)), "there are none")
	var adding sync.WaitGroup
	for i := range 100 {
		adding.Go(func() { times.Add(time.Duration(100-i) * time.Millisecond) })
	}
	adding.Wait()
	require.Equal(t, 100, times.Len())
	for q, want := range map[float64]float64{0: 1, 0.001: 1, 0.5: 50, 0.501: 51, 0.99: 99, 1: 100} {
		require.InDelta(t, want, times.Quantile(q), 0, "of %v", q)
	}
	var one Times
	one.Add(1500 * time.Microsecond)
	for _, q := range []float64{0, 0.5, 0.99, 1} {
		require.InDelta(t, 1.5, one.Quantile(q), 0)
	}
}
