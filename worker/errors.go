package worker

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/evdemo/evdemo/internal/session"
)

var (
	// ErrRequeue is what a handler returns to give the event back to the queue without
	// counting it as failed.
	ErrRequeue = errors.New("event given back to the queue")
	// ErrSkip is what a handler returns to have the event acknowledged without counting it as
	// handled: for what a filter rejects. It does not count towards Config.Limit.
	ErrSkip = errors.New("event skipped")
	// ErrDuplicate is what [Dedup] returns for an event that has been handled before: it is
	// acknowledged and counted in Stats.Duplicates. It does not count towards Config.Limit.
	ErrDuplicate = errors.New("event has been handled before")
	// ErrTimeout is wrapped by the error of an attempt that [Timeout] ended.
	ErrTimeout = errors.New("handler exceeded its time limit")
	// ErrDrainTimeout is returned by Run where handlers were still running when
	// Config.DrainTimeout had passed. Their events are delivered again.
	ErrDrainTimeout = errors.New("handlers did not finish within the drain timeout")
	// ErrRunning is returned by a second call of Run.
	ErrRunning = errors.New("worker has been run already")
	// ErrQueueGone is returned by Run where the queue does not exist, or was deleted while it
	// was consumed, and Config.Declare does not declare it.
	ErrQueueGone = errors.New("queue does not exist")
	// ErrRefused is returned by Run where the broker does not let this worker consume: no
	// permission, or a queue that is exclusive to another connection.
	ErrRefused = errors.New("broker refuses the consumer")
	// ErrConnectionLost is returned by DeadLetters.Visit where the connection was lost on the way.
	ErrConnectionLost = errors.New("connection to the broker was lost")
	// ErrUnreachable is returned by Run where no broker answered within Config.ConnectTimeout.
	ErrUnreachable = session.ErrUnreachable
	// ErrLogin is returned by Run where the broker refused user, password or virtual host.
	ErrLogin = session.ErrLogin
	// ErrURL is returned by New where a URL cannot be used.
	ErrURL = session.ErrURL
)

// Permanent marks an error that trying again does not mend: the event is dead-lettered at once, with
// the reason permanent. It returns nil for nil.
func Permanent(err error) error { return DeadLetter(ReasonPermanent, err) }

// DeadLetter is [Permanent] with another reason. It returns nil for nil.
func DeadLetter(reason Reason, err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{reason, err}
}

type permanentError struct {
	reason Reason
	err    error
}

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// RetryAfter marks an error after which the event is to be tried again no sooner than after d,
// instead of the delay that the policy has for it. It counts as an attempt like every other
// failure. It returns nil for nil.
func RetryAfter(d time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return &retryAfterError{max(d, 0), err}
}

type retryAfterError struct {
	delay time.Duration
	err   error
}

func (e *retryAfterError) Error() string { return e.err.Error() }
func (e *retryAfterError) Unwrap() error { return e.err }

// CommandError is the failure of a handler that ran a command. Its exit code and the end of its
// standard error go with the event into the dead-letter queue.
type CommandError struct {
	// ExitCode is the command's; -1 where it did not start, or a signal ended it.
	ExitCode int
	// Stderr is the end of what it wrote to standard error.
	Stderr []byte
	// Err says what happened.
	Err error
}

// Error says what happened, and ends with the command's own last words.
func (e *CommandError) Error() string {
	if last := lastLine(e.Stderr); last != "" {
		return fmt.Sprintf("%v: %s", e.Err, last)
	}
	return e.Err.Error()
}

// Unwrap gives what happened.
func (e *CommandError) Unwrap() error { return e.Err }

// lastLine is the last line of text that is not blank.
func lastLine(text []byte) string {
	text = bytes.TrimSpace(text)
	return strings.ToValidUTF8(string(bytes.TrimSpace(text[bytes.LastIndexByte(text, '\n')+1:])), "\ufffd")
}

// PanicError is what a handler's panic is turned into.
type PanicError struct {
	// Value is what was given to panic.
	Value any
	// Stack is the stack of the goroutine that panicked.
	Stack []byte
}

// Error gives the panic's value.
func (e *PanicError) Error() string { return fmt.Sprintf("handler panicked: %v", e.Value) }

// Unwrap gives the value where it was an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}
