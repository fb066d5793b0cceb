package sink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// DefaultCacheTTL is how long a value stays in Redis.
	DefaultCacheTTL = 5 * time.Minute
	// DefaultCacheTimeout is how long Redis may take to answer.
	DefaultCacheTimeout = time.Second

	// redisPrefix begins all keys. The braces have a cluster keep them in one place, which scripts need.
	redisPrefix = "{evdemo:shop}:"
	redisFloors = redisPrefix + "floors"
)

// RedisConfig says where the Redis is. URL is needed.
type RedisConfig struct {
	// URL is redis://user:password@host:6379/0, or rediss:// with TLS.
	URL string
	// TTL is how long a value stays. Default 5 min.
	TTL time.Duration
	// Timeout is how long Redis may take to answer. Default 1 s.
	Timeout time.Duration
	// Logger receives what the library says, which has one logger in a process: the last that was given. Default: nothing
	// is logged.
	Logger *slog.Logger
}

// RedisCache is a [Cache] in Redis, which processes share. What is asked of it is done by scripts, each in one step.
//
// What was invalidated is remembered for as long as Redis has its data, in a hash of a bounded size, which has no time to
// live. A Redis that has lost it, as by a restart without persistence, may be brought a value by a Set that was under way
// meanwhile which is older than an invalidation before that; it lives for TTL at most.
type RedisCache struct {
	client *redis.Client
	ttl    time.Duration

	set, invalidate *redis.Script
}

// OpenRedisCache connects to Redis. The error never shows a password.
func OpenRedisCache(ctx context.Context, config RedisConfig) (*RedisCache, error) {
	config.TTL = cmp.Or(config.TTL, DefaultCacheTTL)
	config.Timeout = cmp.Or(config.Timeout, DefaultCacheTimeout)
	config.Logger = cmp.Or(config.Logger, slog.New(slog.DiscardHandler))
	var errs []error
	options, err := redis.ParseURL(config.URL)
	if err != nil {
		errs = append(errs, errors.New("not a URL for Redis: write redis://user:password@host:6379/0")) // err may show a password
	}
	if config.TTL < time.Millisecond || config.Timeout < time.Millisecond {
		errs = append(errs, fmt.Errorf("TTL %v, timeout %v: want 1ms or more", config.TTL, config.Timeout))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("open cache: %w", err)
	}
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout = config.Timeout, config.Timeout, config.Timeout
	options.ContextTimeoutEnabled, options.DialerRetries = true, 1 // whoever calls tries again
	redis.SetLogger(redisLog{config.Logger})
	c := &RedisCache{
		client: redis.NewClient(options), ttl: config.TTL, set: redis.NewScript(setScript), invalidate: redis.NewScript(invalidateScript),
	}
	if err := c.client.Ping(ctx).Err(); err != nil {
		return nil, errors.Join(fmt.Errorf("open cache: Redis at %s: %w", options.Addr, err), c.client.Close())
	}
	return c, nil
}

// A key is a hash with the fields data and position of the value, and floor, the position of its last invalidation. When
// it has expired, what is known of that is in the hash of floors, together with the keys that share its field.
const setScript = `
local position = tonumber(ARGV[2])
local floor = redis.call('HGET', KEYS[1], 'floor') or redis.call('HGET', KEYS[2], ARGV[1]) or '0'
local there = redis.call('HGET', KEYS[1], 'position') or '0'
if position < tonumber(floor) or position < tonumber(there) then return 0 end
redis.call('HSET', KEYS[1], 'position', ARGV[2], 'data', ARGV[3], 'floor', floor)
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1`

const invalidateScript = `
local position = tonumber(ARGV[2])
local shared = redis.call('HGET', KEYS[2], ARGV[1]) or '0'
local floor = redis.call('HGET', KEYS[1], 'floor') or shared
if position > tonumber(shared) then redis.call('HSET', KEYS[2], ARGV[1], ARGV[2]) end
if position <= tonumber(floor) then return 0 end
redis.call('HSET', KEYS[1], 'floor', ARGV[2])
local there = redis.call('HGET', KEYS[1], 'position')
if there and tonumber(there) < position then redis.call('HDEL', KEYS[1], 'position', 'data') end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1`

// keysOf are what a script is given for a key, and the field of its floor.
func keysOf(key string) (keys []string, field string) {
	return []string{redisPrefix + key, redisFloors}, strconv.Itoa(floorOf(key))
}

// Get implements [Cache].
func (c *RedisCache) Get(ctx context.Context, key string) (value Cached, ok bool, err error) {
	fields, err := c.client.HMGet(ctx, redisPrefix+key, "data", "position").Result()
	if err != nil {
		return value, false, fmt.Errorf("cache: %w", err)
	}
	data, ok := fields[0].(string)
	position, positioned := fields[1].(string)
	if !ok || !positioned {
		return value, false, nil
	}
	if value.Position, err = strconv.ParseInt(position, 10, 64); err != nil {
		return value, false, fmt.Errorf("cache: %w", err)
	}
	value.Data = []byte(data)
	return value, true, nil
}

// Set implements [Cache].
func (c *RedisCache) Set(ctx context.Context, key string, value Cached) (stored bool, err error) {
	if err := checkPosition(value.Position); err != nil {
		return false, err
	}
	keys, field := keysOf(key)
	n, err := c.set.Run(ctx, c.client, keys, field, value.Position, value.Data, c.ttl.Milliseconds()).Int()
	if err != nil {
		return false, fmt.Errorf("cache: %w", err)
	}
	return n == 1, nil
}

// Invalidate implements [Cache].
func (c *RedisCache) Invalidate(ctx context.Context, key string, position int64) error {
	if err := checkPosition(position); err != nil {
		return err
	}
	keys, field := keysOf(key)
	if err := c.invalidate.Run(ctx, c.client, keys, field, position, c.ttl.Milliseconds()).Err(); err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	return nil
}

// Close closes the connections.
func (c *RedisCache) Close() error { return c.client.Close() }

// redisLog passes on what the library prints otherwise.
type redisLog struct{ logger *slog.Logger }

// Printf implements the library's logger.
func (l redisLog) Printf(ctx context.Context, format string, args ...any) {
	l.logger.WarnContext(ctx, "redis: the client", slog.String("says", fmt.Sprintf(format, args...)))
}
