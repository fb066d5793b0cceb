package sink_test

import (
	"encoding/json"
	"hash/fnv"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/sink"
	"github.com/evdemo/evdemo/worker"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// receiversAt are two at a server: one wants all events, and the other two types.
func receiversAt(address string) []sink.Receiver {
	return []sink.Receiver{
		{URL: address + "/all", Secret: secret, Name: "all"},
		{URL: address + "/some", Secret: secret, Name: "some", Types: []string{shop.OrderCreated, shop.OrderShipped}},
	}
}

func TestWebhooks(t *testing.T) {
	t.Parallel()
	subject{kind: "webhooks", place: thirdParty, check: checkWebhooks, anything: true}.run(t)
}

// thirdParty is a server that takes webhooks, refuses signatures that are wrong, and fails the first time at some.
func thirdParty(t *testing.T) place {
	t.Helper()
	var mu sync.Mutex
	got := map[string]map[string]int{} // by path, by webhook-id
	failed := map[string]bool{}
	verifier, err := standardwebhooks.NewWebhook(secret)
	require.NoError(t, err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		id := r.Header.Get("Webhook-Id")
		sum := fnv.New32a()
		_, _ = io.WriteString(sum, id)
		switch {
		case r.Method == http.MethodGet:
			assert.NoError(t, json.NewEncoder(w).Encode(got[r.URL.Path]))
		case err != nil: // the sender was killed
		case verifier.Verify(body, r.Header) != nil:
			w.WriteHeader(http.StatusUnauthorized)
		case sum.Sum32()%37 == 0 && !failed[r.URL.Path+id]:
			failed[r.URL.Path+id] = true
			w.WriteHeader(http.StatusInternalServerError)
		default:
			if got[r.URL.Path] == nil {
				got[r.URL.Path] = map[string]int{}
			}
			got[r.URL.Path][id]++
		}
	}))
	t.Cleanup(server.Close)
	return place{Dir: filepath.Join(t.TempDir(), "sink.db"), URL: server.URL}
}

// checkWebhooks asks the server what it has got. Only what was under way when a process was killed comes twice.
func checkWebhooks(t *testing.T, at place, orders int) {
	t.Helper()
	for path, types := range map[string][]string{"/all": nil, "/some": {shop.OrderCreated, shop.OrderShipped}} {
		want := 0
		for _, e := range history(orders) {
			if types == nil || e.Type == types[0] || e.Type == types[1] {
				want++
			}
		}
		got := map[string]int{}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at.URL+path, nil)
		require.NoError(t, err)
		response, err := http.DefaultTransport.RoundTrip(request)
		require.NoError(t, err)
		require.NoError(t, json.NewDecoder(response.Body).Decode(&got))
		require.NoError(t, response.Body.Close())
		assert.Len(t, got, want, path)
		twice := 0
		for _, n := range got {
			twice += n - 1
		}
		if orders == crashOrders {
			assert.LessOrEqual(t, twice, kills*concurrency)
		} else {
			assert.Equal(t, 0, twice, "nobody was killed")
		}
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	w := openWebhooks(t, sink.WebhooksConfig{DB: at.Dir, Receivers: receiversAt(at.URL)})
	refusals, err := w.Refusals(t.Context(), 10)
	require.NoError(t, err)
	assert.Empty(t, refusals)
	require.NoError(t, w.Close(t.Context()))
}

func openWebhooks(t *testing.T, config sink.WebhooksConfig) *sink.Webhooks {
	t.Helper()
	w, err := sink.OpenWebhooks(t.Context(), config)
	require.NoError(t, err)
	return w
}

// answers is a server that counts requests and answers as it is told.
func answers(t *testing.T, handle http.HandlerFunc) (address string, requests *atomic.Int64) {
	t.Helper()
	requests = &atomic.Int64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		handle(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, requests
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(code)
	}
}

