package publisher

import "sync/atomic"

// Stats counts what a publisher has done since Open.
type Stats struct {
	// Sent counts accepted events. Sent = Confirmed + Returned + Nacked + Unknown + those in the
	// window.
	Sent, Confirmed, Returned, Nacked, Unknown int64
	// Resent counts publishes that repeated an earlier one because its confirm never came: each
	// may have made a duplicate.
	Resent int64
	// Reconnects counts connections after the first.
	Reconnects int64
}

type counters struct {
	sent, confirmed, returned, nacked, unknown, resent, reconnects atomic.Int64
}

func (c *counters) count(o Outcome) {
	switch o {
	case Confirmed:
		c.confirmed.Add(1)
	case Returned:
		c.returned.Add(1)
	case Nacked:
		c.nacked.Add(1)
	case Unknown:
		c.unknown.Add(1)
	}
}

// Stats gives the counts as they are now. They are taken one after the other, so sums may be
// off by what happens meanwhile; after Close they are exact.
func (p *Publisher) Stats() Stats {
	c := &p.counts
	return Stats{
		Sent: c.sent.Load(), Confirmed: c.confirmed.Load(), Returned: c.returned.Load(),
		Nacked: c.nacked.Load(), Unknown: c.unknown.Load(),
		Resent: c.resent.Load(), Reconnects: c.reconnects.Load(),
	}
}
