package sink

import (
	"sync"
	"time"
)

const (
	// fuseFailures is how many failures in a row it takes to leave a receiver alone.
	fuseFailures = 5
	// It is left alone for fuseFirst, and after each attempt that fails again for twice as long, up to fuseLongest.
	fuseFirst = time.Second
	// fuseShortest is how long whoever asks too early waits at least: those who come back together come back too early.
	fuseShortest = 250 * time.Millisecond
	fuseLongest  = 30 * time.Second
)

// fuse keeps what fails from taking the time of others: after some failures in a row nothing is attempted for a while, and
// then one attempt at a time until one works. Its zero value is whole.
type fuse struct {
	mu       sync.Mutex
	failures int
	pause    time.Duration
	until    time.Time // nothing is attempted before
	turn     int       // failures of attempts that began in an earlier one are known
}

// attempt lets the caller make an attempt where wait is 0. Of those who ask after a pause the first is let through, and
// the others are told to wait for as long again.
func (f *fuse) attempt(now time.Time) (turn int, wait time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if wait := f.until.Sub(now); wait > 0 {
		return 0, max(wait, fuseShortest)
	}
	if f.failures >= fuseFailures {
		f.turn++
		f.until = now.Add(f.pause)
	}
	return f.turn, 0
}

// failed is for an attempt that did not work.
func (f *fuse) failed(turn int, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if turn != f.turn {
		return
	}
	if f.failures++; f.failures >= fuseFailures {
		f.turn++
		f.pause = min(max(2*f.pause, fuseFirst), fuseLongest)
		f.until = now.Add(f.pause)
	}
}

// asked is for an attempt whose answer was to come again later.
func (f *fuse) asked(now time.Time, wait time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if until := now.Add(wait); until.After(f.until) {
		f.until = until
	}
}

// worked is for an attempt that was answered.
func (f *fuse) worked() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failures >= fuseFailures {
		f.until = time.Time{}
	}
	f.failures, f.pause = 0, 0
}
