package worker

import (
	"math/rand/v2"
	"sync"
	"time"
)

// spreadOver is how many events that fail at one moment are spread well. The first of them take
// larger parts of the time that there is, and what comes later shares the rest.
const spreadOver = 200

// spread gives the waits of events in one retry tier, so that events which failed together do not
// come back together: from half of the tier's delay to all of it.
//
// Independent random waits would not do that. The broker takes events out of a queue only at its
// head, so an event that has to wait long holds up all behind it, and a burst comes back in a few
// clumps. Therefore the moments at which events are to come back only ever grow, by random steps.
type spread struct {
	mu   sync.Mutex
	last time.Time // when the latest event in the tier is to come back
}

// next gives the wait of the next event: delay/2 to delay.
func (s *spread) next(now time.Time, delay time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	earliest, latest := now.Add(delay/2), now.Add(delay)
	from := earliest
	if s.last.After(earliest) {
		from = s.last
	}
	most := 2 * float64(max(latest.Sub(from), 0)) / spreadOver
	if s.last.Before(now) { // the first of a burst, or an event that failed alone
		most = float64(delay) / 8
	}
	s.last = from.Add(time.Duration(rand.Float64() * most)) //nolint:gosec // no secret
	if s.last.After(latest) {
		s.last = latest
	}
	return max(s.last.Sub(now), time.Millisecond)
}

// exactly notes an event that waits for a time of its own.
func (s *spread) exactly(now time.Time, wait time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := now.Add(wait); at.After(s.last) {
		s.last = at
	}
	return wait
}
