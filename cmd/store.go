package cmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/pglink"
	"github.com/evdemo/evdemo/internal/sqlitefile"
	"github.com/evdemo/evdemo/topology"
)

const storeLong = `Keep events in a database, look into it, and pass them on to RabbitMQ.

An event store is a log of streams: each event has a position in the log and a version in its stream, both
counted from 1 without gaps, and is never changed or deleted.

--db, or EVDEMO_DB, says where it is: the path of an SQLite file on a local disk, or the URL of a PostgreSQL
database, postgres://user:password@host:5432/name. A password that is not in the URL comes from PGPASSWORD or
~/.pgpass, and none is ever printed. "append" makes the file and the tables where there are none, and so
does "backup" at its target; nothing else does.

While a PostgreSQL server cannot be reached, or another program has an SQLite file locked, a command tries
again for --retry-for, and then exits with 4. What it has written by then stays, whole transactions of it.

TIME is as in 2026-01-02T15:04:05Z, or how long ago, as in 1h. It means when an event was appended, not the
time that the event bears.`

func newStoreCommand(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Append to an event store, read it, and look into its history",
		Long:  storeLong,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newStoreAppendCommand(app, nil),
		newStoreReadCommand(app, nil),
		newStoreStreamsCommand(app, nil),
		newStoreStateCommand(app, nil),
		newStoreHistoryCommand(app, nil),
		newStoreVerifyCommand(app, nil),
		newStoreFollowCommand(app, nil),
		newStoreRelayCommand(app, nil),
		newStoreBackupCommand(app, nil),
	)
	return cmd
}

// storeOptions are the flags of all commands on an event store.
type storeOptions struct {
	db       string
	retryFor time.Duration
}

func (o *storeOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.db, "db", "", "event store: an SQLite file, or postgres://user@host:5432/name (required)")
	flags.DurationVar(&o.retryFor, "retry-for", eventstore.DefaultRetryFor, "how long to try again while the database cannot be reached, or is locked")
}

// addShopFlags are the same for a shop, which has a place where it is when nothing is said.
func (o *storeOptions) addShopFlags(flags *pflag.FlagSet) {
	o.addFlags(flags)
	db := flags.Lookup("db")
	db.Usage, db.DefValue = "the shop's event store: an SQLite file, or postgres://user@host:5432/name", shopDB
	o.db = shopDB
}

func (o *storeOptions) check() error {
	if o.db == "" {
		return errors.New("say which event store: --db orders.db, or --db postgres://user@host/name")
	}
	if o.retryFor < 0 {
		return fmt.Errorf("--retry-for %v: want 0 or more", o.retryFor)
	}
	if info, err := os.Stat(o.db); err == nil && info.IsDir() {
		return fmt.Errorf("--db %s is a directory: want a file in it", o.db)
	}
	return checkDatabase("--db", o.db)
}

var errKeywords = errors.New(`want postgres://user:password@host:5432/name for PostgreSQL; ./ before it makes it a file`)

