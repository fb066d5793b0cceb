package worker

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/evdemo/evdemo/topology"
)

// Policy says what becomes of events that have failed. It is what a worker does; this is for buses that
// have no RabbitMQ behind them.
type Policy struct {
	// Retry is the schedule of delays between attempts; empty means no retry.
	Retry []time.Duration
	// MaxAttempts at one event before it is dead-lettered.
	MaxAttempts int
}

// Decide judges an event by its latest attempt and the error that this ended with: it is tried again after a
// wait, or dead-lettered for a reason. Waits are spread over the second half of each delay.
func (p Policy) Decide(attempt int, err error) (wait time.Duration, reason Reason) {
	delay, asked, reason := p.judge(attempt, err)
	switch {
	case reason != "":
		return 0, reason
	case asked:
		return max(delay, time.Millisecond), ""
	}
	return delay - rand.N(max(delay/2, 1)), "" //nolint:gosec // it spreads, and guards nothing
}

// judge gives the delay before the next attempt, and whether the error itself asked for it; or the reason for
// which there is none.
func (p Policy) judge(attempt int, err error) (delay time.Duration, asked bool, reason Reason) {
	if permanent, ok := errors.AsType[*permanentError](err); ok {
		return 0, false, permanent.reason
	}
	if attempt >= p.MaxAttempts || len(p.Retry) == 0 {
		return 0, false, exhausted(err)
	}
	if after, ok := errors.AsType[*retryAfterError](err); ok {
		return after.delay, true, ""
	}
	return p.Retry[min(attempt, len(p.Retry))-1], false, ""
}

// policy is a Policy on RabbitMQ, where events wait in the tiers of their queue.
type policy struct {
	Policy

	queue string
	tiers []*tier // by delay, the shortest first
}

// tier is a queue in which events wait, at most for its delay.
type tier struct {
	queue string
	delay time.Duration
	spread
}

func newPolicy(queue string, schedule []time.Duration, maxAttempts int) *policy {
	p := &policy{Policy: Policy{schedule, maxAttempts}, queue: queue}
	for _, delay := range slices.Compact(slices.Sorted(slices.Values(schedule))) {
		p.tiers = append(p.tiers, &tier{queue: topology.RetryTier(queue, delay), delay: delay})
	}
	return p
}

// verdict is what is to become of an event: it goes to a queue, to wait there or, with a reason, as
// a dead letter.
type verdict struct {
	queue     string
	wait      time.Duration
	notBefore time.Time // where wait is only a part of the way
	reason    Reason
	waiting   bool // it has not failed again: its time has not come
}

// until tells how long it is, at least, until the event comes again.
func (v verdict) until(now time.Time) time.Duration {
	if v.notBefore.IsZero() {
		return v.wait
	}
	return v.notBefore.Sub(now)
}

// decide judges an event by its latest attempt and the error that this ended with.
func (p *policy) decide(attempt int, err error, now time.Time) verdict {
	delay, asked, reason := p.judge(attempt, err)
	switch {
	case reason != "":
		return p.deadLetter(reason)
	case asked:
		return p.waitAtLeast(delay, now)
	}
	tier := p.tiers[slices.IndexFunc(p.tiers, func(t *tier) bool { return t.delay == delay })]
	return verdict{queue: tier.queue, wait: tier.next(now, delay)}
}

func (p *policy) deadLetter(reason Reason) verdict {
	return verdict{queue: topology.DeadLetterQueue(p.queue), reason: reason}
}

// exhausted is the reason for giving up an event whose last attempt ended with err.
func exhausted(err error) Reason {
	var panicked *PanicError
	switch {
	case errors.As(err, &panicked):
		return ReasonPanic
	case errors.Is(err, ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return ReasonTimeout
	default:
		return ReasonAttempts
	}
}

// waitAtLeast has an event wait in the shortest tier that is long enough. Where none is, it goes
// through the longest again until its time has come.
func (p *policy) waitAtLeast(delay time.Duration, now time.Time) verdict {
	for _, t := range p.tiers {
		if t.delay >= delay {
			return verdict{queue: t.queue, wait: t.exactly(now, max(delay, time.Millisecond))}
		}
	}
	longest := p.tiers[len(p.tiers)-1]
	return verdict{queue: longest.queue, wait: longest.exactly(now, longest.delay), notBefore: now.Add(delay)}
}
