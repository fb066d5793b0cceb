package api_test

import (
	"bytes"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/api"
	"github.com/evdemo/evdemo/internal/shop/sink"
)

// caused appends what a service decided because of an event, and gives its position.
func (s *served) caused(by eventstore.Recorded, eventType, source string, data any) int64 {
	s.tb.Helper()
	e, err := event.Caused(by.Event, eventType, source, data)
	require.NoError(s.tb, err)
	appended, err := s.store.Append(s.tb.Context(), eventstore.StreamWrite{Stream: "service-" + by.Subject, Events: []event.Event{e}})
	require.NoError(s.tb, err)
	return appended.Positions[0]
}

func TestUnknownOrders(t *testing.T) {
	t.Parallel()
	s := serve(t, file(t))
	id := s.post(anOrder).placed(t).ID
	require.Equal(t, http.StatusOK, s.get("/api/orders/"+strings.Replace(id, "-", "%2D", 1)+"?wait=1").status)
	for _, unknown := range []string{
		"order-0198c5a2-7c1e-7d8a-9a51-0242ac120002", "x", strings.ToUpper(id), id + "x", id[1:], id + "%00", id + "%0a", "%2e%2e%2fetc%2fpasswd",
		"..%2f" + id, "%ff", "%F0%9F%98%80", "*", "'%20OR%201=1--", strings.Repeat("9", 4000), "order-" + strings.Repeat("-", 36),
	} {
		for _, below := range []string{"", "/history"} {
			s.get("/api/orders/"+unknown+below).requireProblem(t, http.StatusNotFound, "Order not found")
		}
	}
	for _, path := range []string{
		"/", "/api", "/api/", "/api/orders/", "/api/orders//history", "/api/orders/" + id + "/", "/api/orders/" + id + "/history/",
		"/api/orders/../../etc/passwd", "/api/orders/./" + id, "//api/orders", "/api//orders/" + id, "/api/orders/" + id + "%2fhistory/x",
		"/api/orders/" + id + "/HISTORY", "/API/orders", "/api/orders%2f" + id, "/webhooks/stripe", "/healthz/", "/favicon.ico",
	} {
		s.get(path).requireProblem(t, http.StatusNotFound, "")
	}
}

func TestMethods(t *testing.T) {
	t.Parallel()
	s := serve(t, file(t))
	p := s.post(anOrder).placed(t)
	s.get(p.Links["wait"]).order(t)
	for path, allow := range map[string]string{
		"/api/orders": "POST", p.Links["self"]: "GET, HEAD", p.Links["history"]: "GET, HEAD", "/api/openapi.yaml": "GET, HEAD",
		"/healthz": "GET, HEAD", "/readyz": "GET, HEAD",
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW", "get"} {
			g := s.do(method, path, nil)
			if strings.Contains(allow, method) {
				require.NotEqual(t, http.StatusMethodNotAllowed, g.status, "%s %s", method, path)
				continue
			}
			require.Equal(t, http.StatusMethodNotAllowed, g.status, "%s %s", method, path)
			require.Equal(t, allow, g.header.Get("Allow"))
		}
		if allow != "POST" {
			get, head := s.get(path), s.do(http.MethodHead, path, nil)
			require.Equal(t, get.status, head.status)
			require.Empty(t, head.body)
			require.Equal(t, get.header.Get("Content-Length"), head.header.Get("Content-Length"), path)
		}
	}
}

func TestNotModified(t *testing.T) {
	t.Parallel()
	s := serve(t, file(t))
	p := s.post(anOrder).placed(t)
	g := s.get(p.Links["wait"])
	tag := g.header.Get("Etag")
	require.Equal(t, `"1"`, tag)
	require.Equal(t, "no-cache", g.header.Get("Cache-Control"))
	for _, match := range []string{tag, "*", `"x", ` + tag, "W/" + tag, ` ` + tag + ` ,"y"`} {
		n := s.get(p.Links["self"], "If-None-Match", match)
		require.Equal(t, http.StatusNotModified, n.status, match)
		require.Equal(t, tag, n.header.Get("Etag"))
		require.Empty(t, n.body)
	}
	for _, match := range []string{`"2"`, `1`, `"1`, ``, `"11"`, `W/`, `"x"`} {
		require.Equal(t, http.StatusOK, s.get(p.Links["self"], "If-None-Match", match).status, match)
	}
	require.Equal(t, http.StatusNotModified, s.get(p.Links["self"], "If-None-Match", `"2"`, "If-None-Match", tag).status)
}

