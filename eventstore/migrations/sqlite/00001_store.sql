-- +goose Up
-- The log. Positions are dense, and in the order of the commits: whoever appends holds SQLite's write lock.
CREATE TABLE evdemo_store_events (
	position     INTEGER PRIMARY KEY,
	stream       TEXT NOT NULL,
	version      INTEGER NOT NULL,
	recorded_at  INTEGER NOT NULL, -- microseconds since 1970; never less than before
	id           TEXT NOT NULL,
	source       TEXT NOT NULL,
	type         TEXT NOT NULL,
	subject      TEXT,
	time         TEXT,             -- RFC 3339 in UTC
	content_type TEXT,
	data_schema  TEXT,
	correlation  TEXT,             -- the extension correlationid, for its index
	extensions   TEXT,             -- a JSON object
	data         BLOB
) STRICT;
CREATE UNIQUE INDEX evdemo_store_events_stream ON evdemo_store_events (stream, version);
CREATE UNIQUE INDEX evdemo_store_events_id ON evdemo_store_events (id, source);
CREATE INDEX evdemo_store_events_type ON evdemo_store_events (type);
CREATE INDEX evdemo_store_events_subject ON evdemo_store_events (subject) WHERE subject IS NOT NULL;
CREATE INDEX evdemo_store_events_correlation ON evdemo_store_events (correlation) WHERE correlation IS NOT NULL;

-- What can be made again from the log.
CREATE TABLE evdemo_store_snapshots (
	stream       TEXT NOT NULL,
	fold         TEXT NOT NULL,
	fold_version INTEGER NOT NULL,
	version      INTEGER NOT NULL,
	position     INTEGER NOT NULL,
	recorded_at  INTEGER NOT NULL, -- of the event at that version
	checksum     INTEGER NOT NULL, -- CRC-32C of everything else
	state        BLOB NOT NULL,
	PRIMARY KEY (stream, fold, fold_version, version)
) STRICT;

-- How far readers are that go on where they stopped.
CREATE TABLE evdemo_store_checkpoints (
	name     TEXT PRIMARY KEY,
	version  INTEGER NOT NULL,
	position INTEGER NOT NULL
) STRICT;

-- Who among several processes is the active one. Renewed is a counter, not a time: nobody's clock is trusted.
CREATE TABLE evdemo_store_leases (
	name    TEXT PRIMARY KEY,
	owner   TEXT NOT NULL,
	renewed INTEGER NOT NULL
) STRICT;

-- +goose StatementBegin
CREATE TRIGGER evdemo_store_events_stay BEFORE UPDATE ON evdemo_store_events
BEGIN SELECT RAISE(ABORT, 'events are never changed'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER evdemo_store_events_remain BEFORE DELETE ON evdemo_store_events
BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END;
-- +goose StatementEnd
