package eventstore

import (
	"errors"
	"fmt"
)

var (
	// ErrClosed is wrapped where the store has been closed.
	ErrClosed = errors.New("event store is closed")
	// ErrNoStore is wrapped by [Open] with Config.Existing where there is no event store.
	ErrNoStore = errors.New("there is no event store")
	// ErrSchema is wrapped by [Open] where a newer version of this package has made the tables.
	ErrSchema = errors.New("made by a newer version of evdemo: use that")
	// ErrStreamName is wrapped where a stream cannot have this name.
	ErrStreamName = errors.New("not a name for a stream")
	// ErrNegative is wrapped where a version is expected that no stream can have.
	ErrNegative = errors.New("a negative version is expected")
	// ErrUnavailable is wrapped where the database cannot be reached, or refuses the login.
	ErrUnavailable = errors.New("the database cannot be reached")
	// ErrURL is wrapped by [Open] where the URL of a database is none.
	ErrURL = errors.New("not a URL to reach PostgreSQL with")
	// ErrLocked is wrapped where another program kept an SQLite file locked for longer than Config.BusyTimeout.
	ErrLocked = errors.New("locked by another program for too long")
	// ErrOutcomeUnknown is wrapped by an append that may have been committed or not. Appending the same events
	// again, with their ids, tells: it succeeds and adds nothing that is there.
	ErrOutcomeUnknown = errors.New("it is not known whether the events were appended: append them again, with the same ids, to find out")
	// ErrNoVersion is wrapped by [Load] where a stream does not have the version asked for.
	ErrNoVersion = errors.New("there is no version")
	// ErrNotEmpty is wrapped by [Store.Backup] where the target has something in it already.
	ErrNotEmpty = errors.New("the target of a backup must not have anything in it yet")
	// ErrRewound is wrapped by a follower where the log has not got any more what it had read: it was restored from a
	// backup, or its server has lost the last commits. What was read after that may never have happened.
	ErrRewound = errors.New("the log is not the one that was read before: it was restored, or its server has lost commits")
	// ErrLeaseLost is wrapped where another process has become the active one meanwhile.
	ErrLeaseLost = errors.New("another process has taken over")
)

// ConflictError is returned by an append to a stream that is not as expected. Nothing was appended.
type ConflictError struct {
	Stream   string
	Expected Expectation
	Actual   int64 // the stream's version, 0 for no events
}

func (e *ConflictError) Error() string {
	actual := "no events"
	if e.Actual > 0 {
		actual = fmt.Sprintf("version %d", e.Actual)
	}
	return fmt.Sprintf("stream %s: expected %s, found %s: read it again and decide anew", e.Stream, e.Expected, actual)
}

// DuplicateError is returned by an append of an event whose id and source are those of another event in the
// log. Nothing was appended.
type DuplicateError struct {
	ID, Source string
	Stream     string // of the event in the log
	Position   int64
	Moved      bool // the same event, but it was to be appended to another stream
}

func (e *DuplicateError) Error() string {
	what := "but other content"
	if e.Moved {
		what = "and the same content"
	}
	return fmt.Sprintf("an event with id %s and source %s %s is in stream %s, at position %d", e.ID, e.Source, what, e.Stream, e.Position)
}

// InvalidError is returned by an append of an event that is none, or that the store cannot hold. Nothing was
// appended.
type InvalidError struct {
	Stream string
	Index  int // of the event among those of its write
	Err    error
}

func (e *InvalidError) Error() string {
	return fmt.Sprintf("event %d for stream %s: %v", e.Index+1, e.Stream, e.Err)
}

func (e *InvalidError) Unwrap() error { return e.Err }

// DamagedError is returned by a read that comes upon an event that cannot be read.
type DamagedError struct {
	Position int64
	Stream   string
	Err      error
}

var errMissing = errors.New("it is missing")

func (e *DamagedError) Error() string {
	return fmt.Sprintf("event at position %d, in stream %s, cannot be read: %v", e.Position, e.Stream, e.Err)
}

func (e *DamagedError) Unwrap() error { return e.Err }
