//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package chaos

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"syscall"
)

// canRun tells whether this operating system has what is needed.
const canRun = true

const (
	sigFreeze = syscall.SIGSTOP
	sigThaw   = syscall.SIGCONT
)

// leash is a process group in which all processes of a shop are, away from the terminal's Ctrl-C, which is ours to handle.
// Its first member kills the group when this process ends without having done so, in whatever way: the kernel closes the pipe
// that it reads from. Those that are frozen die as well.
type leash struct {
	command *exec.Cmd
	pipe    io.Closer
}

const leashScript = `read -r _
kill -KILL 0`

func tie(ctx context.Context) (*leash, error) {
	command := exec.CommandContext(context.WithoutCancel(ctx), "/bin/sh", "-c", leashScript)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("watch over the parts: %w", err)
	}
	return &leash{command: command, pipe: pipe}, nil
}

// member is how a process is started that belongs to the group.
func (l *leash) member() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pgid: l.command.Process.Pid}
}

// untie ends the leash. There is nobody else in the group any more.
func (l *leash) untie() {
	_ = l.command.Process.Kill()
	_ = l.command.Wait()
	_ = l.pipe.Close()
}
