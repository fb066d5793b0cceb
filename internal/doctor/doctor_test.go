package doctor_test

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/doctor"
	"github.com/evdemo/evdemo/internal/session"
)

const patience = 30 * time.Second

// brokerURL is the first node of the broker under test, changed.
func brokerURL(t *testing.T, change func(*url.URL)) string {
	t.Helper()
	u, err := url.Parse(session.SplitURLs(brokertest.URL(t))[0])
	require.NoError(t, err)
	change(u)
	return u.String()
}

// requireSick is a diagnosis that is ok up to a step, fails there with a detail and an advice, and has
// skipped what comes after it.
func requireSick(t *testing.T, d doctor.Diagnosis, step, detail, advice string) {
	t.Helper()
	require.False(t, d.Healthy)
	require.Len(t, d.Checks, 8)
	failed := false
	for i, name := range []string{"name", "tcp", "tls", "login", "vhost", "permissions", "round trip", "alarms"} {
		check := d.Checks[i]
		require.Equal(t, name, check.Step)
		switch {
		case name == step:
			failed = true
			require.Equal(t, doctor.Failed, check.Status, "%+v", d)
			assert.Contains(t, check.Detail, detail)
			assert.Contains(t, check.Advice, advice)
		case failed:
			require.Equal(t, doctor.Skipped, check.Status, "%+v", d)
			require.Empty(t, check.Detail+check.Advice)
		default:
			require.NotEqual(t, doctor.Failed, check.Status, "%+v", d)
		}
	}
	require.True(t, failed)
	requireNoPassword(t, d)
}

// requireNoPassword looks through all that a diagnosis says.
func requireNoPassword(t *testing.T, d doctor.Diagnosis) {
	t.Helper()
	said, err := json.Marshal(d)
	require.NoError(t, err)
	require.NotContains(t, string(said), "sEcret")
}

func TestHealthy(t *testing.T) {
	t.Parallel()
	url := brokerURL(t, func(*url.URL) {})
	d := doctor.Examine(t.Context(), url, nil, patience)
	require.True(t, d.Healthy, "%+v", d)
	require.Len(t, d.Checks, 8)
	for _, check := range d.Checks {
		want := doctor.OK
		if check.Step == "tls" && !strings.HasPrefix(url, "amqps:") {
			want = doctor.Skipped
		}
		assert.Equal(t, want, check.Status, "%+v", check)
		assert.NotEmpty(t, check.Detail)
		assert.Empty(t, check.Advice)
	}
	assert.Equal(t, session.Redact(url), d.URL)
	assert.Regexp(t, `^RabbitMQ \d+\.\d+\.\d+.* lets the user in$`, d.Checks[3].Detail)
	assert.Regexp(t, `^a message was confirmed and came back in \d`, d.Checks[6].Detail)
}

func TestBadURL(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"amqp://guest:sEcret@localhost:port/", "http://guest:sEcret@localhost/", "sEcret", "", "amqp://guest:sE%cret@h"} {
		d := doctor.Examine(t.Context(), url, nil, patience)
		requireSick(t, d, "name", "invalid broker URL", "write the URL as amqp://user:password@host:5672/vhost")
	}
}

func TestUnknownHost(t *testing.T) {
	t.Parallel()
	d := doctor.Examine(t.Context(), "amqp://guest:sEcret@no-such-host.invalid/", nil, patience)
	requireSick(t, d, "name", "no-such-host.invalid", "check the host in the URL, and the name server")
	assert.Equal(t, "amqp://guest@no-such-host.invalid/", d.URL)
}

func TestRefusedPort(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	d := doctor.Examine(t.Context(), "amqp://guest:sEcret@"+address+"/", nil, patience)
	_, port, _ := strings.Cut(address, ":")
	requireSick(t, d, "tcp", "refused", "check that a broker listens on port "+port+" there")
}

func TestWrongPassword(t *testing.T) {
	t.Parallel()
	d := doctor.Examine(t.Context(), brokerURL(t, func(u *url.URL) { u.User = url.UserPassword("guest", "sEcret") }), nil, patience)
	requireSick(t, d, "login", "username or password not allowed", "check user and password in the URL")
}

func TestUnknownVirtualHost(t *testing.T) {
	t.Parallel()
	d := doctor.Examine(t.Context(), brokerURL(t, func(u *url.URL) { u.Path = "/no-such-host" }), nil, patience)
	requireSick(t, d, "vhost", "vhost no-such-host not found", "check the path of the URL")
}

func TestTLSToAPlainPort(t *testing.T) {
	t.Parallel()
	d := doctor.Examine(t.Context(), brokerURL(t, func(u *url.URL) { u.Scheme = "amqps" }), nil, patience)
	requireSick(t, d, "tls", "", "check the CA (--tls-ca), the host name in the certificate, and that this is the broker's TLS port (usually 5671)")
}

