package synchronous

import (
	"errors"
	"fmt"
)

// errOvertaken is where the stream of an order is not as it was: another process has decided, or this one has, in an append of
// which it did not hear. What was decided is read.
var errOvertaken = errors.New("it was decided about the order meanwhile")

// CallError is why a service has not answered.
type CallError struct {
	Service  string
	Attempts int
	// Timeout says that the last attempt took too long: what the service has done is not known.
	Timeout bool
	// Permanent says that it will not be different the next time.
	Permanent bool
	Err       error

	what string
}

// Error says which service has done what.
func (e *CallError) Error() string {
	return fmt.Sprintf("%s, after %d: %v", e.Short(), e.Attempts, e.Err)
}

// Short is the error for customers, who need not know where services are.
func (e *CallError) Short() string { return e.Service + " " + e.what }

// Unwrap gives the cause.
func (e *CallError) Unwrap() error { return e.Err }
