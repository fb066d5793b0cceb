package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/evdemo/evdemo/worker"
)

const (
	// DefaultGrace is how long a command has between SIGTERM and SIGKILL.
	DefaultGrace = 2 * time.Second

	// exitDataError is EX_DATAERR of sysexits.h.
	exitDataError = 65

	// pipeDelay is how long the pipes of a command that has ended are read on. They have ended as
	// well by then, unless it has left a process behind that has inherited them.
	pipeDelay = time.Second
)

// Input says what a command finds on its standard input.
type Input string

// The inputs.
const (
	InputData       Input = "data"       // the event's data, byte for byte
	InputCloudEvent Input = "cloudevent" // the whole event as CloudEvents JSON, one line with its line break
)

// Config says which command is run, and how. Command is required.
type Config struct {
	// Command is the command and its arguments, as a shell has them: parted by blanks, with single
	// and double quotes and backslashes. Outside of single quotes \n and \t are a line break and a
	// tab. It is not given to a shell: nothing is expanded, and what a shell would take for an
	// operator (| & ; < > and parentheses) has to be quoted. With Shell it is what sh -c gets.
	Command string
	// Shell runs Command by sh -c.
	Shell bool
	// Input is what the command finds on its standard input. Default InputData.
	Input Input
	// Stdout and Stderr take what the commands write, as it comes; nil discards it. An *os.File as
	// Stdout is inherited by the command, which then writes there by itself. Everything else, and
	// whatever is Stderr, is written to by one command at a time, and a writer that blocks blocks
	// the commands. Where Stdout returns an error, the command may meet a broken pipe, and has
	// failed; where Stderr does, what follows of that command is discarded.
	Stdout, Stderr io.Writer
	// Grace is how long a command has between SIGTERM and SIGKILL when its time is over. Default
	// (0) 2 s.
	Grace time.Duration
}

// validate finds all that is wrong with the settings, except for the command itself.
func (c Config) validate() error {
	var errs []error
	switch c.Input {
	case "", InputData, InputCloudEvent:
	default:
		errs = append(errs, fmt.Errorf("input %q: must be %s or %s", c.Input, InputData, InputCloudEvent))
	}
	if c.Grace < 0 {
		errs = append(errs, fmt.Errorf("grace period %v: must not be negative", c.Grace))
	}
	return errors.Join(errs...)
}

// Runner runs a command for every event. Make one with [New]. It may be used from several
// goroutines, holds nothing open between events, and needs no closing.
type Runner struct {
	config Config
	name   string   // what the command is called in messages
	path   string   // the program
	args   []string // with its name
	base   []string // the environment, without what is the event's

	output  sync.Mutex // held while Stdout or Stderr is written to
	buffers sync.Pool  // of *[bufferSize]byte
}

// New makes a runner. Its error names all that is wrong with config: a command that cannot be split
// into words, a program that does not exist or may not be executed. The environment of this process
// and the place of the program are looked up now, once.
func New(config Config) (*Runner, error) {
	args, err := arguments(config)
	var path string
	if err == nil {
		path, err = find(args[0])
	}
	if err = errors.Join(err, config.validate()); err != nil {
		return nil, err
	}
	if config.Grace == 0 {
		config.Grace = DefaultGrace
	}
	return &Runner{
		config:  config,
		name:    filepath.Base(args[0]),
		path:    path,
		args:    args,
		base:    inherited(),
		buffers: sync.Pool{New: func() any { return new([bufferSize]byte) }},
	}, nil
}

// Handle runs the command for one event; it is a [worker.Handler]. It returns nil where the command
// ended with exit code 0. Every error is a *[worker.CommandError] with the exit code and the last
// 4 KiB of standard error, behind [worker.Permanent] for exit code 65.
//
// When ctx ends the command is ended, with all of its process group, and the error wraps ctx's cause:
// also where the command ended with 0 then, since there are programs that do whenever they get
// SIGTERM, with their work undone. An event whose command was done at that very moment is handled
// again.
//
// Handle returns when the command has ended and its pipes have: they are waited for for up to a
// second, since a process that the command has left behind may hold them open. After ctx's end it
// returns when the process group is gone or has been killed.
func (r *Runner) Handle(ctx context.Context, d *worker.Delivery) error {
	if ctx.Err() != nil {
		return r.failure(nil, nil, context.Cause(ctx))
	}
	data, err := r.input(d)
	if err != nil {
		return worker.Permanent(r.failure(nil, nil, err))
	}
	cmd := &exec.Cmd{
		Path: r.path, Args: r.args, Env: r.environment(ctx, d),
		SysProcAttr: ownGroup(), WaitDelay: pipeDelay,
	}
	stdout, stderr := r.outputs(cmd)
	release, err := feed(cmd, data)
	if err == nil {
		err = cmd.Start()
		release()
	}
	if err != nil {
		return r.failure(nil, nil, err)
	}
	stopped := r.wait(ctx, cmd)
	return r.result(ctx, cmd, stdout, stderr, stopped)
}

// input gives what the command finds on its standard input.
func (r *Runner) input(d *worker.Delivery) ([]byte, error) {
	if r.config.Input != InputCloudEvent {
		return d.Event.Data, nil
	}
	doc, err := d.Event.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("write event %s as JSON: %w", d.Event.ID, err)
	}
	return append(doc, '\n'), nil
}

// wait waits for the command's end, and brings it about when ctx ends. It tells whether it has.
func (r *Runner) wait(ctx context.Context, cmd *exec.Cmd) (stopped bool) {
	done := make(chan struct{})
	keep := context.AfterFunc(ctx, func() {
		defer close(done)
		stopped = endGroup(cmd.Process, r.config.Grace)
	})
	// What the command left to say is in ProcessState and in the outputs.
	_ = cmd.Wait()
	if !keep() {
		<-done
	}
	return stopped
}

// result says what the command's end means.
func (r *Runner) result(ctx context.Context, cmd *exec.Cmd, stdout, stderr *outlet, stopped bool) error {
	state := cmd.ProcessState
	switch {
	case stopped:
		return r.failure(cmd, stderr, fmt.Errorf("%w (%v)", context.Cause(ctx), state))
	case state == nil:
		return r.failure(cmd, stderr, errors.New("its end was not seen"))
	case state.ExitCode() == exitDataError:
		return worker.Permanent(r.failure(cmd, stderr, errors.New(state.String())))
	case stdout != nil && stdout.err != nil:
		return r.failure(cmd, stderr, fmt.Errorf("pass on its output: %w (%v)", stdout.err, state))
	case !state.Success():
		return r.failure(cmd, stderr, errors.New(state.String()))
	default:
		return nil
	}
}

// failure gives the error of an attempt. cmd is nil where the command did not start.
func (r *Runner) failure(cmd *exec.Cmd, stderr *outlet, err error) error {
	failure := &worker.CommandError{ExitCode: -1, Err: fmt.Errorf("run %s: %w", r.name, err)}
	if cmd != nil {
		failure.ExitCode = cmd.ProcessState.ExitCode() // -1 where there is no state
		failure.Stderr = bytes.Clone(stderr.kept)
	}
	return failure
}
