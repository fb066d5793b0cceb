package eventstore

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/turns"
)

// Defaults of [Config].
const (
	DefaultBusyTimeout  = 5 * time.Second
	DefaultRetryFor     = 30 * time.Second
	DefaultMaxConns     = 8
	DefaultPollSQLite   = 25 * time.Millisecond
	DefaultPollPostgres = time.Second
)

// Config says where a store is and how it is used. DB is required.
type Config struct {
	// DB is the path of an SQLite file, which must be on a local disk, or the URL of a PostgreSQL database:
	// postgres://user@host/name. On PostgreSQL the tables are in the first schema of the search path, which the
	// URL may set: ?search_path=shop. Only a primary is used, unless the URL sets target_session_attrs; a pooler in between
	// must keep a server's connection for each client's, as PgBouncer does in session mode.
	DB string
	// Existing refuses to make a file or tables where there is no store.
	Existing bool
	// Unsynced trades the last commits for speed: after a power failure, not after a crash of the process, some of
	// the last appends may be missing, though never one without all that follow it. SQLite: synchronous=NORMAL;
	// PostgreSQL: synchronous_commit=off. Those who had read them then find that the log is another: [ErrRewound].
	Unsynced bool
	// Upcast brings an event that was read to the version that the reader understands: the Upcast of a
	// schema.Reader, for one. The log stays as it is. Nil leaves events as they are.
	Upcast func(event.Event) (event.Event, error)
	// BusyTimeout is how long another program may keep an SQLite file locked. Default 5 s.
	BusyTimeout time.Duration
	// RetryFor is how long an append or a read is tried again while a PostgreSQL server cannot be reached.
	// Default 30 s; negative means not at all.
	RetryFor time.Duration
	// MaxConns is how many connections read at a time. Default 8. On PostgreSQL as many again are for the transactions of
	// [Store.DB], and for the store's own; appending and listening have one each. They are made when they are needed.
	MaxConns int
	// Poll is how often a follower looks for what it was not notified of. Default 25 ms on SQLite, where only
	// appends by the same Store notify, and 1 s on PostgreSQL, where every append does.
	Poll time.Duration
	// Logger is told what nobody is returned: a snapshot that could not be written. Default: nothing is logged.
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	var mistakes []error
	if c.DB == "" {
		mistakes = append(mistakes, errors.New("Config.DB is empty: give the path of an SQLite file or a postgres:// URL"))
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"BusyTimeout", c.BusyTimeout}, {"Poll", c.Poll}} {
		if d.value < 0 {
			mistakes = append(mistakes, fmt.Errorf("a negative Config.%s: %s", d.name, d.value))
		}
	}
	if c.MaxConns < 0 {
		mistakes = append(mistakes, fmt.Errorf("a negative Config.MaxConns: %d", c.MaxConns))
	}
	poll := DefaultPollSQLite
	if isPostgres(c.DB) {
		poll = DefaultPollPostgres
	}
	c.Poll = cmp.Or(c.Poll, poll)
	c.BusyTimeout = cmp.Or(c.BusyTimeout, DefaultBusyTimeout)
	c.RetryFor = cmp.Or(c.RetryFor, DefaultRetryFor)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, errors.Join(mistakes...)
}

func isPostgres(db string) bool {
	scheme := schemeOf(db)
	return scheme == "postgres" || scheme == "postgresql"
}

// checkLocation refuses what is neither a URL for PostgreSQL nor a path, and never shows it.
func checkLocation(db string) error {
	switch scheme := schemeOf(db); {
	case isPostgres(db):
		return nil
	case scheme != "":
		return fmt.Errorf("%w: %s:// is not known: write postgres://user@host:5432/database, or the path of an SQLite file", ErrURL, scheme)
	case isConnString(db):
		return fmt.Errorf("%w: write postgres://user@host:5432/database, or the path of an SQLite file", ErrURL)
	case db == ":memory:":
		return errors.New("a store is a file on a disk, and cannot be in memory")
	default:
		return nil
	}
}

// isConnString tells whether it is meant for a driver, and no path.
func isConnString(db string) bool {
	first, _, _ := strings.Cut(filepath.ToSlash(db), "/")
	user, _, login := strings.Cut(first, "@")
	return strings.HasPrefix(db, "file:") || login && strings.Contains(user, ":") || strings.Contains(first, "host=") || strings.Contains(first, "dbname=")
}

// schemeOf is the scheme of a URL, and nothing for a path.
func schemeOf(db string) string {
	scheme, _, isURL := strings.Cut(db, "://")
	if !isURL || scheme == "" || strings.ContainsFunc(scheme, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.", r)
	}) {
		return ""
	}
	return strings.ToLower(scheme)
}

