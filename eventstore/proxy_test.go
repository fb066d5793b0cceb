package eventstore_test

import (
	"context"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/eventstore"
)

// proxy is the network between a store and a PostgreSQL server.
type proxy struct {
	listener net.Listener
	target   string
	running  sync.WaitGroup

	mu     sync.Mutex
	away   bool
	flows  chan struct{} // closed, unless everything stands still
	joined map[net.Conn]bool
	held   int // connections on which something was sent that does not go through
}

// through gives a proxy to a database, and the URL of the database through it.
func through(t *testing.T, db string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(db)
	require.NoError(t, err)
	var listen net.ListenConfig
	l, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{listener: l, target: u.Host, flows: make(chan struct{}), joined: map[net.Conn]bool{}}
	close(p.flows)
	p.running.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
		p.running.Wait()
	})
	u.Host = l.Addr().String()
	return p, u.String()
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		var dialer net.Dialer
		server, err := dialer.DialContext(context.Background(), "tcp", p.target)
		if err != nil || !p.join(client, server) {
			_ = client.Close()
			continue
		}
		p.running.Go(func() { p.carry(client, server) })
		p.running.Go(func() { p.carry(server, client) })
	}
}

func (p *proxy) join(client, server net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.away {
		_ = server.Close()
		return false
	}
	p.joined[client], p.joined[server] = true, true
	return true
}

func (p *proxy) carry(from, to net.Conn) {
	defer func() {
		_ = from.Close()
		_ = to.Close()
	}()
	buffer := make([]byte, 1<<16)
	for {
		n, err := from.Read(buffer)
		p.wait()
		if _, failed := to.Write(buffer[:n]); err != nil || failed != nil {
			return
		}
	}
}

// wait waits until everything flows.
func (p *proxy) wait() {
	p.mu.Lock()
	flows := p.flows
	p.held++
	p.mu.Unlock()
	<-flows
	p.mu.Lock()
	p.held--
	p.mu.Unlock()
}

// holds waits until something was sent on so many connections that does not go through.
func (p *proxy) holds(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.held >= n
	}, time.Minute, time.Millisecond)
}

// freeze has nothing go through any more; connections stay, and what is sent is acknowledged.
func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flows = make(chan struct{})
}

// cut breaks all connections, and makes no new ones until mend.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = true
	for c := range p.joined {
		_ = c.Close()
	}
	clear(p.joined)
	select {
	case <-p.flows:
	default:
		close(p.flows)
	}
}

func (p *proxy) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = false
}

// one appends one event to a stream, and gives the error.
func one(ctx context.Context, s *eventstore.Store, stream string) error {
	_, err := s.Append(ctx, eventstore.StreamWrite{Stream: stream, Events: someEvents(1)})
	return err
}
