package worker

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// GateMemory is a [GateStore] in memory. What it holds ends with the process: a worker gives it back to its
// queues when it ends in order, and a crash loses it, which the worker says when it starts. It is for tests,
// and for buses in memory; package inbox has one that survives.
type GateMemory struct {
	mu      sync.Mutex
	entries int
	groups  map[string]*gateGroup
}

// gateGroup is what is known of one group.
type gateGroup struct {
	handled *simplelru.LRU[string, struct{}]
	held    map[heldKey]*heldEvent
	waiting map[string]map[heldKey]*heldEvent // by parent
	count   int64                             // of events held, and of claims
}

type heldKey struct{ queue, source, id string }

type heldEvent struct {
	Held
	place   int64
	claimed time.Time
}

// NewGateMemory makes an empty store that remembers so many handled events of each group; the one handled
// longest ago is forgotten first, and what comes after it then waits in vain. Default (0 or less) 100,000.
func NewGateMemory(entries int) *GateMemory {
	if entries <= 0 {
		entries = DefaultMemoryEntries
	}
	return &GateMemory{entries: entries, groups: map[string]*gateGroup{}}
}

func (s *GateMemory) group(name string) *gateGroup {
	g := s.groups[name]
	if g == nil {
		handled, err := simplelru.NewLRU[string, struct{}](s.entries, nil)
		if err != nil { // for sizes below 1 only
			panic(err)
		}
		g = &gateGroup{handled: handled, held: map[heldKey]*heldEvent{}, waiting: map[string]map[heldKey]*heldEvent{}}
		s.groups[name] = g
	}
	return g
}

// Hold implements [GateStore].
func (s *GateMemory) Hold(_ context.Context, group string, h Held) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.group(group)
	if g.handled.Contains(h.Parent) {
		return false, nil
	}
	key := heldKey{h.Queue, h.Source, h.ID}
	if e := g.held[key]; e != nil {
		if !e.claimed.IsZero() {
			e.Claim, e.claimed, e.Until = 0, time.Time{}, h.Until
		}
		return true, nil
	}
	g.count++
	e := &heldEvent{Held: h, place: g.count}
	g.held[key] = e
	if g.waiting[h.Parent] == nil {
		g.waiting[h.Parent] = map[heldKey]*heldEvent{}
	}
	g.waiting[h.Parent][key] = e
	return true, nil
}

// Mark implements [GateStore].
func (s *GateMemory) Mark(_ context.Context, group, id string) ([]Held, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.group(group)
	g.handled.Add(id, struct{}{})
	return g.claim(maps.Values(g.waiting[id]), GateLease, func(*heldEvent) bool { return true }), nil
}

// claim gives those of the events that are wanted and not given to somebody within the lease.
func (g *gateGroup) claim(events iter.Seq[*heldEvent], lease time.Duration, wanted func(*heldEvent) bool) []Held {
	now := time.Now()
	var due []*heldEvent
	for e := range events {
		e.Ready = g.handled.Contains(e.Parent)
		if wanted(e) && now.Sub(e.claimed) >= lease {
			due = append(due, e)
		}
	}
	slices.SortFunc(due, func(a, b *heldEvent) int { return cmp.Compare(a.place, b.place) })
	held := make([]Held, 0, min(len(due), GateBatch))
	for _, e := range due[:min(len(due), GateBatch)] {
		g.count++
		e.Claim, e.claimed = g.count, now
		held = append(held, e.Held)
	}
	return held
}

// Claim implements [GateStore].
func (s *GateMemory) Claim(_ context.Context, group string, now time.Time, lease time.Duration) ([]Held, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.group(group)
	return g.claim(maps.Values(g.held), lease, func(e *heldEvent) bool { return e.Ready || !e.Until.After(now) }), nil
}

// Forget implements [GateStore].
func (s *GateMemory) Forget(_ context.Context, group string, sent []Held) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.group(group)
	for _, h := range sent {
		key := heldKey{h.Queue, h.Source, h.ID}
		if e := g.held[key]; e == nil || e.Claim != h.Claim {
			continue
		}
		delete(g.held, key)
		delete(g.waiting[h.Parent], key)
		if len(g.waiting[h.Parent]) == 0 {
			delete(g.waiting, h.Parent)
		}
	}
	return nil
}

// Holding implements [GateStore].
func (s *GateMemory) Holding(_ context.Context, group string) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.group(group).held), nil
}

// Durable implements [GateStore]: it is not.
func (s *GateMemory) Durable() bool { return false }
