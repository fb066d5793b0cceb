package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/evdemo/evdemo/internal/pglink"
)

// ErrUnavailable is wrapped by [Open] where the database cannot be reached, or refuses the login.
var ErrUnavailable = errors.New("the database cannot be reached")

// unavailable adds that to an error in connecting.
func unavailable(err error) error {
	if _, connecting := errors.AsType[*pgconn.ConnectError](err); connecting {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// What PostgreSQL reports by its SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html).
const (
	pgInvalidPassword = "28P01"
	pgInvalidLogin    = "28000"
	pgInvalidCatalog  = "3D000"
	pgNoPrivilege     = "42501"
	pgDiskFull        = "53100"
	pgOutOfMemory     = "53200"
	pgTooManyConns    = "53300"
	pgReadOnly        = "25006"
	pgIdleTimeout     = "25P03"
	pgNoTable         = "42P01"
)

// parse reads the URL and sets what every connection of the store has.
func parse(config Config) (*pgxpool.Config, error) {
	pool, err := pglink.ParseConfig(config.URL)
	switch {
	case errors.Is(err, pglink.ErrPassword):
		return nil, fmt.Errorf("not a URL for PostgreSQL: %w", err)
	case err != nil:
		return nil, errors.New("not a URL for PostgreSQL: write postgres://user@host:5432/database") // err may show a password
	}
	c := pool.ConnConfig
	c.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = config.Timeout
	}
	c.DialFunc = pglink.Dialer(c.ConnectTimeout).DialContext
	asked := c.ValidateConnect
	c.ValidateConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		if asked != nil {
			if err := asked(ctx, conn); err != nil {
				return err
			}
		}
		return pgconn.ValidateConnectTargetSessionAttrsPrimary(ctx, conn) // a standby can claim events, and not record them
	}
	pglink.SetUp(c, map[string]string{
		// A client whose machine is gone is noticed within 15 s, and with it what it has claimed is free.
		"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "2", "tcp_user_timeout": "15000",
		// What the protocol for two statements at a time needs.
		"standard_conforming_strings": "on", "client_encoding": "'UTF8'",
		// A statement that follows another must see what was committed meanwhile.
		"default_transaction_isolation": "'read committed'",
	})
	return pool, nil
}

// pin has every session look for the tables where they are now, or where they are to be made. It gives what every
// transaction sets again: a function may have left its session with another path, or as another role.
func pin(ctx context.Context, c *pgx.ConnConfig) (again string, err error) {
	home, err := pglink.FindHome(ctx, c, "evdemo_inbox_handled")
	if err != nil {
		return "", err
	}
	pglink.SetUp(c, map[string]string{"search_path": home.SearchPath})
	return "RESET ROLE; SET LOCAL search_path = " + home.SearchPath + "; ", nil
}

// openPool makes a pool of up to so many connections, whose sessions have some more settings.
func openPool(ctx context.Context, base *pgxpool.Config, conns int, settings map[string]string) (*pgxpool.Pool, error) {
	c := base.Copy()
	c.MaxConns = int32(min(conns, maxMaxConns)) //nolint:gosec // it fits
	c.MinConns, c.MinIdleConns = 0, 0
	c.PingTimeout = c.ConnConfig.ConnectTimeout // a connection that says nothing is replaced
	pglink.SetUp(c.ConnConfig, settings)
	return pgxpool.NewWithConfig(ctx, c)
}

// place names the database for messages, without a password.
func place(c *pgx.ConnConfig) string {
	return fmt.Sprintf("postgres://%s@%s:%d/%s", c.User, c.Host, c.Port, c.Database)
}

// explain puts what PostgreSQL reports into words that say what to do.
func explain(err error) error {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return err
	}
	says := map[string]string{
		pgInvalidPassword: "the server refuses the login",
		pgInvalidLogin:    "the server refuses the login",
		pgInvalidCatalog:  "the server has no such database: create it",
		pgNoPrivilege:     "the user may not do this: grant it",
		pgDiskFull:        "the server's disk is full",
		pgOutOfMemory:     "the server's memory is used up, or its locks: see max_locks_per_transaction",
		pgTooManyConns:    "the server has no connection left: see max_connections and Config.MaxConns",
		pgReadOnly:        "the database cannot be written to",
		pgIdleTimeout:     "the server has ended a transaction that was idle for too long: see idle_in_transaction_session_timeout",
		pgNoTable:         "a table of the inbox is missing: open it again",
	}[pgErr.Code]
	if says == "" {
		return err
	}
	return fmt.Errorf("%s: %w", says, err)
}