func TestPlainToATLSPort(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	d := doctor.Examine(t.Context(), "amqp://guest:sEcret@"+server.Listener.Addr().String()+"/", nil, patience)
	requireSick(t, d, "login", "no AMQP handshake: ", "5671 with amqps://")
}

// talker answers every connection the same way, whatever it is sent.
func talker(t *testing.T, answer func(net.Conn)) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer func() { _ = conn.Close() }()
				answer(conn)
			})
		}
	})
	t.Cleanup(func() {
		assert.NoError(t, listener.Close())
		all.Wait()
	})
	return "amqp://guest:sEcret@" + listener.Addr().String() + "/"
}

func TestWhatSpeaksNoAMQP(t *testing.T) {
	t.Parallel()
	const advice = "check that this is the port where the broker speaks AMQP"
	t.Run("HTTP", func(t *testing.T) {
		t.Parallel()
		server := httptest.NewServer(http.NotFoundHandler())
		defer server.Close()
		url := "amqp://guest:sEcret@" + server.Listener.Addr().String() + "/"
		d := doctor.Examine(t.Context(), url, nil, 300*time.Millisecond) // it waits for the rest of a request
		requireSick(t, d, "login", "no AMQP handshake: ", advice)
	})
	t.Run("silence", func(t *testing.T) {
		t.Parallel()
		url := talker(t, func(conn net.Conn) { _, _ = conn.Read(make([]byte, 8)); _, _ = conn.Read(make([]byte, 8)) })
		began := time.Now()
		d := doctor.Examine(t.Context(), url, nil, 300*time.Millisecond)
		assert.Less(t, time.Since(began), patience/2)
		requireSick(t, d, "login", "no AMQP handshake: context deadline exceeded", advice)
	})
	t.Run("hangs up", func(t *testing.T) {
		t.Parallel()
		d := doctor.Examine(t.Context(), talker(t, func(net.Conn) {}), nil, patience)
		requireSick(t, d, "login", "no AMQP handshake: ", advice)
	})
	t.Run("garbage", func(t *testing.T) {
		t.Parallel()
		url := talker(t, func(conn net.Conn) { _, _ = conn.Write([]byte(strings.Repeat("\x00\xff\x01garbage", 100))) })
		d := doctor.Examine(t.Context(), url, nil, 5*time.Second)
		requireSick(t, d, "login", "no AMQP handshake: ", advice)
	})
	t.Run("another version of AMQP", func(t *testing.T) {
		t.Parallel()
		d := doctor.Examine(t.Context(), talker(t, func(conn net.Conn) { _, _ = conn.Write([]byte("AMQP\x00\x01\x00\x00")) }), nil, patience)
		requireSick(t, d, "login", "no AMQP handshake: ", advice)
	})
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	url := talker(t, func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 8)) // the first connection only shows that TCP works
		cancel()
		_, _ = conn.Read(make([]byte, 8))
	})
	d := doctor.Examine(ctx, url, nil, time.Hour)
	assert.False(t, d.Healthy)
	requireNoPassword(t, d)
}

// What takes an operator to break is broken on a node of its own.
func TestOnAPrivateNode(t *testing.T) {
	t.Parallel()
	node := brokertest.Node(t)
	ctl := func(t *testing.T, args ...string) {
		t.Helper()
		_, err := node.Ctl(t.Context(), args...)
		require.NoError(t, err)
	}
	as := func(user string) string { return strings.Replace(node.URL(), "guest:guest", user+":sEcret", 1) }
	ctl(t, "add_user", "joe", "sEcret")

	d := doctor.Examine(t.Context(), as("joe"), nil, patience)
	requireSick(t, d, "vhost", "access to vhost '/' refused for user 'joe'", "list_permissions who may use them")

	ctl(t, "set_permissions", "joe", "^$", ".*", ".*")
	d = doctor.Examine(t.Context(), as("joe"), nil, patience)
	requireSick(t, d, "permissions", "permission missing", "rabbitmqctl set_permissions -p VHOST USER")
	ctl(t, "set_permissions", "joe", ".*", ".*", "^$")
	d = doctor.Examine(t.Context(), as("joe"), nil, patience)
	requireSick(t, d, "permissions", "permission missing", "rabbitmqctl set_permissions -p VHOST USER")
	ctl(t, "set_permissions", "joe", ".*", ".*", ".*")
	require.True(t, doctor.Examine(t.Context(), as("joe"), nil, patience).Healthy)

	require.NoError(t, node.SetMemoryAlarm(t.Context(), true))
	d = doctor.Examine(t.Context(), as("joe"), nil, patience)
	requireSick(t, d, "alarms", "broker blocks publishing: ", "short of memory or disk")
	require.NoError(t, node.SetMemoryAlarm(t.Context(), false))
	require.True(t, doctor.Examine(t.Context(), as("joe"), nil, patience).Healthy)
}
