package postgres_test

import (
	"bytes"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a proxy does with the next COMMIT.
const (
	passOn            int32 = iota
	loseCommit              // the server does not get it
	loseCommitAndWait       // likewise, and the client notices that later
	loseAnswer              // the server's answer is lost
	leaveWaiting            // the client is cut off before the server has answered; the server is not
)

// cancelRequest is what PostgreSQL's protocol begins a connection with that is to cancel what another one does.
const cancelRequest = "\x00\x00\x00\x10\x04\xd2\x16\x2e"

// proxy stands between a store and its server. A request to cancel gets lost.
type proxy struct {
	server string
	next   atomic.Int32
	goOn   chan struct{} // for loseCommitAndWait

	mu    sync.Mutex
	links []net.Conn
	group sync.WaitGroup
}

// startProxy gives the URL by which the server is reached through it.
func startProxy(t *testing.T, at string) (p *proxy, through string) {
	t.Helper()
	u, err := url.Parse(at)
	require.NoError(t, err)
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p = &proxy{server: u.Host, goOn: make(chan struct{})}
	p.group.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			p.serve(client)
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.cut()
		p.group.Wait()
	})
	u.Host = listener.Addr().String()
	return p, u.String()
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, link := range p.links {
		_ = link.Close()
	}
}

func (p *proxy) serve(client net.Conn) {
	server, err := net.Dial("tcp", p.server) //nolint:noctx // a test
	if err != nil {
		_ = client.Close()
		return
	}
	p.mu.Lock()
	p.links = append(p.links, client, server)
	p.mu.Unlock()
	l := &link{client: client, server: server}
	p.group.Go(func() { p.answer(l) })
	p.group.Go(func() { p.forward(l) })
}

// link is one connection through the proxy.
type link struct {
	client, server net.Conn
	deaf, late     atomic.Bool // the client hears nothing more; and notices the end of the connection later
}

func (l *link) close() { _, _ = l.client.Close(), l.server.Close() }

// answer passes on what the server says.
func (p *proxy) answer(l *link) {
	defer func() { _ = l.client.Close() }()
	buffer := make([]byte, 64<<10)
	for {
		n, err := l.server.Read(buffer)
		switch {
		case l.late.Load():
			<-p.goOn
			return
		case err != nil, l.deaf.Load():
			return
		}
		_, _ = l.client.Write(buffer[:n])
	}
}

// forward passes on what the client says.
func (p *proxy) forward(l *link) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := l.client.Read(buffer)
		if err != nil {
			if !l.deaf.Load() {
				_ = l.server.Close()
			}
			return
		}
		if bytes.HasPrefix(buffer[:n], []byte(cancelRequest)) {
			l.close()
			return
		}
		if bytes.Contains(buffer[:n], []byte("commit\x00")) {
			switch p.next.Swap(passOn) {
			case loseCommit:
				l.close()
				return
			case loseCommitAndWait:
				l.late.Store(true)
				_ = l.server.Close()
				return
			case loseAnswer:
				l.deaf.Store(true)
			case leaveWaiting:
				l.deaf.Store(true)
				_, _ = l.server.Write(buffer[:n])
				_ = l.client.Close()
				return
			}
		}
		if _, err := l.server.Write(buffer[:n]); err != nil {
			_ = l.client.Close()
			return
		}
	}
}