// A receiver that fails has the event tried again, and the other is not told again, not even by another process.
func TestWebhooksTellsOnlyThoseThatHaveNotGotIt(t *testing.T) {
	t.Parallel()
	var mended atomic.Bool
	good, gotGood := answers(t, status(http.StatusNoContent))
	bad, gotBad := answers(t, func(w http.ResponseWriter, _ *http.Request) {
		if !mended.Load() {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	config := sink.WebhooksConfig{DB: databaseFile(t).Dir, Receivers: []sink.Receiver{{URL: good, Secret: secret}, {URL: bad, Secret: secret}}}
	d := delivery(history(1), 0)
	for n := range int64(3) {
		w := openWebhooks(t, config)
		err := w.Handle(t.Context(), d)
		require.ErrorContains(t, err, "502 Bad Gateway")
		wait, reason := worker.Policy{Retry: []time.Duration{time.Hour}, MaxAttempts: 2}.Decide(1, err)
		assert.Greater(t, wait, time.Minute, "by the worker's own policy")
		assert.Empty(t, reason)
		assert.Equal(t, int64(1), gotGood.Load())
		assert.Equal(t, n+1, gotBad.Load())
		require.NoError(t, w.Close(t.Context()))
	}
	mended.Store(true)
	w := openWebhooks(t, config)
	require.NoError(t, w.Handle(t.Context(), d))
	require.ErrorIs(t, w.Handle(t.Context(), d), worker.ErrDuplicate)
	require.NoError(t, w.Close(t.Context()))
	w = openWebhooks(t, config)
	require.ErrorIs(t, w.Handle(t.Context(), d), worker.ErrDuplicate)
	require.NoError(t, w.Close(t.Context()))
	assert.Equal(t, int64(1), gotGood.Load())
	assert.Equal(t, int64(4), gotBad.Load())
}

// A receiver that refuses an event is not told of it again, and that is reported; too many requests are no refusal.
func TestWebhooksRefused(t *testing.T) {
	t.Parallel()
	gone, requests := answers(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusGone)
		_, _ = io.WriteString(w, "not here "+strings.Repeat("ä", 1000))
	})
	config := sink.WebhooksConfig{DB: databaseFile(t).Dir, Receivers: []sink.Receiver{{URL: gone, Secret: secret, Name: "gone"}}}
	w := openWebhooks(t, config)
	d := delivery(history(1), 0)
	require.NoError(t, w.Handle(t.Context(), d))
	require.NoError(t, w.Close(t.Context()))
	w = openWebhooks(t, config)
	require.ErrorIs(t, w.Handle(t.Context(), d), worker.ErrDuplicate)
	refusals, err := w.Refusals(t.Context(), 10)
	require.NoError(t, err)
	require.Len(t, refusals, 1)
	assert.WithinDuration(t, time.Now(), refusals[0].At, patience)
	assert.Contains(t, refusals[0].Answer, "410 Gone: not here")
	assert.Equal(t, []string{"gone", d.Event.ID, d.Event.Source, d.Event.Type},
		[]string{refusals[0].Receiver, refusals[0].ID, refusals[0].Source, refusals[0].Type})
	assert.Equal(t, int64(1), requests.Load())
	require.NoError(t, w.Close(t.Context()))
}

// What asks for time gets it, for all events.
func TestWebhooksRetryAfter(t *testing.T) {
	t.Parallel()
	busy, requests := answers(t, status(http.StatusTooManyRequests))
	w := openWebhooks(t, sink.WebhooksConfig{DB: databaseFile(t).Dir, Receivers: []sink.Receiver{{URL: busy, Secret: secret}}})
	for i := range 3 {
		err := w.Handle(t.Context(), delivery(history(1), i))
		wait, reason := worker.Policy{Retry: []time.Duration{1}, MaxAttempts: 2}.Decide(1, err)
		assert.Empty(t, reason)
		assert.InDelta(t, time.Hour, wait, float64(patience))
	}
	assert.Equal(t, int64(1), requests.Load())
	require.NoError(t, w.Close(t.Context()))
}

// A receiver that never answers takes some time of the first events, and none of those behind them.
func TestWebhooksAreNotHeldUp(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	hanging, asked := answers(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	good, got := answers(t, status(http.StatusOK))
	w := openWebhooks(t, sink.WebhooksConfig{
		DB: databaseFile(t).Dir, Timeout: 3 * time.Second,
		Receivers: []sink.Receiver{{URL: hanging, Secret: secret}, {URL: good, Secret: secret}},
	})
	events := history(50)
	var group sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i := range events {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			assert.Error(t, w.Handle(t.Context(), delivery(events, i)))
		})
	}
	group.Wait()
	assert.Equal(t, int64(len(events)), got.Load())
	assert.Less(t, asked.Load(), int64(50), "of %d", len(events))
	require.NoError(t, w.Close(t.Context()))
}

func TestWebhooksMistakes(t *testing.T) {
	t.Parallel()
	_, err := sink.OpenWebhooks(t.Context(), sink.WebhooksConfig{})
	require.ErrorContains(t, err, "no database")
	require.ErrorContains(t, err, "no receiver")
	_, err = sink.OpenWebhooks(t.Context(), sink.WebhooksConfig{DB: "x", Receivers: []sink.Receiver{
		{URL: "http://a.example/topsecret", Secret: "whsec_!topsecret"},
		{URL: "ftp://b.example"},
		{URL: "http://c.example", Secret: secret},
		{URL: "http://c.example", Secret: secret},
	}})
	for _, want := range []string{"receiver 1: secret", "receiver 2: URL must begin", "receiver 2", "no secret", "receiver 4", "another receiver"} {
		require.ErrorContains(t, err, want)
	}
	assert.NotContains(t, err.Error(), "topsecret")
}

// An event that nobody wants is skipped.
func TestWebhooksUnwanted(t *testing.T) {
	t.Parallel()
	w := openWebhooks(t, sink.WebhooksConfig{DB: databaseFile(t).Dir, Receivers: []sink.Receiver{
		{URL: "http://127.0.0.1:1", Secret: secret, Types: []string{shop.OrderShipped}},
	}})
	require.ErrorIs(t, w.Handle(t.Context(), delivery(history(1), 0)), worker.ErrSkip)
	err := w.Handle(t.Context(), delivery(history(1), 4))
	require.Error(t, err)
	require.NotErrorIs(t, err, worker.ErrSkip)
	require.NoError(t, w.Close(t.Context()))
}
