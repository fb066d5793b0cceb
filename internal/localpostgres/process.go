package localpostgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const superuser = "postgres"

// account is the user that the server runs as.
type account struct {
	name     string
	uid, gid int
}

// process is a server, or an initdb, that this process has started.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed once the process has ended and was waited for
	err   error         // how it ended; read it after ended
}

// initialize makes the data directory, unless there is one.
func (s *Server) initialize(ctx context.Context) error {
	if _, err := os.Stat(s.data()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	half := s.data() + ".new" // what an initdb that was killed leaves is not taken for a data directory
	if err := os.RemoveAll(half); err != nil {
		return err
	}
	proc, err := s.run(ctx, "initdb", "--pgdata", half, "--username", superuser, "--auth", "trust",
		"--encoding", "UTF8", "--locale", "C", "--no-sync")
	if err == nil {
		<-proc.ended
		err = proc.err
	}
	if ctx.Err() != nil {
		err = ctx.Err()
		removeSharedMemory(context.WithoutCancel(ctx), half)
	}
	if err != nil {
		return s.account.explain(fmt.Errorf("run initdb in %s: %w", s.dir, err))
	}
	if err := os.Truncate(s.log(), 0); err != nil { // it is the server's from here on
		return err
	}
	return os.Rename(half, s.data())
}

// explain adds to an error why permission is missing that this process, as root, has. Without an account it
// has nothing to add.
func (a *account) explain(err error) error {
	if a == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return fmt.Errorf("%w: because this process is root, the server runs as the user %s, who must be able to reach the directory", err, a.name)
}

func (s *Server) arguments() []string {
	args := []string{"-D", s.data(), "-p", strconv.Itoa(s.port)}
	settings := []string{
		"listen_addresses=127.0.0.1",
		"unix_socket_directories=", // whose paths would be too long in some directories
		"max_connections=200",
		"dynamic_shared_memory_type=mmap", // in the data directory, where it is removed after Kill
	}
	if s.config.NoSync {
		// Only this. Without synchronous_commit or full_page_writes, Kill could lose what was committed.
		settings = append(settings, "fsync=off")
	}
	for _, setting := range append(settings, s.config.Settings...) {
		args = append(args, "-c", setting)
	}
	return args
}

// run starts a program, which ends with ctx or with this process and writes to the log.
func (s *Server) run(ctx context.Context, program string, args ...string) (*process, error) {
	log, err := os.OpenFile(s.log(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the program has inherited it
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, program), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"} // and none of the variables PG...
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = runAs(s.account)
	cmd.Cancel = func() error { return killGroup(cmd.Process) }
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	parent, err := tie(ctx, cmd.Process.Pid, s.layout)
	if err != nil {
		_ = killGroup(cmd.Process)
		_ = cmd.Wait()
		return nil, err
	}
	proc := &process{cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(proc.ended)
		proc.err = cmd.Wait()
		parent.untie()
	}()
	return proc, nil
}

// alive tells whether the process runs. A server that was never started has none.
func (p *process) alive() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// wait returns when the process has ended, or with the context's error.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// killLimit is how long the kernel may take to end what was killed.
const killLimit = 10 * time.Second

// kill ends the server and its children at once. The children have process groups of their own. Orphans
// among them would go on for a moment, and could commit; so the server is stopped, lest it make more of
// them, and goes last.
func (p *process) kill(ctx context.Context, data string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killLimit)
	defer cancel()
	err := p.killChildren(ctx)
	_ = p.cmd.Process.Kill()
	err = errors.Join(err, p.wait(ctx))
	if err == nil {
		removeSharedMemory(ctx, data)
	}
	return err
}

func (p *process) killChildren(ctx context.Context) error {
	if err := suspend(p.cmd.Process); err != nil {
		return err
	}
	for {
		table, err := processes(ctx)
		if err != nil {
			return err
		}
		pids, suspended := children(table, p.pid())
		if suspended && len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			if child, err := os.FindProcess(pid); err == nil {
				_ = child.Kill()
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("processes %v are still there: %w", pids, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// children reads lines of process id, parent and state, as processes returns them. It lists the children of
// a parent, without those that have ended, and tells whether the parent is suspended or has ended.
func children(table []byte, parent int) (pids []int, suspended bool) {
	suspended = true
	for line := range bytes.Lines(table) {
		var pid, ppid int
		var state string
		if n, _ := fmt.Sscan(string(line), &pid, &ppid, &state); n < 3 {
			continue
		}
		ended := strings.HasPrefix(state, "Z")
		switch {
		case pid == parent:
			suspended = ended || strings.HasPrefix(state, "T")
		case ppid == parent && !ended:
			pids = append(pids, pid)
		}
	}
	return pids, suspended
}

// leash ends a program when this process ends without having done so, in whatever way: the kernel closes
// the pipe that it reads from.
type leash struct {
	cmd  *exec.Cmd
	pipe io.Closer
}

// leashScript is given the program's process id and, where that is temporary, the server's directory.
// SIGQUIT makes a server end its children, too.
const leashScript = `read -r _
kill -QUIT "$0"
kill -CONT "$0"
for try in 1 2 3 4 5 6 7 8 9 10; do
	kill -0 "$0" || break
	sleep 1
done
kill -KILL "$0"
[ -z "$1" ] || rm -rf "$1"`

// tie starts the leash of the program with the process id.
func tie(ctx context.Context, pid int, l layout) (*leash, error) {
	remove := ""
	if l.temporary {
		remove = l.dir
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "/bin/sh", "-c", leashScript, strconv.Itoa(pid), remove)
	cmd.SysProcAttr = runAs(nil)
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("watch over PostgreSQL: %w", err)
	}
	return &leash{cmd: cmd, pipe: pipe}, nil
}

// untie ends the leash and leaves the program alone.
func (l *leash) untie() {
	_ = l.cmd.Process.Kill()
	_ = l.cmd.Wait()
	_ = l.pipe.Close()
}
