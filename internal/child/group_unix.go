//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package child

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"syscall"
)

// Possible tells whether this operating system has what is needed.
const Possible = true

const (
	sigFreeze = syscall.SIGSTOP
	sigThaw   = syscall.SIGCONT
)

// Group is a process group in which all children are, away from the terminal's Ctrl-C, which is ours to handle. Its first
// member kills the group when this process ends without having done so, in whatever way: the kernel closes the pipe that it
// reads from. Those that are frozen die as well.
type Group struct {
	command *exec.Cmd
	pipe    io.Closer
}

const watchScript = `read -r _
kill -KILL 0`

// NewGroup makes a group without children. Close must be called in the end.
func NewGroup(ctx context.Context) (*Group, error) {
	command := exec.CommandContext(context.WithoutCancel(ctx), "/bin/sh", "-c", watchScript)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("watch over child processes: %w", err)
	}
	return &Group{command: command, pipe: pipe}, nil
}

// ID is the group's number.
func (g *Group) ID() int { return g.command.Process.Pid }

func (g *Group) member() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pgid: g.ID()}
}

// Close ends the group, in which nobody is any more.
func (g *Group) Close() {
	_ = g.command.Process.Kill()
	_ = g.command.Wait()
	_ = g.pipe.Close()
}
