package eventstore

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/evdemo/evdemo/internal/sqlitefile"
)

// lockSQLite takes the write lock, where the transaction has not got it yet, and changes nothing.
const lockSQLite statement = `UPDATE evdemo_store_checkpoints SET position = position WHERE name = ''`

// sqliteDB is a store in an SQLite file: one connection writes, several read.
type sqliteDB struct {
	readers, writer *sql.DB
	prepared        map[statement]*sql.Stmt
	queries         queries
	now             func() time.Time
}

// queries keeps prepared what is read again and again: short streams take less time to read than their statement to compile.
type queries struct {
	mu       sync.Mutex
	prepared map[string]*sql.Stmt
}

// keptQueries is how many are kept: there are few shapes of queries.
const keptQueries = 64

// get gives a prepared statement, or nil where enough others are kept.
func (q *queries) get(ctx context.Context, db *sql.DB, text string) (*sql.Stmt, error) {
	q.mu.Lock()
	stmt, full := q.prepared[text], len(q.prepared) >= keptQueries
	q.mu.Unlock()
	if stmt != nil || full {
		return stmt, nil
	}
	stmt, err := db.PrepareContext(ctx, text) // which may wait for a connection
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if other := q.prepared[text]; other != nil {
		return other, stmt.Close()
	}
	if q.prepared == nil {
		q.prepared = map[string]*sql.Stmt{}
	}
	q.prepared[text] = stmt
	return stmt, nil
}

func (q *queries) close() (err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, stmt := range q.prepared {
		err = errors.Join(err, stmt.Close())
	}
	return err
}

// query implements database.
func (d *sqliteDB) query(ctx context.Context, often bool, text string, args ...any) (*sql.Rows, error) {
	if often {
		stmt, err := d.queries.get(ctx, d.readers, text)
		if err != nil {
			return nil, err
		}
		if stmt != nil {
			return stmt.QueryContext(ctx, args...)
		}
	}
	return d.readers.QueryContext(ctx, text, args...)
}

func openSQLite(ctx context.Context, config Config) (*sqliteDB, error) {
	if config.Existing {
		if err := existingFile(config.DB); err != nil {
			return nil, err
		}
	}
	d := &sqliteDB{now: time.Now}
	err := d.open(ctx, config)
	if err != nil {
		_ = d.close()
		return nil, d.explain(err)
	}
	return d, nil
}

func existingFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: the file does not exist", ErrNoStore)
	case err != nil:
		return err
	case info.IsDir():
		return errors.New("that is a folder")
	default:
		return nil
	}
}

func (d *sqliteDB) open(ctx context.Context, config Config) (err error) {
	synchronous := "FULL"
	if config.Unsynced {
		synchronous = "NORMAL"
	}
	mode := "rwc"
	if config.Existing {
		mode = "rw"
	}
	pragmas := url.Values{"mode": {mode}, "_pragma": {
		fmt.Sprintf("busy_timeout(%d)", config.BusyTimeout.Milliseconds()), "synchronous(" + synchronous + ")", "cache_size(-16384)",
		"wal_autocheckpoint(4000)", // pages: what is written again and again is copied less often
	}}
	path := filepath.ToSlash(filepath.Clean(config.DB)) // a path that begins with // would be a host
	dsn := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: pragmas.Encode()}).String()
	if d.readers, err = sql.Open("sqlite", dsn+"&_pragma=query_only(1)"); err != nil {
		return err
	}
	d.readers.SetMaxOpenConns(cmp.Or(config.MaxConns, DefaultMaxConns))
	d.readers.SetMaxIdleConns(cmp.Or(config.MaxConns, DefaultMaxConns))
	if d.writer, err = sql.Open("sqlite", dsn+"&_txlock=immediate"); err != nil {
		return err
	}
	d.writer.SetMaxOpenConns(1)
	if err := d.prepareFile(ctx, config); err != nil {
		return err
	}
	return d.prepare(ctx)
}

