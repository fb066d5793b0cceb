//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package cmd

import (
	"os"

	"golang.org/x/sys/unix"
)

// nobodyReads tells whether a file is a pipe whose other end is closed.
func nobodyReads(file *os.File) bool {
	fds := []unix.PollFd{{Fd: int32(file.Fd())}} //nolint:gosec // a file descriptor
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&(unix.POLLERR|unix.POLLNVAL) != 0
}
