package worker

import (
	"context"
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
	held    map[Key]*heldEvent
	waiting map[string]map[Key]*heldEvent // by parent
}

type heldEvent struct {
	Held
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
		g = &gateGroup{handled: handled, held: map[Key]*heldEvent{}, waiting: map[string]map[Key]*heldEvent{}}
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
	key := Key{group, h.Source, h.ID}
	if g.held[key] == nil {
		e := &heldEvent{Held: h}
		g.held[key] = e
		if g.waiting[h.Parent] == nil {
			g.waiting[h.Parent] = map[Key]*heldEvent{}
		}
		g.waiting[h.Parent][key] = e
	}
	return true, nil
}

// Mark implements [GateStore].
func (s *GateMemory) Mark(_ context.Context, group, id string) ([]Held, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.group(group)
	g.handled.Add(id, struct{}{})
	var ready []Held
	for _, e := range g.waiting[id] {
		if e.claim() {
			e.Ready = true
			ready = append(ready, e.Held)
		}
	}
	return ready, nil
}

// claim claims an event, unless it is.
func (e *heldEvent) claim() bool {
	now := time.Now()
	if now.Sub(e.claimed) < GateLease {
		return false
	}
	e.claimed = now
	return true
}

// Claim implements [GateStore].
func (s *GateMemory) Claim(_ context.Context, group string, before time.Time) ([]Held, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.group(group)
	var due []Held
	for _, e := range g.held {
		if len(due) == GateBatch {
			break
		}
		e.Ready = g.handled.Contains(e.Parent)
		if (e.Ready || e.Since.Before(before)) && e.claim() {
			due = append(due, e.Held)
		}
	}
	return due, nil
}

// Forget implements [GateStore].
func (s *GateMemory) Forget(_ context.Context, group string, sent []Held) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.group(group)
	for _, h := range sent {
		key := Key{group, h.Source, h.ID}
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
