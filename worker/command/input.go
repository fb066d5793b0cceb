package command

import (
	"bytes"
	"os"
	"os/exec"
)

// feed connects the command's standard input. release is to be called after the start. What fits
// into the pipe is written now, so that no goroutine is needed for it; os/exec has one for more, and
// finds nothing wrong with a command that does not read all of it.
func feed(cmd *exec.Cmd, data []byte) (release func(), err error) {
	if len(data) == 0 {
		return func() {}, nil // the null device
	}
	if len(data) <= pipeSize {
		read, whole, err := filledPipe(data)
		if err != nil {
			return nil, err
		}
		if whole {
			cmd.Stdin = read
			return func() { _ = read.Close() }, nil
		}
	}
	cmd.Stdin = bytes.NewReader(data)
	return func() {}, nil
}

// filledPipe gives the reading end of a pipe that holds data and then ends. whole is false, and there
// is no pipe, where data does not fit: a pipe is small where the user has many of them.
func filledPipe(data []byte) (read *os.File, whole bool, err error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, false, err
	}
	n, err := writeNow(write, data)
	_ = write.Close()
	if err != nil || n < len(data) {
		_ = read.Close()
		return nil, false, err
	}
	return read, true, nil
}
