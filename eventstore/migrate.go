package eventstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

//go:embed migrations
var migrations embed.FS

// versionTable is where goose notes which migrations were made.
const versionTable = "evdemo_store_version"

// isCurrent tells whether the tables have this package's version, and refuses those of a newer one.
func isCurrent(ctx context.Context, dialect goose.Dialect, db *sql.DB, dir string) (bool, error) {
	p, err := migrator(dialect, db, dir)
	if err != nil {
		return false, err
	}
	current, target, err := p.GetVersions(ctx)
	switch {
	case err != nil:
		return false, fmt.Errorf("read schema version: %w", err)
	case current > target:
		return false, fmt.Errorf("%w (its schema has version %d, this one knows up to %d)", ErrSchema, current, target)
	default:
		return current == target, nil
	}
}

func migrator(dialect goose.Dialect, db *sql.DB, dir string) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, dir)
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(dialect, db, files, goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true))
}

// migrate brings the tables to this package's version, and refuses those of a newer one.
func migrate(ctx context.Context, dialect goose.Dialect, db *sql.DB, dir string) error {
	if current, err := isCurrent(ctx, dialect, db, dir); err != nil || current {
		return err
	}
	p, err := migrator(dialect, db, dir)
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	if partial, ok := errors.AsType[*goose.PartialError](err); ok {
		return fmt.Errorf("bring the schema to version %d: %w", partial.Failed.Source.Version, partial.Err)
	}
	return err
}
