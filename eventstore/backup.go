package eventstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Backup copies the store, as it is at one moment while others go on writing, and tells how many events the copy has. The
// copy is a store again, of equal positions, versions and times, with the readers' checkpoints.
//
// target is the path of an SQLite file that does not exist yet, or the URL of a PostgreSQL database without events. A
// file appears once it is whole and durable. From file to file everything in it is copied, the application's tables
// too, and the copy has the file's permissions. Otherwise the log is, with the checkpoints of all but projections: those
// begin anew, as their tables do. A file that is copied from PostgreSQL is its owner's alone.
func (s *Store) Backup(ctx context.Context, target string) (events int64, err error) {
	if err := checkLocation(target); err != nil {
		return 0, err
	}
	if isPostgres(target) {
		return s.copyTo(ctx, target)
	}
	if _, err := os.Lstat(target); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fmt.Errorf("%s: %w", target, ErrNotEmpty)
		}
		return 0, err
	}
	folder, err := os.MkdirTemp(filepath.Dir(target), ".evdemo-backup-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(folder)
	unfinished, mode := filepath.Join(folder, "copy.db"), fs.FileMode(0o600)
	file, isFile := s.database.(*sqliteDB)
	if isFile {
		info, err := os.Stat(s.config.DB)
		if err != nil {
			return 0, err
		}
		mode = info.Mode().Perm()
	}
	if isFile {
		err = file.explain(file.copyInto(ctx, unfinished))
	} else {
		_, err = s.copyTo(ctx, unfinished)
	}
	if err != nil {
		return 0, err
	}
	if events, err = settle(ctx, unfinished); err != nil {
		return 0, err
	}
	if err := errors.Join(os.Chmod(unfinished, mode), publish(unfinished, target)); err != nil {
		return 0, err
	}
	return events, syncFolder(filepath.Dir(target))
}

// settle looks into a copy, and makes it durable and a single file.
func settle(ctx context.Context, path string) (events int64, err error) {
	copied, err := Open(ctx, Config{DB: path, Existing: true})
	if err != nil {
		return 0, err
	}
	if events, err = copied.Head(ctx); err == nil {
		err = quickCheck(ctx, copied)
	}
	if err := errors.Join(err, copied.Close()); err != nil {
		return 0, err
	}
	return events, syncFile(path)
}

// quickCheck makes sure that a copy is not that of a damaged file.
func quickCheck(ctx context.Context, copied *Store) error {
	var said string
	err := copied.database.reads().QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&said)
	if err == nil && said != "ok" {
		err = fmt.Errorf("the store is damaged, and a copy would be: %s", said)
	}
	return copied.database.explain(err)
}

// publish gives a finished file its name, and replaces nothing.
func publish(unfinished, target string) error {
	err := os.Link(unfinished, target)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // a file system without links
	if err != nil {
		return err
	}
	if err := errors.Join(f.Close(), os.Rename(unfinished, target)); err != nil {
		return errors.Join(err, os.Remove(target))
	}
	return nil
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// syncFolder makes the name of a new file durable. Windows has no such thing.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// copyTo copies the log and the checkpoints into an empty store.
func (s *Store) copyTo(ctx context.Context, target string) (events int64, err error) {
	to, err := Open(ctx, Config{DB: target, RetryFor: s.config.RetryFor})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	// The checkpoints first: none is beyond what the log has after that.
	checkpoints, err := s.allCheckpoints(ctx)
	if err != nil {
		return 0, err
	}
	end, err := s.Head(ctx)
	if err != nil {
		return 0, err
	}
	err = to.transact(ctx, func(tx *sql.Tx) error {
		there, err := to.database.lock(ctx, txRunner{tx})
		if err == nil && there.position > 0 {
			err = ErrNotEmpty
		}
		if err != nil {
			return err
		}
		if err := s.copyLog(ctx, to.database, tx, end); err != nil {
			return err
		}
		for name, c := range checkpoints {
			const insert = `INSERT INTO evdemo_store_checkpoints VALUES ($1, $2, $3)
				ON CONFLICT (name) DO UPDATE SET version = $2, position = $3`
			if _, err := tx.ExecContext(ctx, insert, name, c.Version, c.Position); err != nil {
				return err
			}
		}
		return to.database.appended(ctx, txRunner{tx})
	})
	return end, to.database.explain(err)
}

// copyLog copies the events up to a position, each to its place.
func (s *Store) copyLog(ctx context.Context, to database, tx *sql.Tx, end int64) error {
	for last := int64(0); last < end; {
		r := reading{store: s, low: last, high: end, size: fullPage}
		err := retry(ctx, s.database, s.config.RetryFor, func() error {
			_, err := r.next(ctx)
			return err
		})
		if err != nil {
			return err
		}
		if len(r.page) == 0 {
			return &DamagedError{Position: last + 1, Err: errMissing}
		}
		n, err := to.insertAll(ctx, tx, r.page)
		if err != nil {
			return err
		}
		if last = r.page[len(r.page)-1].position; n < int64(len(r.page)) {
			return &DamagedError{Position: last, Err: errors.New("it, or one of the last before it, has the id of another")}
		}
	}
	return nil
}

func (s *Store) allCheckpoints(ctx context.Context) (map[string]Checkpoint, error) {
	rows, err := s.database.reads().QueryContext(ctx, `SELECT name, version, position FROM evdemo_store_checkpoints`)
	if err != nil {
		return nil, s.database.explain(err)
	}
	defer rows.Close()
	all := map[string]Checkpoint{}
	for rows.Next() {
		var name string
		var c Checkpoint
		if err := rows.Scan(&name, &c.Version, &c.Position); err != nil {
			return nil, err
		}
		if !strings.HasPrefix(name, projectionNames) { // what those have written is not copied
			all[name] = c
		}
	}
	return all, rows.Err()
}
