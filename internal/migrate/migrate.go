// Package migrate brings the tables of a store to the version that a program knows.
package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

// Set is the migrations of a store's tables.
type Set struct {
	Dialect goose.Dialect
	// Dir is the directory in Files that has them.
	Files fs.FS
	Dir   string
	// Table is where goose notes which were made.
	Table string
	// Newer is wrapped where a newer program has made the tables.
	Newer error
}

// Current tells whether the tables have the set's version. Newer ones are refused.
func (s Set) Current(ctx context.Context, db *sql.DB) (bool, error) {
	p, err := s.provider(db)
	if err != nil {
		return false, err
	}
	return s.current(ctx, p)
}

// Up brings the tables to the set's version. Nobody else may do so at the same time.
func (s Set) Up(ctx context.Context, db *sql.DB) error {
	p, err := s.provider(db)
	if err != nil {
		return err
	}
	if current, err := s.current(ctx, p); err != nil || current {
		return err
	}
	_, err = p.Up(ctx)
	if partial, ok := errors.AsType[*goose.PartialError](err); ok {
		return fmt.Errorf("bring the schema to version %d: %w", partial.Failed.Source.Version, partial.Err)
	}
	return err
}

func (s Set) provider(db *sql.DB) (*goose.Provider, error) {
	files, err := fs.Sub(s.Files, s.Dir)
	if err != nil {
		return nil, err
	}
	p, err := goose.NewProvider(s.Dialect, db, files, goose.WithTableName(s.Table), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, fmt.Errorf("prepare migrations: %w", err)
	}
	return p, nil
}

func (s Set) current(ctx context.Context, p *goose.Provider) (bool, error) {
	current, target, err := p.GetVersions(ctx)
	switch {
	case err != nil:
		return false, fmt.Errorf("read schema version: %w", err)
	case current > target:
		return false, fmt.Errorf("%w (its schema has version %d, this one knows up to %d)", s.Newer, current, target)
	default:
		return current == target, nil
	}
}
