package ingress_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop/ingress"
)

// patience is how long a test waits for what must happen at once.
const patience = 20 * time.Second

// client is a connection on which a test writes what it likes.
type client struct {
	net.Conn

	answers *bufio.Reader
}

// dial starts a server with a handler and connects to it.
func dial(t *testing.T, h http.Handler) *client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() }) // some tests have closed it
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return &client{conn, bufio.NewReader(conn)}
}

// send writes the head of a request with a signature of the body charged, and further lines.
func (c *client) send(t *testing.T, lines ...string) {
	t.Helper()
	_, err := fmt.Fprintf(c, "POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\nStripe-Signature: %s\r\n%s\r\n\r\n",
		signStripe(t, charged, now()).Get("Stripe-Signature"), strings.Join(lines, "\r\n"))
	require.NoError(t, err)
}

func (c *client) write(t *testing.T, text string) {
	t.Helper()
	_, err := c.Write([]byte(text))
	require.NoError(t, err)
}

// answer reads an answer, and tells whether the server closes the connection behind it.
func (c *client) answer(t *testing.T) (a answer, closes bool) {
	t.Helper()
	response, err := http.ReadResponse(c.answers, nil)
	require.NoError(t, err)
	a = check(t, response.StatusCode, response.Header, response.Body)
	require.NoError(t, response.Body.Close())
	return a, response.Close
}

func TestBodiesInPieces(t *testing.T) {
	t.Parallel()
	s := open(t, eventstore.Config{})
	c := dial(t, handler(t, s))
	c.send(t, "Transfer-Encoding: chunked")
	for i := range charged {
		c.write(t, "1\r\n"+charged[i:i+1]+"\r\n")
	}
	c.write(t, "0\r\n\r\n")
	got, closes := c.answer(t)
	require.Equal(t, "recorded", got.members["status"])
	require.False(t, closes)

	c.send(t, fmt.Sprintf("Content-Length: %d", len(charged)), "Expect: 100-continue")
	line, err := c.answers.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "HTTP/1.1 100 Continue\r\n", line)
	_, err = c.answers.ReadString('\n')
	require.NoError(t, err)
	c.write(t, charged)
	got, _ = c.answer(t)
	require.Equal(t, "duplicate", got.members["status"])
}

// Who sends a body slowly is cut off, whether the request was already refused or not.
func TestSlowBodies(t *testing.T) {
	t.Parallel()
	s := open(t, eventstore.Config{})
	h := handler(t, s, func(c *ingress.Config) { c.Timeout = 100 * time.Millisecond })

	c := dial(t, h)
	c.send(t, fmt.Sprintf("Content-Length: %d", len(charged)))
	c.write(t, charged[:len(charged)-1])
	got, closes := c.answer(t)
	require.Equal(t, http.StatusRequestTimeout, got.status)
	require.True(t, closes)

	for _, path := range []string{"/webhooks/stripe", "/webhooks/paypal"} {
		c = dial(t, h)
		c.write(t, "POST "+path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
		got, closes = c.answer(t)
		require.Contains(t, []int{http.StatusUnauthorized, http.StatusNotFound}, got.status)
		require.True(t, closes, "the rest of the body is not waited for")
	}
	require.Empty(t, log(t, s))
}

// The time that a body may take ends with the body: a connection that was quick can be used again, and later.
func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	s := open(t, eventstore.Config{})
	const timeout = time.Second
	h := handler(t, s, func(c *ingress.Config) { c.Timeout = timeout })
	c := dial(t, h)
	c.send(t, fmt.Sprintf("Content-Length: %d", len(charged)))
	c.write(t, charged)
	got, _ := c.answer(t)
	require.Equal(t, "recorded", got.members["status"])
	after := time.NewTimer(timeout + 100*time.Millisecond)
	defer after.Stop()
	<-after.C // nothing may happen meanwhile
	c.send(t, fmt.Sprintf("Content-Length: %d", len(charged)))
	c.write(t, charged)
	got, _ = c.answer(t)
	require.Equal(t, "duplicate", got.members["status"])
}

func TestBrokenBodies(t *testing.T) {
	t.Parallel()
	s := open(t, eventstore.Config{})
	h := handler(t, s)
	c := dial(t, h)
	c.send(t, "Transfer-Encoding: chunked")
	c.write(t, "5\r\n"+charged[:5]+"\r\nno number\r\n")
	got, closes := c.answer(t)
	require.Equal(t, http.StatusBadRequest, got.status)
	require.Equal(t, "Broken body", got.title())
	require.True(t, closes)

	c = dial(t, h)
	c.send(t, fmt.Sprintf("Content-Length: %d", len(charged)))
	c.write(t, charged[:20])
	require.NoError(t, c.Conn.(*net.TCPConn).CloseWrite())
	got, _ = c.answer(t)
	require.Equal(t, "Broken body", got.title())

	// A length that is told is believed before anything is read, and one that is not is counted.
	c = dial(t, h)
	c.send(t, "Content-Length: 1000000000000")
	got, closes = c.answer(t)
	require.Equal(t, http.StatusRequestEntityTooLarge, got.status)
	require.True(t, closes)
	require.Empty(t, log(t, s))
}

func TestEndlessBody(t *testing.T) {
	t.Parallel()
	h := handler(t, open(t, eventstore.Config{}))
	c := dial(t, h)
	c.send(t, "Transfer-Encoding: chunked")
	chunk := "10000\r\n" + strings.Repeat("x", 0x10000) + "\r\n"
	for range 6 {
		c.write(t, chunk)
	}
	got, closes := c.answer(t)
	require.Equal(t, http.StatusRequestEntityTooLarge, got.status)
	require.True(t, closes)
}

func TestHeadersOnTheWire(t *testing.T) {
	t.Parallel()
	s := open(t, eventstore.Config{})
	c := dial(t, handler(t, s))
	length := fmt.Sprintf("Content-Length: %d", len(charged))
	c.send(t, length, "STRIPE-SIGNATURE: t=1,v1=00")
	c.write(t, charged)
	got, _ := c.answer(t)
	require.Equal(t, "Unreadable signature", got.title(), "the same name in other letters is the same header")

	_, err := fmt.Fprintf(c, "POST /webhooks/stripe HTTP/1.0\r\nstripe-signature: %s\r\n%s\r\n\r\n%s",
		signStripe(t, charged, now()).Get("Stripe-Signature"), length, charged)
	require.NoError(t, err)
	got, closes := c.answer(t)
	require.Equal(t, "recorded", got.members["status"])
	require.True(t, closes, "HTTP/1.0 closes")
}

// deadlines is a connection that notes until when it may be read from.
type deadlines struct {
	*httptest.ResponseRecorder

	set []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.set = append(d.set, t)
	return nil
}

// Once a body is there, no deadline is left that would end the request while it is recorded.
func TestDeadlineEndsWithTheBody(t *testing.T) {
	t.Parallel()
	h := handler(t, open(t, eventstore.Config{}))
	taken := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	h.ServeHTTP(taken, request(t, "/webhooks/stripe", charged, signStripe(t, charged, now())))
	require.Equal(t, http.StatusOK, taken.Code)
	require.Len(t, taken.set, 2)
	require.WithinDuration(t, time.Now().Add(ingress.DefaultTimeout), taken.set[0], ingress.DefaultTimeout)
	require.Zero(t, taken.set[1])
	refused := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	h.ServeHTTP(refused, request(t, "/webhooks/stripe", charged))
	require.Equal(t, http.StatusUnauthorized, refused.Code)
	require.Len(t, refused.set, 1, "the rest of the body must come in time")
}
