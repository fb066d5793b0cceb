package session

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// slowConn counts writes and lets each wait until it is released.
type slowConn struct {
	net.Conn
	mu      sync.Mutex
	writes  int
	got     bytes.Buffer
	release chan struct{}
}

func (c *slowConn) Write(p []byte) (int, error) {
	<-c.release
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes++
	return c.got.Write(p)
}

func (c *slowConn) seen() (writes int, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes, c.got.String()
}

func TestGatherSendsInOrderAndFewWrites(t *testing.T) {
	t.Parallel()
	local, remote := net.Pipe()
	defer remote.Close()
	conn := &slowConn{Conn: local, release: make(chan struct{})}
	g := newGatherConn(conn)
	var want bytes.Buffer
	for i := range 1000 {
		line := bytes.Repeat([]byte{byte('a' + i%26)}, 10)
		want.Write(line)
		_, err := g.Write(line)
		require.NoError(t, err)
	}
	close(conn.release)
	require.NoError(t, g.Close())
	writes, text := conn.seen()
	assert.Equal(t, want.String(), text, "Close sends what has gathered")
	assert.LessOrEqual(t, writes, 3)
}

func TestGatherBoundsWhatWaits(t *testing.T) {
	t.Parallel()
	local, remote := net.Pipe()
	defer remote.Close()
	g := newGatherConn(local) // nobody reads: nothing leaves
	block := make([]byte, 64<<10)
	wrote := make(chan error, 1)
	var taken int
	go func() {
		for {
			if _, err := g.Write(block); err != nil {
				wrote <- err
				return
			}
			taken += len(block)
		}
	}()
	select {
	case err := <-wrote:
		require.Failf(t, "writer ended", "%v", err)
	case <-time.After(100 * time.Millisecond): // it must be stuck by now, and stay so
	}
	g.abort()
	require.Error(t, <-wrote, "abort frees a writer that is stuck")
	assert.LessOrEqual(t, taken, 3*gatherLimit)
}

func TestGatherReadErrorFreesWriters(t *testing.T) {
	t.Parallel()
	local, remote := net.Pipe()
	g := newGatherConn(local)
	wrote := make(chan error, 1)
	go func() {
		for {
			if _, err := g.Write(make([]byte, 64<<10)); err != nil {
				wrote <- err
				return
			}
		}
	}()
	go func() { _ = remote.Close() }()
	_, err := io.ReadAll(g)
	if err != nil && !errors.Is(err, io.ErrClosedPipe) {
		require.NoError(t, err)
	}
	select {
	case err := <-wrote:
		require.Error(t, err)
	case <-time.After(5 * time.Second):
		require.Fail(t, "writer is stuck on a connection that cannot be read any more")
	}
	_ = g.Close()
}

func TestGatherWriteAfterClose(t *testing.T) {
	t.Parallel()
	local, remote := net.Pipe()
	defer remote.Close()
	g := newGatherConn(local)
	require.NoError(t, g.Close())
	_, err := g.Write([]byte("x"))
	require.ErrorIs(t, err, net.ErrClosed)
	assert.NoError(t, g.Close(), "closing again is safe")
}
