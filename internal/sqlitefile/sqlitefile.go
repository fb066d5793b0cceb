// Package sqlitefile is what those who keep an SQLite file have in common: the driver, what its errors mean, and
// the write-ahead log.
package sqlitefile

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	_ "modernc.org/sqlite" // the driver
	sqlite3 "modernc.org/sqlite/lib"
)

// SQLite's primary result codes (https://www.sqlite.org/rescode.html) that somebody asks for.
const (
	Error      = sqlite3.SQLITE_ERROR
	Busy       = sqlite3.SQLITE_BUSY
	Locked     = sqlite3.SQLITE_LOCKED
	IOErr      = sqlite3.SQLITE_IOERR
	Corrupt    = sqlite3.SQLITE_CORRUPT
	Full       = sqlite3.SQLITE_FULL
	CantOpen   = sqlite3.SQLITE_CANTOPEN
	TooBig     = sqlite3.SQLITE_TOOBIG
	Constraint = sqlite3.SQLITE_CONSTRAINT
	NotADB     = sqlite3.SQLITE_NOTADB
)

// coded is what the driver's errors are: they give SQLite's extended result code.
type coded interface {
	error
	Code() int
}

// Code is SQLite's primary result code in an error, 0 where there is none.
func Code(err error) int {
	if c, ok := errors.AsType[coded](err); ok {
		return c.Code() & 0xff
	}
	return 0
}

// Explain puts what SQLite reports into words that say what to do.
func Explain(err error) error {
	switch Code(err) {
	case NotADB:
		return fmt.Errorf("not an SQLite database: %w", err)
	case CantOpen:
		return fmt.Errorf("cannot be opened: see that its folder exists and can be written to: %w", err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return fmt.Errorf("cannot be written to: see the permissions of the file and its folder: %w", err)
	case Busy, Locked:
		return fmt.Errorf("locked by another program for too long: %w", err)
	case Full:
		return fmt.Errorf("disk full: %w", err)
	case Corrupt:
		return fmt.Errorf("damaged: restore it from a backup: %w", err)
	default:
		return err
	}
}

// WriteAheadLog has the file use its write-ahead log, which takes a disk of this machine.
func WriteAheadLog(ctx context.Context, db *sql.DB) error {
	var mode string
	if err := db.QueryRowContext(ctx, `PRAGMA journal_mode = WAL`).Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("SQLite's write-ahead log does not work there (journal mode %s): use a local disk", mode)
	}
	return nil
}
