package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/evdemo/evdemo/internal/postgrestest"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox"
	"github.com/evdemo/evdemo/worker/inbox/postgres"
)

var errHandler = errors.New("handler failed")

// What a worker.DedupStore promises, of each: in memory; on SQLite; on PostgreSQL; and on these by two stores that
// know of each other through the database alone, as two processes do.
func TestConformance(t *testing.T) {
	t.Parallel()
	stores := map[string]func(*testing.T) (first, second worker.DedupStore){
		"memory": func(*testing.T) (first, second worker.DedupStore) {
			store := worker.NewMemoryStore(worker.MemoryConfig{})
			return store, store
		},
		"inbox": func(t *testing.T) (first, second worker.DedupStore) {
			t.Helper()
			store := open(t, inbox.Config{Path: filepath.Join(t.TempDir(), "inbox.db")})
			return store, store
		},
		"two inboxes": func(t *testing.T) (first, second worker.DedupStore) {
			t.Helper()
			config := inbox.Config{Path: filepath.Join(t.TempDir(), "inbox.db"), BusyTimeout: patience}
			return open(t, config), open(t, config)
		},
		"postgres": func(t *testing.T) (first, second worker.DedupStore) {
			t.Helper()
			store := openPostgres(t, postgrestest.URL(t))
			return store, store
		},
		"two of postgres": func(t *testing.T) (first, second worker.DedupStore) {
			t.Helper()
			url := postgrestest.URL(t)
			return openPostgres(t, url), openPostgres(t, url)
		},
	}
	cases := map[string]func(*testing.T, worker.DedupStore, worker.DedupStore){
		"a handled event is not handled again":                           testHandledOnce,
		"a failed event is handled again":                                testFailedAgain,
		"a panic fails the attempt":                                      testPanic,
		"the end of a goroutine fails it too":                            testGoexit,
		"a second caller waits for success":                              testWaitForSuccess,
		"a second caller tries after a failure":                          testWaitForFailure,
		"a second caller heeds its context":                              testWaitHeedsContext,
		"success counts after the context ended":                         testSuccessAfterEnd,
		"each event is handled until it succeeds, one attempt at a time": testModel,
	}
	for storeName, stores := range stores {
		for name, test := range cases {
			t.Run(storeName+"/"+name, func(t *testing.T) {
				t.Parallel()
				first, second := stores(t)
				test(t, first, second)
			})
		}
	}
}

func openPostgres(t *testing.T, url string) *postgres.Store {
	t.Helper()
	store, err := postgres.Open(t.Context(), postgres.Config{URL: url, Timeout: patience})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}

// expect calls Once and checks what comes.
func expect(t *testing.T, store worker.DedupStore, key worker.Key, handle func(context.Context) error, called bool, wrapped error) {
	t.Helper()
	got, err := store.Once(t.Context(), key, handle)
	require.ErrorIs(t, err, wrapped)
	require.Equal(t, called, got)
}

func testHandledOnce(t *testing.T, first, second worker.DedupStore) {
	t.Helper()
	key := worker.Key{Consumer: "a", Source: "b", ID: "c"}
	expect(t, first, key, succeed, true, nil)
	expect(t, first, key, succeed, false, nil)
	expect(t, second, key, succeed, false, nil)
	for _, other := range []worker.Key{
		{Consumer: "A", Source: "b", ID: "c"}, {Consumer: "a", Source: "", ID: "c"}, {Consumer: "a", Source: "b", ID: "c "}, {},
	} {
		expect(t, second, other, succeed, true, nil)
		expect(t, first, other, succeed, false, nil)
	}
}

func testFailedAgain(t *testing.T, first, second worker.DedupStore) {
	t.Helper()
	fail := func(context.Context) error { return errHandler }
	expect(t, first, eventKey(0), fail, true, errHandler)
	expect(t, second, eventKey(0), fail, true, errHandler)
	expect(t, first, eventKey(0), succeed, true, nil)
	expect(t, second, eventKey(0), fail, false, nil)
}

func testPanic(t *testing.T, first, second worker.DedupStore) {
	t.Helper()
	assert.PanicsWithError(t, errHandler.Error(), func() {
		_, _ = first.Once(t.Context(), eventKey(0), func(context.Context) error { panic(errHandler) })
	})
	expect(t, second, eventKey(0), succeed, true, nil)
}

func testGoexit(t *testing.T, first, second worker.DedupStore) {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = first.Once(t.Context(), eventKey(0), func(context.Context) error { runtime.Goexit(); return nil })
	}()
	await(t, ended)
	expect(t, second, eventKey(0), succeed, true, nil)
}

