package brokertest

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNameIsUniqueAndShort(t *testing.T) {
	t.Parallel()
	t.Run("of a subtest with / and ä and a name that goes on for "+strings.Repeat("very ", 40)+"long", func(t *testing.T) {
		t.Parallel()
		one, two := Name(t, "queue"), Name(t, "queue")
		require.NotEqual(t, one, two)
		require.Regexp(t, `^queue-TestNameIsUniqueAndShort-of-a-subtest-with[a-zA-Z0-9-]*$`, one)
		require.LessOrEqual(t, len(one), 100)
		require.LessOrEqual(t, len(Name(t, strings.Repeat("p", 80))), 100)
	})
}

func TestURLIsTheOneOfTheEnvironment(t *testing.T) {
	t.Setenv("AMQP_URL", "amqp://somewhere/")
	require.Equal(t, "amqp://somewhere/", URL(t))
}

func TestURLWithoutABrokerNamesTheCommand(t *testing.T) {
	t.Setenv("AMQP_URL", "")
	t.Setenv("EVDEMO_STATE_DIR", filepath.Join(t.TempDir(), "empty"))
	failed := &recorder{TB: t}
	done := make(chan struct{})
	go func() { // Fatalf ends the goroutine
		defer close(done)
		URL(failed)
	}()
	<-done
	require.Contains(t, failed.message, "make test")
	require.Contains(t, failed.message, "broker start")
}

// recorder is a test whose failure is looked at.
type recorder struct {
	testing.TB
	message string
}

func (r *recorder) Helper() {}

func (r *recorder) Fatalf(format string, args ...any) {
	r.message = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestNode(t *testing.T) {
	t.Parallel()
	var dir string
	t.Run("has one", func(t *testing.T) {
		node := Node(t)
		require.True(t, node.Alive())
		at, err := url.Parse(Proxy(t, node.URL()).URL())
		require.NoError(t, err)
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp4", at.Host)
		require.NoError(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, "AMQP\x00\x00\x09\x01")
		require.NoError(t, err)
		frame := make([]byte, 11)
		_, err = io.ReadFull(conn, frame)
		require.NoError(t, err)
		require.Equal(t, []byte{0, 10, 0, 10}, frame[7:], "Connection.Start")
		dir = node.Dir()
	})
	require.NoDirExists(t, dir)
}
