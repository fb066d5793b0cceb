package worker

import "sync/atomic"

// Stats counts what a worker has done since it was started.
type Stats struct {
	// Delivered counts events that arrived, and further attempts in place: Handled + Skipped + Duplicates + Failed + Requeued +
	// Held + those running.
	Delivered int64
	// Handled counts those for which the handler returned nil.
	Handled int64
	// Skipped counts those that the handler skipped with ErrSkip.
	Skipped int64
	// Duplicates counts those that had been handled before; see [Dedup].
	Duplicates int64
	// Failed counts those for which the handler returned an error or panicked, and those that are
	// no events: Retried + DeadLettered + those for which neither is confirmed.
	Failed int64
	// Retried counts failed events that wait in a retry tier, or in their place where Config.OrderedBy
	// keeps them there. DeadLettered counts those that were dead-lettered. Both are confirmed by the
	// broker, but for what waits in its place.
	Retried, DeadLettered int64
	// Requeued counts those that the handler gave back with ErrRequeue.
	Requeued int64
	// Held counts those that a [Gate] held back, Released what was sent on once its parent had been
	// handled, by this worker or another, and Orphaned what was dead-lettered since that had not come.
	Held, Released, Orphaned int64
	// Redelivered counts delivered events that the broker had delivered before, to this or
	// another worker.
	Redelivered int64
	// Foreign counts delivered messages that were no CloudEvents.
	Foreign int64
	// Late counts events that were handled, skipped or passed on and whose acknowledgement came too late for its connection. Each
	// is delivered again.
	Late int64
	// Reconnects counts connections after the first.
	Reconnects int64
}

type counters struct {
	delivered, handled, skipped, duplicates, failed, retried, deadLettered, requeued, redelivered, foreign, late, reconnects, held, released, orphaned atomic.Int64
}

func (c *counters) arrived(d *Delivery) {
	c.delivered.Add(1)
	if d.Redelivered && !d.inPlace {
		c.redelivered.Add(1)
	}
	if d.Foreign != nil {
		c.foreign.Add(1)
	}
}

// Stats gives the counts as they are now.
func (w *Worker) Stats() Stats {
	c := &w.counts
	return Stats{
		Delivered: c.delivered.Load(), Handled: c.handled.Load(), Skipped: c.skipped.Load(), Duplicates: c.duplicates.Load(),
		Failed: c.failed.Load(), Retried: c.retried.Load(), DeadLettered: c.deadLettered.Load(),
		Requeued: c.requeued.Load(), Redelivered: c.redelivered.Load(), Foreign: c.foreign.Load(),
		Late: c.late.Load(), Reconnects: c.reconnects.Load(),
		Held: c.held.Load(), Released: c.released.Load(), Orphaned: c.orphaned.Load(),
	}
}
