package publisher

import (
	"errors"
	"fmt"

	"github.com/evdemo/evdemo/internal/session"
)

var (
	// ErrClosed is returned by Publish and Send once Close was called. Nothing was sent.
	ErrClosed = errors.New("publisher is closed")
	// ErrInvalid is wrapped by what Publish and Send return for an event that cannot be put on
	// the wire. Nothing was sent.
	ErrInvalid = errors.New("event cannot be published")
	// ErrUnconfirmed is the cause of outcome Unknown where Close ran out of time: the event was
	// sent or waited to be sent, and no answer came.
	ErrUnconfirmed = errors.New("closed before the broker answered")
	// ErrUnreachable is wrapped by Open where no broker answered in time.
	ErrUnreachable = session.ErrUnreachable
	// ErrLogin is wrapped by Open where the broker refused user, password or virtual host.
	ErrLogin = session.ErrLogin
	// ErrURL is wrapped by Open where a URL cannot be used.
	ErrURL = session.ErrURL
)

// OutcomeError is what Publish returns for every outcome but Confirmed.
type OutcomeError struct {
	// ID is the event's id.
	ID string
	// Outcome is Returned, Nacked or Unknown.
	Outcome Outcome
	// Err is the broker's reason where it gave one.
	Err error
}

// Error names the event, the outcome and the reason.
func (e *OutcomeError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("event %s: %v", e.ID, e.Outcome)
	}
	return fmt.Sprintf("event %s: %v: %v", e.ID, e.Outcome, e.Err)
}

// Unwrap gives the reason.
func (e *OutcomeError) Unwrap() error { return e.Err }
