package webhook_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/webhook"
)

func TestTheRequest(t *testing.T) {
	t.Parallel()
	d := delivery(t)
	d.Attempt = 3
	d.Event.Subject = "Müller"
	d.Event = d.Event.WithExtension("tenant", "a b")
	r := record(t.Context(), t, webhook.Config{URL: "/hook/é?a=b%20c#fragment", Headers: http.Header{
		"x-api-key": {"1"}, "X-Api-Key": {"2"}, "Host": {"service.example"}, "X-Empty": {""},
	}}, d)
	assert.Equal(t, http.MethodPost, r.Method)
	assert.Equal(t, "/hook/%C3%A9?a=b%20c", r.RequestURI)
	assert.Equal(t, "service.example", r.Host)
	assert.Equal(t, d.Event.Data, r.body)
	assert.EqualValues(t, len(d.Event.Data), r.ContentLength)
	assert.Equal(t, []string{"2", "1"}, r.Header["X-Api-Key"])
	delete(r.Header, "X-Api-Key")
	assert.Equal(t, http.Header{
		"Ce-Specversion": {"1.0"}, "Ce-Id": {d.Event.ID}, "Ce-Source": {"orders"}, "Ce-Type": {"order.created"},
		"Ce-Subject": {"M%C3%BCller"}, "Ce-Time": {d.Event.Time.Format(time.RFC3339Nano)}, "Ce-Tenant": {"a%20b"},
		"Content-Type": {"application/json"}, "Content-Length": {"17"}, "User-Agent": {"evdemo"}, "Evdemo-Attempt": {"3"},
		"X-Empty": {""},
	}, r.Header)
	e, err := event.DecodeHTTP(r.Header, r.body)
	require.NoError(t, err)
	assert.Equal(t, d.Event, e)
}

// An event without data, and one with more than fits a buffer.
func TestBodies(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 5 << 20} {
		d := delivery(t)
		d.Event.Data, d.Event.DataContentType = bytes.Repeat([]byte("\x00"), size), ""
		r := record(t.Context(), t, webhook.Config{}, d)
		assert.Len(t, r.body, size)
		assert.EqualValues(t, size, r.ContentLength)
		assert.NotContains(t, r.Header, "Content-Type")
	}
}

// A message that is no event, with anything in its properties, is posted all the same.
func TestAForeignMessage(t *testing.T) {
	t.Parallel()
	e, err := event.Decode(event.Message{
		MessageID: "a\r\nX-Injected: 1", ContentType: "text/plain\r\nX-Injected: 1", Type: "caf\xe9", Body: []byte("hi"),
		Headers: map[string]any{"ce-type": "t", "ce-my_ext\r\n": "x", "ce-UPPER": "x", "ce-x y": "x"},
	})
	require.Error(t, err)
	r := record(t.Context(), t, webhook.Config{}, &worker.Delivery{Event: e, Foreign: err, Attempt: 1})
	assert.Equal(t, "hi", string(r.body))
	assert.Equal(t, "a%0D%0AX-Injected:%201", r.Header.Get("Ce-Id"))
	assert.NotContains(t, r.Header, "X-Injected")
}

func TestTraceContext(t *testing.T) {
	t.Parallel()
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	d := delivery(t)
	assert.NotContains(t, record(t.Context(), t, webhook.Config{}, d).Header, "Traceparent")

	d.Event = d.Event.WithExtension(event.ExtTraceParent, parent).WithExtension("tracestate", "vendor=1")
	r := record(t.Context(), t, webhook.Config{}, d)
	assert.Equal(t, []string{parent}, r.Header["Traceparent"])
	assert.Equal(t, []string{"vendor=1"}, r.Header["Tracestate"])
	assert.Equal(t, []string{parent}, r.Header["Ce-Traceparent"])

	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	r = record(trace.ContextWithSpanContext(t.Context(), span), t, webhook.Config{}, d)
	assert.Equal(t, []string{"00-01000000000000000000000000000000-0200000000000000-00"}, r.Header["Traceparent"])
	assert.NotContains(t, r.Header, "Tracestate")
	assert.Equal(t, []string{parent}, r.Header["Ce-Traceparent"])

	d.Event = d.Event.WithExtension(event.ExtTraceParent, "nonsense")
	assert.NotContains(t, record(t.Context(), t, webhook.Config{}, d).Header, "Traceparent")
}

