package postgres

import (
	"context"
	"embed"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/evdemo/evdemo/internal/migrate"
	"github.com/evdemo/evdemo/worker/inbox/internal/attempt"
)

//go:embed migrations
var migrations embed.FS

// migrationLock is held by whoever makes or changes the tables.
const migrationLock = 0x6576_696e_626f_78

// bringUp brings the tables to this package's version, one program at a time, and refuses those of a newer one.
func bringUp(ctx context.Context, config *pgx.ConnConfig) error {
	conn, err := pgx.ConnectConfig(ctx, config) // its end is the end of the lock
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, int64(migrationLock)); err != nil {
		return err
	}
	db := stdlib.OpenDB(*config)
	defer func() { _ = db.Close() }()
	set := migrate.Set{
		Dialect: goose.DialectPostgres, Files: migrations, Dir: "migrations", Table: "evdemo_inbox_version", Newer: attempt.ErrSchema,
	}
	return set.Up(ctx, db)
}
