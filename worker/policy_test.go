package worker

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Whatever the schedule, the attempt and the error: there is one place that the event goes to, it waits
// no longer than the tier that it is in, and never less than it was asked to.
func TestPolicyProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		schedule := rapid.SliceOfN(rapid.Map(rapid.IntRange(1, 100_000), func(ms int) time.Duration { return time.Duration(ms) * time.Millisecond }), 0, 5).Draw(t, "schedule")
		most := rapid.IntRange(1, 6).Draw(t, "max attempts")
		p := newPolicy("q", schedule, most)
		tiers := map[string]time.Duration{}
		for _, tier := range p.tiers {
			tiers[tier.queue] = tier.delay
		}
		now := time.Now()
		for range rapid.IntRange(1, 50).Draw(t, "events") {
			now = now.Add(time.Duration(rapid.IntRange(0, 1000).Draw(t, "later")) * time.Millisecond)
			attempt := rapid.IntRange(1, 7).Draw(t, "attempt")
			after := time.Duration(rapid.IntRange(0, 300_000).Draw(t, "after")) * time.Millisecond
			err := rapid.SampledFrom([]error{errLate, Permanent(errLate), RetryAfter(after, errLate), ErrTimeout}).Draw(t, "error")
			v := p.decide(attempt, fmt.Errorf("wrapped: %w", err), now)
			_, permanent := errors.AsType[*permanentError](err)
			if permanent || attempt >= most || len(schedule) == 0 {
				require.Equal(t, "q.dlq", v.queue)
				require.NotEmpty(t, v.reason)
				require.Zero(t, v.wait, "a dead letter never expires")
				continue
			}
			require.Contains(t, tiers, v.queue)
			require.Empty(t, v.reason)
			require.LessOrEqual(t, v.wait, tiers[v.queue])
			require.Positive(t, v.wait)
			if _, ok := errors.AsType[*retryAfterError](err); ok {
				require.True(t, v.wait >= after || !v.notBefore.Before(now.Add(after)), "%v is before %v has passed", v, after)
			} else {
				require.Equal(t, schedule[min(attempt, len(schedule))-1], tiers[v.queue])
				require.GreaterOrEqual(t, v.wait, min(tiers[v.queue]/2, tiers[v.queue]-time.Millisecond))
			}
		}
	})
}

func TestReasonsOfExhaustion(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err  error
		want Reason
	}{
		{errLate, ReasonAttempts},
		{fmt.Errorf("x: %w", ErrTimeout), ReasonTimeout},
		{context.DeadlineExceeded, ReasonTimeout},
		{&PanicError{Value: 1}, ReasonPanic},
		{RetryAfter(time.Second, errLate), ReasonAttempts},
	} {
		assert.Equal(t, test.want, newPolicy("q", nil, 5).decide(1, test.err, time.Now()).reason)
	}
}

// Moments only grow, so that nothing is held up at the head of a tier, and a burst takes most of the
// second half of the delay.
func TestSpread(t *testing.T) {
	t.Parallel()
	const delay = 10 * time.Second
	var s spread
	now := time.Now()
	var last time.Time
	for i := range 1000 {
		at := now.Add(s.next(now, delay))
		require.False(t, at.Before(last), "event %d", i)
		require.WithinRange(t, at, now.Add(delay/2), now.Add(delay))
		last = at
		if i == 2*spreadOver {
			require.True(t, at.After(now.Add(delay*8/10)), "a burst is spread: %v", at.Sub(now))
		}
	}
	var alone spread
	seen := map[time.Duration]bool{}
	for range 20 {
		now = now.Add(time.Minute)
		seen[alone.next(now, delay)] = true
	}
	assert.Greater(t, len(seen), 10, "events that fail alone wait for different times")
}
