package worker_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/worker"
)

// fullStore fails as long as it is full.
type fullStore struct {
	worker.DedupStore

	full  atomic.Bool
	asked atomic.Int64
}

func (s *fullStore) Once(ctx context.Context, key worker.Key, handle func(context.Context) error) (bool, error) {
	if s.asked.Add(1); s.full.Load() {
		return false, assert.AnError
	}
	return s.DedupStore.Once(ctx, key, handle)
}

// A store that fails, as on a full disk, is no event's fault: nothing is dead-lettered for it.
func TestAStoreThatFailsHoldsUpTheWorker(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	q, _ := queue(t, url)
	fill(t, url, q, 3)
	store := &fullStore{DedupStore: worker.NewMemoryStore(worker.MemoryConfig{})}
	store.full.Store(true)
	handled := newEffects()
	config := worker.Config{URLs: []string{url}, Queue: q, MaxAttempts: 1, Limit: 3}
	w := start(t, config, worker.Wrap(handled.handle, worker.Dedup(store)))
	eventually(t, func() bool { return store.asked.Load() >= 2 }, "it is not asked again")
	store.full.Store(false)
	require.NoError(t, w.wait())
	assert.Equal(t, 3, handled.distinct())
	assert.Zero(t, w.Stats().Failed)

	fill(t, url, q, 1)
	store.full.Store(true)
	config.IdleTimeout, config.Limit = 0, 0
	w = start(t, config, worker.Wrap(handled.handle, worker.Dedup(store)))
	asked := store.asked.Load()
	eventually(t, func() bool { return store.asked.Load() > asked }, "nothing came")
	began := time.Now()
	require.NoError(t, w.end())
	assert.Less(t, time.Since(began), 10*time.Second, "the end waits for the store")
	assert.Zero(t, w.Stats().DeadLettered)
	ch := channel(t, url)
	eventually(t, func() bool { return depth(t, ch, q) == 1 }, "the event is not back")
}
