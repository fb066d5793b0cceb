-- +goose Up

-- The events that have been handled.
CREATE TABLE evdemo_inbox_handled (
	consumer   text COLLATE "C" NOT NULL,
	source     text COLLATE "C" NOT NULL,
	id         text COLLATE "C" NOT NULL,
	attempt    bigint NOT NULL, -- tells who has recorded it
	handled_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (consumer, source, id)
);
CREATE INDEX evdemo_inbox_handled_at ON evdemo_inbox_handled (handled_at);

-- The events that a gate's groups have handled.
CREATE TABLE evdemo_inbox_marks (
	consumers text COLLATE "C" NOT NULL, -- the group
	id        text COLLATE "C" NOT NULL,
	marked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (consumers, id)
);
CREATE INDEX evdemo_inbox_marked_at ON evdemo_inbox_marks (marked_at);

-- What a gate holds.
CREATE TABLE evdemo_inbox_held (
	consumers text COLLATE "C" NOT NULL,
	queue     text COLLATE "C" NOT NULL,
	source    text COLLATE "C" NOT NULL,
	id        text COLLATE "C" NOT NULL,
	place     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- the order in which they were held
	parent    text COLLATE "C" NOT NULL,
	until     timestamptz NOT NULL,
	claim     bigint NOT NULL DEFAULT 0, -- names the time that it was given to somebody who is to send it on
	claimed   timestamptz,               -- when that was
	message   bytea NOT NULL,
	names     jsonb,                     -- queue, source, id and parent, where a column cannot hold them
	UNIQUE (consumers, queue, source, id)
);
CREATE INDEX evdemo_inbox_held_parent ON evdemo_inbox_held (consumers, parent);
CREATE INDEX evdemo_inbox_held_until ON evdemo_inbox_held (consumers, until);
CREATE SEQUENCE evdemo_inbox_claims;
