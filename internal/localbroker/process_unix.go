//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package localbroker

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// canRun tells whether nodes can be run on this operating system.
const canRun = true

// ownGroup is how a node is started: in a process group of its own, so that Ctrl-C at the
// terminal is ours to handle and the whole group can be killed. A detached one gets a session of
// its own as well, so that it survives the terminal.
func ownGroup(detached bool) *syscall.SysProcAttr {
	if detached {
		return &syscall.SysProcAttr{Setsid: true}
	}
	return &syscall.SysProcAttr{Setpgid: true}
}

// terminate asks the process to end.
func terminate(pid int) error { return ignoreGone(syscall.Kill(pid, syscall.SIGTERM)) }

// killGroup ends the process and all that share its group, at once.
func killGroup(pid int) error { return ignoreGone(syscall.Kill(-pid, syscall.SIGKILL)) }

func ignoreGone(err error) error {
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// tryLock takes the lock on the file and returns it open, or nil if somebody else has the lock.
// The lock belongs to the open file: a child process that inherits it holds the lock until it
// ends, however it ends.
func tryLock(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = flock(file, syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return file, nil
	}
	_ = file.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, nil
	}
	return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
}

// locked tells whether somebody has the lock on the file. It needs no right to write there.
func locked(path string) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	return errors.Is(flock(file, syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}

func flock(file *os.File, how int) error {
	for {
		err := syscall.Flock(int(file.Fd()), how)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
