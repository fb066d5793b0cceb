package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/evdemo/evdemo/worker/inbox/internal/attempt"
)

//go:embed migrations
var migrations embed.FS

const (
	// versionTable is where goose notes which migrations were made.
	versionTable = "evdemo_inbox_version"
	// advisoryLock is held by whoever makes or changes the tables.
	advisoryLock = 0x6576_696e_626f_78
)

// migrate brings the tables to this package's version, one program at a time, and refuses those of a newer one.
func migrate(ctx context.Context, config *pgx.ConnConfig) error {
	conn, err := pgx.ConnectConfig(ctx, config) // its end is the end of the lock
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if encoding := conn.PgConn().ParameterStatus("server_encoding"); encoding != "UTF8" {
		return fmt.Errorf("the database's encoding is %s: make one with ENCODING 'UTF8'", encoding)
	}
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, int64(advisoryLock)); err != nil {
		return err
	}
	return bringUp(ctx, config)
}

func bringUp(ctx context.Context, config *pgx.ConnConfig) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	db := stdlib.OpenDB(*config)
	defer func() { _ = db.Close() }()
	p, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("prepare migrations: %w", err)
	}
	current, target, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	switch {
	case current > target:
		return fmt.Errorf("%w (its schema has version %d, this one knows up to %d)", attempt.ErrSchema, current, target)
	case current == target:
		return nil
	}
	_, err = p.Up(ctx)
	if partial, ok := errors.AsType[*goose.PartialError](err); ok {
		return fmt.Errorf("bring the schema to version %d: %w", partial.Failed.Source.Version, partial.Err)
	}
	return err
}
