package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/evdemo/evdemo/internal/shop/system"
)

// afterCrash is how long a process that has ended by itself stays away.
const afterCrash = time.Second

// process is a process of a part, which is started again whenever it has ended, until all are to end. Faults come one after
// the other: what is to be killed while it is away is killed once it is back.
type process struct {
	crew *crew
	name string
	args []string
	safe bool // nothing is done to it, and it may end by itself

	faults chan ordered
	open   chan struct{} // closed when it works for the first time
	opened sync.Once
}

// ordered is a fault that is to be done now.
type ordered struct {
	fault
	done func() // called when it is over
}

func newProcess(c *crew, name string, args []string) *process {
	return &process{crew: c, name: name, args: args, faults: make(chan ordered), open: make(chan struct{})}
}

// run keeps the process running until the crew is to end. The end of ctx kills it. It returns an error where the process
// cannot be started.
func (p *process) run(ctx context.Context) error {
	for {
		child, err := p.start(ctx)
		if err != nil {
			return err
		}
		if again, err := p.live(ctx, child); err != nil || !again {
			return err
		}
	}
}

// live does to a child what is to be done, and tells whether there is to be another one.
func (p *process) live(ctx context.Context, c *child) (again bool, err error) {
	for {
		select {
		case <-c.exited:
			return p.ended(ctx, c)
		case f := <-p.faults:
			over := p.do(ctx, c, f)
			f.done()
			if over {
				return true, nil
			}
		case <-p.crew.stopping:
			p.terminate(ctx, c)
			p.crew.tally.count(c.counts())
			return false, nil
		case <-ctx.Done():
			c.kill()
			return false, nil
		}
	}
}

// do does a fault, and tells whether it was the child's end.
func (p *process) do(ctx context.Context, c *child, f ordered) (over bool) {
	p.crew.logger.Info("fault", slog.String("kind", string(f.kind)), slog.String("process", p.name), slog.Duration("lasts", f.lasts))
	switch f.kind {
	case freeze:
		if c.signal(sigFreeze) {
			p.crew.tally.add(freeze)
			pause(ctx, nil, f.lasts)
			c.signal(sigThaw)
		}
		return false
	case stop:
		p.crew.tally.add(stop)
		p.terminate(ctx, c)
		p.crew.tally.count(c.counts())
	case kill, killAll, killBroker:
		if killed := c.kill(); killed {
			p.crew.tally.add(kill)
		} else {
			p.crashed(c)
		}
	}
	pause(ctx, nil, f.lasts)
	return true
}

// ended is for a child that nobody has ended.
func (p *process) ended(ctx context.Context, c *child) (again bool, err error) {
	select {
	case <-p.open:
	default:
		return false, fmt.Errorf("%w: %s: %w: %s", ErrStart, p.name, c.err, c.said())
	}
	if p.safe {
		return false, nil
	}
	p.crashed(c)
	return pause(ctx, p.crew.stopping, afterCrash), nil
}

// terminate has the child end in good order, and kills it where it does not.
func (p *process) terminate(ctx context.Context, c *child) {
	c.signal(syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, p.crew.grace)
	defer cancel()
	select {
	case <-c.exited:
		if c.err != nil && c.endedBy() != syscall.SIGTERM { // by which one ends that has just been started
			p.ill("has failed after SIGTERM", c)
		}
	case <-ctx.Done():
		c.kill()
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			p.crew.tally.crash(fmt.Sprintf("%s had not ended %v after SIGTERM", p.name, p.crew.grace))
		}
	}
}

// crashed notes that a child has come to an end that nobody gave it.
func (p *process) crashed(c *child) { p.ill("has ended by itself", c) }

func (p *process) ill(how string, c *child) {
	p.crew.logger.Warn("a part is not well", slog.String("process", p.name), slog.String("how", how), slog.Any("error", c.err), slog.String("said", c.said()))
	p.crew.tally.crash(fmt.Sprintf("%s %s: %v: %s", p.name, how, c.err, c.said()))
}

// pause waits, and tells whether neither ctx nor other has ended meanwhile.
func pause(ctx context.Context, other <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	case <-other:
		return false
	}
}

// child is one life of a process.
type child struct {
	command *exec.Cmd
	out     bytes.Buffer // read it after exited
	log     *childLog
	exited  chan struct{} // closed when it has exited and all its output is read
	err     error         // valid once exited is closed
}

func (p *process) start(ctx context.Context) (*child, error) {
	file, err := os.OpenFile(filepath.Join(p.crew.logs, p.name+".jsonl"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	c := &child{exited: make(chan struct{})}
	c.log = &childLog{file: file, open: func() { p.opened.Do(func() { close(p.open) }) }}
	c.command = exec.CommandContext(context.WithoutCancel(ctx), p.crew.binary, p.args...)
	c.command.Env = p.crew.environment
	c.command.SysProcAttr = p.crew.leash.member()
	c.command.Stdout, c.command.Stderr = &c.out, c.log
	if err := c.command.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s: %w", ErrStart, p.name, err), file.Close())
	}
	go func() { // live waits for it
		defer close(c.exited)
		c.err = errors.Join(c.command.Wait(), file.Close())
	}()
	return c, nil
}

// signal tells whether the child was there to get it.
func (c *child) signal(s os.Signal) bool { return c.command.Process.Signal(s) == nil }

// kill ends the child as a crash would, and tells whether that was its end.
func (c *child) kill() bool {
	_ = c.command.Process.Kill()
	<-c.exited
	return c.endedBy() == syscall.SIGKILL
}

// endedBy is the signal that was a child's end; 0 where none was.
func (c *child) endedBy() syscall.Signal {
	status, ok := c.command.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return 0
	}
	return status.Signal()
}

// counts is what a child that has ended in good order has done.
func (c *child) counts() (counts []system.Count) {
	<-c.exited
	_ = json.Unmarshal(c.out.Bytes(), &counts) // one that was killed says nothing
	return counts
}

func (c *child) said() string {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	return c.log.last
}

// childLog writes a child's log to a file, and reads it: when the child is ready, and what it said last of trouble.
type childLog struct {
	file *os.File
	open func()

	mu   sync.Mutex
	rest []byte // of a line that is not complete
	last string
}

func (l *childLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, b...)
	for {
		line, rest, complete := bytes.Cut(l.rest, []byte("\n"))
		if !complete {
			break
		}
		l.read(line)
		l.rest = rest
	}
	return l.file.Write(b)
}

func (l *childLog) read(line []byte) {
	var entry struct {
		Message string `json:"msg"`
		Level   string `json:"level"`
	}
	switch err := json.Unmarshal(line, &entry); {
	case err != nil, entry.Level == slog.LevelWarn.String(), entry.Level == slog.LevelError.String():
		l.last = string(line)
	case entry.Message == "consuming":
		l.open()
	}
}
