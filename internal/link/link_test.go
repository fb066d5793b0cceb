package link

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open makes a link for a test.
func open(t *testing.T, target string) *Link {
	t.Helper()
	l, err := New(t.Context(), target, nil)
	require.NoError(t, err)
	t.Cleanup(l.Close)
	return l
}

func TestLinkThatIsDown(t *testing.T) {
	t.Parallel()
	var accepted atomic.Int32
	link, err := New(t.Context(), "amqp://"+echo(t), func() { accepted.Add(1) })
	require.NoError(t, err)
	defer link.Close()
	at, err := url.Parse(link.URL())
	require.NoError(t, err)
	before := dial(t, at.Host)
	require.Equal(t, "hello", before.say("hello"))
	link.Down()
	for _, c := range []*client{before, dial(t, at.Host)} {
		_, err := c.in.ReadByte()
		require.Error(t, err)
	}
	link.Up()
	require.Equal(t, "hello", dial(t, at.Host).say("hello"))
	require.EqualValues(t, 3, accepted.Load())
}

func TestLinkToAnURLThatIsNone(t *testing.T) {
	t.Parallel()
	_, err := New(t.Context(), "amqp://user:secret@host:port", nil)
	require.ErrorContains(t, err, "not well-formed")
	require.NotContains(t, err.Error(), "secret")
}

func TestLinkPassesCutsAndPauses(t *testing.T) {
	t.Parallel()
	link := open(t, "amqp://user:secret@"+echo(t)+"/vhost?heartbeat=5")
	at, err := url.Parse(link.URL())
	require.NoError(t, err)
	require.Equal(t, link.listener.Addr().String(), at.Host)
	require.Equal(t, "/vhost", at.Path)
	require.Equal(t, "user:secret", at.User.String())
	require.Equal(t, "heartbeat=5", at.RawQuery)

	one, two := dial(t, at.Host), dial(t, at.Host)
	require.Equal(t, "hello", one.say("hello"))
	require.Equal(t, "hello", two.say("hello"))

	link.Pause()
	link.Pause() // is no more than one
	_, err = one.Write([]byte("held back\n"))
	require.NoError(t, err)
	late := dial(t, at.Host)
	_, err = late.Write([]byte("me too\n"))
	require.NoError(t, err)
	require.NoError(t, one.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	_, err = one.in.ReadByte()
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	require.True(t, timeout.Timeout())

	link.Resume()
	require.Equal(t, "held back", one.hear())
	require.Equal(t, "me too", late.hear())

	link.Cut()
	for _, c := range []*client{one, two, late} {
		_, err := c.in.ReadByte()
		require.ErrorContains(t, err, "connection reset")
	}
	require.Equal(t, "again", dial(t, at.Host).say("again"))
}

func TestLinkThatIsPausedCanBeCut(t *testing.T) {
	t.Parallel()
	link := open(t, "amqp://"+echo(t))
	c := dial(t, link.listener.Addr().String())
	require.Equal(t, "hello", c.say("hello"))
	link.Pause()
	_, err := c.Write([]byte("never arrives\n"))
	require.NoError(t, err)
	link.Cut()
	_, err = c.in.ReadByte()
	require.Error(t, err)
}

func TestLinkToNobody(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	link := open(t, "amqp://"+l.Addr().String())
	require.NoError(t, l.Close())
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp4", link.listener.Addr().String())
	if err == nil { // else it was dropped before that came here
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
		_, err = conn.Read(make([]byte, 1))
	}
	require.ErrorContains(t, err, "connection reset")
}

func TestHostPort(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"amqp://h": "h:5672", "amqps://h/v": "h:5671", "amqp://u:p@h:1/": "h:1", "amqp://[::1]/": "[::1]:5672",
	} {
		address, err := url.Parse(in)
		require.NoError(t, err)
		require.Equal(t, want, hostPort(address))
	}
}

// TestNode shows that a node comes and goes with its test.
// echo serves lines back.
func echo(t *testing.T) (address string) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			})
		}
	})
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		serving.Wait()
	})
	return l.Addr().String()
}

type client struct {
	net.Conn
	t  *testing.T
	in *bufio.Reader
}

func dial(t *testing.T, address string) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp4", address)
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	t.Cleanup(func() { _ = conn.Close() })
	return &client{conn, t, bufio.NewReader(conn)}
}

func (c *client) say(line string) string {
	c.t.Helper()
	_, err := io.WriteString(c, line+"\n")
	require.NoError(c.t, err)
	return c.hear()
}

func (c *client) hear() string {
	c.t.Helper()
	require.NoError(c.t, c.SetDeadline(time.Now().Add(10*time.Second)))
	line, err := c.in.ReadString('\n')
	require.NoError(c.t, err)
	return strings.TrimSuffix(line, "\n")
}

func TestLinkThatLetsOnlySomeIn(t *testing.T) {
	t.Parallel()
	link := open(t, "amqp://"+echo(t))
	at, err := url.Parse(link.URL())
	require.NoError(t, err)
	left := 1 // asked for by one goroutine
	link.Admit(func() bool { left--; return left >= 0 })
	in, out := dial(t, at.Host), dial(t, at.Host)
	require.Equal(t, "hello", in.say("hello"))
	_, err = out.in.ReadByte()
	require.Error(t, err)
	link.Admit(nil)
	require.Equal(t, "hello", dial(t, at.Host).say("hello"))
	require.Equal(t, "still here", in.say("still here"))
}