// hold begins an attempt that ends with what is sent.
func hold(t *testing.T, store worker.DedupStore, key worker.Key) (finish chan<- error, result <-chan outcome) {
	t.Helper()
	begun, end := make(chan struct{}), make(chan error)
	result = once(t.Context(), store, key, func(context.Context) error {
		close(begun)
		return <-end
	})
	await(t, begun)
	return end, result
}

func testWaitForSuccess(t *testing.T, first, second worker.DedupStore) {
	t.Helper()
	finish, result := hold(t, first, eventKey(0))
	waiting := once(t.Context(), second, eventKey(0), succeed)
	expect(t, second, eventKey(1), succeed, true, nil) // others do not wait
	assert.Empty(t, waiting)
	finish <- nil
	assert.Equal(t, outcome{called: true}, await(t, result))
	assert.Equal(t, outcome{called: false}, await(t, waiting))
}

func testWaitForFailure(t *testing.T, first, second worker.DedupStore) {
	t.Helper()
	finish, result := hold(t, first, eventKey(0))
	waiting := once(t.Context(), second, eventKey(0), succeed)
	finish <- errHandler
	assert.Equal(t, outcome{called: true, err: errHandler}, await(t, result))
	assert.Equal(t, outcome{called: true}, await(t, waiting))
}

func testWaitHeedsContext(t *testing.T, first, second worker.DedupStore) {
	t.Helper()
	finish, result := hold(t, first, eventKey(0))
	ctx, cancel := context.WithCancel(t.Context())
	waiting := once(ctx, second, eventKey(0), succeed)
	cancel()
	ended := await(t, waiting)
	require.ErrorIs(t, ended.err, context.Canceled)
	assert.False(t, ended.called)
	finish <- nil
	assert.Equal(t, outcome{called: true}, await(t, result))
}

func testSuccessAfterEnd(t *testing.T, first, second worker.DedupStore) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	called, err := first.Once(ctx, eventKey(0), func(context.Context) error { cancel(); return nil })
	require.NoError(t, err)
	assert.True(t, called)
	expect(t, second, eventKey(0), succeed, false, nil)
}

// testModel offers events from many goroutines, some of whose attempts fail or panic: attempts at one are
// in turn, there are as many as it takes, and the last succeeds.
func testModel(t *testing.T, first, second worker.DedupStore) {
	t.Helper()
	round := 0
	rapid.Check(t, func(t *rapid.T) {
		round++
		failures := rapid.SliceOfN(rapid.IntRange(0, 3), 1, 4).Draw(t, "failures of each event")
		offers := rapid.SliceOfN(rapid.IntRange(0, len(failures)-1), 0, 20).Draw(t, "offers")
		m := &model{failures: failures, attempts: make([]int, len(failures)), running: make([]bool, len(failures))}
		var group sync.WaitGroup
		for i, event := range offers {
			store := []worker.DedupStore{first, second}[i%2]
			key := worker.Key{Consumer: fmt.Sprint(round), ID: fmt.Sprint(event)}
			group.Go(func() { m.offer(store, key, event) })
		}
		group.Wait()
		m.check(t, offers)
	})
}

type model struct {
	mu       sync.Mutex
	failures []int // how often each event fails before it succeeds
	attempts []int
	running  []bool
	faults   []string
}

func (m *model) offer(store worker.DedupStore, key worker.Key, event int) {
	defer func() { _ = recover() }()
	_, err := store.Once(context.Background(), key, func(context.Context) error { return m.handle(event) })
	if err != nil && !errors.Is(err, errHandler) {
		m.fault("event %d: %v", event, err)
	}
}

func (m *model) handle(event int) error {
	m.mu.Lock()
	if m.running[event] {
		m.faults = append(m.faults, fmt.Sprintf("event %d has two attempts at a time", event))
	}
	m.running[event] = true
	m.attempts[event]++
	attempt := m.attempts[event]
	m.mu.Unlock()
	runtime.Gosched()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running[event] = false
	switch failing := attempt <= m.failures[event]; {
	case failing && attempt%2 == 0:
		panic(errHandler)
	case failing:
		return errHandler
	default:
		return nil
	}
}

func (m *model) fault(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = append(m.faults, fmt.Sprintf(format, args...))
}

func (m *model) check(t *rapid.T, offers []int) {
	assert.Empty(t, m.faults)
	offered := make([]int, len(m.failures))
	for _, event := range offers {
		offered[event]++
	}
	for event, failures := range m.failures {
		assert.Equal(t, min(offered[event], failures+1), m.attempts[event], "attempts at event %d", event)
	}
}
