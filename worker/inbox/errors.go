package inbox

import (
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/evdemo/evdemo/worker/inbox/internal/attempt"
)

var (
	// ErrClosed is wrapped where the store has been closed.
	ErrClosed = attempt.ErrClosed
	// ErrNotInOnce is returned by Transact where its context does not come from Once, or the attempt
	// that it comes from has ended.
	ErrNotInOnce = attempt.ErrNotInOnce
	// ErrTransacted is returned by the second call of Transact in one attempt.
	ErrTransacted = attempt.ErrTransacted
	// ErrInTransact is returned by Once where it is called on the context of an attempt that is in
	// Transact: it would wait for itself.
	ErrInTransact = attempt.ErrInTransact
	// ErrSchema is wrapped by Open where a newer version of this package has made the tables.
	ErrSchema = attempt.ErrSchema
	// ErrTransactionLost is wrapped by what Transact returns where its function ended the transaction,
	// or went on after its context had ended in mid-write. Nothing of what it did remains.
	ErrTransactionLost = attempt.ErrTransactionLost

	// errPanicked stands for the outcome of a function that did not return.
	errPanicked = errors.New("function did not return")
)

// explain puts what SQLite reports into words that say what to do.
func explain(err error) error {
	switch primary(err) {
	case sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("not an SQLite database: %w", err)
	case sqlite3.SQLITE_CANTOPEN:
		return fmt.Errorf("cannot be opened: see that its folder exists and can be written to: %w", err)
	case sqlite3.SQLITE_READONLY:
		return fmt.Errorf("cannot be written to: see the permissions of the file and its folder: %w", err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("locked by another program for too long: %w", err)
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("disk full: %w", err)
	case sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("damaged: restore it from a copy: %w", err)
	default:
		return err
	}
}

// primary is SQLite's primary result code in an error, 0 where there is none.
func primary(err error) int {
	if sqliteErr, ok := errors.AsType[*sqlite.Error](err); ok {
		return sqliteErr.Code() & 0xff
	}
	return 0
}
