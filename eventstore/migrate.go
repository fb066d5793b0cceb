package eventstore

import (
	"embed"

	"github.com/pressly/goose/v3"

	"github.com/evdemo/evdemo/internal/migrate"
)

//go:embed migrations
var migrations embed.FS

func migrationsOf(dialect goose.Dialect, dir string) migrate.Set {
	return migrate.Set{Dialect: dialect, Files: migrations, Dir: dir, Table: "evdemo_store_version", Newer: ErrSchema}
}
