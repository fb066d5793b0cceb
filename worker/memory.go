package worker

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// DefaultMemoryEntries is how many handled events a [MemoryStore] remembers.
	DefaultMemoryEntries = 100_000
	// DefaultMemoryTTL is how long a [MemoryStore] remembers each.
	DefaultMemoryTTL = time.Hour
)

// MemoryConfig bounds what a [MemoryStore] remembers. Whatever comes first forgets an event.
type MemoryConfig struct {
	// MaxEntries is how many handled events are remembered; the one handled longest ago is
	// forgotten first. Default (0 or less) 100,000, which take some 20 MB with ids of usual length.
	MaxEntries int
	// TTL is how long an event is remembered after it was handled. Default (0 or less) 1 h.
	TTL time.Duration
}

// MemoryStore is a [DedupStore] in memory: it knows what this process has handled of late, and nothing
// from before its start or of other processes. That is enough against events that the broker
// delivers again after a lost connection; it is not against a crash.
//
// It may be used from several goroutines, and needs no closing.
type MemoryStore struct {
	ttl time.Duration

	mu      sync.Mutex
	handled *simplelru.LRU[Key, time.Time] // when; in the order of it, since nothing is ever touched
	flights map[Key]chan struct{}          // attempts under way; closed at their end
}

// NewMemoryStore makes an empty store.
func NewMemoryStore(config MemoryConfig) *MemoryStore {
	if config.MaxEntries <= 0 {
		config.MaxEntries = DefaultMemoryEntries
	}
	if config.TTL <= 0 {
		config.TTL = DefaultMemoryTTL
	}
	handled, err := simplelru.NewLRU[Key, time.Time](config.MaxEntries, nil)
	if err != nil { // for sizes below 1 only
		panic(err)
	}
	return &MemoryStore{ttl: config.TTL, handled: handled, flights: make(map[Key]chan struct{})}
}

// Once implements [DedupStore]. Attempts under way do not count towards MemoryConfig.MaxEntries, and
// are never forgotten. A panic of handle passes through, and the attempt has failed.
func (s *MemoryStore) Once(ctx context.Context, key Key, handle func(context.Context) error) (called bool, err error) {
	for {
		flight, handled := s.begin(key)
		switch {
		case handled:
			return false, nil
		case flight == nil:
			return true, s.attempt(ctx, key, handle)
		}
		select {
		case <-flight:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// begin opens a flight for key, unless its event has been handled or there is one: then it gives that.
func (s *MemoryStore) begin(key Key) (other <-chan struct{}, handled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if flight := s.flights[key]; flight != nil {
		return flight, false
	}
	if at, ok := s.handled.Peek(key); ok && time.Since(at) < s.ttl {
		return nil, true
	}
	s.flights[key] = make(chan struct{})
	return nil, false
}

func (s *MemoryStore) attempt(ctx context.Context, key Key, handle func(context.Context) error) error {
	success := false
	defer func() { s.end(key, success) }() // after a panic too
	err := handle(ctx)
	success = err == nil
	return err
}

// end closes the flight of key, and forgets what is too old.
func (s *MemoryStore) end(key Key, success bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.flights[key])
	delete(s.flights, key)
	if !success {
		return
	}
	now := time.Now()
	for _, at, ok := s.handled.GetOldest(); ok && now.Sub(at) >= s.ttl; _, at, ok = s.handled.GetOldest() {
		s.handled.RemoveOldest()
	}
	s.handled.Add(key, now)
}
