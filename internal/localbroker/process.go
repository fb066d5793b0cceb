package localbroker

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
)

// process is a rabbitmq-server that this process has started.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed once the process has ended and what belonged to it is gone
	err   error         // how it ended; read it after ended
}

// serverScript raises the limit of open files, which is 256 on macOS, and becomes the server. It
// lowers it where it is unlimited, as in some containers: Erlang allocates a table of that size.
const serverScript = `ulimit -S -n 65536 2>/dev/null || ulimit -S -n 10240 2>/dev/null || :
exec "$0"`

// spawn starts the server in the node's directory. The server inherits the lock, and outlives the
// context.
func spawn(ctx context.Context, l layout, c Config, p ports, lock *os.File) (*process, error) {
	output, err := os.OpenFile(l.startupLog(), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	ctx = context.WithoutCancel(ctx)
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", serverScript, c.Server)
	cmd.Dir = l.dir
	cmd.Env = l.environment(c.NodeName, p)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.ExtraFiles = []*os.File{lock}
	cmd.SysProcAttr = ownGroup(c.Detached)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Server, err)
	}
	var parent *leash
	if !c.Detached {
		if parent, err = tie(ctx, cmd.Process.Pid, cmd.Env); err != nil {
			_ = killGroup(cmd.Process.Pid)
			_ = cmd.Wait()
			return nil, err
		}
	}
	proc := &process{cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(proc.ended)
		proc.err = cmd.Wait()
		parent.untie()
		_ = endPortMapper(ctx, p.PortMapper)
	}()
	return proc, nil
}

// wait returns when the process has ended, or with the context's error.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// leash kills a node when this process ends without having done so, in whatever way: the kernel
// closes the pipe that it reads from. Unlike Linux's parent-death signal it works on every Unix and
// does not depend on which thread started the node.
type leash struct {
	cmd  *exec.Cmd
	pipe io.Closer
}

const leashScript = `read -r _
kill -KILL "-$0"
for try in 1 2 3; do
	epmd -kill && exit
	sleep 1
done`

// tie starts the leash of the process group pid.
func tie(ctx context.Context, pid int, env []string) (*leash, error) {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", leashScript, strconv.Itoa(pid))
	cmd.Env = env
	cmd.SysProcAttr = ownGroup(false)
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("watch over the node: %w", err)
	}
	return &leash{cmd: cmd, pipe: pipe}, nil
}

// untie ends the leash and leaves the node alone.
func (l *leash) untie() {
	if l == nil {
		return
	}
	_ = l.cmd.Process.Kill()
	_ = l.cmd.Wait()
	_ = l.pipe.Close()
}
