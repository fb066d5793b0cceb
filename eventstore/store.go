package eventstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/evdemo/evdemo/event"
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
	// URL may set: ?search_path=shop.
	DB string
	// Existing refuses to make a file or tables where there is no store.
	Existing bool
	// Unsynced trades the last commits for speed: after a power failure, not after a crash of the process, some of
	// the last appends may be missing, though never one without all that follow it. SQLite: synchronous=NORMAL;
	// PostgreSQL: synchronous_commit=off.
	Unsynced bool
	// Upcast brings an event that was read to the version that the reader understands: the Upcast of a
	// schema.Reader, for one. The log stays as it is. Nil leaves events as they are.
	Upcast func(event.Event) (event.Event, error)
	// BusyTimeout is how long another program may keep an SQLite file locked. Default 5 s.
	BusyTimeout time.Duration
	// RetryFor is how long an append or a read is tried again while a PostgreSQL server cannot be reached.
	// Default 30 s; negative means not at all.
	RetryFor time.Duration
	// MaxConns is how many connections to PostgreSQL there are at most for reads and transactions, and how many
	// connections to an SQLite file read at a time. Default 8. Appending and listening have one more each.
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
	orDefault(&c.Poll, poll)
	orDefault(&c.BusyTimeout, DefaultBusyTimeout)
	orDefault(&c.RetryFor, DefaultRetryFor)
	orDefault(&c.MaxConns, DefaultMaxConns)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, errors.Join(mistakes...)
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func isPostgres(db string) bool {
	return strings.HasPrefix(db, "postgres://") || strings.HasPrefix(db, "postgresql://")
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
	// reads and writes are the connections for reading, and for transactions that write.
	reads() *sql.DB
	writes() *sql.DB
	// listen calls changed whenever somebody has appended, until ctx ends. It returns at once where nobody
	// tells.
	listen(ctx context.Context, changed func())
	// transient tells whether the same may work a little later.
	transient(err error) bool
	// explain puts what the database reports into words that say what to do.
	explain(err error) error
	// check looks for damage below the tables, and calls found with it.
	check(ctx context.Context, found func(string)) error
	close() error
}

// Store is an event store. All its methods may be called from several goroutines.
type Store struct {
	config   Config
	database database
	writer   *writer
	signal   *signal

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
// wait for it. Close it never: [Store.Close] does, after the transactions that are open.
func (s *Store) DB() *sql.DB { return s.database.writes() }

// Location is a Config.DB to be shown to people: without a password.
func Location(db string) string {
	if !isPostgres(db) {
		return db
	}
	return withoutPassword(db)
}

// transact runs fn in a transaction that writes.
func (s *Store) transact(ctx context.Context, fn func(tx *sql.Tx) error) error {
	tx, err := s.database.writes().BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing, once committed
	if err := fn(tx); err != nil {
		return orEnded(ctx, err)
	}
	return orEnded(ctx, tx.Commit())
}

// orEnded gives ctx's error where its end is why a transaction is gone: database/sql rolls that back at once, and
// then speaks of a transaction that has ended.
func orEnded(ctx context.Context, err error) error {
	if errors.Is(err, sql.ErrTxDone) && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// transactAgain runs fn in a transaction that writes, and again while a PostgreSQL server is away. Where that went away
// in a commit fn may have been committed before.
func (s *Store) transactAgain(ctx context.Context, fn func(tx *sql.Tx) error) error {
	return retry(ctx, s.database, s.config.RetryFor, func() error { return s.transact(ctx, fn) })
}
