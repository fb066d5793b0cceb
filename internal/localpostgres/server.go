package localpostgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Config says what server to start. Its zero value is a new one in a temporary directory, whose commits
// are on disk when they return.
type Config struct {
	// Dir holds all that the server writes, and is created. A server started again in the same directory
	// has its databases. Where this process is root, the directory is given to the user that the server
	// runs as, who must be able to reach it. Default: a new temporary directory, which Stop removes.
	Dir string
	// NoSync lets the server leave it to the operating system when to write to the disk, which makes tests
	// faster. What was committed survives Kill all the same; it does not survive the machine's crash.
	NoSync bool
	// Settings are put on the server's command line, each as name=value.
	Settings []string
}

// Server is a private PostgreSQL server. Its methods may be called from several goroutines; those that
// start or end the server wait for each other.
type Server struct {
	layout
	config  Config
	bin     string // has initdb and postgres
	account *account
	port    int

	life    sync.Mutex // held while the server is being started or ended
	proc    *process
	removed bool
}

// startLimit ends a start whose context has no end of its own.
const startLimit = 2 * time.Minute

// Start starts a server and returns once clients can connect, which takes a second or two. If that does
// not happen before ctx ends, or within two minutes, or the server ends first, the error is a
// [*StartError] with the server's last words and nothing keeps running. The error wraps
// [ErrNotInstalled] where there is no PostgreSQL.
//
// PostgreSQL refuses to run as root. Where this process is root, the server runs as the user postgres
// or, where there is none, nobody.
func Start(ctx context.Context, c Config) (*Server, error) {
	bin, err := find(os.Getenv("PATH"), patterns())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	s := &Server{config: c, bin: bin}
	if err := s.start(ctx); err != nil {
		err = &StartError{Err: err, Log: s.lastWords()}
		return nil, errors.Join(err, s.remove())
	}
	return s, nil
}

func (s *Server) start(ctx context.Context) (err error) {
	if s.account, err = unprivileged(); err != nil {
		return err
	}
	if s.layout, err = layOut(s.config.Dir, s.account); err != nil {
		return err
	}
	if err := s.initialize(ctx); err != nil {
		return err
	}
	return s.launch(ctx)
}

// launch starts the server on a free port, and on another one if that was lost to another process in
// between.
func (s *Server) launch(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		var err error
		if s.port, err = freePort(ctx); err != nil {
			return err
		}
		err = s.up(ctx)
		if err == nil || ctx.Err() != nil || attempt == 3 || isFree(ctx, s.port) {
			return err
		}
	}
}

// up runs the server and waits until it is ready.
func (s *Server) up(ctx context.Context) error {
	proc, err := s.run(context.WithoutCancel(ctx), "postgres", s.arguments()...)
	if err != nil {
		return err
	}
	if err := s.ready(ctx, proc); err != nil {
		return errors.Join(err, proc.kill(ctx, s.data()))
	}
	s.proc = proc
	return nil
}

// URL is how clients connect to a database, as the superuser. A new server has the database "postgres".
func (s *Server) URL(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User(superuser),
		Host:     address(s.port),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// CreateDatabase makes a new, empty database.
func (s *Server) CreateDatabase(ctx context.Context, name string) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	// Unlike template1, template0 is always empty.
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()+" TEMPLATE template0"); err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}

// LogFile is the path of the server's log.
func (s *Server) LogFile() string { return s.log() }

// Stop ends the server in good order: it rolls back what is under way and tells its clients so. If ctx
// ends before that, the server is killed and an error says so. A temporary directory is removed. A
// server that does not run is left as it is.
func (s *Server) Stop(ctx context.Context) error {
	s.life.Lock()
	defer s.life.Unlock()
	return errors.Join(s.stop(ctx), s.remove())
}

func (s *Server) stop(ctx context.Context) error {
	if !s.proc.alive() {
		return nil
	}
	if err := s.proc.interrupt(); err != nil {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	if err := s.proc.wait(ctx); err != nil {
		return errors.Join(fmt.Errorf("stop PostgreSQL: killed, because it had not ended in time: %w", err), s.kill(ctx))
	}
	return nil
}

// Kill ends all processes of the server at once, as a crash would, and returns when they are gone. A
// server that does not run is left as it is.
func (s *Server) Kill() error {
	s.life.Lock()
	defer s.life.Unlock()
	return s.kill(context.Background())
}

func (s *Server) kill(ctx context.Context) error {
	if !s.proc.alive() {
		return nil
	}
	if err := s.proc.kill(ctx, s.data()); err != nil {
		return fmt.Errorf("kill PostgreSQL: %w", err)
	}
	return nil
}

// Restart stops the server if it runs and starts it again, with the same port and data. It also starts one
// that was stopped, was killed or has died. If the server does not stop before ctx ends, or does not come
// up, it is not running afterwards.
func (s *Server) Restart(ctx context.Context) error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.removed {
		return ErrRemoved
	}
	if err := s.stop(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := s.up(ctx); err != nil {
		return &StartError{Err: err, Log: s.lastWords()}
	}
	return nil
}

// remove deletes a temporary directory.
func (s *Server) remove() error {
	if !s.temporary {
		return nil
	}
	s.removed = true
	return os.RemoveAll(s.dir)
}

// ready waits until the server takes connections. It writes so into the file postmaster.pid; the port
// alone would not tell this server from another one.
func (s *Server) ready(ctx context.Context, proc *process) error {
	for {
		if pid, status := postmaster(s.data()); pid == proc.pid() && status == "ready" {
			return nil
		}
		select {
		case <-proc.ended:
			if proc.err == nil {
				return errors.New("the server ended with exit status 0 before it was ready")
			}
			return fmt.Errorf("the server ended: %w", proc.err)
		case <-ctx.Done():
			return fmt.Errorf("not ready in time: %w", ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
