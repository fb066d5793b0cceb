package pglink

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrPassword is returned for a URL whose password ends in the middle: what is behind its @ would be the host, and be
// named in errors.
var ErrPassword = errors.New("an @ in the password is written %40")

// IsURL tells whether what names a database is the URL of one on PostgreSQL, and not a file.
func IsURL(name string) bool {
	return strings.HasPrefix(name, "postgres://") || strings.HasPrefix(name, "postgresql://")
}

// ParseConfig reads the URL of a database. The error may show its password, unless it is ErrPassword.
func ParseConfig(url string) (*pgxpool.Config, error) {
	c, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	if strings.Contains(c.ConnConfig.Host, "@") {
		return nil, ErrPassword
	}
	if c.ConnConfig.RuntimeParams["application_name"] == "" {
		c.ConnConfig.RuntimeParams["application_name"] = "evdemo"
	}
	return c, nil
}

// SetUp has settings made in every session when it begins, behind those that are there. As parameters of its start,
// poolers would refuse them.
func SetUp(c *pgx.ConnConfig, settings map[string]string) {
	var statements []string
	for name, value := range settings {
		statements = append(statements, "SET "+name+" = "+value)
	}
	before := c.AfterConnect
	c.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		if before != nil {
			if err := before(ctx, conn); err != nil {
				return err
			}
		}
		return conn.Exec(ctx, strings.Join(statements, "; ")).Close()
	}
}

// Home is where the tables of a store are, or are to be made.
type Home struct {
	// SearchPath is a setting for SetUp: the schema of the tables, in front of the path that there was. With it, a schema
	// that somebody puts in front later does not send a store to other tables.
	SearchPath string
	// Existing tells that the tables are there.
	Existing bool
}

// FindHome looks for a table along the search path. Where there is none its home is the path's first schema.
func FindHome(ctx context.Context, config *pgx.ConnConfig, table string) (Home, error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return Home{}, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	const query = `SELECT coalesce(current_schema(), ''), current_setting('server_encoding'), current_setting('search_path'),
		coalesce((SELECT schemaname FROM pg_tables WHERE tablename = $1 AND schemaname = ANY (current_schemas(false))
			ORDER BY array_position(current_schemas(false), schemaname) LIMIT 1), '')`
	var schema, encoding, path, found string
	if err := conn.QueryRow(ctx, query, table).Scan(&schema, &encoding, &path, &found); err != nil {
		return Home{}, err
	}
	switch {
	case schema == "":
		return Home{}, errors.New("no schema of the search path is there: make one, or set another with ?search_path=")
	case encoding != "UTF8":
		return Home{}, fmt.Errorf("the database has the encoding %s and cannot hold all events: make one with ENCODING 'UTF8'", encoding)
	case found != "":
		schema = found
	}
	return Home{SearchPath: pgx.Identifier{schema}.Sanitize() + ", " + path, Existing: found != ""}, nil
}
