// Package child runs programs as child processes that can be killed, frozen and told to end, and that never outlive this
// process. It reads what they log as JSON lines: when they are ready, and what they last said of trouble.
//
// The package works on Linux, macOS and the BSDs. Elsewhere [NewGroup] returns [ErrSystem].
package child

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
)

var (
	// ErrSystem means that processes cannot be frozen, and tied to this one, on this operating system.
	ErrSystem = errors.New("this operating system has no signals: run it on Linux, macOS or a BSD")
	// ErrEnded is wrapped where a process has ended that was waited for to be ready.
	ErrEnded = errors.New("has ended before it was ready")
)

// Config says what to run.
type Config struct {
	Binary      string
	Args        []string
	Environment []string
	// Output is called for each whole line that the process prints to its standard output, without its line feed, by one
	// goroutine. The slice is valid until it returns. A line that was cut off by a kill is none.
	Output func(line []byte)
	// Log gets what the process writes to its standard error, as it comes. Default: nobody.
	Log io.Writer
	// Ready are the messages of the process's log by any of which it says that it works.
	Ready []string
	// Opened is called with the line of the log when it says so for the first time.
	Opened func(line []byte)
	// Said is called for each line of its log that is a warning, an error or no JSON. Default: it is only kept, see
	// [Process.Said].
	Said func(line string)
}

// Process is a child process.
type Process struct {
	command *exec.Cmd
	log     *log
	ready   chan struct{}
	exited  chan struct{} // closed when it has exited and all its output is read
	err     error         // valid once exited is closed
}

// Start starts a process of the group. The end of ctx does not end it.
func (g *Group) Start(ctx context.Context, config Config) (*Process, error) {
	p := &Process{ready: make(chan struct{}), exited: make(chan struct{})}
	p.log = &log{config: config, ready: func() { close(p.ready) }}
	p.command = exec.CommandContext(context.WithoutCancel(ctx), config.Binary, config.Args...)
	p.command.Env = config.Environment
	p.command.SysProcAttr = g.member()
	p.command.Stderr = p.log
	if config.Output != nil {
		p.command.Stdout = &lines{each: config.Output}
	}
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	go func() { // who has started it waits for it
		defer close(p.exited)
		p.err = p.command.Wait()
	}()
	return p, nil
}

// Ready is closed when the process says that it works.
func (p *Process) Ready() <-chan struct{} { return p.ready }

// Exited is closed when the process has exited and all its output is read.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Err is how the process has ended: nil or an *exec.ExitError. It waits for that.
func (p *Process) Err() error {
	<-p.exited
	return p.err
}

// Said is the last warning or error that the process has logged.
func (p *Process) Said() string {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	return p.log.last
}

// Signal tells whether the process was there to get it.
func (p *Process) Signal(s os.Signal) bool { return p.command.Process.Signal(s) == nil }

// Freeze stops the process where it is, until Thaw. Both tell whether it was there.
func (p *Process) Freeze() bool { return p.Signal(sigFreeze) }

// Thaw lets it go on.
func (p *Process) Thaw() bool { return p.Signal(sigThaw) }

// Kill ends the process as a crash would, and tells whether that was its end.
func (p *Process) Kill() bool {
	_ = p.command.Process.Kill()
	<-p.exited
	return p.EndedBy() == syscall.SIGKILL
}

// Terminate ends the process in good order, or with a kill once enough is closed, and tells whether it was in time.
func (p *Process) Terminate(enough <-chan struct{}) (inTime bool) {
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
		return true
	case <-enough:
		p.Kill()
		return false
	}
}

// EndedBy is the signal that was the process's end; 0 where none was. It waits for the end.
func (p *Process) EndedBy() syscall.Signal {
	<-p.exited
	status, ok := p.command.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return 0
	}
	return status.Signal()
}

// lines cuts what is written into lines.
type lines struct {
	each func([]byte)
	rest []byte // of a line that is not complete
}

func (l *lines) Write(b []byte) (int, error) {
	l.rest = append(l.rest, b...)
	done := 0
	for {
		line, _, complete := bytes.Cut(l.rest[done:], []byte("\n"))
		if !complete {
			break
		}
		l.each(line)
		done += len(line) + 1
	}
	l.rest = append(l.rest[:0], l.rest[done:]...)
	return len(b), nil
}

// log reads a process's log, and passes it on.
type log struct {
	config Config
	ready  func()

	mu     sync.Mutex
	rest   lines
	last   string
	plain  bool // last is no JSON
	opened bool
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest.each = l.read
	_, _ = l.rest.Write(b)
	if l.config.Log == nil {
		return len(b), nil
	}
	return l.config.Log.Write(b)
}

// note keeps a line of trouble. Lines that are no JSON are of one message, such as a mistake in usage.
func (l *log) note(line string, plain bool) {
	const most = 1000
	if plain && l.plain && len(l.last) < most {
		line = l.last + "; " + line
	}
	l.last, l.plain = line, plain
}

func (l *log) read(line []byte) {
	var entry struct {
		Message string `json:"msg"`
		Level   string `json:"level"`
	}
	switch err := json.Unmarshal(line, &entry); {
	case err != nil, entry.Level == slog.LevelWarn.String(), entry.Level == slog.LevelError.String():
		l.note(string(line), err != nil)
		if l.config.Said != nil {
			l.config.Said(string(line))
		}
	case !l.opened && slices.Contains(l.config.Ready, entry.Message):
		l.opened = true
		if l.config.Opened != nil {
			l.config.Opened(line)
		}
		l.ready()
	}
}
