package sink

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore/relay"
	"github.com/evdemo/evdemo/worker"
)

// DefaultCacheEntries is how many values a [MemoryCache] holds.
const DefaultCacheEntries = 10_000

// floors is in how many rows it is noted up to which position keys have been invalidated that are not in the cache.
const floors = 1 << 14

// Cached is a value and the position of the log that it was made from: all events up to there are in it.
type Cached struct {
	Data     []byte
	Position int64
}

// Cache holds values that are made from the log. Its methods may be called from several goroutines, and processes where
// they share it.
//
// A value that was made before an event which it depends on never comes back once the event's Invalidate has returned,
// however late the Set that brings it: Set refuses a value from a position before the last invalidation of its key. It may
// refuse others, since it does not remember the invalidations of all keys apart; a value that was made from the head of the
// log it takes. So Position is best how far the read model was when it gave the value, not that of the value's last event.
type Cache interface {
	// Get gives a value. ok is false where there is none.
	Get(ctx context.Context, key string) (value Cached, ok bool, err error)
	// Set keeps a value, unless it is older than the one that is there or than the last invalidation of its key. stored
	// tells.
	Set(ctx context.Context, key string, value Cached) (stored bool, err error)
	// Invalidate takes out a value from before a position. One that was made from there, or later, stays.
	Invalidate(ctx context.Context, key string, position int64) error
}

// OrderKey is the key of an order's value.
func OrderKey(orderID string) string { return "order:" + orderID }

// CacheSink takes out of a [Cache] what an event has changed. It has no files; an event that comes again changes nothing.
type CacheSink struct{ cache Cache }

// NewCacheSink makes the sink. The cache stays the caller's.
func NewCacheSink(cache Cache) *CacheSink { return &CacheSink{cache} }

// Name implements [Sink].
func (s *CacheSink) Name() string { return CacheName }

// Topics implements [Sink]: those with events that change an order.
func (s *CacheSink) Topics() []string { return Topics(CacheName) }

// Handle implements [Sink]. An event that does not say where in the log it is is refused: nobody can tell which values are
// older.
func (s *CacheSink) Handle(ctx context.Context, d *worker.Delivery) error {
	if err := admit(d); err != nil {
		return err
	}
	if !aboutOrder(d.Event.Type) {
		return worker.ErrSkip
	}
	orderID, err := orderOf(d.Event)
	if err != nil {
		return err
	}
	position, ok := positionOf(d)
	if !ok {
		return worker.Permanent(fmt.Errorf("event %s: %w", d.Event.ID, ErrNoPosition))
	}
	if err := s.cache.Invalidate(ctx, OrderKey(orderID), position); err != nil {
		return fmt.Errorf("invalidate order %.80s in the cache: %w", orderID, err)
	}
	return nil
}

// orderOf gives the order that an event is about. Nothing else of the data counts here.
func orderOf(e event.Event) (string, error) {
	var data struct {
		OrderID string `json:"order_id"`
		Order   struct {
			OrderID string `json:"order_id"`
		} `json:"order"`
	}
	err := json.Unmarshal(e.Data, &data)
	orderID := cmp.Or(data.Order.OrderID, data.OrderID)
	if err == nil {
		err = checkName("order_id", orderID)
	}
	if err != nil {
		return "", worker.Permanent(fmt.Errorf("event %s of type %s: %w: %w", e.ID, e.Type, ErrData, err))
	}
	return orderID, nil
}

// positionOf is where in the log an event is.
func positionOf(d *worker.Delivery) (position int64, ok bool) {
	switch n := d.Headers[relay.HeaderPosition].(type) {
	case int64:
		position = n
	case int32:
		position = int64(n)
	case int:
		position = int64(n)
	}
	return position, position > 0 && position <= maxPosition
}

// Close implements [Sink].
func (s *CacheSink) Close(context.Context) error { return nil }

// MemoryCache is a [Cache] in the memory of this process. It holds the values that were used last. Make it with
// [NewMemoryCache].
type MemoryCache struct {
	mu     sync.Mutex
	values *simplelru.LRU[string, Cached]
	recent *simplelru.LRU[string, int64] // up to where keys were invalidated
	floors [floors]int64                 // and others, by floorOf
}

// NewMemoryCache makes an empty cache for so many values; 0 means 10,000.
func NewMemoryCache(entries int) (*MemoryCache, error) {
	entries = cmp.Or(entries, DefaultCacheEntries)
	if entries < 0 {
		return nil, fmt.Errorf("cache of %d entries: want 1 or more", entries)
	}
	c := &MemoryCache{}
	var err, err2 error
	c.values, err = simplelru.NewLRU[string, Cached](entries, nil)
	c.recent, err2 = simplelru.NewLRU(entries, c.forget)
	return c, errors.Join(err, err2)
}

// forget remembers of a key, together with others, up to where it was invalidated.
func (c *MemoryCache) forget(key string, floor int64) {
	shared := &c.floors[floorOf(key)]
	*shared = max(*shared, floor)
}

func (c *MemoryCache) floor(key string) int64 {
	if floor, ok := c.recent.Get(key); ok {
		return floor
	}
	return c.floors[floorOf(key)]
}

func floorOf(key string) int {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(key))
	return int(hash.Sum32() % floors)
}

// Get implements [Cache].
func (c *MemoryCache) Get(_ context.Context, key string) (value Cached, ok bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	value, ok = c.values.Get(key)
	return value, ok, nil
}

// Set implements [Cache].
func (c *MemoryCache) Set(_ context.Context, key string, value Cached) (stored bool, err error) {
	if err := checkPosition(value.Position); err != nil {
		return false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	there, _ := c.values.Peek(key)
	if value.Position < max(c.floor(key), there.Position) {
		return false, nil
	}
	c.values.Add(key, value)
	return true, nil
}

// Invalidate implements [Cache].
func (c *MemoryCache) Invalidate(_ context.Context, key string, position int64) error {
	if err := checkPosition(position); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recent.Add(key, max(c.floor(key), position))
	if there, ok := c.values.Peek(key); ok && there.Position < position {
		c.values.Remove(key)
	}
	return nil
}

// maxPosition is the largest integer that the numbers of Redis' scripts hold exactly.
const maxPosition = 1 << 53

func checkPosition(position int64) error {
	if position < 0 || position > maxPosition {
		return fmt.Errorf("cache: position %d: want 0 to %d", position, int64(maxPosition))
	}
	return nil
}