func TestQueries(t *testing.T) {
	t.Parallel()
	s := serve(t, file(t))
	p := s.post(anOrder).placed(t)
	s.get(p.Links["wait"]).order(t)
	now := time.Now().UTC()
	for _, query := range []string{
		"wait=", "wait=0", "wait=-1", "wait=x", "wait=1.0", "wait=1e3", "wait=%2B1", "wait=9223372036854775808", "wait=0x1", "wait=1&wait=1",
		"wait=1&timeout=", "wait=1&timeout=0s", "wait=1&timeout=-1s", "wait=1&timeout=31s", "wait=1&timeout=5", "wait=1&timeout=1h1", "timeout=1s",
		"as_of=", "as_of=now", "as_of=2026-01-02", "as_of=0001-01-01T00:00:00Z", "as_of=" + url.QueryEscape(now.Add(time.Hour).Format(time.RFC3339)),
		"as_of=99999-01-01T00:00:00Z", "wait=1&as_of=" + now.Format(time.RFC3339), "waits=1", "WAIT=1", "a=b", "%zz", "a;b", "=1", "wait=%00",
		"as_of=2026-01-02T15:04:05Z&as_of=2026-01-02T15:04:05Z", "wait=" + strings.Repeat("9", 1000), "a[]=1", "wait=١",
	} {
		require.NotEmpty(t, s.get(p.Links["self"]+"?"+query).requireProblem(t, http.StatusBadRequest, "Query not valid")["detail"], query)
	}
	s.get(p.Links["history"]+"?as_of=x").requireProblem(t, http.StatusBadRequest, "Query not valid")
	for _, query := range []string{
		"", "wait=1", "wait=001", "wait=1&timeout=1ms", "timeout=30s&wait=1",
		"as_of=" + time.Now().Add(time.Second).In(time.FixedZone("", 3600)).Format(time.RFC3339), // with a plus sign, as people write it
		"as_of=" + url.QueryEscape(time.Now().Add(time.Second).In(time.FixedZone("", 3600)).Format(time.RFC3339Nano)),
	} {
		require.Equal(t, p.ID, s.get(p.Links["self"]+"?"+query).order(t).ID, query)
	}
}

// Who waits for what does not come is told so in time, however long a request may take to come in.
func TestVersionThatIsNotSeen(t *testing.T) {
	t.Parallel()
	s := serve(t, file(t), func(c *api.Config) { c.ReadTimeout = 50 * time.Millisecond })
	p := s.post(anOrder).placed(t)
	for _, version := range []int64{p.Version + 1, math.MaxInt64} {
		began := time.Now()
		g := s.get(fmt.Sprintf("%s?wait=%d&timeout=300ms", p.Links["self"], version))
		g.requireProblem(t, http.StatusGatewayTimeout, "Version not seen")
		require.GreaterOrEqual(t, time.Since(began), 300*time.Millisecond)
	}
	answered := make(chan got, 1)
	go func() {
		g, _ := s.try(http.MethodGet, p.Links["self"]+"?wait=2&timeout=30s", nil)
		answered <- g
	}()
	<-time.After(200 * time.Millisecond) // longer than ReadTimeout
	require.Equal(t, int64(2), s.caused(s.log()[0], shop.FraudCleared, "shop/fraud", shop.Decision{}))
	require.Equal(t, "cleared", (<-answered).order(t).Stage)
}

// A view that nobody keeps answers with what it has.
func TestViewThatStandsStill(t *testing.T) {
	t.Parallel()
	s := serveStore(t, quick(file(t)), false)
	p := s.post(anOrder).placed(t)
	s.get(p.Links["self"]).requireProblem(t, http.StatusNotFound, "Order not found")
	s.get(p.Links["self"]+"?wait=1&timeout=50ms").requireProblem(t, http.StatusGatewayTimeout, "Version not seen")
	require.Equal(t, http.StatusOK, s.get(p.Links["history"]).status, "which is of the log")
}

func TestDocumentAndHealth(t *testing.T) {
	t.Parallel()
	s := serve(t, file(t))
	g := s.get("/api/openapi.yaml")
	require.Equal(t, "application/yaml", g.header.Get("Content-Type"))
	require.Equal(t, api.Document(), g.body)
	require.Equal(t, "ok\n", string(s.get("/healthz").body))
	require.Equal(t, "ready\n", string(s.get("/readyz").body))
}

// What is cached is served, but to those who wait for a version, until an event of the order invalidates it.
func TestCache(t *testing.T) {
	t.Parallel()
	cache, err := sink.NewMemoryCache(10)
	require.NoError(t, err)
	s := serve(t, file(t), func(c *api.Config) { c.Cache = cache })
	p := s.post(anOrder).placed(t)
	path := "/api/orders/" + p.ID
	fresh := s.get(path + "?wait=" + strconv.FormatInt(p.Version, 10))
	require.Equal(t, http.StatusOK, fresh.status)
	value, there, err := cache.Get(t.Context(), sink.OrderKey(p.ID))
	require.NoError(t, err)
	require.True(t, there)
	require.Equal(t, p.Version, value.Position)
	require.Equal(t, fresh.body, s.get(path).body)

	marked := sink.Cached{Data: bytes.Replace(value.Data, []byte("user-123"), []byte("user-999"), 1), Position: value.Position}
	stored, err := cache.Set(t.Context(), sink.OrderKey(p.ID), marked)
	require.NoError(t, err)
	require.True(t, stored)
	require.Contains(t, string(s.get(path).body), "user-999", "from the cache")
	require.Equal(t, fresh.body, s.get(path+"?wait="+strconv.FormatInt(p.Version, 10)).body, "not from the cache")
	require.NoError(t, cache.Invalidate(t.Context(), sink.OrderKey(p.ID), p.Version+1))
	require.Equal(t, fresh.body, s.get(path).body, "not from the cache any more")
}