// database is what the two databases do differently.
type database interface {
	// appendGroup makes appends in one transaction. The error is trouble with the database; begun tells
	// whether the transaction may have been committed all the same.
	appendGroup(ctx context.Context, group []*appending) (begun bool, err error)
	// lock keeps every other append from beginning until the transaction has ended, and gives the end of the log, with the
	// time that an event appended now has.
	lock(ctx context.Context, q runner) (head, error)
	// appended has listeners notified when the transaction is committed.
	appended(ctx context.Context, q runner) error
	// reads, writes and applications are the connections for reading, for the store's own transactions, and for those
	// of the application.
	reads() *sql.DB
	writes() *sql.DB
	applications() *sql.DB
	// query reads from the log. Often says that the same text will be read again and again.
	query(ctx context.Context, often bool, text string, args ...any) (*sql.Rows, error)
	// options are those of the store's own transactions.
	options() *sql.TxOptions
	// listen calls changed whenever somebody has appended, until ctx ends. It returns at once where nobody
	// tells.
	listen(ctx context.Context, changed func())
	// refused tells whether the fault may be that of one append among several.
	refused(err error) bool
	// transient tells whether the same may work a little later.
	transient(err error) bool
	// explain puts what the database reports into words that say what to do.
	explain(err error) error
	// insertAll puts events of another store to their places. Fewer are inserted where some are there.
	insertAll(ctx context.Context, tx *sql.Tx, all []placed) (inserted int64, err error)
	// check looks for damage below the tables.
	check(ctx context.Context) (problems []string, err error)
	close() error
}

// Store is an event store. All its methods may be called from several goroutines.
type Store struct {
	config   Config
	database database
	writer   *writer
	signal   *signal
	turns    turns.Turns

	closeOnce sync.Once
	closeErr  error
}

// Open opens a store, and makes the file and the tables where there are none. A store made by a newer version of
// this package is refused with [ErrSchema], one made by an older is brought up.
func Open(ctx context.Context, config Config) (*Store, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{config: config}
	if err := checkLocation(config.DB); err != nil {
		return nil, fmt.Errorf("open event store: %w", err)
	}
	if isPostgres(config.DB) {
		s.database, err = openPostgres(ctx, config)
	} else {
		s.database, err = openSQLite(ctx, config)
	}
	if err != nil {
		return nil, fmt.Errorf("open event store %s: %w", Location(config.DB), err)
	}
	s.signal = newSignal(ctx, s.database)
	s.writer = startWriter(ctx, s.database, config.RetryFor, s.signal.changed)
	return s, nil
}

// Close finishes the appends that are under way and closes the store. Appends, reads and followers fail with
// [ErrClosed] from then on.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.writer.close()
		s.signal.close()
		s.closeErr = s.database.close()
	})
	return s.closeErr
}

// DB gives the database for transactions of the application's own, [Store.AppendTx] among them. On SQLite it is one
// connection, the one that everything is written with, and its transactions begin with BEGIN IMMEDIATE: whoever holds
// one must not call what writes by itself, [Store.Append], [Load] with snapshots or a [Lease]'s SaveNow, which would
// wait for it. On PostgreSQL it finds the store's tables first, whatever the search path. Never close it: [Store.Close]
// does, which on PostgreSQL waits up to 10 s for the transactions that are open.
func (s *Store) DB() *sql.DB { return s.database.applications() }

// Location is a Config.DB to be shown to people: without a password.
func Location(db string) string {
	switch scheme := schemeOf(db); {
	case isPostgres(db):
		return withoutPassword(db)
	case scheme != "":
		return scheme + "://…"
	default:
		return db
	}
}

// transact runs fn in a transaction that writes.
func (s *Store) transact(ctx context.Context, fn func(tx *sql.Tx) error) error {
	tx, err := s.database.writes().BeginTx(ctx, s.database.options())
	if err != nil {
		return orEnded(ctx, err)
	}
	defer func() { _ = tx.Rollback() }() // nothing, once committed
	if err := fn(tx); err != nil {
		return orEnded(ctx, err)
	}
	return orEnded(ctx, tx.Commit())
}

// orEnded gives ctx's error where its end is why a transaction is gone: database/sql rolls that back at once, and
// then speaks of a transaction that has ended, or of a bad connection.
func orEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil && (errors.Is(err, sql.ErrTxDone) || errors.Is(err, driver.ErrBadConn)) {
		return ctx.Err()
	}
	return err
}

// transactAgain runs fn in a transaction that writes, and again while a PostgreSQL server is away. Where that went away
// in a commit fn may have been committed before.
func (s *Store) transactAgain(ctx context.Context, fn func(tx *sql.Tx) error) error {
	return retry(ctx, s.database, s.config.RetryFor, func() error { return s.transact(ctx, fn) })
}
