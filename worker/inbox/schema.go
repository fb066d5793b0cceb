package inbox

import (
	"context"
	"database/sql"
	"fmt"
)

// schemaVersion is kept in a table of ours: the file's user_version may be the application's.
const schemaVersion = 2

// The tables. A claim is an attempt under way; its owner is one open Store, which renews its row in
// evdemo_inbox_owners for as long as it lives. Ids of owners are never used again.
const schema = `
CREATE TABLE evdemo_inbox_schema (version INTEGER NOT NULL) STRICT;

CREATE TABLE evdemo_inbox_handled (
	consumer   TEXT NOT NULL,
	source     TEXT NOT NULL,
	id         TEXT NOT NULL,
	handled_at INTEGER NOT NULL, -- milliseconds since 1970
	PRIMARY KEY (consumer, source, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX evdemo_inbox_handled_at ON evdemo_inbox_handled (handled_at);

CREATE TABLE evdemo_inbox_claims (
	consumer TEXT NOT NULL,
	source   TEXT NOT NULL,
	id       TEXT NOT NULL,
	owner    INTEGER NOT NULL,
	PRIMARY KEY (consumer, source, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE evdemo_inbox_owners (
	id       INTEGER PRIMARY KEY AUTOINCREMENT,
	lease_ms INTEGER NOT NULL,
	renewed  INTEGER NOT NULL -- changes with every renewal
) STRICT;

INSERT INTO evdemo_inbox_schema VALUES (1);
`

// What version 2 adds: what a gate holds, and which events its groups have handled.
const schema2 = `
CREATE TABLE evdemo_inbox_marks (
	consumers TEXT NOT NULL, -- the group
	id        TEXT NOT NULL,
	marked_at INTEGER NOT NULL, -- milliseconds since 1970
	PRIMARY KEY (consumers, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX evdemo_inbox_marked_at ON evdemo_inbox_marks (marked_at);

CREATE TABLE evdemo_inbox_held (
	consumers TEXT NOT NULL,
	queue     TEXT NOT NULL,
	source    TEXT NOT NULL,
	id        TEXT NOT NULL,
	place     INTEGER PRIMARY KEY AUTOINCREMENT, -- the order in which they were held
	parent    TEXT NOT NULL,
	until     INTEGER NOT NULL,           -- milliseconds since 1970
	claim     INTEGER NOT NULL DEFAULT 0, -- names the time that it was given to somebody who is to send it on
	claimed   INTEGER NOT NULL DEFAULT 0, -- when that was
	message   BLOB NOT NULL,
	UNIQUE (consumers, queue, source, id)
) STRICT;
CREATE INDEX evdemo_inbox_held_parent ON evdemo_inbox_held (consumers, parent);
CREATE INDEX evdemo_inbox_held_until ON evdemo_inbox_held (consumers, until);

UPDATE evdemo_inbox_schema SET version = 2;
`

// migrate makes the tables where there are none, and refuses those of a newer version.
func migrate(ctx context.Context, tx *sql.Tx) error {
	var tables int
	const count = `SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'evdemo_inbox_schema'`
	if err := tx.QueryRowContext(ctx, count).Scan(&tables); err != nil {
		return err
	}
	if tables == 0 {
		_, err := tx.ExecContext(ctx, schema+schema2)
		return err
	}
	var version int
	if err := tx.QueryRowContext(ctx, `SELECT version FROM evdemo_inbox_schema`).Scan(&version); err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if version > schemaVersion {
		return fmt.Errorf("%w (its schema has version %d, this one knows up to %d)", ErrSchema, version, schemaVersion)
	}
	if version == 1 {
		if _, err := tx.ExecContext(ctx, schema2); err != nil {
			return fmt.Errorf("bring the schema to version 2: %w", err)
		}
	}
	return nil
}