// checkDatabase finds what would be taken for a file and was meant as something else. There may be a password in it.
func checkDatabase(flag, db string) error {
	scheme, _, isURL := strings.Cut(db, ":")
	switch {
	case pglink.IsURL(db):
		if _, err := pglink.ParseConfig(db); err != nil { // which may show the password
			return fmt.Errorf("%s cannot be read as a URL for PostgreSQL: want postgres://user:password@host:5432/name, "+
				"with special characters in the password percent-encoded", flag)
		}
		return nil
	case strings.TrimSpace(db) == "":
		return fmt.Errorf("%s is blank: want a file, or postgres://user@host/name", flag)
	case db == ":memory:":
		return fmt.Errorf("%s :memory: would be gone when the command ends: want a file", flag)
	case isURL && regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]+$`).MatchString(scheme): // one letter is a drive of Windows
		return fmt.Errorf("%s begins with %.20q, which is no database that evdemo knows: want the path of a file alone, "+
			"or postgres://user:password@host:5432/name; ./ before it makes it a file", flag, scheme+":")
	case regexp.MustCompile(`^[^/\\]*:[^/\\]*@`).MatchString(db):
		return fmt.Errorf("%s looks like a login without its scheme: want postgres://user:password@host:5432/name; ./ before it makes it a file", flag)
	case regexp.MustCompile(`^\s*(host|hostaddr|port|dbname|user|password|service|sslmode)\s*=`).MatchString(db):
		return fmt.Errorf("%s: %w", flag, errKeywords)
	default:
		return nil
	}
}

// config is the store's configuration. For people who wait, SQLite's locks and PostgreSQL's absence are one.
func (o *storeOptions) config(app *App) eventstore.Config {
	c := eventstore.Config{DB: o.db, RetryFor: o.retryFor, BusyTimeout: o.retryFor, Logger: app.Logger()}
	if o.retryFor == 0 { // which is the default there
		c.RetryFor, c.BusyTimeout = -1, time.Millisecond
	}
	return c
}

// patient is how long somebody waits without asking why.
const patient = 2 * time.Second

// open opens a store that is there.
func (o *storeOptions) open(ctx context.Context, app *App) (*eventstore.Store, error) {
	config := o.config(app)
	config.Existing = true
	return openStore(ctx, app, config)
}

// create opens a store, and makes it where there is none.
func (o *storeOptions) create(ctx context.Context, app *App) (*eventstore.Store, error) {
	store, err := o.open(ctx, app)
	if !errors.Is(err, eventstore.ErrNoStore) {
		return store, err
	}
	if store, err = openStore(ctx, app, o.config(app)); err == nil {
		app.Logger().Info("made a new event store", slog.String("db", eventstore.Location(o.db)))
	}
	return store, err
}

func openStore(ctx context.Context, app *App, config eventstore.Config) (*eventstore.Store, error) {
	opened := make(chan struct{})
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer close(opened)
	waiting.Go(func() {
		select {
		case <-opened:
		case <-time.After(patient):
			app.Logger().Info("waiting for the database", slog.String("db", eventstore.Location(config.DB)))
		}
	})
	store, err := eventstore.Open(ctx, config)
	return store, explainStore(err)
}

// explainStore gives an error of a store its exit code, and one line.
func explainStore(err error) error {
	var known *exitError
	if err == nil || errors.As(err, &known) {
		return err
	}
	err = oneLine{err}
	_, conflict := errors.AsType[*eventstore.ConflictError](err)
	_, duplicate := errors.AsType[*eventstore.DuplicateError](err)
	switch {
	case conflict:
		return &exitError{exitClaim, err}
	case errors.Is(err, eventstore.ErrUnavailable), errors.Is(err, eventstore.ErrLocked), locked(err):
		return &exitError{exitUnreachable, err}
	case errors.Is(err, eventstore.ErrOutcomeUnknown), duplicate:
		return &exitError{exitIncomplete, err}
	case errors.Is(err, eventstore.ErrNoStore):
		return usageError(fmt.Errorf(`%w; "evdemo store append" makes one, and "evdemo shop place" makes a shop`, err))
	case errors.Is(err, eventstore.ErrStreamName), errors.Is(err, eventstore.ErrNotEmpty), errors.Is(err, eventstore.ErrNoVersion), unusable(err):
		return usageError(err)
	default:
		return err
	}
}

// locked tells whether an SQLite file was locked for too long.
func locked(err error) bool {
	code := sqlitefile.Code(err)
	return code == sqlitefile.Busy || code == sqlitefile.Locked
}

// unusable tells whether a file is no database, or cannot be one where it is.
func unusable(err error) bool {
	code := sqlitefile.Code(err)
	return code == sqlitefile.NotADB || code == sqlitefile.CantOpen
}

// oneLine is an error whose text is one line: drivers name every address that they tried on a line of its own, and
// twice where they tried it with TLS and without.
type oneLine struct{ error }

func (e oneLine) Error() string {
	var b strings.Builder
	before := ""
	for line := range strings.Lines(e.error.Error()) {
		line = strings.TrimSpace(line)
		switch {
		case line == before:
			continue
		case strings.HasSuffix(before, ":"):
			b.WriteString(" ")
		case before != "":
			b.WriteString("; ")
		}
		b.WriteString(line)
		before = line
	}
	return b.String()
}

func (e oneLine) Unwrap() error { return e.error }

// interrupted is the error of a command that was stopped before it had its answer.
func interrupted(ctx context.Context, what string, err error) error {
	if err != nil && ctx.Err() != nil {
		return errors.New("interrupted before " + what)
	}
	return explainStore(err)
}

// parseMoment reads a time, or how long ago something was. What has not come yet is no time to look back from.
func parseMoment(flag, text string) (time.Time, error) {
	now := time.Now()
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		ago, err := topology.ParseDuration(text)
		if err != nil {
			return time.Time{}, fmt.Errorf("%s %.40q: want a time such as 2026-01-02T15:04:05Z, or how long ago, such as 1h", flag, text)
		}
		return now.Add(-ago), nil
	}
	if at.Year() < 1900 { // the zero time of many a program
		return time.Time{}, fmt.Errorf("%s %s: want a time such as 2026-01-02T15:04:05Z", flag, text)
	}
	if at.After(now.Add(time.Minute)) {
		return time.Time{}, fmt.Errorf("%s %s is in the future: what will be appended until then nobody knows", flag, text)
	}
	return at, nil
}

// moment is a time to the microsecond, which is what a store has, so that it can be used as a TIME.
func moment(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000000Z") }

// oneStream takes the stream from the arguments.
func oneStream(args []string, command string) (string, error) {
	if len(args) != 1 || args[0] == "" {
		return "", fmt.Errorf("say which stream: evdemo store %s order-1", command)
	}
	return args[0], nil
}

// closing closes a store, and gives the error of a command that has not failed otherwise.
func closing(store *eventstore.Store, err *error) {
	if closeErr := store.Close(); closeErr != nil && *err == nil {
		*err = explainStore(closeErr)
	}
}
