package api

import (
	"math"
	"net/netip"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// maxClients is of how many client addresses is known how much they have asked for: the last ones. One that is forgotten
// has its whole burst again, which takes this many others.
const maxClients = 10_000

// limits are how many requests are answered.
type limits struct {
	all       *rate.Limiter
	perClient rate.Limit
	clients   *lru.Cache[netip.Addr, *rate.Limiter]
}

func newLimits(all, perClient float64) *limits {
	l := &limits{perClient: rate.Limit(perClient)}
	if all > 0 {
		l.all = newLimiter(rate.Limit(all))
	}
	if perClient > 0 {
		l.clients, _ = lru.New[netip.Addr, *rate.Limiter](maxClients) // an error is for a size that is not positive
	}
	return l
}

// newLimiter has the requests of one second for its burst, and at least one.
func newLimiter(limit rate.Limit) *rate.Limiter {
	return rate.NewLimiter(limit, max(1, int(math.Ceil(min(float64(limit), math.MaxInt32)))))
}

// take takes one request of a client. What it gives is how long the client has to wait, and 0 where it need not. A client
// that asks for too much takes nothing from the others.
func (l *limits) take(remote string) time.Duration {
	if l.clients != nil {
		if wait := taken(l.client(clientOf(remote))); wait > 0 {
			return wait
		}
	}
	if l.all != nil {
		return taken(l.all)
	}
	return 0
}

func (l *limits) client(addr netip.Addr) *rate.Limiter {
	if limiter, ok := l.clients.Get(addr); ok {
		return limiter
	}
	limiter := newLimiter(l.perClient)
	if before, there, _ := l.clients.PeekOrAdd(addr, limiter); there {
		return before
	}
	return limiter
}

func taken(limiter *rate.Limiter) time.Duration {
	if limiter.Allow() {
		return 0
	}
	r := limiter.Reserve()
	defer r.Cancel()
	return max(r.Delay(), time.Millisecond)
}

// clientOf is a client's address. Of IPv6 it is the network, as a client has a whole one to take addresses from. What
// proxies say of their clients is not looked at: anybody can say it.
func clientOf(remote string) netip.Addr {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	addr := at.Addr().Unmap().WithZone("")
	if addr.Is6() {
		network, _ := addr.Prefix(64) // which it has
		return network.Masked().Addr()
	}
	return addr
}
