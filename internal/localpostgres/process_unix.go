//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package localpostgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// canRun tells whether servers can be run on this operating system.
const canRun = true

// unprivileged is the account that the server must have because this process is root, else nil.
func unprivileged() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	found, err := user.Lookup("postgres")
	if err != nil {
		found, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root: %w", err)
	}
	uid, err1 := strconv.Atoi(found.Uid)
	gid, err2 := strconv.Atoi(found.Gid)
	return &account{found.Username, uid, gid}, errors.Join(err1, err2)
}

// runAs is how a process is started: in a process group of its own, so that Ctrl-C at the terminal is
// ours to handle, and with the account, if there is one.
func runAs(a *account) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if a != nil {
		attr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return attr
}

// interrupt asks the server for a fast shutdown: it does not wait for its clients to leave.
func (p *process) interrupt() error {
	if err := p.cmd.Process.Signal(syscall.SIGINT); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// killGroup ends a process and those that share its group: of initdb's children all, of a server's none.
func killGroup(p *os.Process) error { return syscall.Kill(-p.Pid, syscall.SIGKILL) }

// suspend stops a process, which makes no more children then.
func suspend(p *os.Process) error {
	if err := p.Signal(syscall.SIGSTOP); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// processes lists all processes: process id, parent and state, a line each.
func processes(ctx context.Context) ([]byte, error) {
	if stats, _ := filepath.Glob("/proc/[0-9]*/stat"); len(stats) > 0 {
		return processesOf(stats), nil
	}
	table, err := exec.CommandContext(ctx, "ps", "-A", "-o", "pid=", "-o", "ppid=", "-o", "stat=").Output()
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	return table, nil
}

// processesOf reads Linux's files /proc/PID/stat: "PID (NAME) STATE PARENT ...". A NAME may hold anything.
func processesOf(stats []string) []byte {
	var table bytes.Buffer
	for _, path := range stats {
		content, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		pid, rest, _ := bytes.Cut(content, []byte(" "))
		fields := bytes.Fields(rest[bytes.LastIndexByte(rest, ')')+1:])
		if len(fields) >= 2 {
			fmt.Fprintf(&table, "%s %s %s\n", pid, fields[1], fields[0])
		}
	}
	return table.Bytes()
}
