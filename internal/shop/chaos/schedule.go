package chaos

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// kind is what a fault does.
type kind string

// The kinds.
const (
	kill       kind = "kill"        // SIGKILL to a process, which is started again
	stop       kind = "stop"        // SIGTERM to a process, which is started again
	freeze     kind = "freeze"      // SIGSTOP to a process, and SIGCONT
	killAll    kind = "kill all"    // SIGKILL to every process at once
	killBroker kind = "kill broker" // SIGKILL to the node of RabbitMQ, which is started again
)

// fault is one of them.
type fault struct {
	kind kind
	// placed is how many orders are placed before, and after how much later than that it comes.
	placed int
	after  time.Duration
	// target is the process, for those that are about one.
	target int
	// lasts is how long a process is away or frozen.
	lasts time.Duration
}

const (
	longestAfter = 500 * time.Millisecond
	longestAway  = 2 * time.Second
	leastFrozen  = 2 * time.Second
	mostFrozen   = 5 * time.Second
	perOther     = 10 // kills, for each part that is frozen, and for each that is ended
)

// schedule is all faults of a proof, in their order: the same for the same config and number of processes.
func schedule(c *Config, processes int) []fault {
	random := rand.New(rand.NewPCG(c.Seed, 1)) //nolint:gosec // faults, not secrets
	var faults []fault
	add := func(n int, kind kind, least, most time.Duration) {
		for range n {
			faults = append(faults, fault{
				kind: kind, placed: 1 + random.IntN(c.Orders), after: upTo(random, longestAfter),
				target: random.IntN(processes), lasts: least + upTo(random, most-least),
			})
		}
	}
	add(c.Kills, kill, 0, longestAway)
	add(c.Kills/perOther, stop, 0, longestAway)
	add(c.Kills/perOther, freeze, leastFrozen, mostFrozen)
	add(min(c.Kills, 1), killAll, 0, longestAway)
	add(c.BrokerKills, killBroker, 0, longestAway)
	spread(faults, c.Orders)
	slices.SortStableFunc(faults, func(a, b fault) int { return cmp.Compare(a.placed, b.placed) })
	return faults
}

func upTo(random *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(random.Int64N(int64(most) + 1))
}

// spread gives each kill of the broker a share of the orders of its own: two at a time would be one.
func spread(faults []fault, orders int) {
	first := slices.IndexFunc(faults, func(f fault) bool { return f.kind == killBroker })
	if first < 0 {
		return
	}
	kills := faults[first:]
	for i := range kills {
		from, to := i*orders/len(kills), (i+1)*orders/len(kills)
		kills[i].placed = from + 1 + (kills[i].placed-1)*(to-from)/orders
	}
}
