package session_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/session"
)

const patience = 30 * time.Second

func TestDialAndClose(t *testing.T) {
	t.Parallel()
	s, err := session.Dial(t.Context(), session.Config{URLs: []string{brokertest.URL(t)}, Name: "test"})
	require.NoError(t, err)
	require.NoError(t, s.Err())
	assert.Contains(t, s.ServerVersion(), "RabbitMQ")
	took, err := s.RoundTrip(t.Context())
	require.NoError(t, err)
	assert.Positive(t, took)
	s.Close()
	require.ErrorIs(t, s.Err(), session.ErrEnded)
	<-s.Done()
	s.Close()
	_, err = s.Channel()
	require.Error(t, err)
	require.NoError(t, s.WaitUnblocked(t.Context()), "an ended session is not blocked")
}

func TestAbortNeedsNoAnswer(t *testing.T) {
	t.Parallel()
	link := brokertest.Proxy(t, brokertest.URL(t))
	s, err := session.Dial(t.Context(), session.Config{URLs: []string{link.URL()}})
	require.NoError(t, err)
	link.Pause()
	s.Abort()
	require.ErrorIs(t, s.Err(), session.ErrEnded)
}

func TestCloseDoesNotWaitForABrokerThatIsSilent(t *testing.T) {
	t.Parallel()
	link := brokertest.Proxy(t, brokertest.URL(t))
	s, err := session.Dial(t.Context(), session.Config{URLs: []string{link.URL()}})
	require.NoError(t, err)
	link.Pause()
	began := time.Now()
	s.Close()
	assert.Less(t, time.Since(began), 10*time.Second)
	require.ErrorIs(t, s.Err(), session.ErrEnded)
}

func TestDialFails(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	silent := listen(t, func(net.Conn) {})
	web := listen(t, func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")); _ = c.Close() })
	for name, test := range map[string]struct {
		url  string
		kind error
		step string
	}{
		"refused":      {"amqp://127.0.0.1:1/", session.ErrUnreachable, "connect"},
		"unknown host": {"amqp://no-such-host.invalid/", session.ErrUnreachable, "resolve"},
		"silent":       {"amqp://u:hunter2@" + silent + "/", session.ErrUnreachable, "open"},
		"not AMQP":     {"amqp://u:hunter2@" + web + "/", session.ErrUnreachable, "open"},
		"TLS to plain": {strings.Replace(url, "amqp://", "amqps://", 1), session.ErrUnreachable, "tls"},
		"password":     {strings.Replace(url, "guest:guest", "guest:hunter2", 1), session.ErrLogin, "login"},
		"vhost":        {strings.TrimSuffix(url, "/") + "/no-such-vhost", session.ErrLogin, "vhost"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := session.Dial(t.Context(), session.Config{URLs: []string{test.url}, DialTimeout: 5 * time.Second})
			require.ErrorIs(t, err, test.kind)
			failed, ok := errors.AsType[*session.DialError](err)
			require.True(t, ok)
			assert.Equal(t, test.step, failed.Step, "%v", err)
			assert.NotContains(t, err.Error(), "hunter2")
		})
	}
}

