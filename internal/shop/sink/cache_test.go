package sink_test

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore/relay"
	"github.com/evdemo/evdemo/internal/redistest"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/sink"
	"github.com/evdemo/evdemo/worker"
)

// caches are the kinds of cache. What is said of one holds for all.
func caches(t *testing.T, test func(t *testing.T, c sink.Cache)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		c, err := sink.NewMemoryCache(0)
		require.NoError(t, err)
		test(t, c)
	})
	t.Run("memory for one value", func(t *testing.T) {
		t.Parallel()
		c, err := sink.NewMemoryCache(1)
		require.NoError(t, err)
		test(t, c)
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		test(t, openRedis(t, sink.RedisConfig{URL: redistest.URL(t)}))
	})
	t.Run("redis that forgets", func(t *testing.T) {
		t.Parallel()
		test(t, openRedis(t, sink.RedisConfig{URL: redistest.URL(t), TTL: time.Millisecond}))
	})
}

func openRedis(t *testing.T, config sink.RedisConfig) *sink.RedisCache {
	t.Helper()
	config.Timeout = patience
	c, err := sink.OpenRedisCache(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// openCacheSink is for a child, which has a cache of its own on a Redis that it shares.
func openCacheSink(ctx context.Context, at place) (sink.Sink, error) {
	c, err := sink.OpenRedisCache(ctx, sink.RedisConfig{URL: at.URL, Timeout: patience})
	return &cacheSink{sink.NewCacheSink(c), c}, err
}

type cacheSink struct {
	*sink.CacheSink

	cache *sink.RedisCache
}

func (c *cacheSink) Close(context.Context) error { return c.cache.Close() }

func TestCache(t *testing.T) {
	t.Parallel()
	onRedis := func(t *testing.T) place {
		t.Helper()
		return place{URL: redistest.URL(t)}
	}
	subject{kind: "cache", place: onRedis, check: checkCache, shared: true, orderIDs: true}.run(t)
}

// checkCache tries to set what was made just before the last event of every order, which must be refused, and then what
// was made with it.
func checkCache(t *testing.T, at place, orders int) {
	t.Helper()
	c := openRedis(t, sink.RedisConfig{URL: at.URL})
	last := map[string]int64{}
	for i, e := range history(orders) {
		if e.Type != shop.NotificationSent {
			last[e.Subject] = int64(i + 1)
		}
	}
	for orderID, position := range last {
		stored, err := c.Set(t.Context(), sink.OrderKey(orderID), sink.Cached{Position: position - 1})
		require.NoError(t, err)
		require.False(t, stored, orderID)
	}
	head := int64(len(history(orders)))
	for orderID := range last {
		stored, err := c.Set(t.Context(), sink.OrderKey(orderID), sink.Cached{Position: head})
		require.NoError(t, err)
		require.True(t, stored, orderID)
	}
}

func TestCacheKeepsAndForgets(t *testing.T) {
	t.Parallel()
	test := func(t *testing.T, c sink.Cache) {
		t.Helper()
		ctx := t.Context()
		set := func(position int64, data string) bool {
			stored, err := c.Set(ctx, "a", sink.Cached{Data: []byte(data), Position: position})
			require.NoError(t, err)
			return stored
		}
		has := func(want string) {
			t.Helper()
			value, ok, err := c.Get(ctx, "a")
			require.NoError(t, err)
			assert.Equal(t, want != "", ok)
			assert.Equal(t, want, string(value.Data))
		}
		has("")
		assert.True(t, set(5, "five"))
		has("five")
		assert.False(t, set(4, "older"))
		has("five")
		require.NoError(t, c.Invalidate(ctx, "a", 5)) // it was made with that event
		require.NoError(t, c.Invalidate(ctx, "a", 3)) // which comes again
		require.NoError(t, c.Invalidate(ctx, "b", 9)) // another's
		has("five")
		require.NoError(t, c.Invalidate(ctx, "a", 7))
		has("")
		assert.False(t, set(6, "late"))
		has("")
		assert.True(t, set(7, "\x00 seven \xff"))
		has("\x00 seven \xff")
		for _, position := range []int64{-1, math.MinInt64, math.MaxInt64} {
			_, err := c.Set(ctx, "a", sink.Cached{Position: position})
			require.Error(t, err)
			require.Error(t, c.Invalidate(ctx, "a", position))
		}
		has("\x00 seven \xff")
	}
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		c, err := sink.NewMemoryCache(0)
		require.NoError(t, err)
		test(t, c)
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		test(t, openRedis(t, sink.RedisConfig{URL: redistest.URL(t)}))
	})
}

