package localbroker

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestChoosePorts(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	chosen, err := choosePorts(ctx, ports{}, ports{})
	require.NoError(t, err)
	distinct := map[int]bool{}
	for _, p := range chosen.each() {
		require.GreaterOrEqual(t, *p, lowestPort)
		require.Less(t, *p, highestPort)
		distinct[*p] = true
	}
	require.Len(t, distinct, 4)

	again, err := choosePorts(ctx, ports{}, chosen)
	require.NoError(t, err)
	require.Equal(t, chosen, again, "free ports of an earlier run are kept")

	taken, err := listen(ctx, chosen.Management)
	require.NoError(t, err)
	defer taken.Close()
	other, err := choosePorts(ctx, ports{}, chosen)
	require.NoError(t, err)
	require.Equal(t, chosen.AMQP, other.AMQP)
	require.NotEqual(t, chosen.Management, other.Management)
	_, err = choosePorts(ctx, ports{Management: chosen.Management}, ports{})
	require.ErrorIs(t, err, ErrPortInUse)
	require.False(t, chosen.free(ctx))
}

func TestEndPortMapperOfNobody(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	p, err := choosePorts(ctx, ports{}, ports{})
	require.NoError(t, err)
	require.NoError(t, endPortMapper(ctx, p.PortMapper))
}

func TestLoginAtSomethingElse(t *testing.T) {
	t.Parallel()
	for name, greeting := range map[string]string{
		"another protocol": "SSH-2.0-OpenSSH_9.2\r\n",
		"another version":  "AMQP\x00\x01\x00\x00",
		"another method":   "\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x1e\xce",
		"a huge frame":     "\x01\x00\x00\xff\xff\xff\xff\x00\x0a\x00\x0a\xce",
		"silence":          "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := listen(t.Context(), 0)
			require.NoError(t, err)
			served := make(chan struct{})
			go func() {
				defer close(served)
				serveOnce(l, greeting)
			}()
			ctx, cancel := context.WithTimeout(testContext(t), 300*time.Millisecond)
			defer cancel()
			require.Error(t, login(ctx, l.Addr().String()))
			require.NoError(t, l.Close())
			<-served
		})
	}
}

// serveOnce greets the first client, and listens to it until it goes.
func serveOnce(l net.Listener, greeting string) {
	conn, err := l.Accept()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, greeting)
	_, _ = io.Copy(io.Discard, conn)
}