// listen runs a server that is no broker.
func listen(t *testing.T, serve func(net.Conn)) (address string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			serve(c)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

// A broker that dies while somebody logs in has not refused him: dialling again helps.
func TestConnectionLostDuringTheLogin(t *testing.T) {
	t.Parallel()
	address := strings.TrimSuffix(strings.SplitN(brokertest.URL(t), "@", 2)[1], "/")
	for frames, after := range []string{"nothing", "connection.start", "connection.tune"} {
		t.Run(after, func(t *testing.T) {
			t.Parallel()
			mortal := listen(t, func(c net.Conn) { relayFrames(c, address, frames) })
			_, err := session.Dial(t.Context(), session.Config{URLs: []string{"amqp://guest:guest@" + mortal + "/"}})
			require.ErrorIs(t, err, session.ErrUnreachable)
			require.NotErrorIs(t, err, session.ErrLogin)
		})
	}
}

// relayFrames connects a client with a broker, until the broker has sent that many frames.
func relayFrames(client net.Conn, address string, frames int) {
	defer client.Close()
	broker, err := net.Dial("tcp", address) //nolint:noctx // both ends are closed with the test
	if err != nil {
		return
	}
	defer broker.Close()
	go func() { _, _ = io.Copy(broker, client) }()
	header := make([]byte, 7) // type, channel, size
	for range frames {
		if _, err := io.ReadFull(broker, header); err != nil {
			return
		}
		_, _ = client.Write(header)
		if _, err := io.CopyN(client, broker, int64(binary.BigEndian.Uint32(header[3:]))+1); err != nil {
			return
		}
	}
	if frames > 0 {
		_, _ = broker.Read(header) // the client has answered
	}
}

func TestDialHeedsTheContext(t *testing.T) {
	t.Parallel()
	silent := listen(t, func(net.Conn) {})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := session.Dial(ctx, session.Config{URLs: []string{"amqp://" + silent + "/"}})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Less(t, time.Since(began), 5*time.Second)
	_, err = session.DialWithin(ctx, session.Config{URLs: []string{"amqp://" + silent + "/"}}, time.Minute)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestDialWithinWaitsForABroker(t *testing.T) {
	t.Parallel()
	link := brokertest.Proxy(t, brokertest.URL(t))
	link.Pause()
	time.AfterFunc(300*time.Millisecond, func() { link.Cut(); link.Resume() })
	s, err := session.DialWithin(t.Context(), session.Config{URLs: []string{link.URL()}}, patience)
	require.NoError(t, err)
	s.Close()
}

func TestDialWithinLeavesTimeForTheOtherNodes(t *testing.T) {
	t.Parallel()
	silent := listen(t, func(net.Conn) {})
	s, err := session.DialWithin(t.Context(), session.Config{URLs: []string{"amqp://" + silent + "/", brokertest.URL(t)}}, 4*time.Second)
	require.NoError(t, err)
	s.Close()
}

func TestKeepDialsAgainUntilUseIsDone(t *testing.T) {
	t.Parallel()
	link := brokertest.Proxy(t, brokertest.URL(t))
	config := session.Config{URLs: []string{link.URL()}}
	first, err := session.Dial(t.Context(), config)
	require.NoError(t, err)
	var sessions []*session.Session
	err = session.Keep(t.Context(), config, first, func(ctx context.Context, s *session.Session) error {
		for _, old := range sessions {
			require.Error(t, old.Err(), "one session at a time")
		}
		sessions = append(sessions, s)
		if len(sessions) == 3 {
			return nil
		}
		link.Cut()
		<-ctx.Done()
		require.ErrorIs(t, context.Cause(ctx), session.ErrEnded)
		return ctx.Err()
	})
	require.NoError(t, err)
	assert.Len(t, sessions, 3)
	require.Error(t, sessions[2].Err(), "Keep closes the last one too")
}

func TestKeepEndsWithAFaultThatIsNotTheConnections(t *testing.T) {
	t.Parallel()
	config := session.Config{URLs: []string{brokertest.URL(t)}}
	first, err := session.Dial(t.Context(), config)
	require.NoError(t, err)
	fault := errors.New("a fault")
	err = session.Keep(t.Context(), config, first, func(context.Context, *session.Session) error { return fault })
	require.ErrorIs(t, err, fault)
}

func TestKeepEndsWithItsContextWhileTheBrokerIsAway(t *testing.T) {
	t.Parallel()
	link := brokertest.Proxy(t, brokertest.URL(t))
	config := session.Config{URLs: []string{link.URL()}}
	first, err := session.Dial(t.Context(), config)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err = session.Keep(ctx, config, first, func(ctx context.Context, _ *session.Session) error {
		link.Pause()
		link.Cut()
		<-ctx.Done()
		time.AfterFunc(300*time.Millisecond, cancel)
		return ctx.Err()
	})
	require.ErrorIs(t, err, context.Canceled)
}

func TestCheckReportsEveryURL(t *testing.T) {
	t.Parallel()
	err := session.Config{URLs: []string{"http://a", "amqp://ok", "amqp://b:notaport"}}.Check()
	require.ErrorIs(t, err, session.ErrURL)
	assert.Len(t, strings.Split(err.Error(), "\n"), 2)
	require.ErrorIs(t, session.Config{}.Check(), session.ErrURL)
}

func ExampleRedact() {
	fmt.Println(session.Redact("amqp://shop:secret@rabbit:5672/orders"))
	// Output: amqp://shop@rabbit:5672/orders
}
