package command

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
)

const (
	tailSize   = 4 << 10  // how much of standard error goes with an error
	bufferSize = 32 << 10 // how much of a pipe is read at once
)

// outlet takes what a command writes on one stream and passes it on.
type outlet struct {
	runner *Runner
	to     io.Writer // nil discards
	strict bool      // reading ends where writing fails
	err    error     // the first error in writing
	tail   bool      // the end is kept
	kept   []byte
}

// outputs connects the command's standard output and standard error. stdout is nil where the command
// has it by itself.
func (r *Runner) outputs(cmd *exec.Cmd) (stdout, stderr *outlet) {
	switch to := r.config.Stdout.(type) {
	case nil:
	case *os.File:
		cmd.Stdout = to
	default:
		stdout = &outlet{runner: r, to: to, strict: true}
		cmd.Stdout = stdout
	}
	stderr = &outlet{runner: r, to: r.config.Stderr, tail: true}
	cmd.Stderr = stderr
	return stdout, stderr
}

// ReadFrom takes all that comes; it is what the copying in os/exec calls. It uses a buffer of the
// runner's, and keeps no more than the tail.
func (o *outlet) ReadFrom(from io.Reader) (int64, error) {
	buffer, _ := o.runner.buffers.Get().(*[bufferSize]byte)
	defer o.runner.buffers.Put(buffer)
	var all int64
	for {
		n, err := from.Read(buffer[:])
		all += int64(n)
		if _, failed := o.Write(buffer[:n]); failed != nil {
			return all, failed
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF), errors.Is(err, fs.ErrClosed): // closed: the wait for its end was too long
			return all, nil
		default:
			return all, err
		}
	}
}

// Write passes b on, and keeps its end.
func (o *outlet) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if o.tail {
		o.keep(b)
	}
	if o.to != nil && o.err == nil {
		o.err = o.runner.write(o.to, b)
	}
	if o.strict {
		return len(b), o.err
	}
	return len(b), nil
}

// keep adds b to the tail and lets go of what is too much.
func (o *outlet) keep(b []byte) {
	b = b[max(len(b)-tailSize, 0):]
	if over := len(o.kept) + len(b) - tailSize; over > 0 {
		o.kept = o.kept[:copy(o.kept, o.kept[over:])]
	}
	o.kept = append(o.kept, b...)
}

// write writes all of b, for one command at a time.
func (r *Runner) write(to io.Writer, b []byte) error {
	r.output.Lock()
	defer r.output.Unlock()
	n, err := to.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}
