package scenario

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/internal/stage"
)

const (
	herdClients   = 200
	herdWaits     = 500 * time.Millisecond // each time, where waits are all the same
	herdOutage    = 900 * time.Millisecond
	herdPerSecond = 200 // clients that the door lets in
	herdAtOnce    = 20
	herdMoment    = 100 * time.Millisecond
	herdPatience  = 15 * time.Second // longer than anybody waits
)

// thunderingHerd: clients that lost their broker together come back together, unless each waits a time of its own.
func thunderingHerd() stage.Scenario {
	return stage.Scenario{
		Name:  "thundering-herd",
		Title: "Two hundred clients come back after an outage, all at once or spread",
		Lesson: "An outage ends the connections of all clients at the same moment, and clients that all wait equally long before they try again all try at the same moment, too. " +
			"That is a thundering herd: what has just come up gets all of its visitors within a blink, turns most of them away, and those come again together. " +
			"A back-off with jitter, which is a wait that grows with each attempt and is chosen at random each time, spreads them; the last one may come sooner or later for that.",
		Broken: "every client tries again after half a second, each time.",
		Fixed:  "every client waits as evdemo does: at random up to 0.5 s, then up to 1 s, 2 s, and so on up to 10 s.",
		Play:   playThunderingHerd,
		Parts:  map[string]stage.Part{"clients": herdPart},
		Figures: []stage.Figure{
			{Key: "peak", Label: "attempts to connect by 200 clients, in the busiest tenth of a second after the outage"},
			{Key: "refused", Label: "attempts that the door turned away"},
			{Key: "attempts", Label: "attempts to connect in all, those during the outage too"},
			{Key: "back", Label: "clients that are connected again"},
			{Key: "half", Label: "time from the end of the outage until half of them are", Unit: "ms"},
			{Key: "all", Label: "time from the end of the outage until all of them are", Unit: "ms"},
		},
		Claims: []stage.Claim{{
			Text: "Broken: more than a quarter of all clients knock within the same tenth of a second.", By: []string{"peak"},
			Holds: func(was, _ stage.Figures) bool { return was.Of("peak") > herdClients/4 },
		}, {
			Text: "Broken: the door turns away more than a hundred attempts.", By: []string{"refused"},
			Holds: func(was, _ stage.Figures) bool { return was.Of("refused") > 100 },
		}, {
			Text: "Fixed: within a tenth of a second less than half as many knock.", By: []string{"peak"},
			Holds: func(was, now stage.Figures) bool { return now.Of("peak") < was.Of("peak")/2 },
		}, {
			Text: "Fixed: the door turns away less than half of what it turns away in Broken.", By: []string{"refused"},
			Holds: func(was, now stage.Figures) bool { return now.Of("refused") < was.Of("refused")/2 },
		}, {
			Text: "Fixed: all clients are connected again.", By: []string{"back"},
			Holds: func(_, now stage.Figures) bool { return now.Of("back") == herdClients },
		}},
		Try: []string{
			"evdemo work --queue payments    # start several, stop the broker and start it again: each says when it has connected again",
		},
	}
}

func playThunderingHerd(ctx context.Context, s *stage.Stage) error {
	var knocks, back herdTimes
	door, err := s.Link(ctx, knocks.add)
	if err != nil {
		return err
	}
	host, port, err := session.HostPort(door.URL())
	if err != nil {
		return err
	}
	s.Say("%d clients connect to the broker, a few at a time, each with a connection of its own.", herdClients)
	seen := map[string]bool{} // who is back
	_, err = s.StartPart(ctx, "clients", "clients", func(client []byte) {
		if !seen[string(client)] {
			seen[string(client)] = true
			back.add()
		}
	}, map[string]string{"door": net.JoinHostPort(host, port), "waits": string(s.Mode)})
	if err != nil {
		return err
	}
	began := time.Now()
	s.Say("An outage of %v ends all connections. Then the broker is back, behind a door as load balancers have it: %d new connections at once, and %d per second.", herdOutage, herdAtOnce, herdPerSecond)
	door.Down()
	if err := s.Pause(ctx, herdOutage); err != nil {
		return err
	}
	limit, refused := rate.NewLimiter(herdPerSecond, herdAtOnce), new(atomic.Int64)
	door.Admit(func() bool {
		if limit.Allow() {
			return true
		}
		refused.Add(1)
		return false
	})
	over := time.Now()
	door.Up()
	returned := func() int { return len(back.since(began)) }
	if err := s.Settle(ctx, herdPatience, herdClients, returned); err != nil {
		return err
	}
	s.Count("attempts", len(knocks.since(began)))
	s.Count("peak", herdPeak(knocks.since(over)))
	s.Count("refused", int(refused.Load()))
	s.Count("back", returned())
	for key, n := range map[string]int{"half": herdClients / 2, "all": herdClients} {
		if returned() >= n {
			s.Measure(key, stage.Milliseconds(back.since(began)[n-1].Sub(over)))
		}
	}
	return s.StopAll()
}

// herdPeak is how many times lie within a moment, at most.
func herdPeak(times []time.Time) (peak int) {
	first := 0
	for i, t := range times {
		for t.Sub(times[first]) > herdMoment {
			first++
		}
		peak = max(peak, i-first+1)
	}
	return peak
}
