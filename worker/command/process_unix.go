//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package command

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// pipeSize is how much is tried to be put into a pipe before its reader is there: what one holds by
// default on Linux.
const pipeSize = 64 << 10

// pollGroup is how often it is looked whether a group that was told to end is gone.
const pollGroup = 10 * time.Millisecond

// ownGroup is how a command is started: in a process group of its own, so that Ctrl-C at the terminal
// is not for it, and the whole group can be ended.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// endGroup ends a process that is being waited for, with all that share its group: it asks them to
// end, and kills those that are left when the grace period is over. It returns when none is left, or
// all have been killed, and tells whether the process was still there. A process that has ended
// before stays unharmed, and so does what it left behind.
func endGroup(process *os.Process, grace time.Duration) bool {
	// While it has not been waited for its id is no one else's, and neither is its group's. It is
	// signalled once, with the group: a second SIGTERM makes many a program drop its work.
	if process.Signal(syscall.Signal(0)) != nil {
		return false
	}
	_ = syscall.Kill(-process.Pid, syscall.SIGTERM)
	over := time.NewTimer(grace)
	defer over.Stop()
	look := time.NewTicker(pollGroup)
	defer look.Stop()
	for {
		select {
		case <-over.C:
			_ = syscall.Kill(-process.Pid, syscall.SIGKILL)
			return true
		case <-look.C:
			if errors.Is(syscall.Kill(-process.Pid, 0), syscall.ESRCH) {
				return true
			}
		}
	}
}

// writeNow writes as much as the pipe takes without waiting.
func writeNow(pipe *os.File, data []byte) (n int, err error) {
	raw, err := pipe.SyscallConn()
	if err != nil {
		return 0, err
	}
	if writing := raw.Write(func(fd uintptr) bool {
		for {
			n, err = syscall.Write(int(fd), data)
			if !errors.Is(err, syscall.EINTR) {
				return true
			}
		}
	}); writing != nil {
		return 0, writing
	}
	if errors.Is(err, syscall.EAGAIN) {
		return 0, nil
	}
	return max(n, 0), err
}
