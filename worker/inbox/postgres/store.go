package postgres

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox/internal/attempt"
)

const (
	// DefaultRetention is how long handled events are remembered.
	DefaultRetention = 30 * 24 * time.Hour
	// DefaultMaxConns is how many functions of Transact run at a time.
	DefaultMaxConns = 8
	// DefaultTimeout is how long the server may take to answer.
	DefaultTimeout = 15 * time.Second

	maxMaxConns = 1000
	minTimeout  = 10 * time.Millisecond
	// ownConns is how many connections the store has for what it writes itself.
	ownConns = 4
	// recentEntries is how many handled events are known without asking the server.
	recentEntries = 10_000
)

// Config says where the store is and how it keeps. URL is needed; everything else has a useful zero value.
type Config struct {
	// URL names the database, which exists: postgres://user:password@host:5432/database, with the parameters
	// that libpq knows. The user may create tables there, at least the first time. With several hosts the one
	// that is the primary is used. A pooler in front must give each client a session of its own (PgBouncer:
	// pool_mode = session).
	URL string
	// Retention is how long an event is remembered after it was handled, by the server's clock; one that is
	// delivered again later is handled again. Older records are removed in the background. Default 30 days.
	Retention time.Duration
	// MaxConns is how many functions of inbox.Transact run at a time, each on a connection of its own; more of
	// them wait. Handlers that are not in Transact need none. The store has up to five connections beside these.
	// Default 8, at most 1000.
	MaxConns int
	// Timeout is how long the server may take to answer. Default 15 s, at least 10 ms.
	Timeout time.Duration
	// Logger receives what goes wrong in the background. Default: nothing is logged.
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	c.Retention = cmp.Or(c.Retention, DefaultRetention)
	c.MaxConns = cmp.Or(c.MaxConns, DefaultMaxConns)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	var errs []error
	if c.URL == "" {
		errs = append(errs, errors.New("no URL"))
	}
	if c.Retention < 0 {
		errs = append(errs, fmt.Errorf("retention %v is negative", c.Retention))
	}
	if c.MaxConns < 0 || c.MaxConns > maxMaxConns {
		errs = append(errs, fmt.Errorf("%d connections: want 1 to %d", c.MaxConns, maxMaxConns))
	}
	if c.Timeout < minTimeout {
		errs = append(errs, fmt.Errorf("timeout %v is less than %v", c.Timeout, minTimeout))
	}
	return c, errors.Join(errs...)
}

// Store is a worker.DedupStore and a worker.GateStore in a PostgreSQL database. It may be used from several
// goroutines. Make it with Open, and close it after the workers that use it have ended.
type Store struct {
	config Config
	place  string
	recent *worker.MemoryStore // one attempt at a time in this process; and what it has handled of late
	keeper *keeper
	writer *recorder

	own       *pgxpool.Pool // for what the store writes itself: it never waits for a function
	functions *pgxpool.Pool // for Transact
	db        *sql.DB       // functions, as package sql has it

	mu       sync.Mutex
	closed   bool
	looked   map[string]time.Time // when groups' gates were last looked through
	accepted sync.WaitGroup       // what Close waits for
	pruner   sync.WaitGroup
	again    string        // what a transaction begins with
	closing  chan struct{} // closed when Close begins
	ended    chan struct{} // and when it has ended
}

