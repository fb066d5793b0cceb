-- +goose Up
-- The log. Positions are dense, and in the order of the commits: whoever appends holds the lock of evdemo_store_lock
-- until it has committed.
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

-- Keeps every other append to this log from beginning until the transaction has ended, and gives the log's end, with the
-- time of what is appended now. It is only seen by a transaction that reads what was committed before the statement.
-- +goose StatementBegin
CREATE FUNCTION evdemo_store_lock(OUT last bigint, OUT recorded bigint) LANGUAGE plpgsql AS $$
BEGIN
	IF current_setting('transaction_isolation') <> 'read committed' THEN
		RAISE EXCEPTION 'events are appended in transactions with the isolation level read committed' USING ERRCODE = 'EV002';
	END IF;
	PERFORM pg_advisory_xact_lock(7311701418400448512 + 'evdemo_store_events'::regclass::oid::bigint);
	SELECT e.position, e.recorded_at INTO last, recorded FROM evdemo_store_events AS e ORDER BY e.position DESC LIMIT 1;
	last := coalesce(last, 0);
	recorded := greatest(recorded, floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
END $$;
-- +goose StatementEnd

-- Wakes those who listen, when the transaction commits. They hold a shared lock: a notification that nobody hears costs
-- a good part of a small append. Whoever begins to listen looks at the log then.
-- +goose StatementBegin
CREATE FUNCTION evdemo_store_notify() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF NOT pg_try_advisory_xact_lock(7311701418400448511) THEN
		PERFORM pg_notify('evdemo_store', '');
	END IF;
END $$;
-- +goose StatementEnd

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
BEGIN
	SELECT * INTO first, recorded FROM evdemo_store_lock();
	FOR i IN 1 .. cardinality(streams) LOOP
		heads[i] := (SELECT coalesce(max(e.version), 0) FROM evdemo_store_events AS e WHERE e.stream = streams[i]);
		IF bases[i] >= 0 AND bases[i] <> heads[i] THEN
			RAISE EXCEPTION 'stream % has version %, not %', streams[i], heads[i], bases[i] USING ERRCODE = 'EV001';
		END IF;
	END LOOP;
	INSERT INTO evdemo_store_events
	SELECT first + e.i, streams[e.member], heads[e.member] + e.place, recorded, e.id, e.source, e.type,
		nullif(e.subject, ''), nullif(e.time, ''), nullif(e.content_type, ''), nullif(e.data_schema, ''),
		nullif(e.correlation, ''), nullif(e.extensions, ''), e.data
	FROM unnest(member, place, ids, sources, types, subjects, times, content_types, data_schemas, correlations, extension_sets,
		payloads) WITH ORDINALITY
		AS e(member, place, id, source, type, subject, time, content_type, data_schema, correlation, extensions, data, i);
	PERFORM evdemo_store_notify();
END $$;
-- +goose StatementEnd

-- The same for one event, with as little as it takes: the lock, and one statement behind it, which sees what was committed
-- before. The lock is taken in a condition, for which PL/pgSQL needs no plan.
-- +goose StatementBegin
CREATE FUNCTION evdemo_store_append_one(
	to_stream text, base bigint, id text, source text, type text, subject text, happened text, content_type text,
	data_schema text, correlation text, extensions text, data bytea,
	OUT first bigint, OUT recorded bigint, OUT head bigint
) LANGUAGE plpgsql AS $$
BEGIN
	IF pg_advisory_xact_lock(7311701418400448512 + 'evdemo_store_events'::regclass::oid::bigint)::text IS NULL THEN
		RETURN;
	END IF;
	INSERT INTO evdemo_store_events AS e
	SELECT coalesce(l.position, 0) + 1, to_stream, s.version + 1,
		greatest(l.recorded_at, floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint), id, source, type,
		nullif(subject, ''), nullif(happened, ''), nullif(content_type, ''), nullif(data_schema, ''),
		nullif(correlation, ''), nullif(extensions, ''), data
	FROM (SELECT coalesce(max(o.version), 0) AS version FROM evdemo_store_events AS o WHERE o.stream = to_stream) AS s
	LEFT JOIN (SELECT n.position, n.recorded_at FROM evdemo_store_events AS n ORDER BY n.position DESC LIMIT 1) AS l ON true
	WHERE base < 0 OR base = s.version
	RETURNING e.position - 1, e.recorded_at, e.version - 1 INTO first, recorded, head;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'stream % has not got version %', to_stream, base USING ERRCODE = 'EV001';
	END IF;
	IF NOT pg_try_advisory_xact_lock(7311701418400448511) THEN
		PERFORM pg_notify('evdemo_store', '');
	END IF;
END $$;
-- +goose StatementEnd
