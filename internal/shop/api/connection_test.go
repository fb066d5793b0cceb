package api_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/shop/api"
)

// wire is a connection on which a test says what it likes.
type wire struct {
	net.Conn

	t  *testing.T
	in *bufio.Reader
}

func (s *served) dial(t *testing.T) *wire {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return &wire{conn, t, bufio.NewReader(conn)}
}

func (w *wire) say(format string, args ...any) {
	w.t.Helper()
	_, err := fmt.Fprintf(w, format, args...)
	require.NoError(w.t, err)
}

// hear reads an answer, and holds it to the contract.
func (w *wire) hear(method, path string) got {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), method, "http://"+w.RemoteAddr().String()+path, nil)
	require.NoError(w.t, err)
	response, err := http.ReadResponse(w.in, request)
	require.NoError(w.t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(w.t, err)
	require.NoError(w.t, response.Body.Close())
	require.NoError(w.t, promised.check(request, response.StatusCode, response.Header, body))
	return got{response.StatusCode, response.Header, body}
}

// ended waits until the server has ended the connection.
func (w *wire) ended() {
	w.t.Helper()
	rest, err := io.ReadAll(w.in)
	if err != nil {
		require.ErrorContains(w.t, err, "reset by peer") // where the server had not read all that was said
	}
	require.Empty(w.t, string(rest))
}

const postHead = "POST /api/orders HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\n"

// Requests that come before the answers to those before them are answered in their order.
func TestPipelining(t *testing.T) {
	t.Parallel()
	s := serve(t, file(t))
	w := s.dial(t)
	var all strings.Builder
	for i := range 20 {
		body := strings.Replace(anOrder, "user-123", fmt.Sprintf("user-%d", i), 1)
		if i%4 == 3 {
			body = `{"user_id":`
		}
		fmt.Fprintf(&all, postHead+"Content-Length: %d\r\n\r\n%s", len(body), body)
	}
	w.say("%s", all.String())
	for i := range 20 {
		g := w.hear(http.MethodPost, "/api/orders")
		if i%4 == 3 {
			g.requireProblem(t, http.StatusBadRequest, "Body is not JSON")
			continue
		}
		require.Equal(t, fmt.Sprintf("user-%d", i), s.get(g.placed(t).Links["wait"]).order(t).UserID)
	}
}

func TestOldHTTP(t *testing.T) {
	t.Parallel()
	s := serve(t, file(t))
	w := s.dial(t)
	w.say("POST /api/orders HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(anOrder), anOrder)
	p := w.hear(http.MethodPost, "/api/orders").placed(t)
	w.ended()
	w = s.dial(t)
	w.say("GET %s HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET %s HTTP/1.0\r\n\r\n", p.Links["wait"], p.Links["history"])
	require.Equal(t, p.ID, w.hear(http.MethodGet, p.Links["wait"]).order(t).ID)
	require.Equal(t, http.StatusOK, w.hear(http.MethodGet, p.Links["history"]).status)
	w.ended()
	w = s.dial(t)
	w.say("POST /api/orders HTTP/1.0\r\nContent-Type: application/json\r\n\r\n") // no length: no body
	w.hear(http.MethodPost, "/api/orders").requireProblem(t, http.StatusBadRequest, "Body is not JSON")
}

func TestExpectContinue(t *testing.T) {
	t.Parallel()
	s := serve(t, file(t))
	w := s.dial(t)
	w.say(postHead+"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(anOrder))
	line, err := w.in.ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "100 Continue")
	_, err = w.in.ReadString('\n')
	require.NoError(t, err)
	w.say("%s", anOrder)
	w.hear(http.MethodPost, "/api/orders").placed(t)
	w = s.dial(t)
	w.say(postHead+"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n", 1<<30) // which nobody has to send
	w.hear(http.MethodPost, "/api/orders").requireProblem(t, http.StatusRequestEntityTooLarge, "")
}

// What is no HTTP, or asks for too much, ends the connection and nothing else.
func TestNoHTTP(t *testing.T) {
	t.Parallel()
	s := serve(t, file(t))
	for said, status := range map[string]string{
		"hello\r\n\r\n": "400", "GET / HTTP/9.9\r\n\r\n": "505", "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n": "400",
		"GET /healthz HTTP/1.1\r\n\r\n": "400", "GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n": "400",
		"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 40_000) + "\r\n\r\n": "431",
		"GET /" + strings.Repeat("x", 40_000) + " HTTP/1.1\r\nHost: a\r\n\r\n":               "431",
		postHead + "Content-Length: -1\r\n\r\n":                                              "400",
		postHead + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nx":                         "400",
		postHead + "Transfer-Encoding: gzip\r\n\r\n":                                         "501",
		"GET /a\x00b HTTP/1.1\r\nHost: a\r\n\r\n":                                            "400",
	} {
		w := s.dial(t)
		_, _ = io.WriteString(w, said) // it may be answered before it is said
		line, err := w.in.ReadString('\n')
		require.NoError(t, err, "%.40q", said)
		require.Contains(t, line, status, "%.40q", said)
	}
	// Two lengths that contradict each other: what is behind the body must not be taken for a request.
	w := s.dial(t)
	w.say(postHead+"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(anOrder), anOrder)
	_, err := w.in.ReadString('\n')
	require.NoError(t, err)
	w = s.dial(t)
	w.say(postHead + "Transfer-Encoding: chunked\r\n\r\nzz\r\n")
	w.hear(http.MethodPost, "/api/orders").requireProblem(t, http.StatusBadRequest, "Body cannot be read")
	w = s.dial(t)
	w.say(postHead+"Content-Length: %d\r\n\r\n%s", len(anOrder)+1, anOrder)
	require.NoError(t, w.Conn.(*net.TCPConn).CloseWrite()) //nolint:forcetypeassert // it is
	w.hear(http.MethodPost, "/api/orders").requireProblem(t, http.StatusBadRequest, "Body cannot be read")
	require.Equal(t, "ok\n", string(s.get("/healthz").body))
}

// Who is slow is told so, or cut off, and does not keep others waiting.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	s := serve(t, file(t), func(c *api.Config) {
		c.HeaderTimeout, c.ReadTimeout, c.IdleTimeout = 200*time.Millisecond, 500*time.Millisecond, 200*time.Millisecond
	})
	silent, idle, slowHeaders, slowBody, drips := s.dial(t), s.dial(t), s.dial(t), s.dial(t), s.dial(t)
	idle.say("GET /healthz HTTP/1.1\r\nHost: shop\r\n\r\n")
	require.Equal(t, http.StatusOK, idle.hear(http.MethodGet, "/healthz").status)
	slowHeaders.say("GET /healthz HTTP/1.1\r\nHost: sh")
	slowBody.say(postHead+"Content-Length: %d\r\n\r\n%s", len(anOrder), anOrder[:10])
	drips.say(postHead+"Content-Length: %d\r\n\r\n", len(anOrder))
	go func() {
		for i := range anOrder { // a byte now and then keeps no connection alive
			if _, err := io.WriteString(drips, anOrder[i:i+1]); err != nil {
				return
			}
			<-time.After(50 * time.Millisecond)
		}
	}()
	s.post(anOrder).placed(t)
	slowBody.hear(http.MethodPost, "/api/orders").requireProblem(t, http.StatusRequestTimeout, "")
	drips.hear(http.MethodPost, "/api/orders").requireProblem(t, http.StatusRequestTimeout, "")
	for _, w := range []*wire{silent, idle, slowHeaders, slowBody, drips} {
		w.ended()
	}
	require.Len(t, s.log(), 1)
}

