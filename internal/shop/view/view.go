package view

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/pglink"
	"github.com/evdemo/evdemo/internal/sqlitefile"
)

// DefaultMaxWaiting is how many may wait at a time.
const DefaultMaxWaiting = 1000

const (
	maxReaders = 8
	// readLimit is how long a read may take.
	readLimit = 5 * time.Second
	// busyTimeout is how long a read waits for SQLite, which makes readers wait only while it recovers its log.
	busyTimeout = 5 * time.Second
)

// Config says where the view is. Store and DB are required.
type Config struct {
	// Store is the event store, and DB the Config.DB that it was opened with. What is read of an SQLite file goes through
	// connections of the view's own, since the store has one for everything that is written.
	Store *eventstore.Store
	DB    string
	// MaxWaiting is how many may wait at a time. Default 1,000.
	MaxWaiting int
	// Lease is how long a process that keeps the view may be silent before another takes over. Default 10 s.
	Lease time.Duration
	// Logger is told of events that could not be used, and of a database that is away. Default: nothing is logged.
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	var mistakes []error
	if c.Store == nil {
		mistakes = append(mistakes, errors.New("view: Config.Store is nil"))
	}
	if c.DB == "" {
		mistakes = append(mistakes, errors.New("view: Config.DB is empty"))
	}
	if c.MaxWaiting < 0 || c.Lease < 0 {
		mistakes = append(mistakes, errors.New("view: Config.MaxWaiting and Lease cannot be negative"))
	}
	c.MaxWaiting = cmp.Or(c.MaxWaiting, DefaultMaxWaiting)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, errors.Join(mistakes...)
}

// Orders is the view. All its methods may be called from several goroutines.
type Orders struct {
	config Config
	reads  *sql.DB
	local  *sql.DB // reads, where it is the view's own: on SQLite
	waiting
}

// Open opens the view, and makes its table where there is none. Nothing is put into it before [Orders.Run].
func Open(ctx context.Context, config Config) (*Orders, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	o := &Orders{config: config, waiting: newWaiting(config.MaxWaiting)}
	if err := o.makeTable(ctx); err != nil {
		return nil, fmt.Errorf("make the view of orders: %w", err)
	}
	if pglink.IsURL(config.DB) {
		o.reads = config.Store.DB()
		return o, nil
	}
	path := filepath.ToSlash(filepath.Clean(config.DB)) // a path that begins with // would be a host
	pragmas := url.Values{"mode": {"rw"}, "_pragma": {fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()), "query_only(1)"}}
	dsn := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: pragmas.Encode()}).String()
	if o.local, err = sql.Open("sqlite", dsn); err != nil {
		return nil, err
	}
	o.local.SetMaxOpenConns(maxReaders)
	o.local.SetMaxIdleConns(maxReaders)
	o.reads = o.local
	return o, nil
}

// makeTable tries more than once: of programs that make the same table at a time PostgreSQL has one fail.
func (o *Orders) makeTable(ctx context.Context) error {
	var err error
	for range 3 {
		if _, err = o.config.Store.DB().ExecContext(ctx, makeTable); err == nil {
			return nil
		}
	}
	return err
}

// Close closes the view's connections. The store is its owner's to close, later.
func (o *Orders) Close() error {
	if o.local == nil {
		return nil
	}
	return o.local.Close()
}

// Run keeps the view until ctx ends, and returns ctx's error then. Of several processes one does the work at a time. While
// the database is away Run waits and tries again, however long that takes; any other trouble ends it.
func (o *Orders) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return o.project(ctx) })
	group.Go(func() error { return o.watch(ctx) })
	return group.Wait()
}

func (o *Orders) project(ctx context.Context) error {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = 100*time.Millisecond, 10*time.Second
	for {
		began := time.Now()
		err := o.config.Store.Project(ctx, o.projection())
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !Away(err) {
			return err
		}
		if time.Since(began) > time.Minute {
			pauses.Reset()
		}
		o.config.Logger.WarnContext(ctx, "view of orders: the database is away, so it stands still", slog.Any("error", err))
		select {
		case <-time.After(pauses.NextBackOff()):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Away tells whether an error of the store says that the database is away for now: it cannot be reached, is locked, or
// has no room left.
func Away(err error) bool {
	if errors.Is(err, eventstore.ErrUnavailable) || errors.Is(err, eventstore.ErrLocked) {
		return true
	}
	switch sqlitefile.Code(err) {
	case sqlitefile.Busy, sqlitefile.Locked, sqlitefile.Full, sqlitefile.IOErr:
		return true
	default:
		return false
	}
}

// Found is an order as the view has it.
type Found struct {
	// Version is [Order].Version: of the same order, with the same version, State is the same.
	Version int64
	// State is the [Order] as JSON.
	State []byte
}

// Get gives an order as far as the view has seen the log. Its error is [ErrUnknown], or trouble with the database.
func (o *Orders) Get(ctx context.Context, id string) (Found, error) {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	var f Found
	err := o.reads.QueryRowContext(ctx, selectOrder, id).Scan(&f.Version, &f.State)
	if errors.Is(err, sql.ErrNoRows) {
		return Found{}, ErrUnknown
	}
	return f, err
}

// Ping looks whether the view can be read.
func (o *Orders) Ping(ctx context.Context) error {
	_, err := o.Get(ctx, "")
	if errors.Is(err, ErrUnknown) {
		return nil
	}
	return err
}
