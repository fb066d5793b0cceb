package sink

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"

	"github.com/evdemo/evdemo/internal/sqlitefile"
)

const (
	// busyMillis is how long SQLite waits for another connection that writes.
	busyMillis = 10_000
	// fileConnections is how many read a file at a time; opening one takes longer than most queries.
	fileConnections = 8
)

// database is an SQLite file that this process alone writes to.
type database struct {
	*sql.DB

	lock *flock.Flock
}

// openDatabase opens a file, and makes it with its tables where there is none. The lock is beside the file.
func openDatabase(ctx context.Context, path, schema string) (*database, error) {
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, err
	}
	d := &database{lock: lock}
	if d.DB, err = sql.Open("sqlite", dataSource(path, "rwc")); err == nil {
		d.SetMaxOpenConns(fileConnections)
		d.SetMaxIdleConns(fileConnections)
		if err = sqlitefile.WriteAheadLog(ctx, d.DB); err == nil {
			err = makeTables(ctx, d.DB, schema)
		}
	}
	if err != nil {
		return nil, errors.Join(sqlitefile.Explain(err), d.Close())
	}
	return d, nil
}

// Close closes the file and gives up its lock.
func (d *database) Close() (err error) {
	if d.DB != nil {
		err = d.DB.Close()
	}
	return errors.Join(err, d.lock.Unlock())
}

// lockFile takes a lock that ends with the process. The error wraps [ErrInUse] where another one has it.
func lockFile(path string) (*flock.Flock, error) {
	lock := flock.New(path)
	locked, err := lock.TryLock()
	if err == nil && !locked {
		err = ErrInUse
	}
	if err != nil {
		return nil, err
	}
	return lock, nil
}

// dataSource is what the driver is given for a file: mode is ro, rw or rwc. Transactions take the write lock when they
// begin, and what is committed is on the disk.
func dataSource(path, mode string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") { // C:/...
		path = "/" + path
	}
	query := url.Values{
		"mode": {mode}, "_txlock": {"immediate"},
		"_pragma": {fmt.Sprintf("busy_timeout(%d)", busyMillis), "synchronous(FULL)"},
	}
	source := url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}
	return source.String()
}

// schemaVersion is SQLite's user_version of the files that this program makes.
const schemaVersion = 1

// makeTables makes the tables where there are none, and refuses those of a newer program.
func makeTables(ctx context.Context, db *sql.DB, schema string) error {
	return transact(ctx, db, func(tx *sql.Tx) error {
		var version int
		err := tx.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&version)
		switch {
		case err != nil:
			return err
		case version > schemaVersion:
			return ErrNewer
		case version == schemaVersion:
			return nil
		}
		_, err = tx.ExecContext(ctx, schema+fmt.Sprintf("; PRAGMA user_version = %d", schemaVersion))
		return err
	})
}

// transact commits what work does, or leaves nothing of it.
func transact(ctx context.Context, db *sql.DB, work func(tx *sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing, once committed
	if err := work(tx); err != nil {
		return err
	}
	return tx.Commit()
}