// A client that has gone while its request was under way is nobody's trouble.
func TestClientGoes(t *testing.T) {
	t.Parallel()
	s := serve(t, file(t))
	p := s.post(anOrder).placed(t)
	for range 20 {
		w := s.dial(t)
		w.say("GET %s?wait=1000 HTTP/1.1\r\nHost: shop\r\n\r\n", p.Links["self"])
		require.NoError(t, w.Close())
		w = s.dial(t)
		w.say(postHead+"Content-Length: %d\r\n\r\n%s", len(anOrder), anOrder)
		require.NoError(t, w.Close())
	}
	s.get(p.Links["wait"]).order(t)
}

// At the end /readyz says so, who waits is told so, what is under way is answered, and nothing new is taken.
func TestShutdown(t *testing.T) {
	t.Parallel()
	s := serve(t, file(t), func(c *api.Config) { c.DrainDelay = 2 * time.Second })
	p := s.post(anOrder).placed(t)
	waits, under := s.dial(t), s.dial(t)
	waits.say("GET %s?wait=99&timeout=30s HTTP/1.1\r\nHost: shop\r\n\r\n", p.Links["self"])
	under.say(postHead+"Content-Length: %d\r\n\r\n%s", len(anOrder), anOrder[:10])
	require.Equal(t, "ready\n", string(s.get("/readyz").body))
	ended := make(chan error, 1)
	go func() { ended <- s.stop() }()
	waits.hear(http.MethodGet, p.Links["self"]).requireProblem(t, http.StatusServiceUnavailable, "Shutting down")
	s.get("/readyz").requireProblem(t, http.StatusServiceUnavailable, "Shutting down")
	require.Equal(t, "ok\n", string(s.get("/healthz").body))
	s.post(anOrder).placed(t) // there may be load balancers that have not heard of it
	require.Eventually(t, func() bool {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.addr)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	}, patience, 10*time.Millisecond)
	under.say("%s", anOrder[10:])
	under.hear(http.MethodPost, "/api/orders").placed(t)
	require.NoError(t, <-ended)
	require.Len(t, s.log(), 3)
}

// What does not end in time is cut off.
func TestShutdownThatTakesTooLong(t *testing.T) {
	t.Parallel()
	s := serve(t, file(t), func(c *api.Config) { c.DrainTimeout = 100 * time.Millisecond })
	w := s.dial(t)
	w.say(postHead+"Content-Length: %d\r\n\r\n%s", len(anOrder), anOrder[:10])
	require.Equal(t, "ok\n", string(s.get("/healthz").body))
	err := s.stop()
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "cut off")
	w.ended()
	require.Empty(t, s.log())
}

// An address that is taken from it ends it.
func TestListenerThatFails(t *testing.T) {
	t.Parallel()
	s := serve(t, file(t))
	server, err := api.New(api.Config{Store: s.store, Orders: s.orders})
	require.NoError(t, err)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	require.ErrorContains(t, server.Serve(t.Context(), listener), "serve HTTP")
	_, err = api.New(api.Config{MaxBody: -1, Rate: -1})
	for _, name := range []string{"Store", "MaxBody", "Rate"} {
		require.ErrorContains(t, err, name)
	}
}

// What a handler leaves in a buffer is not another's.
func TestBuffersAreNotShared(t *testing.T) {
	t.Parallel()
	s := serve(t, file(t))
	long := bytes.Repeat([]byte(" "), 20_000)
	s.post(anOrder + string(long)).placed(t)
	s.post(`{"user_id":"short","items":["item-1"]`).requireProblem(t, http.StatusBadRequest, "Body is not JSON")
	s.post(`{"user_id":"short","items":["item-1"]}`).placed(t)
}
