package session

import (
	"bufio"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// gatherLimit bounds what may wait for the socket. A writer that finds more waits.
	gatherLimit = 256 << 10
	// readBuffer is larger than the client's own 4 KiB, so that a burst of deliveries or
	// confirms costs few system calls.
	readBuffer = 64 << 10
	// flushOnClose is how long Close waits for the last bytes to leave.
	flushOnClose = time.Second
)

// gatherConn is a connection that gathers writes. The AMQP client flushes once a message; here
// Write only appends, and one goroutine sends in one system call whatever has gathered while
// the call before it was under way. Nothing waits on purpose: an idle connection sends at once.
//
// A failed read ends the connection for writers too. Without that, a writer stuck on a full
// socket would keep the client's locks, and the client could not shut down.
type gatherConn struct {
	net.Conn
	in    *bufio.Reader
	heard atomic.Pointer[time.Time] // when the first bytes came

	mu      sync.Mutex
	more    sync.Cond // the buffer has something, or the connection is closing
	room    sync.Cond // the buffer was taken, or the connection failed
	buf     []byte
	err     error
	closing bool

	flushed   chan struct{} // closed when the flusher has ended
	closeOnce sync.Once
	closeErr  error
}

func newGatherConn(conn net.Conn) *gatherConn {
	g := &gatherConn{Conn: conn, in: bufio.NewReaderSize(conn, readBuffer), flushed: make(chan struct{})}
	g.more.L, g.room.L = &g.mu, &g.mu
	go g.flush()
	return g
}

// Read reads through a buffer of 64 KiB.
func (g *gatherConn) Read(p []byte) (int, error) {
	n, err := g.in.Read(p)
	if n > 0 && g.heard.Load() == nil {
		now := time.Now()
		g.heard.Store(&now)
	}
	if err != nil {
		g.fail(err)
	}
	return n, err
}

// Write appends p to what is to be sent, and waits only where more than 256 KiB already is.
// An error of an earlier send is returned here.
func (g *gatherConn) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.buf) >= gatherLimit && g.err == nil && !g.closing {
		g.room.Wait()
	}
	if g.err != nil {
		return 0, g.err
	}
	if g.closing {
		return 0, net.ErrClosed
	}
	g.buf = append(g.buf, p...)
	if len(g.buf) == len(p) {
		g.more.Signal()
	}
	return len(p), nil
}

func (g *gatherConn) flush() {
	defer close(g.flushed)
	var spare []byte
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		for len(g.buf) == 0 && g.err == nil && !g.closing {
			g.more.Wait()
		}
		if g.err != nil || len(g.buf) == 0 {
			return
		}
		out := g.buf
		g.buf = spare[:0]
		g.room.Broadcast()
		g.mu.Unlock()
		_, err := g.Conn.Write(out)
		g.mu.Lock()
		if cap(out) <= 2*gatherLimit {
			spare = out
		}
		if err != nil && g.err == nil {
			g.err = err
			g.room.Broadcast()
			_ = g.Conn.Close() // so that the reader hears of it
		}
	}
}

func (g *gatherConn) failed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err != nil
}

// fail ends the connection at once: nothing waits for it any more.
func (g *gatherConn) fail(err error) {
	g.mu.Lock()
	if g.err == nil {
		g.err = err
	}
	g.more.Broadcast()
	g.room.Broadcast()
	g.mu.Unlock()
	_ = g.SetWriteDeadline(time.Now())
}

// Close sends what has gathered, for at most a second, and closes the connection.
func (g *gatherConn) Close() error {
	g.closeOnce.Do(func() {
		g.mu.Lock()
		g.closing = true
		failed := g.err != nil
		g.more.Broadcast()
		g.room.Broadcast()
		g.mu.Unlock()
		if !failed {
			_ = g.SetWriteDeadline(time.Now().Add(flushOnClose))
		}
		<-g.flushed
		g.closeErr = g.Conn.Close()
	})
	return g.closeErr
}

// sinceHeard is how long ago the first bytes came; zero where none did.
func (g *gatherConn) sinceHeard() time.Duration {
	if heard := g.heard.Load(); heard != nil {
		return time.Since(*heard)
	}
	return 0
}

// abort closes the connection without sending what has gathered.
func (g *gatherConn) abort() {
	g.fail(net.ErrClosed)
	_ = g.Close()
}
