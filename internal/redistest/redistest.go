// Package redistest is what tests with a real Redis need: a private server on 127.0.0.1 and a free port, from the
// redis-server that is installed. Nothing of it is written to the disk.
package redistest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

const (
	// startPatience is what a start may take on a machine on which many tests run at once.
	startPatience = time.Minute
	// startAttempts is how often another port is tried where one was lost to another process.
	startAttempts = 3
)

// ErrNotInstalled is wrapped where there is no redis-server.
var ErrNotInstalled = errors.New("redis-server is not installed: " +
	"apt-get update && apt-get install -y --no-install-recommends redis-server, or brew install redis")

// Server is a private Redis. It ends with the process that started it, in whatever way that ends.
type Server struct {
	address string
	cmd     *exec.Cmd
	leash   io.Closer
	ended   chan struct{}
}

// URL starts a server that ends with the test, and gives its URL. Where there is no redis-server, the test fails and
// names the command that installs it.
func URL(tb testing.TB) string {
	tb.Helper()
	server, err := Start(tb.Context())
	if err != nil {
		tb.Fatalf("this test needs Redis: %v", err)
	}
	tb.Cleanup(server.Kill)
	return server.URL()
}

// Start starts an empty server, and returns once it answers.
func Start(ctx context.Context) (*Server, error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, ErrNotInstalled
	}
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for attempt := 1; ; attempt++ {
		server, err := start(ctx, program)
		if err == nil || attempt == startAttempts || ctx.Err() != nil {
			return server, err
		}
	}
}

// leash ends the server when the pipe that it reads from is closed: by Kill, or by the kernel.
const leash = `"$0" "$@" </dev/null & read -r _; kill -KILL $!; wait $!`

func start(ctx context.Context, program string) (*Server, error) {
	address, port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	s := &Server{address: address, ended: make(chan struct{})}
	s.cmd = exec.CommandContext(context.WithoutCancel(ctx), "/bin/sh", "-c", leash, program,
		"--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", "/", "--protected-mode", "yes")
	if s.leash, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start Redis: %w", err)
	}
	go func() {
		defer close(s.ended)
		_ = s.cmd.Wait() // it was killed
	}()
	if err := s.ready(ctx); err != nil {
		s.Kill()
		return nil, fmt.Errorf("start Redis at %s: %w", address, err)
	}
	return s, nil
}

// freePort finds a port that nobody listens on now.
func freePort(ctx context.Context) (address, port string, err error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	address = listener.Addr().String()
	_, port, err = net.SplitHostPort(address)
	return address, port, errors.Join(err, listener.Close())
}

// ready waits until the server answers.
func (s *Server) ready(ctx context.Context) error {
	for {
		err := s.ping(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

func (s *Server) ping(ctx context.Context) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && answer != "+PONG\r\n" {
		err = errors.New("answers " + strconv.Quote(answer))
	}
	return err
}

// URL is how clients connect.
func (s *Server) URL() string { return "redis://" + s.address + "/0" }

// Kill ends the server at once, with all that it holds, and returns when it is gone. A second call does nothing.
func (s *Server) Kill() {
	_ = s.leash.Close()
	<-s.ended
}