// Whatever is asked in whatever order: a value is never there that is older than an invalidation of its key, whether the
// key was forgotten in between or not; and a value from the head of the log is always taken.
func TestCacheNeverGoesBack(t *testing.T) {
	t.Parallel()
	caches(t, func(t *testing.T, c sink.Cache) {
		t.Helper()
		run, ctx := 0, t.Context()
		rapid.Check(t, func(r *rapid.T) {
			run++
			floors := map[string]int64{}
			var head int64
			for range rapid.IntRange(1, 30).Draw(r, "steps") {
				key := fmt.Sprintf("%d/%d", run, rapid.IntRange(0, 3).Draw(r, "key"))
				position := int64(run*100) + rapid.Int64Range(1, 50).Draw(r, "position")
				head = max(head, position)
				if rapid.Bool().Draw(r, "invalidate") {
					require.NoError(r, c.Invalidate(ctx, key, position))
					floors[key] = max(floors[key], position)
				} else {
					stored, err := c.Set(ctx, key, sink.Cached{Position: position})
					require.NoError(r, err)
					require.False(r, stored && position < floors[key])
				}
				value, ok, err := c.Get(ctx, key)
				require.NoError(r, err)
				require.False(r, ok && value.Position < floors[key])
			}
			for key := range floors {
				stored, err := c.Set(ctx, key, sink.Cached{Position: head})
				require.NoError(r, err)
				require.True(r, stored, "the head of the log")
			}
		})
	})
}

// Readers bring what they read before an event while it invalidates. None of it remains.
func TestCacheRace(t *testing.T) {
	t.Parallel()
	caches(t, func(t *testing.T, c sink.Cache) {
		t.Helper()
		const positions = 300
		var done sync.WaitGroup
		for reader := range int64(4) {
			done.Go(func() {
				for position := range int64(positions) {
					_, err := c.Set(t.Context(), "a", sink.Cached{Position: max(position-reader, 0)})
					assert.NoError(t, err)
				}
			})
		}
		for position := range int64(positions) {
			require.NoError(t, c.Invalidate(t.Context(), "a", position))
			value, ok, err := c.Get(t.Context(), "a")
			require.NoError(t, err)
			require.False(t, ok && value.Position < position)
		}
		done.Wait()
	})
}

// The memory is bounded: what was used last is there.
func TestMemoryCacheIsBounded(t *testing.T) {
	t.Parallel()
	c, err := sink.NewMemoryCache(100)
	require.NoError(t, err)
	for n := range 1000 {
		stored, err := c.Set(t.Context(), fmt.Sprint(n), sink.Cached{Position: 1})
		require.NoError(t, err)
		require.True(t, stored)
	}
	there := 0
	for n := range 1000 {
		if _, ok, _ := c.Get(t.Context(), fmt.Sprint(n)); ok {
			there++
			assert.GreaterOrEqual(t, n, 900)
		}
	}
	assert.Equal(t, 100, there)
	_, err = sink.NewMemoryCache(-1)
	require.ErrorContains(t, err, "-1 entries")
}

// An event that does not say where it is cannot invalidate; one of another kind of position as brokers give them can.
func TestCachePositions(t *testing.T) {
	t.Parallel()
	c, err := sink.NewMemoryCache(0)
	require.NoError(t, err)
	s := sink.NewCacheSink(c)
	e := history(1)[4]
	for _, position := range []any{nil, "7", 0, int64(-1), int64(math.MaxInt64), 7.5} {
		err := s.Handle(t.Context(), &worker.Delivery{Event: e, Headers: map[string]any{relay.HeaderPosition: position}})
		require.ErrorIs(t, err, sink.ErrNoPosition)
	}
	for i, position := range []any{int64(7), int32(8), 9} {
		_, err := c.Set(t.Context(), sink.OrderKey(e.Subject), sink.Cached{Position: int64(6 + i)})
		require.NoError(t, err)
		require.NoError(t, s.Handle(t.Context(), &worker.Delivery{Event: e, Headers: map[string]any{relay.HeaderPosition: position}}))
		_, ok, err := c.Get(t.Context(), sink.OrderKey(e.Subject))
		require.NoError(t, err)
		assert.False(t, ok)
	}
	e.Type = shop.NotificationSent
	require.ErrorIs(t, s.Handle(t.Context(), delivery([]event.Event{e}, 0)), worker.ErrSkip)
}

// While Redis is away nothing is taken for done, and a password is not shown.
func TestRedisAway(t *testing.T) {
	t.Parallel()
	server, err := redistest.Start(t.Context())
	require.NoError(t, err)
	defer server.Kill()
	c := openRedis(t, sink.RedisConfig{URL: server.URL()})
	server.Kill()
	err = sink.NewCacheSink(c).Handle(t.Context(), delivery(history(1), 0))
	require.ErrorContains(t, err, "refused")
	_, reason := worker.Policy{Retry: []time.Duration{1}, MaxAttempts: 2}.Decide(1, err)
	assert.Empty(t, reason, "it is tried again")
	_, _, err = c.Get(t.Context(), "a")
	require.Error(t, err)
	_, err = sink.OpenRedisCache(t.Context(), sink.RedisConfig{URL: server.URL()})
	require.ErrorContains(t, err, "open cache: Redis at")
	for _, url := range []string{"", "http://topsecret", "redis://user:topsecret@%%"} {
		_, err := sink.OpenRedisCache(t.Context(), sink.RedisConfig{URL: url, TTL: -1})
		require.ErrorContains(t, err, "not a URL")
		require.ErrorContains(t, err, "TTL -1ns")
		assert.NotContains(t, err.Error(), "topsecret")
	}
}
