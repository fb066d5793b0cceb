package session

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	defaultDialTimeout = 10 * time.Second
	// closeTimeout bounds how long Close waits for the broker's answer. A connection that the
	// broker has blocked gets none.
	closeTimeout = 2 * time.Second
)

// Config says where the broker is and how to talk to it.
type Config struct {
	// URLs are the nodes of one broker, tried in turn: amqp://user:password@host:port/vhost, or
	// amqps://. At least one is needed.
	URLs []string
	// TLS is used for amqps:// URLs. Nil means the system's roots with verification.
	TLS *tls.Config
	// Name is shown beside the connection in RabbitMQ's management UI.
	Name string
	// DialTimeout bounds one attempt at one URL, from TCP to the open connection. Default 10 s.
	DialTimeout time.Duration
	// Logger receives each change of state once. Default: nothing is logged.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.DialTimeout <= 0 {
		c.DialTimeout = defaultDialTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Check reports all that is wrong with the configuration, without dialling.
func (c Config) Check() error {
	if len(c.URLs) == 0 {
		return fmt.Errorf("%w: none given", ErrURL)
	}
	var errs []error
	for _, raw := range c.URLs {
		if _, err := parseTarget(raw); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Session is one AMQP connection. It is safe for use by several goroutines.
type Session struct {
	conn   *amqp.Connection
	socket *gatherConn
	addr   string
	log    *slog.Logger
	life   context.Context // ends with the connection; its cause says why
	end    context.CancelCauseFunc

	blocked atomic.Bool
	mu      sync.Mutex
	reason  string        // why the broker blocks this connection
	changed chan struct{} // closed and replaced when blocked changes
}

// Dial tries every URL once, in turn, and gives the first session that opens. The error joins
// the *DialError of each.
func Dial(ctx context.Context, config Config) (*Session, error) {
	config = config.withDefaults()
	if err := config.Check(); err != nil {
		return nil, err
	}
	var errs []error
	for _, raw := range config.URLs {
		s, err := dialOne(ctx, config, raw)
		if err == nil {
			return s, nil
		}
		if ctx.Err() != nil {
			return nil, errors.Join(append(errs, err)...)
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func dialOne(ctx context.Context, config Config, raw string) (*Session, error) {
	t, err := parseTarget(raw)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, config.DialTimeout)
	defer cancel()
	tlsConfig, err := t.tlsConfig(config.TLS)
	if err != nil {
		return nil, &DialError{Addr: t.addr, Step: "tls", Kind: ErrUnreachable, Err: err}
	}
	socket, step, err := connect(ctx, t, tlsConfig)
	if err != nil {
		return nil, dialError(t.addr, step, err)
	}
	conn, err := open(ctx, socket, t, config.Name)
	if err != nil {
		socket.abort()
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, dialError(t.addr, "open", err)
	}
	return watch(conn, socket, t.addr, config.Logger), nil
}

// connect opens the TCP connection and, for amqps, the TLS layer on it.
func connect(ctx context.Context, t target, tlsConfig *tls.Config) (socket *gatherConn, step string, err error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", t.hostPort())
	if err != nil {
		return nil, "connect", err
	}
	if tlsConfig != nil {
		secured := tls.Client(conn, tlsConfig)
		if err := secured.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, "tls", err
		}
		conn = secured
	}
	return newGatherConn(conn), "", nil
}

// open runs the AMQP handshake within the context's time.
func open(ctx context.Context, socket *gatherConn, t target, name string) (*amqp.Connection, error) {
	stop := context.AfterFunc(ctx, socket.abort)
	properties := amqp.NewConnectionProperties()
	properties.SetClientConnectionName(name)
	properties["product"] = "evdemo"
	conn, err := amqp.Open(socket, amqp.Config{
		SASL:       t.sasl(),
		Vhost:      t.uri.Vhost,
		ChannelMax: t.uri.ChannelMax,
		FrameSize:  131072, // what RabbitMQ proposes itself
		Heartbeat:  t.heartbeat,
		Properties: properties,
		Locale:     "en_US",
	})
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, handshakeError(err, socket.sinceHeard())
	}
	return conn, nil
}

func watch(conn *amqp.Connection, socket *gatherConn, addr string, log *slog.Logger) *Session {
	s := &Session{conn: conn, socket: socket, addr: addr, log: log, changed: make(chan struct{})}
	s.life, s.end = context.WithCancelCause(context.Background())
	ended := conn.NotifyClose(make(chan *amqp.Error, 1))
	blocked := conn.NotifyBlocked(make(chan amqp.Blocking, 16))
	go s.follow(ended, blocked)
	return s
}

// follow turns the client's notifications into the session's state until the connection ends.
func (s *Session) follow(ended <-chan *amqp.Error, blocked <-chan amqp.Blocking) {
	for {
		select {
		case b, ok := <-blocked:
			if !ok {
				blocked = nil
				continue
			}
			s.setBlocked(b)
		case reply := <-ended:
			s.end(endError(reply))
			return
		}
	}
}

// endError says why a connection has ended: in the broker's words, or in those of the network.
func endError(reply *amqp.Error) error {
	switch {
	case reply == nil:
		return ErrEnded
	case reply.Server:
		return fmt.Errorf("%w: %w", ErrEnded, reply)
	default: // the client dresses up the network's errors as the broker's
		return fmt.Errorf("%w: %s", ErrEnded, reply.Reason)
	}
}

func (s *Session) setBlocked(b amqp.Blocking) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blocked.Load() == b.Active {
		return
	}
	s.reason = b.Reason
	s.blocked.Store(b.Active)
	close(s.changed)
	s.changed = make(chan struct{})
	if b.Active {
		s.log.Warn("broker blocks publishing: it is short of a resource; waiting until it is lifted",
			slog.String("broker", s.addr), slog.String("reason", b.Reason))
	} else {
		s.log.Warn("broker has lifted the block; publishing goes on", slog.String("broker", s.addr))
	}
}

// Channel opens a channel. Publish and consume on different ones: a channel has one lock.
func (s *Session) Channel() (*amqp.Channel, error) {
	ch, err := s.conn.Channel()
	if err != nil {
		return nil, fmt.Errorf("open channel: %w", err)
	}
	return ch, nil
}

// Done is closed when the connection has ended, for whatever reason.
func (s *Session) Done() <-chan struct{} { return s.life.Done() }

// Err is nil while the connection lives, and wraps ErrEnded and the broker's reply afterwards.
// An operation that failed because the connection broke is always followed by an Err that is
// not nil.
func (s *Session) Err() error {
	if s.conn.IsClosed() || s.socket.failed() {
		<-s.life.Done() // the client is already shutting it down
	}
	return context.Cause(s.life)
}

// Addr is the URL of the node, without the password.
func (s *Session) Addr() string { return s.addr }

// ServerVersion is what the broker says of itself, such as "RabbitMQ 4.0.5".
func (s *Session) ServerVersion() string {
	product, _ := s.conn.Properties["product"].(string)
	version, _ := s.conn.Properties["version"].(string)
	return product + " " + version
}

// Blocked tells whether the broker blocks publishing on this connection, and why. The broker
// does so for an alarm (memory, disk), only on connections that have published.
func (s *Session) Blocked() (reason string, blocked bool) {
	if !s.blocked.Load() {
		return "", false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason, s.blocked.Load()
}

// WaitUnblocked returns nil as soon as the broker lets this connection publish; at once where
// it is not blocked. It returns an error when ctx or the connection ends.
func (s *Session) WaitUnblocked(ctx context.Context) error {
	for s.blocked.Load() {
		s.mu.Lock()
		changed, blocked := s.changed, s.blocked.Load()
		s.mu.Unlock()
		if !blocked {
			return nil
		}
		select {
		case <-changed:
		case <-s.life.Done():
			return s.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Close says goodbye to the broker, waiting at most 2 s for its answer, and ends the session.
// What was written before is sent first. Closing an ended session does nothing.
func (s *Session) Close() {
	silent := time.AfterFunc(closeTimeout, s.socket.abort)
	defer silent.Stop()
	if err := s.conn.CloseDeadline(time.Now().Add(closeTimeout)); err != nil && !errors.Is(err, amqp.ErrClosed) {
		s.log.Debug("close connection", slog.String("broker", s.addr), slog.Any("error", err))
	}
	_ = s.socket.Close()
	<-s.life.Done()
}

// Abort ends the session at once, without a word to the broker and without sending what waits
// in buffers. It also frees writers that are stuck on a connection the broker does not read.
func (s *Session) Abort() {
	s.socket.abort()
	<-s.life.Done()
}
