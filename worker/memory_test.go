package worker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/worker"
)

// What every worker.DedupStore promises is tested in package inbox, for this one too.

func TestMemoryStoreForgetsAfterTTL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := worker.NewMemoryStore(worker.MemoryConfig{TTL: time.Minute})
		assert.True(t, handledNow(t, store, "a"))
		time.Sleep(time.Minute - time.Nanosecond) //nolint:forbidigo // by the bubble's clock
		assert.False(t, handledNow(t, store, "a"), "and that does not prolong it")
		time.Sleep(time.Nanosecond) //nolint:forbidigo // by the bubble's clock
		assert.True(t, handledNow(t, store, "a"))
		assert.False(t, handledNow(t, store, "a"))
	})
}

func TestMemoryStoreForgetsTheOldest(t *testing.T) {
	t.Parallel()
	store := worker.NewMemoryStore(worker.MemoryConfig{MaxEntries: 2})
	for _, id := range []string{"a", "b", "c"} {
		assert.True(t, handledNow(t, store, id))
	}
	assert.False(t, handledNow(t, store, "b"))
	assert.False(t, handledNow(t, store, "c"))
	assert.True(t, handledNow(t, store, "a"))
	assert.True(t, handledNow(t, store, "b"), "seeing it did not prolong it")
}

// Whatever is handled meanwhile, an attempt under way is not forgotten.
func TestMemoryStoreKeepsWhatIsInFlight(t *testing.T) {
	t.Parallel()
	store := worker.NewMemoryStore(worker.MemoryConfig{MaxEntries: 1})
	begun, finish, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := store.Once(t.Context(), worker.Key{ID: "slow"}, func(context.Context) error {
			close(begun)
			<-finish
			return nil
		})
		ended <- err
	}()
	<-begun
	for i := range 10 {
		assert.True(t, handledNow(t, store, fmt.Sprint(i)))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	called, err := store.Once(ctx, worker.Key{ID: "slow"}, func(context.Context) error { return nil })
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.False(t, called)
	close(finish)
	require.NoError(t, <-ended)
	assert.False(t, handledNow(t, store, "slow"))
}

// The store remembers exactly the last so many events that were handled, none for longer than its time.
func TestMemoryStoreModel(t *testing.T) {
	t.Parallel()
	const ttl = 10 * time.Second
	step := rapid.Custom(func(t *rapid.T) memoryStep {
		return memoryStep{
			pause: time.Duration(rapid.IntRange(0, 5).Draw(t, "seconds")) * time.Second,
			id:    rapid.IntRange(0, 7).Draw(t, "id"),
		}
	})
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.IntRange(1, 5).Draw(rt, "size")
		steps := rapid.SliceOfN(step, 0, 50).Draw(rt, "steps")
		var got, want []bool
		synctest.Test(t, func(t *testing.T) {
			store := worker.NewMemoryStore(worker.MemoryConfig{MaxEntries: size, TTL: ttl})
			model := memoryModel{size: size, ttl: ttl}
			for _, s := range steps {
				time.Sleep(s.pause) //nolint:forbidigo // by the bubble's clock
				want = append(want, model.handle(s.id))
				got = append(got, handledNow(t, store, fmt.Sprint(s.id)))
			}
		})
		require.Equal(rt, want, got)
	})
}

type memoryStep struct {
	pause time.Duration
	id    int
}

// memoryModel is the slow and plain way to the same answers.
type memoryModel struct {
	size    int
	ttl     time.Duration
	handled []memoryRecord // the latest first
}

type memoryRecord struct {
	id int
	at time.Time
}

func (m *memoryModel) handle(id int) (called bool) {
	for _, r := range m.handled[:min(m.size, len(m.handled))] {
		if r.id == id && time.Since(r.at) < m.ttl {
			return false
		}
	}
	others := slices.DeleteFunc(m.handled, func(r memoryRecord) bool { return r.id == id })
	m.handled = append([]memoryRecord{{id, time.Now()}}, others...)
	return true
}

// handledNow tells whether the store had the event handled.
func handledNow(t require.TestingT, store worker.DedupStore, id string) bool {
	called, err := store.Once(context.Background(), worker.Key{ID: id}, func(context.Context) error { return nil })
	require.NoError(t, err)
	return called
}

// A duplicate is acknowledged as such, and the queue is part of what makes one.
func TestDedup(t *testing.T) {
	t.Parallel()
	errHandler := errors.New("handler failed")
	var result error
	calls := 0
	handle := worker.Wrap(func(context.Context, *worker.Delivery) error { calls++; return result },
		worker.Dedup(worker.NewMemoryStore(worker.MemoryConfig{})))
	d := &worker.Delivery{Queue: "payments", Event: event.Event{Source: "shop", ID: "1"}}
	result = errHandler
	require.ErrorIs(t, handle(t.Context(), d), errHandler)
	result = nil
	require.NoError(t, handle(t.Context(), d))
	require.ErrorIs(t, handle(t.Context(), d), worker.ErrDuplicate)
	require.NoError(t, handle(t.Context(), &worker.Delivery{Queue: "email", Event: d.Event}))
	require.NoError(t, handle(t.Context(), &worker.Delivery{Queue: "payments", Event: event.Event{Source: "shop", ID: "2"}}))
	assert.Equal(t, 4, calls)
}