func TestAuthorization(t *testing.T) {
	t.Parallel()
	d := delivery(t)
	requests := make(chan string, 1)
	server := serve(t, func(_ http.ResponseWriter, r *http.Request) { requests <- r.Header.Get("Authorization") })
	address := strings.Replace(server.URL, "http://", "http://us%40er:p%3Aw@", 1)
	require.NoError(t, newPoster(t, webhook.Config{URL: address}).Handle(t.Context(), d))
	assert.Equal(t, "Basic dXNAZXI6cDp3", <-requests)
	headers := http.Header{"authorization": {"Bearer token"}}
	require.NoError(t, newPoster(t, webhook.Config{URL: address, Headers: headers}).Handle(t.Context(), d))
	assert.Equal(t, "Bearer token", <-requests)
}

// Connections are used again, whatever the answer was: also where it has a body.
func TestConnectionsAreUsedAgain(t *testing.T) {
	t.Parallel()
	var connections, requests atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader([]int{200, 202, 204, 400, 429, 500, 302}[requests.Add(1)%7])
		_, _ = io.WriteString(w, strings.Repeat("x", 10_000))
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	const workers = 4
	p := newPoster(t, webhook.Config{URL: server.URL, Concurrency: workers})
	d := delivery(t)
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for range 50 {
				_ = p.Handle(t.Context(), d)
			}
		})
	}
	all.Wait()
	assert.EqualValues(t, 50*workers, requests.Load())
	assert.LessOrEqual(t, connections.Load(), int64(2*workers), "a connection in use is not waited for")
}

// A service that closes connections it had kept open must not cost an event an attempt.
func TestAConnectionThatWasClosedMeanwhile(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var connections atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			answerOnceAndHangUp(conn)
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-done })
	p := newPoster(t, webhook.Config{URL: "http://" + listener.Addr().String()})
	for range 5 {
		require.NoError(t, handle(t, p))
	}
	assert.EqualValues(t, 5, connections.Load())
}

// answerOnceAndHangUp answers a first request as though it would keep the connection, and closes it
// when it has read a second, without an answer.
func answerOnceAndHangUp(conn net.Conn) {
	defer conn.Close()
	requests := bufio.NewReader(conn)
	for first := true; ; first = false {
		request, err := http.ReadRequest(requests)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, request.Body)
		if !first {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	for _, h2 := range []bool{false, true} {
		protocol := make(chan string, 1)
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { protocol <- r.Proto }))
		server.EnableHTTP2 = h2
		server.Config.ErrorLog = discardLog()
		server.StartTLS()
		t.Cleanup(server.Close)

		roots := x509.NewCertPool()
		roots.AddCert(server.Certificate())
		config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		require.NoError(t, handle(t, newPoster(t, webhook.Config{URL: server.URL, TLS: config})))
		assert.Equal(t, map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[h2], <-protocol)
		assert.Empty(t, config.NextProtos, "the caller's settings are not touched")

		err := handle(t, newPoster(t, webhook.Config{URL: server.URL}))
		var unknown x509.UnknownAuthorityError
		require.ErrorAs(t, err, &unknown)
		assert.False(t, permanent(err))
	}
}

