// Package link is a network between clients and a broker that can be broken: a TCP proxy on loopback.
package link

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
)

// Link is a TCP proxy between clients and a broker. Its methods may be called from several
// goroutines.
type Link struct {
	url      string
	target   string // host:port
	listener net.Listener
	running  sync.WaitGroup
	ctx      context.Context // ends the dials that are under way when the link closes
	cancel   context.CancelFunc
	accepted func() // nil: nobody asks

	mu    sync.Mutex
	pairs map[*pair]struct{}
	down  bool
	admit func() bool   // nil: everybody is let in
	flow  chan struct{} // closed while bytes pass
}

// pair is a client's connection and the one to the broker that belongs to it.
type pair struct {
	conns []net.Conn
	cut   chan struct{} // closed when the pair is dropped
}

// New makes a link to the broker at target, an AMQP URL; of several it is the first. Close must be called in the end.
//
// Accepted, which may be nil, is called for each connection that a client makes, by one goroutine.
func New(ctx context.Context, target string, accepted func()) (*Link, error) {
	first, _, _ := strings.Cut(target, ",")
	address, err := url.Parse(first)
	if err != nil {
		return nil, errors.New("broker URL is not well-formed") // the error has the URL in it, and with it the password
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		cancel()
		return nil, err
	}
	l := &Link{target: hostPort(address), listener: listener, ctx: ctx, cancel: cancel, accepted: accepted, pairs: map[*pair]struct{}{}, flow: make(chan struct{})}
	address.Host = listener.Addr().String()
	l.url = address.String()
	close(l.flow)
	l.running.Go(l.accept)
	return l, nil
}

// Close ends the link and all connections over it.
func (l *Link) Close() {
	l.cancel()
	_ = l.listener.Close()
	l.Cut()
	l.running.Wait()
}

func hostPort(address *url.URL) string {
	port := address.Port()
	switch {
	case port != "":
	case address.Scheme == "amqps":
		port = "5671"
	default:
		port = "5672"
	}
	return net.JoinHostPort(address.Hostname(), port)
}

// URL is the target's URL with the link's host and port.
func (l *Link) URL() string { return l.url }

// Cut drops all connections, as a broken network does: both sides get a reset. Connections made
// from then on pass.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.pairs {
		l.drop(p)
	}
}

// Down drops all connections, and those that are made from then on as soon as they are, until Up: the broker is away.
func (l *Link) Down() {
	l.mu.Lock()
	l.down = true
	l.mu.Unlock()
	l.Cut()
}

// Up lets connections pass again.
func (l *Link) Up() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = false
}

// Admit has the function decide on each connection that a client makes from then on while the link is not down: where it says
// no, the connection is dropped at once, as by a door that lets only so many in. One goroutine calls it. Nil lets everybody in.
func (l *Link) Admit(admit func() bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.admit = admit
}

// Pause stops the bytes, in both directions and also on new connections, and leaves all
// connections open. What is being passed at that moment may still arrive.
func (l *Link) Pause() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.flow:
		l.flow = make(chan struct{})
	default: // paused already
	}
}

// Resume lets the bytes pass again. None were lost.
func (l *Link) Resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.flow:
	default:
		close(l.flow)
	}
}

func (l *Link) accept() {
	for {
		conn, err := l.listener.Accept()
		if err != nil {
			return // closed
		}
		if l.accepted != nil {
			l.accepted()
		}
		p := &pair{cut: make(chan struct{})}
		if l.join(p, conn) && l.admits(p) {
			l.running.Go(func() { l.serve(p, conn) })
		}
	}
}

// serve connects the client to the broker and passes bytes until either side ends.
func (l *Link) serve(p *pair, client net.Conn) {
	broker, err := new(net.Dialer).DialContext(l.ctx, "tcp", l.target)
	if err != nil || !l.join(p, broker) {
		l.end(p)
		return
	}
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{client, broker}, {broker, client}} {
		both.Go(func() {
			_, _ = io.Copy(way[1], &gate{Conn: way[0], link: l, pair: p})
			l.end(p)
		})
	}
	both.Wait()
}

// join adds a connection to the pair, or closes it if the pair was dropped or the link is down.
func (l *Link) join(p *pair, conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		reset(conn)
		return false
	}
	select {
	case <-p.cut:
		_ = conn.Close()
		return false
	default:
		p.conns = append(p.conns, conn)
		l.pairs[p] = struct{}{}
		return true
	}
}

// admits tells whether the pair is let in, and drops it otherwise.
func (l *Link) admits(p *pair) bool {
	l.mu.Lock()
	admit := l.admit
	l.mu.Unlock()
	if admit == nil || admit() {
		return true
	}
	l.end(p)
	return false
}

func (l *Link) end(p *pair) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(p)
}

// drop closes the pair's connections. The caller holds the lock.
func (l *Link) drop(p *pair) {
	select {
	case <-p.cut:
		return
	default:
		close(p.cut)
	}
	for _, conn := range p.conns {
		reset(conn)
	}
	delete(l.pairs, p)
}

func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a reset, not an orderly end
	}
	_ = conn.Close()
}

// gate holds back what was read while the link is paused.
type gate struct {
	net.Conn
	link *Link
	pair *pair
}

func (g *gate) Read(b []byte) (int, error) {
	n, err := g.Conn.Read(b)
	g.link.mu.Lock()
	flow := g.link.flow
	g.link.mu.Unlock()
	select {
	case <-flow:
		return n, err
	case <-g.pair.cut:
		return 0, net.ErrClosed
	}
}
