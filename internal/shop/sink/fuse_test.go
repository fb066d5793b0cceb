package sink

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestFuse(t *testing.T) {
	t.Parallel()
	var f fuse
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	waits := func(want time.Duration) int {
		t.Helper()
		turn, wait := f.attempt(now)
		assert.Equal(t, want, wait)
		return turn
	}
	stragglers := waits(0)
	for range fuseFailures - 1 {
		f.failed(waits(0), now)
	}
	f.worked()
	for range fuseFailures {
		f.failed(waits(0), now)
	}
	waits(fuseFirst)
	f.failed(stragglers, now) // began before
	waits(fuseFirst)
	for pause := fuseFirst; pause < fuseLongest; pause *= 2 {
		now = now.Add(pause)
		probe := waits(0)
		waits(pause) // while that is under way
		f.failed(probe, now)
		waits(min(2*pause, fuseLongest))
	}
	now = now.Add(fuseLongest)
	waits(0)
	f.worked()
	waits(0)
	f.asked(now, time.Hour)
	waits(time.Hour)
	f.asked(now, time.Minute)
	f.worked() // an answer to an earlier attempt
	waits(time.Hour)
	now = now.Add(time.Hour)
	waits(0)
	waits(0)
}