func TestASlowService(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	server := serve(t, func(http.ResponseWriter, *http.Request) { <-release })
	t.Cleanup(func() { close(release) }) // before the server's own
	p := newPoster(t, webhook.Config{URL: server.URL, Timeout: 50 * time.Millisecond})

	err := p.Handle(context.Background(), delivery(t))
	require.ErrorIs(t, err, worker.ErrTimeout)
	require.EqualError(t, err, "POST to "+server.URL+": handler exceeded its time limit of 50ms")
	assert.False(t, permanent(err))

	p = newPoster(t, webhook.Config{URL: server.URL})
	err = worker.Wrap(p.Handle, worker.Timeout(50*time.Millisecond))(t.Context(), delivery(t))
	require.ErrorIs(t, err, worker.ErrTimeout)
	assert.Equal(t, 1, strings.Count(err.Error(), "time limit"), "it is said once")

	drained := errors.New("the drain timeout has passed")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(drained)
	require.ErrorIs(t, p.Handle(ctx, delivery(t)), drained)
}

// The status is the answer. A body that does not come must not undo it, nor hold up the worker.
func TestABodyThatDoesNotCome(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]bool{200: true, 500: false} {
		release := make(chan struct{})
		server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "beginning")
			w.(http.Flusher).Flush()
			<-release
		})
		t.Cleanup(func() { close(release) })
		begin := time.Now()
		err := handle(t, newPoster(t, webhook.Config{URL: server.URL}))
		assert.Less(t, time.Since(begin), 10*time.Second)
		if want {
			assert.NoError(t, err)
		} else {
			assert.ErrorContains(t, err, "500 Internal Server Error: beginning")
		}
	}
}

func TestAHugeBody(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]bool{200: true, 500: false} {
		written := make(chan int, 1)
		err := answer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			n := 0
			for n < 1<<30 {
				more, err := io.WriteString(w, strings.Repeat("no ", 10_000))
				if n += more; err != nil {
					break
				}
			}
			written <- n
		})
		assert.Less(t, <-written, 1<<30, "the connection is closed instead of reading on")
		if want {
			assert.NoError(t, err)
		} else {
			assert.Less(t, len(err.Error()), 400)
		}
	}
}

// hijack gives a service that writes this, whatever it is, and closes the connection.
func hijack(t *testing.T, text string) http.HandlerFunc {
	t.Helper()
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if assert.NoError(t, err) {
			_, _ = io.WriteString(conn, text)
			_ = conn.Close()
		}
	}
}

func TestAServiceThatHangsUp(t *testing.T) {
	t.Parallel()
	require.NoError(t, answer(t, hijack(t, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")))
	err := answer(t, hijack(t, "HTTP/1.1 400 Bad Request\r\nContent-Length: 100\r\n\r\nhalf"))
	assert.True(t, permanent(err))
	require.ErrorContains(t, err, "400 Bad Request: half")
	for _, text := range []string{
		"", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Le", "nonsense\r\n\r\n", "HTTP/1.1 999999 What\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
	} {
		err := answer(t, hijack(t, text))
		require.Error(t, err, "%.60q", text)
		assert.False(t, permanent(err), "%.60q", text)
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	err := handle(t, newPoster(t, webhook.Config{URL: server.URL + "/path?token=secret"}))
	require.ErrorContains(t, err, "POST to "+server.URL+": ")
	require.ErrorContains(t, err, "connection refused")
	assert.NotContains(t, err.Error(), "secret")
	assert.False(t, permanent(err))
}

func TestPosterIsUsableAfterClose(t *testing.T) {
	t.Parallel()
	p := newPoster(t, webhook.Config{URL: serve(t, func(http.ResponseWriter, *http.Request) {}).URL})
	for range 3 {
		require.NoError(t, handle(t, p))
		p.Close()
	}
}

func ExampleNew() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		e, err := event.DecodeHTTP(r.Header, body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest) // dead-lettered
			return
		}
		fmt.Printf("%s from %s: %s\n", e.Type, e.Source, e.Data)
	}))
	defer server.Close()

	p, err := webhook.New(webhook.Config{URL: server.URL})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	e, err := event.New("order.created", "orders", map[string]int{"order": 4711})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p.Handle(context.Background(), &worker.Delivery{Event: e, Attempt: 1}))
	// Output:
	// order.created from orders: {"order":4711}
	// <nil>
}
