package stage

import (
	"math"
	"slices"
	"sync"
	"time"
)

// Times collects how long things took. Its methods may be called from several goroutines.
type Times struct {
	mu     sync.Mutex
	values []time.Duration
}

// Add adds one.
func (t *Times) Add(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.values = append(t.values, d)
}

// Len is how many there are.
func (t *Times) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.values)
}

// Quantile is the time in milliseconds that the share q of all did not exceed, such as 0.99. Of none it is no number.
func (t *Times) Quantile(q float64) float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(t.values))
	i := int(math.Ceil(q*float64(len(sorted)))) - 1
	return Milliseconds(sorted[max(0, i)])
}

// Milliseconds is a duration as a figure.
func Milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
