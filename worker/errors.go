package worker

import (
	"errors"
	"fmt"

	"github.com/evdemo/evdemo/internal/session"
)

var (
	// ErrRequeue is what a handler returns to give the event back to the queue without
	// counting it as failed.
	ErrRequeue = errors.New("event given back to the queue")
	// ErrSkip is what a handler returns to have the event acknowledged without counting it as
	// handled: for what a filter rejects. It does not count towards Config.Limit.
	ErrSkip = errors.New("event skipped")
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
	// ErrUnreachable is returned by Run where no broker answered within Config.ConnectTimeout.
	ErrUnreachable = session.ErrUnreachable
	// ErrLogin is returned by Run where the broker refused user, password or virtual host.
	ErrLogin = session.ErrLogin
	// ErrURL is returned by New where a URL cannot be used.
	ErrURL = session.ErrURL
)

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
