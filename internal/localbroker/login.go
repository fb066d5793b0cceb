package localbroker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
)

// The methods of AMQP 0-9-1 that logging in takes, as class id and method id.
const (
	connectionStart   = 10<<16 | 10
	connectionStartOk = 10<<16 | 11
	connectionTune    = 10<<16 | 30
	connectionTuneOk  = 10<<16 | 31
	connectionOpen    = 10<<16 | 40
	connectionOpenOk  = 10<<16 | 41
	connectionClose   = 10<<16 | 50
	connectionCloseOk = 10<<16 | 51
)

// login does what every client does first: it logs in as guest, opens the virtual host / and
// closes the connection again. A node that lets it do so is ready.
func login(ctx context.Context, addr string) error {
	conn, err := dial(ctx, addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	bye := shortString([]byte{0, 200}, "ready")
	bye = append(bye, 0, 0, 0, 0) // no method was at fault
	if err := conn.send(connectionClose, bye); err != nil {
		return err
	}
	_, err = conn.expect(connectionCloseOk)
	return err
}

// connection is an AMQP 0-9-1 connection with no channel.
type connection struct {
	net.Conn
	in *bufio.Reader
}

// dial opens a connection, whose reads and writes end with ctx's deadline.
func dial(ctx context.Context, addr string) (*connection, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp4", addr)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		err = raw.SetDeadline(deadline)
	}
	conn := &connection{raw, bufio.NewReader(raw)}
	if err == nil {
		err = conn.open()
	}
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

func (c *connection) open() error {
	if _, err := io.WriteString(c, "AMQP\x00\x00\x09\x01"); err != nil {
		return err
	}
	if _, err := c.expect(connectionStart); err != nil {
		return err
	}
	startOk := longString(nil, "") // no client properties
	startOk = shortString(startOk, "PLAIN")
	startOk = longString(startOk, "\x00guest\x00guest")
	startOk = shortString(startOk, "en_US")
	if err := c.send(connectionStartOk, startOk); err != nil {
		return err
	}
	limits, err := c.expect(connectionTune)
	if err != nil {
		return err
	}
	if err := c.send(connectionTuneOk, limits); err != nil { // as the server wishes
		return err
	}
	open := shortString(nil, "/")
	open = append(open, 0, 0) // two reserved fields
	if err := c.send(connectionOpen, open); err != nil {
		return err
	}
	_, err = c.expect(connectionOpenOk)
	return err
}

func shortString(b []byte, s string) []byte {
	return append(append(b, byte(len(s))), s...)
}

func longString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

const (
	methodFrame = 1
	frameEnd    = 0xCE
	frameLimit  = 1 << 20
)

// send writes a method on channel 0.
func (c *connection) send(method uint32, arguments []byte) error {
	frame := []byte{methodFrame, 0, 0}
	frame = binary.BigEndian.AppendUint32(frame, uint32(4+len(arguments)))
	frame = binary.BigEndian.AppendUint32(frame, method)
	frame = append(append(frame, arguments...), frameEnd)
	_, err := c.Write(frame)
	return err
}

// expect reads the next frame and returns the arguments of the method in it, which must be the
// one that is wanted.
func (c *connection) expect(want uint32) ([]byte, error) {
	var header [7]byte
	if _, err := io.ReadFull(c.in, header[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(header[3:])
	if header[0] != methodFrame || size < 4 || size > frameLimit {
		return nil, fmt.Errorf("no AMQP 0-9-1 method frame: % x", header)
	}
	payload := make([]byte, size+1)
	if _, err := io.ReadFull(c.in, payload); err != nil {
		return nil, err
	}
	method := binary.BigEndian.Uint32(payload)
	if method != want {
		return nil, fmt.Errorf("AMQP method %d.%d, want %d.%d: %q", method>>16, method&0xFFFF,
			want>>16, want&0xFFFF, bytes.ToValidUTF8(payload[4:size], nil))
	}
	return payload[4:size], nil
}
