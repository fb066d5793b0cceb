package relay

import (
	"errors"
	"fmt"

	"github.com/evdemo/evdemo/eventstore"
)

var (
	// ErrSkip is wrapped by what Config.To returns for an event that is not to be published. The relay goes on
	// behind it.
	ErrSkip = errors.New("event is not to be published")
	// ErrRunning is returned by Run while another Run of the same Relay has not ended.
	ErrRunning = errors.New("relay is running already")
	// ErrDrainTimeout is wrapped by what Run returns where the broker or the database had not answered when
	// Config.DrainTimeout had passed. The next relay publishes those events again.
	ErrDrainTimeout = errors.New("events were not confirmed, or the checkpoint not saved, within the drain timeout")
	// ErrBeyondLog is wrapped by what Run returns where its checkpoint, or Config.From, is behind the last event
	// of the log: as after a backup was restored beside which the checkpoint is not the backup's own.
	ErrBeyondLog = errors.New("the log does not go that far")
	// ErrCheckpoint is wrapped by what Run returns where a newer version of this package has saved the checkpoint.
	ErrCheckpoint = errors.New("the checkpoint was saved by a newer version of evdemo: use that")
)

var errNowhere = errors.New("Config.To gives neither an exchange nor a routing key")

// EventError says which event was not published. Run returns it where that event cannot be published at all, and
// [Stats] has it while the relay stands still.
type EventError struct {
	Position int64
	Stream   string
	Version  int64
	ID       string
	// Err is what Config.To returned, wraps [publisher.ErrInvalid], or is a *[publisher.OutcomeError].
	Err error
}

func newEventError(r *eventstore.Recorded, err error) *EventError {
	return &EventError{Position: r.Position, Stream: r.Stream, Version: r.Version, ID: r.ID, Err: err}
}

func (e *EventError) Error() string {
	return fmt.Sprintf("event at position %d, version %d of stream %s: %v", e.Position, e.Version, e.Stream, e.Err)
}

func (e *EventError) Unwrap() error { return e.Err }