// prepareFile makes the tables and the write-ahead log. SQLite does not wait for a lock while it changes to that log,
// and of programs that make the same tables one fails, so what fails is looked at again for a while.
func (d *sqliteDB) prepareFile(ctx context.Context, config Config) error {
	began := time.Now()
	for attempt := 1; ; attempt++ {
		err := d.tryPrepareFile(ctx, config)
		if err == nil || errors.Is(err, ErrNoStore) || errors.Is(err, ErrSchema) {
			return err
		}
		limit := time.Duration(0)
		switch sqlitefile.Code(err) {
		case sqlitefile.Busy:
			limit = config.BusyTimeout
		case sqlitefile.Error, sqlitefile.Constraint:
			limit = min(config.BusyTimeout, time.Second)
			if attempt < 5 { // one may take long where others do the same
				limit = config.BusyTimeout
			}
		}
		if time.Since(began) >= limit {
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

func (d *sqliteDB) tryPrepareFile(ctx context.Context, config Config) error {
	if config.Existing {
		var tables int
		const count = `SELECT count(*) FROM sqlite_schema WHERE name = 'evdemo_store_events'`
		if err := d.writer.QueryRowContext(ctx, count).Scan(&tables); err != nil {
			return err
		}
		if tables == 0 {
			return fmt.Errorf("%w in that file", ErrNoStore)
		}
	}
	if err := sqlitefile.WriteAheadLog(ctx, d.writer); err != nil {
		return err
	}
	return migrationsOf(goose.DialectSQLite3, "migrations/sqlite").Up(ctx, d.writer)
}

func (d *sqliteDB) prepare(ctx context.Context) (err error) {
	d.prepared = map[statement]*sql.Stmt{}
	for _, s := range []statement{
		selectHead, selectVersion, insertEvent, selectEvent, setSavepoint, undoSavepoint, releaseSavepoint,
	} {
		if d.prepared[s], err = d.writer.PrepareContext(ctx, string(s)); err != nil {
			return err
		}
	}
	return nil
}

func (d *sqliteDB) appendGroup(ctx context.Context, group []*appending) (begun bool, err error) {
	tx, err := d.writer.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback() }() // nothing, once committed
	// Nothing here waits for long; and the driver has a goroutine for every statement that could be ended.
	lasting := context.WithoutCancel(ctx)
	if err := appendAll(lasting, d, preparedRunner{tx, d.prepared, map[statement]*sql.Stmt{}}, group); err != nil {
		return false, err
	}
	err = tx.Commit()
	return sqlitefile.Code(err) == sqlitefile.IOErr, err
}

// lock implements database. What does not change anything takes the write lock all the same.
func (d *sqliteDB) lock(ctx context.Context, q runner) (h head, err error) {
	if _, ours := q.(preparedRunner); !ours { // the writer's transactions begin with it
		if err := q.exec(ctx, lockSQLite); err != nil {
			return head{}, err
		}
	}
	err = q.row(ctx, selectHead).Scan(&h.position, &h.recordedAt)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	h.recordedAt = max(h.recordedAt, d.now().UnixMicro())
	return h, err
}

func (d *sqliteDB) appended(context.Context, runner) error { return nil }

func (d *sqliteDB) reads() *sql.DB        { return d.readers }
func (d *sqliteDB) writes() *sql.DB       { return d.writer }
func (d *sqliteDB) applications() *sql.DB { return d.writer }

func (d *sqliteDB) options() *sql.TxOptions { return nil }

func (d *sqliteDB) listen(context.Context, func()) {}

func (d *sqliteDB) insertAll(ctx context.Context, tx *sql.Tx, all []placed) (n int64, err error) {
	insert := tx.StmtContext(ctx, d.prepared[insertEvent])
	for i := range all {
		p := &all[i]
		ok, err := inserted(insert.ExecContext(ctx, insertArgs(p.position, p.stream, p.version, p.recordedAt, &p.row)...))
		if err != nil {
			return n, err
		}
		if ok {
			n++
		}
	}
	return n, nil
}

// refused implements database: what is too large for SQLite, or for the disk, need not keep others out.
func (d *sqliteDB) refused(err error) bool {
	code := sqlitefile.Code(err)
	return code == sqlitefile.TooBig || code == sqlitefile.Full || code == sqlitefile.Constraint
}

func (d *sqliteDB) transient(error) bool { return false } // the busy timeout is the time for that

func (d *sqliteDB) check(ctx context.Context) (problems []string, err error) {
	rows, err := d.readers.QueryContext(ctx, `PRAGMA integrity_check`) // a hundred lines at most
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return problems, err
		}
		if line != "ok" {
			problems = append(problems, "SQLite: "+line)
		}
	}
	return problems, rows.Err()
}

// copyInto copies the file, as it is at one moment, into a new one.
func (d *sqliteDB) copyInto(ctx context.Context, path string) error {
	conn, err := d.readers.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Raw(func(any) error { return driver.ErrBadConn }) }() // it is not to be read with any more
	if _, err := conn.ExecContext(ctx, `PRAGMA query_only(0)`); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, `VACUUM INTO $1`, path)
	return err
}

func (d *sqliteDB) close() error {
	errs := []error{d.queries.close()}
	for _, stmt := range d.prepared {
		errs = append(errs, stmt.Close())
	}
	for _, db := range []*sql.DB{d.readers, d.writer} { // the last one writes the log back into the file
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

func (d *sqliteDB) explain(err error) error {
	switch sqlitefile.Code(err) {
	case sqlitefile.Busy, sqlitefile.Locked:
		return fmt.Errorf("%w: %w", ErrLocked, err)
	case sqlitefile.Full:
		return fmt.Errorf("disk full, and nothing of this was written: %w", err)
	default:
		return closedOr(sqlitefile.Explain(err))
	}
}

// closedOr recognises the use of a closed store.
func closedOr(err error) error {
	if err != nil && (err.Error() == "sql: database is closed" || err.Error() == "sql: statement is closed" || err.Error() == "closed pool") {
		return ErrClosed
	}
	return err
}
