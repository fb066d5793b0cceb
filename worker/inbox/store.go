package inbox

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/evdemo/evdemo/internal/sqlitefile"
	"github.com/evdemo/evdemo/worker"
)

const (
	// DefaultLease is how long a silent owner's claims are respected.
	DefaultLease = 15 * time.Second
	// DefaultRetention is how long handled events are remembered.
	DefaultRetention = 30 * 24 * time.Hour
	// DefaultBusyTimeout is how long a write waits for other programs.
	DefaultBusyTimeout = 5 * time.Second
	// MinLease is the shortest lease.
	MinLease = 100 * time.Millisecond

	// recentEntries is how many handled events are known without asking the file.
	recentEntries = 10_000
)

// Config says where the store is and how it keeps. Path is needed; everything else has a useful zero
// value.
type Config struct {
	// Path is the file. It is made where it does not exist, in a folder that does.
	Path string
	// Retention is how long an event is remembered after it was handled; one that is delivered again
	// later is handled again. Older records are removed in the background. Default 30 days.
	Retention time.Duration
	// Lease is how long a process that shows no life is taken to be alive, as by others that wait for
	// the outcome of its attempts. Then they take over: at the latest after its lease and two thirds of
	// their own. A process renews its lease every third of it. One that was stopped for longer and
	// goes on may be working on an event at the same time as another; what they do by Transact takes
	// effect once all the same. Default 15 s, at least 100 ms.
	Lease time.Duration
	// BusyTimeout is how long a write waits for another program that holds the file's write lock.
	// Default 5 s.
	BusyTimeout time.Duration
	// RelaxedSync commits without waiting for the disk (PRAGMA synchronous=NORMAL). A crash of the
	// process loses nothing then, but a crash of the machine may lose the effects and records of the
	// last moments, for events that have been acknowledged. Default: wait (FULL).
	RelaxedSync bool
	// Logger receives what goes wrong in the background. Default: nothing is logged.
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	c.Retention = cmp.Or(c.Retention, DefaultRetention)
	c.Lease = cmp.Or(c.Lease, DefaultLease)
	c.BusyTimeout = cmp.Or(c.BusyTimeout, DefaultBusyTimeout)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	var errs []error
	if c.Path == "" {
		errs = append(errs, errors.New("no path"))
	}
	if c.Retention < 0 {
		errs = append(errs, fmt.Errorf("retention %v is negative", c.Retention))
	}
	if c.Lease < MinLease {
		errs = append(errs, fmt.Errorf("lease %v is less than %v", c.Lease, MinLease))
	}
	if c.BusyTimeout < time.Millisecond {
		errs = append(errs, fmt.Errorf("busy timeout %v is less than 1ms", c.BusyTimeout))
	}
	return c, errors.Join(errs...)
}

// Store is a worker.DedupStore on an SQLite file. It may be used from several goroutines. Make it with
// Open, and close it after the workers that use it have ended.
type Store struct {
	config Config
	db     *sql.DB
	writer *writer
	recent *worker.MemoryStore // one attempt at a time in this process; and what it has handled of late

	mu       sync.Mutex
	closed   bool
	attempts int                  // calls of Once under way
	looked   map[string]time.Time // when groups' gates were last looked through
	closeErr error
	ended    chan struct{}
}

// Open opens the store, and makes it where there is none. ctx bounds the opening only.
//
// The error says what is wrong with the file where something is. It wraps [ErrSchema] where a newer
// version of this package has made it.
func Open(ctx context.Context, config Config) (*Store, error) {
	config, err := config.withDefaults()
	if err == nil {
		err = checkPath(config.Path)
	}
	if err != nil {
		return nil, fmt.Errorf("open inbox %s: %w", config.Path, err)
	}
	s := &Store{
		config: config, ended: make(chan struct{}),
		recent: worker.NewMemoryStore(worker.MemoryConfig{
			MaxEntries: recentEntries, TTL: min(config.Retention, worker.DefaultMemoryTTL),
		}),
	}
	if s.db, err = openDB(config); err == nil {
		s.writer, err = startWriter(ctx, s.db, config)
	}
	if err != nil {
		if s.db != nil {
			_ = s.db.Close()
		}
		return nil, fmt.Errorf("open inbox %s: %w", config.Path, sqlitefile.Explain(err))
	}
	return s, nil
}

// checkPath finds what SQLite would report as "unable to open".
func checkPath(path string) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return errors.New("is a directory")
	case err == nil && !info.Mode().IsRegular():
		return errors.New("is no regular file")
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	_, err = os.Stat(filepath.Dir(path))
	return err
}

// openDB makes the pool of connections. Transactions take the write lock when they begin.
func openDB(config Config) (*sql.DB, error) {
	path, err := filepath.Abs(config.Path)
	if err != nil {
		return nil, err
	}
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") { // C:/...
		path = "/" + path
	}
	synchronous := "FULL"
	if config.RelaxedSync {
		synchronous = "NORMAL"
	}
	query := url.Values{"_txlock": {"immediate"}, "_pragma": {
		fmt.Sprintf("busy_timeout(%d)", config.BusyTimeout.Milliseconds()),
		fmt.Sprintf("synchronous(%s)", synchronous),
	}}
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}
	return sql.Open("sqlite", dsn.String())
}

// DB gives the pool of connections to the file, for making the application's own tables and for reading.
// Its transactions take the file's write lock when they begin, and the store waits for them: keep them
// short. It is closed with the store.
func (s *Store) DB() *sql.DB { return s.db }

// Close finishes what the store has accepted to write, and closes the file. What comes later fails with
// ErrClosed, the records of attempts still under way included: they are left to the next process, which
// waits for the lease to run out first. Close waits for a function in Transact to return. Only the
// first call does anything; the others wait for it and return the same.
func (s *Store) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	if !first {
		<-s.ended
		return s.closeErr
	}
	defer close(s.ended)
	s.writer.close(s.idle)
	if err := s.db.Close(); err != nil {
		s.closeErr = fmt.Errorf("close inbox %s: %w", s.config.Path, err)
	}
	return s.closeErr
}

// enter counts a call of Once in.
func (s *Store) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.attempts++
	return nil
}

func (s *Store) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts--
}

// idle tells whether no attempt is under way.
func (s *Store) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attempts == 0
}
