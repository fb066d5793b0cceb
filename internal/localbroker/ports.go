package localbroker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
	"time"
)

const loopback = "127.0.0.1"

// ports are those that a node listens on, all of them on loopback.
type ports struct {
	AMQP         int `json:"amqp"`
	Management   int `json:"management"`
	Distribution int `json:"distribution"`
	PortMapper   int `json:"port_mapper"`
}

// Free ports are chosen below the range from which operating systems take the local ports of
// outgoing connections (from 32768 on Linux, from 49152 on macOS). From within that range a
// port could be lost to a client's connection while the node is being restarted.
const (
	lowestPort  = 20000
	highestPort = 32000
)

// choosePorts keeps the ports in want that are not 0 and gives the others free ones, those of
// last where they are free still. It fails with ErrPortInUse if a wanted one is not free.
func choosePorts(ctx context.Context, want, last ports) (ports, error) {
	var held []net.Listener // until all are chosen, so that none is chosen twice
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	hold := func(port int) error {
		l, err := listen(ctx, port)
		if err == nil {
			held = append(held, l)
		}
		return err
	}
	chosen := want
	for _, p := range chosen.each() {
		if *p == 0 {
			continue
		}
		if err := hold(*p); err != nil {
			return ports{}, fmt.Errorf("%w: %w", ErrPortInUse, err)
		}
	}
	for i, p := range chosen.each() {
		if *p != 0 {
			continue
		}
		candidate := *last.each()[i]
		for try := 0; candidate == 0 || hold(candidate) != nil; try++ {
			if try == 200 {
				return ports{}, fmt.Errorf("no free port found between %d and %d", lowestPort, highestPort)
			}
			candidate = lowestPort + rand.IntN(highestPort-lowestPort)
		}
		*p = candidate
	}
	return chosen, nil
}

// choosePortsSoon is choosePorts for ports that a node had until a moment ago: the kernel may
// close them a little after the node has ended.
func choosePortsSoon(ctx context.Context, want, last ports) (ports, error) {
	for end := time.Now().Add(2 * time.Second); ; {
		p, err := choosePorts(ctx, want, last)
		if !errors.Is(err, ErrPortInUse) || time.Now().After(end) || pause(ctx, 50*time.Millisecond) != nil {
			return p, err
		}
	}
}

func (p *ports) each() []*int {
	return []*int{&p.AMQP, &p.Management, &p.Distribution, &p.PortMapper}
}

// free tells whether all of the ports can be listened on.
func (p ports) free(ctx context.Context) bool {
	_, err := choosePorts(ctx, p, ports{})
	return err == nil
}

func listen(ctx context.Context, port int) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "tcp4", address(port))
}

func address(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }

// endPortMapper ends the Erlang port mapper (epmd) that listens on port, as "epmd -kill" does. The
// Erlang VM starts one where none answers, and leaves it behind. One that still knows of a living
// node refuses, and is asked again for a second, because it learns of a death with a delay.
func endPortMapper(ctx context.Context, port int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for {
		answer, err := askPortMapperToEnd(ctx, port)
		if errors.Is(err, syscall.ECONNRESET) { // it is ending at this very moment: nobody answers after it
			answer, err = "a reset", nil
		}
		if err != nil || answer == "OK" {
			return ignoreRefused(err)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("end port mapper on port %d: it answers %q", port, answer)
		}
	}
}

// askPortMapperToEnd sends KILL_REQ of the protocol in "Erlang Distribution Protocol",
// https://www.erlang.org/doc/apps/erts/erl_dist_protocol.html, and returns the answer.
func askPortMapperToEnd(ctx context.Context, port int) (string, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp4", address(port))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return "", err
	}
	if _, err := conn.Write([]byte{0, 1, 'k'}); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(io.LimitReader(conn, 16))
	return string(answer), err
}

// ignoreRefused drops the error of a connection that nobody took.
func ignoreRefused(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return nil
	}
	return err
}

// pause waits for d, or until ctx ends and returns its error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
