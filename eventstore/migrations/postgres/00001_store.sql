-- +goose Up
-- The log. Positions are dense, and in the order of the commits: whoever appends holds the row of
-- evdemo_store_head until it has committed.
CREATE TABLE evdemo_store_events (
	position     bigint PRIMARY KEY,
	stream       text COLLATE "C" NOT NULL,
	version      bigint NOT NULL,
	recorded_at  bigint NOT NULL, -- microseconds since 1970; never less than before
	id           text COLLATE "C" NOT NULL,
	source       text COLLATE "C" NOT NULL,
	type         text COLLATE "C" NOT NULL,
	subject      text COLLATE "C",
	time         text COLLATE "C",            -- RFC 3339 in UTC
	content_type text,
	data_schema  text,
	correlation  text COLLATE "C",            -- the extension correlationid, for its index
	extensions   text,            -- a JSON object
	data         bytea
);
CREATE UNIQUE INDEX evdemo_store_events_stream ON evdemo_store_events (stream, version);
CREATE UNIQUE INDEX evdemo_store_events_id ON evdemo_store_events (id, source);
CREATE INDEX evdemo_store_events_type ON evdemo_store_events (type, position);
CREATE INDEX evdemo_store_events_subject ON evdemo_store_events (subject, position) WHERE subject IS NOT NULL;
CREATE INDEX evdemo_store_events_correlation ON evdemo_store_events (correlation, position) WHERE correlation IS NOT NULL;

-- The last position given away, and its time. The row that orders all commits.
CREATE TABLE evdemo_store_head (
	one         integer PRIMARY KEY CHECK (one = 1),
	position    bigint NOT NULL,
	recorded_at bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO evdemo_store_head VALUES (1, 0, 0);

-- What can be made again from the log.
CREATE TABLE evdemo_store_snapshots (
	stream       text COLLATE "C" NOT NULL,
	fold         text COLLATE "C" NOT NULL,
	fold_version bigint NOT NULL,
	version      bigint NOT NULL,
	position     bigint NOT NULL,
	recorded_at  bigint NOT NULL, -- of the event at that version
	checksum     bigint NOT NULL, -- CRC-32C of everything else
	state        bytea NOT NULL,
	PRIMARY KEY (stream, fold, fold_version, version)
);

-- How far readers are that go on where they stopped.
CREATE TABLE evdemo_store_checkpoints (
	name     text COLLATE "C" PRIMARY KEY,
	version  bigint NOT NULL,
	position bigint NOT NULL
);

-- Who among several processes is the active one. Renewed is a counter, not a time: nobody's clock is trusted.
CREATE TABLE evdemo_store_leases (
	name    text COLLATE "C" PRIMARY KEY,
	owner   text NOT NULL,
	renewed bigint NOT NULL
);

-- +goose StatementBegin
CREATE FUNCTION evdemo_store_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'events are never changed or deleted';
END $$;
-- +goose StatementEnd
CREATE TRIGGER evdemo_store_events_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON evdemo_store_events
	FOR EACH STATEMENT EXECUTE FUNCTION evdemo_store_refuse();

-- Appends events to streams whose versions are as expected, in one round trip. Where one is not, it raises EV001
-- and appends nothing; an event that is there already raises unique_violation. "bases" has the version that
-- each stream must have, -1 where any will do; "member" is each event's stream, counted from 1, and "place" its
-- place among the new events of that stream.
-- +goose StatementBegin
CREATE FUNCTION evdemo_store_append(
	streams text[], bases bigint[], member integer[], place bigint[],
	ids text[], sources text[], types text[], subjects text[], times text[], content_types text[], data_schemas text[],
	correlations text[], extension_sets text[], payloads bytea[],
	OUT first bigint, OUT recorded bigint, OUT heads bigint[]
) LANGUAGE plpgsql AS $$
DECLARE
	n integer := cardinality(ids);
BEGIN
	UPDATE evdemo_store_head AS h
	SET position = h.position + n,
		recorded_at = greatest(h.recorded_at, floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
	RETURNING h.position - n, h.recorded_at INTO first, recorded;
	FOR i IN 1 .. cardinality(streams) LOOP
		heads[i] := (SELECT coalesce(max(e.version), 0) FROM evdemo_store_events AS e WHERE e.stream = streams[i]);
		IF bases[i] >= 0 AND bases[i] <> heads[i] THEN
			RAISE EXCEPTION 'stream % has version %, not %', streams[i], heads[i], bases[i] USING ERRCODE = 'EV001';
		END IF;
	END LOOP;
	IF n = 1 THEN -- the same as below, which costs a multiple for one row
		INSERT INTO evdemo_store_events VALUES (first + 1, streams[1], heads[1] + 1, recorded, ids[1], sources[1], types[1],
			nullif(subjects[1], ''), nullif(times[1], ''), nullif(content_types[1], ''), nullif(data_schemas[1], ''),
			nullif(correlations[1], ''), nullif(extension_sets[1], ''), payloads[1]);
	ELSE
		INSERT INTO evdemo_store_events
		SELECT first + e.i, streams[e.member], heads[e.member] + e.place, recorded, e.id, e.source, e.type,
			nullif(e.subject, ''), nullif(e.time, ''), nullif(e.content_type, ''), nullif(e.data_schema, ''),
			nullif(e.correlation, ''), nullif(e.extensions, ''), e.data
		FROM unnest(member, place, ids, sources, types, subjects, times, content_types, data_schemas, correlations, extension_sets,
			payloads) WITH ORDINALITY
			AS e(member, place, id, source, type, subject, time, content_type, data_schema, correlation, extensions, data, i);
	END IF;
	PERFORM pg_notify('evdemo_store', '');
END $$;
-- +goose StatementEnd
