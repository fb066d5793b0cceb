package pglink

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Dialer finds out within some 20 s that a server does not answer any more: by keepalives while it is waited for,
// and by TCP_USER_TIMEOUT while something that was sent is not acknowledged, which by itself takes Linux a quarter
// of an hour.
func Dialer(timeout time.Duration) *net.Dialer {
	d := keptAlive(timeout)
	d.Control = func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			// Not for a socket in the file system, which has no such option.
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silence.Milliseconds()))
		})
	}
	return d
}
