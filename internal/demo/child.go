package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// childGrace is how long a child may take to drain before it is killed.
const childGrace = 5 * time.Second

// child is one evdemo process. What it prints is evidence: a line on its standard output is an
// event that it has handled.
type child struct {
	name   string
	args   []string
	effect func(id string) // nil: output does not count

	command   *exec.Cmd
	log       *slog.Logger
	consuming chan struct{} // closed when the child says that it consumes
	exited    chan struct{} // closed when it has exited and all its output is read
	exitErr   error         // valid once exited is closed

	mu    sync.Mutex
	again int // redeliveries, from its summary
	said  string
}

func (c *child) start(ctx context.Context, r *run) error {
	c.command = exec.CommandContext(context.WithoutCancel(ctx), r.Executable, append(c.args, "--log-format", "json")...)
	c.command.Env = r.Environment
	c.log = r.Logger
	c.consuming, c.exited = make(chan struct{}), make(chan struct{})
	stdout, err := c.command.StdoutPipe()
	if err != nil {
		return err
	}
	stderr, err := c.command.StderrPipe()
	if err != nil {
		return err
	}
	if err := c.command.Start(); err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	var readers sync.WaitGroup
	readers.Go(func() { c.readOutput(stdout) })
	readers.Go(func() { c.readLog(stderr) })
	go func() { // end waits for it
		defer close(c.exited)
		readers.Wait()
		c.exitErr = c.command.Wait()
	}()
	return nil
}

func (c *child) readOutput(r io.Reader) {
	lines := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return // a line that was cut off by a kill is no effect
		}
		var e struct {
			ID string `json:"id"`
		}
		if c.effect != nil && json.Unmarshal(line, &e) == nil && e.ID != "" {
			c.effect(e.ID)
		}
	}
}

// readLog follows the child's log, of which the first "consuming" and the summary at the end count.
func (c *child) readLog(r io.Reader) {
	var once sync.Once
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var entry struct {
			Message     string `json:"msg"`
			Level       string `json:"level"`
			Handled     *int   `json:"handled"`
			Redelivered int    `json:"redelivered"`
		}
		if json.Unmarshal(lines.Bytes(), &entry) != nil {
			c.note(lines.Text())
			continue
		}
		switch {
		case entry.Message == "consuming":
			once.Do(func() { close(c.consuming) })
		case entry.Handled != nil:
			c.mu.Lock()
			c.again = entry.Redelivered
			c.mu.Unlock()
		case entry.Level == "WARN" || entry.Level == "ERROR":
			c.note(lines.Text())
		}
	}
}

// note keeps the last thing that a child said of trouble.
func (c *child) note(line string) {
	c.log.Warn("child says", slog.String("child", c.name), slog.String("line", line))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = line
}

func (c *child) awaitConsuming(ctx context.Context) error {
	select {
	case <-c.consuming:
		return nil
	case <-c.exited:
		return fmt.Errorf("%s did not start: %w: %s", c.name, c.exitErr, c.said)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// kill ends the child as a crash would: nothing is finished, nothing is said.
func (c *child) kill() { _ = c.command.Process.Kill() }

// stop tells the child to drain.
func (c *child) stop() { _ = c.command.Process.Signal(syscall.SIGTERM) }

// end waits for the child, and kills it where it takes too long. It gives the redeliveries of its summary.
func (c *child) end() (redelivered int) {
	select {
	case <-c.exited:
	case <-time.After(childGrace):
		_ = c.command.Process.Kill()
		<-c.exited
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.again
}

// failure is the error of a child that has ended by itself. Exit code 3 is none: the outcomes
// tell, and the ledger counts them.
func (c *child) failure() error {
	<-c.exited
	var exit *exec.ExitError
	if c.exitErr == nil || (errors.As(c.exitErr, &exit) && exit.ExitCode() == 3) {
		return nil
	}
	return fmt.Errorf("%s: %w: %s", c.name, c.exitErr, c.said)
}