// Open opens the store, and makes its tables where there are none. ctx bounds the opening only.
//
// The error says what is wrong where something is, and never shows a password. It wraps inbox.ErrSchema where a
// newer version of this package has made the tables, and [ErrUnavailable] where the database cannot be reached.
func Open(ctx context.Context, config Config) (*Store, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("open inbox: %w", err)
	}
	base, err := parse(config)
	if err != nil {
		return nil, fmt.Errorf("open inbox: %w", err)
	}
	s := &Store{
		config: config, place: place(base.ConnConfig), closing: make(chan struct{}), ended: make(chan struct{}),
		looked: map[string]time.Time{},
		recent: worker.NewMemoryStore(worker.MemoryConfig{
			MaxEntries: recentEntries, TTL: min(config.Retention, worker.DefaultMemoryTTL),
		}),
	}
	if s.again, err = pin(ctx, base.ConnConfig); err != nil {
		return nil, fmt.Errorf("open inbox %s: %w", s.place, unavailable(explain(err)))
	}
	if err := bringUp(ctx, base.ConnConfig); err != nil {
		return nil, fmt.Errorf("open inbox %s: %w", s.place, unavailable(explain(err)))
	}
	if err := s.start(ctx, base); err != nil {
		return nil, fmt.Errorf("open inbox %s: %w", s.place, explain(err))
	}
	return s, nil
}

// start makes the pools and starts the goroutines, which Close ends.
func (s *Store) start(ctx context.Context, base *pgxpool.Config) (err error) {
	if s.own, err = openPool(ctx, base, ownConns, nil); err != nil {
		return err
	}
	// A function that has ended its transaction and goes on would have its statements committed one by one:
	// outside of a transaction nothing can be written.
	readOnly := map[string]string{"default_transaction_read_only": "on"}
	if s.functions, err = openPool(ctx, base, s.config.MaxConns, readOnly); err != nil {
		s.own.Close()
		return err
	}
	s.db = stdlib.OpenDBFromPool(s.functions)
	ctx = context.WithoutCancel(ctx)
	s.keeper = startKeeper(ctx, base.ConnConfig, s.config)
	s.writer = startRecorder(ctx, s)
	s.pruner.Go(func() { s.prune(ctx) })
	return nil
}

// Close finishes what the store has accepted to write, and closes its connections. What comes later fails with
// inbox.ErrClosed, the records of attempts still under way included: other processes may begin with their events
// at once. Close waits for a function in Transact to return. Only the first call does anything; the others
// wait for it and return the same, which is nil.
func (s *Store) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	if !first {
		<-s.ended
		return nil
	}
	defer close(s.ended)
	close(s.closing)
	s.accepted.Wait()
	s.writer.close()
	s.keeper.close()
	s.pruner.Wait()
	_ = s.db.Close()
	s.functions.Close()
	s.own.Close()
	return nil
}

// enter counts in something that Close waits for.
func (s *Store) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return attempt.ErrClosed
	}
	s.accepted.Add(1)
	return nil
}

func (s *Store) leave() { s.accepted.Done() }

// over tells whether nobody waits any longer for what was accepted.
func (s *Store) over(ctx context.Context) bool {
	return ctx.Err() != nil || s.isClosing()
}

func (s *Store) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// How long the pauses are between attempts to reach the server.
const (
	firstPause   = 10 * time.Millisecond
	longestPause = 5 * time.Second
)

// insist does something until the database has done it: for as long as ctx lives and the store is open, and at least
// for a while in any case.
func (s *Store) insist(ctx context.Context, atLeast time.Duration, what string, do func(context.Context) error) error {
	began := time.Now()
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := s.bounded(ctx, do)
		if err == nil || s.over(ctx) && time.Since(began) >= atLeast {
			return err
		}
		s.config.Logger.Warn("inbox: the database fails; asking it again", slog.String("database", s.place),
			slog.String("for", what), slog.Duration("in", pause), slog.Any("error", err))
		s.pause(ctx, pause, atLeast-time.Since(began))
	}
}

// bounded does something within the time that the server has, whether or not ctx ends meanwhile.
func (s *Store) bounded(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.Timeout)
	defer cancel()
	return explain(do(ctx))
}

// pause waits, no longer than is left where nobody waits any longer.
func (s *Store) pause(ctx context.Context, pause, left time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	if s.over(ctx) {
		timer.Reset(max(min(pause, left), 0))
		<-timer.C
		return
	}
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-s.closing:
	}
}
