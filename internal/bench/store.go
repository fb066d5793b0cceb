//go:build unix

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/localpostgres"
)

// What the measurements of event stores append.
const (
	storeSingles  = 4000
	storeGrouped  = 64_000
	storeCallers  = 64
	storeStreams  = 1000
	storeBatch    = 100
	storePayload  = 256
	storeVersions = 10_000
)

// insertBare is the statement of the bare loops: an event put into a store's own table, with all its indexes.
const insertBare = `INSERT INTO evdemo_store_events VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, NULL, NULL, NULL, $11)`

// stores measures event stores, on SQLite and on PostgreSQL.
type stores struct {
	config   config
	dir      string
	postgres *localpostgres.Server
	made     atomic.Int64 // files and databases
}

func (s *stores) close(ctx context.Context) error {
	var err error
	if s.postgres != nil {
		err = s.postgres.Stop(ctx)
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

func newStores(c config) (*stores, error) {
	dir, err := os.MkdirTemp("", "evdemo-bench-")
	return &stores{config: c, dir: dir}, err
}

// measureStores prints what there is to say of event stores.
func measureStores(ctx context.Context, c config) (missed bool, err error) {
	s, err := newStores(c)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	for _, m := range []struct {
		what, name string
		threshold  float64
		measure    func(context.Context) (pair, error)
	}{
		{"store", "event store on SQLite, one caller, one event each, against an insert in one transaction each", 0.8, s.sqlite(s.single)},
		{"store", "event store on SQLite, 64 callers, against an insert in one transaction each", 4, s.sqlite(s.grouped)},
		{"store", "event store on SQLite, 100 events each, against 100 inserts in one transaction", 0.7, s.sqlite(s.batches)},
		{"store", "reading a whole event store on SQLite, against scanning the rows", 0.4, s.sqlite(s.reading)},
		{"store", "loading a stream of 10,000 events with a snapshot every 100, against without", 20, s.sqlite(s.loading)},
		{"postgres", "event store on PostgreSQL, one caller, one event each, against a pgx insert each", 0.8, s.onPostgres(s.single)},
		{"postgres", "event store on PostgreSQL, 64 callers, against a pgx insert each", 4, s.onPostgres(s.grouped)},
		{"postgres", "event store on PostgreSQL, 100 events each, against a pgx insert each", 10, s.onPostgres(s.batches)},
		{"postgres", "reading a whole event store on PostgreSQL, against scanning the rows", 0.4, s.onPostgres(s.reading)},
	} {
		if !c.measures(m.what) {
			continue
		}
		below, err := compare(ctx, c, m.name, m.threshold, m.measure)
		if err != nil {
			return false, fmt.Errorf("%s: %w", m.name, err)
		}
		missed = missed || below
	}
	if c.large > 0 && c.measures("large") {
		above, err := s.large(ctx)
		return missed || above, err
	}
	return missed, nil
}

// place is a new store, and the bare way into the table of another.
type place struct {
	store  *eventstore.Store
	sqlite *sql.DB   // nil on PostgreSQL
	pgx    *pgx.Conn // nil on SQLite
}

// makeStore makes the tables of a store.
func makeStore(ctx context.Context, db string) error {
	s, err := eventstore.Open(ctx, eventstore.Config{DB: db})
	if err != nil {
		return err
	}
	return s.Close()
}

// sqlite has a measurement made in a new file.
func (s *stores) sqlite(measure func(context.Context, *place) (pair, error)) func(context.Context) (pair, error) {
	return func(ctx context.Context) (p pair, err error) {
		var at place
		db := filepath.Join(s.dir, fmt.Sprintf("%d.db", s.made.Add(1)))
		bare := db + ".bare"
		if err := makeStore(ctx, bare); err != nil {
			return p, err
		}
		if at.store, err = eventstore.Open(ctx, eventstore.Config{DB: db}); err != nil {
			return p, err
		}
		defer func() { err = errors.Join(err, at.store.Close(), removeAll(db), removeAll(bare)) }()
		dsn := "file:" + bare + "?_txlock=immediate&_pragma=synchronous(FULL)&_pragma=busy_timeout(5000)&_pragma=cache_size(-16384)"
		if at.sqlite, err = sql.Open("sqlite", dsn); err != nil {
			return p, err
		}
		at.sqlite.SetMaxOpenConns(1)
		defer func() { err = errors.Join(err, at.sqlite.Close()) }()
		return measure(ctx, &at)
	}
}

func removeAll(db string) error {
	return errors.Join(os.RemoveAll(db), os.RemoveAll(db+"-wal"), os.RemoveAll(db+"-shm"))
}

// onPostgres has a measurement made in a new database of a server that syncs to the disk.
func (s *stores) onPostgres(measure func(context.Context, *place) (pair, error)) func(context.Context) (pair, error) {
	return func(ctx context.Context) (p pair, err error) {
		if s.postgres == nil {
			if s.postgres, err = localpostgres.Start(ctx, localpostgres.Config{}); err != nil {
				return p, err
			}
		}
		var at place
		name := fmt.Sprintf("bench%d", s.made.Add(1))
		bare := name + "bare"
		err = errors.Join(s.postgres.CreateDatabase(ctx, name), s.postgres.CreateDatabase(ctx, bare))
		if err == nil {
			err = makeStore(ctx, s.postgres.URL(bare))
		}
		if err != nil {
			return p, err
		}
		if at.store, err = eventstore.Open(ctx, eventstore.Config{DB: s.postgres.URL(name)}); err != nil {
			return p, err
		}
		defer func() { err = errors.Join(err, at.store.Close()) }()
		if at.pgx, err = pgx.Connect(ctx, s.postgres.URL(bare)); err != nil {
			return p, err
		}
		defer func() { err = errors.Join(err, at.pgx.Close(ctx)) }()
		return measure(ctx, &at)
	}
}

// someEvents makes events with payloads of JSON, and says which of the streams each belongs to. They have no subject: that
// is what the stream is for, and its index is for events that have one.
func someEvents(n int) (events []event.Event, streams []string, err error) {
	payload := fmt.Appendf(nil, `{"pad":"%0*d"}`, storePayload-10, 0)
	for i := range n {
		e, err := event.New("order.created", "orders", payload)
		if err != nil {
			return nil, nil, err
		}
		events, streams = append(events, e), append(streams, fmt.Sprintf("order-%d", i%storeStreams))
	}
	return events, streams, nil
}

// bareInserts inserts events into the other store's table, so many in a transaction.
func (at *place) bareInserts(ctx context.Context, n, batch int) (perSecond float64, err error) {
	events, streams, err := someEvents(n)
	if err != nil {
		return 0, err
	}
	rows := make([][]any, n)
	for i, e := range events {
		rows[i] = []any{
			int64(i + 1), streams[i], int64(i/storeStreams + 1), e.Time.UnixMicro(), e.ID, e.Source, e.Type, nil,
			e.Time.Format(time.RFC3339Nano), e.DataContentType, e.Data,
		}
	}
	began := time.Now()
	if at.pgx != nil {
		for _, row := range rows {
			if _, err := at.pgx.Exec(ctx, insertBare, row...); err != nil {
				return 0, err
			}
		}
		return float64(n) / time.Since(began).Seconds(), nil
	}
	insert, err := at.sqlite.PrepareContext(ctx, insertBare)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, insert.Close()) }()
	for i := 0; i < n; i += batch {
		tx, err := at.sqlite.BeginTx(ctx, nil)
		if err != nil {
			return 0, err
		}
		stmt := tx.StmtContext(ctx, insert)
		for _, row := range rows[i:min(i+batch, n)] {
			if _, err := stmt.ExecContext(ctx, row...); err != nil {
				return 0, errors.Join(err, tx.Rollback())
			}
		}
		if err := tx.Commit(); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

// appending appends events in so many goroutines, some at a time.
func appending(ctx context.Context, s *eventstore.Store, n, callers, batch int) (perSecond float64, err error) {
	events, streams, err := someEvents(n)
	if err != nil {
		return 0, err
	}
	errs := make([]error, callers)
	var next atomic.Int64
	var group sync.WaitGroup
	began := time.Now()
	for c := range callers {
		group.Go(func() {
			for errs[c] == nil {
				i := int(next.Add(int64(batch))) - batch
				if i >= n {
					return
				}
				_, errs[c] = s.Append(ctx, eventstore.StreamWrite{Stream: streams[i], Events: events[i:min(i+batch, n)]})
			}
		})
	}
	group.Wait()
	return float64(n) / time.Since(began).Seconds(), errors.Join(errs...)
}

func (s *stores) single(ctx context.Context, at *place) (p pair, err error) {
	if p.bare, err = at.bareInserts(ctx, storeSingles, 1); err != nil {
		return p, err
	}
	p.ours, err = appending(ctx, at.store, storeSingles, 1, 1)
	return p, err
}

func (s *stores) grouped(ctx context.Context, at *place) (p pair, err error) {
	if p.bare, err = at.bareInserts(ctx, storeSingles, 1); err != nil {
		return p, err
	}
	p.ours, err = appending(ctx, at.store, storeGrouped, storeCallers, 1)
	return p, err
}

func (s *stores) batches(ctx context.Context, at *place) (p pair, err error) {
	n := storeGrouped
	if at.pgx != nil {
		n = storeSingles // one at a time
	}
	if p.bare, err = at.bareInserts(ctx, n, storeBatch); err != nil {
		return p, err
	}
	p.ours, err = appending(ctx, at.store, storeGrouped, 1, storeBatch)
	return p, err
}

// reading reads everything, beside a loop that scans the same columns.
func (s *stores) reading(ctx context.Context, at *place) (p pair, err error) {
	if _, err := appending(ctx, at.store, storeGrouped, 1, 1000); err != nil {
		return p, err
	}
	if p.bare, err = at.scan(ctx); err != nil {
		return p, err
	}
	n, began := 0, time.Now()
	for _, err := range at.store.Read(ctx, eventstore.Query{}) {
		if err != nil {
			return p, err
		}
		n++
	}
	p.ours = float64(n) / time.Since(began).Seconds()
	return p, nil
}

// scan reads the columns of all rows, in one statement.
func (at *place) scan(ctx context.Context) (perSecond float64, err error) {
	rows, err := at.store.DB().QueryContext(ctx, `SELECT position, stream, version, recorded_at, id, source, type, time,
		content_type, data FROM evdemo_store_events ORDER BY position`)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	n, began := 0, time.Now()
	for ; rows.Next(); n++ {
		var position, version, recordedAt int64
		var stream, id, source, kind, happened, contentType string
		var data []byte
		if err := rows.Scan(&position, &stream, &version, &recordedAt, &id, &source, &kind, &happened, &contentType, &data); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(began).Seconds(), rows.Err()
}

// account is a state for loading.
type account struct{ Events, Bytes int }

func accountFold() eventstore.Fold[account] {
	return eventstore.Fold[account]{Name: "account", Version: 1, Apply: func(a account, r eventstore.Recorded) (account, error) {
		return account{a.Events + 1, a.Bytes + len(r.Data)}, nil
	}}
}

// loading loads a long stream from a snapshot, beside loading all of it.
func (s *stores) loading(ctx context.Context, at *place) (p pair, err error) {
	events, _, err := someEvents(storeVersions)
	if err != nil {
		return p, err
	}
	for i := 0; i < len(events); i += 50 { // snapshots are not at the end of the stream, as a rule
		write := eventstore.StreamWrite{Stream: "account", Events: events[i : i+50]}
		if _, err := at.store.Append(ctx, write); err != nil {
			return p, err
		}
		if i%100 == 0 {
			if _, err := eventstore.Load(ctx, at.store, "account", accountFold(), eventstore.SnapshotEvery(100)); err != nil {
				return p, err
			}
		}
	}
	load := func(options ...eventstore.LoadOption) (perSecond float64, err error) {
		n, began := 0, time.Now()
		for ; time.Since(began) < time.Second/2; n++ {
			state, err := eventstore.Load(ctx, at.store, "account", accountFold(), options...)
			if err != nil {
				return 0, err
			}
			if state.Value.Events != storeVersions {
				return 0, fmt.Errorf("state after %d events, not %d", state.Value.Events, storeVersions)
			}
		}
		return float64(n) / time.Since(began).Seconds(), nil
	}
	if p.bare, err = load(eventstore.WithoutSnapshots()); err != nil {
		return p, err
	}
	p.ours, err = load()
	return p, err
}

// large measures what it costs to append to one stream and to load it, with few events in the store and with
// many.
func (s *stores) large(ctx context.Context) (above bool, err error) {
	const few, limit = 10_000, 1.5
	path := filepath.Join(s.dir, "large.db")
	store, err := eventstore.Open(ctx, eventstore.Config{DB: path})
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, store.Close(), removeAll(path)) }()
	fmt.Printf("append to one stream and load it, with %s events in the store, against with %s\n", thousands(s.config.large), thousands(few))
	if err := fill(ctx, store, few); err != nil {
		return false, err
	}
	before, err := s.appendAndLoad(ctx, store)
	if err != nil {
		return false, err
	}
	if err := fill(ctx, store, s.config.large-few); err != nil {
		return false, err
	}
	after, err := s.appendAndLoad(ctx, store)
	if err != nil {
		return false, err
	}
	ratio := after.Seconds() / before.Seconds()
	fmt.Printf("  %s with few, %s with many: %.2f times   want at most %.1f: %s\n\n",
		before.Round(time.Microsecond), after.Round(time.Microsecond), ratio, limit, verdict(ratio <= limit))
	return ratio > limit, nil
}

// fill appends events to many streams.
func fill(ctx context.Context, store *eventstore.Store, n int) error {
	const step = 100_000 // so that few are in memory
	for done := 0; done < n; done += step {
		if _, err := appending(ctx, store, min(step, n-done), 2, 500); err != nil {
			return err
		}
	}
	return nil
}

// appendAndLoad gives the median time of an append to a stream of a hundred events and of loading it.
func (s *stores) appendAndLoad(ctx context.Context, store *eventstore.Store) (time.Duration, error) {
	const times, versions = 301, 100
	var took []float64
	for range times {
		events, _, err := someEvents(versions + 1)
		if err != nil {
			return 0, err
		}
		stream := fmt.Sprintf("measured-%d", s.made.Add(1))
		if _, err := store.Append(ctx, eventstore.StreamWrite{Stream: stream, Events: events[:versions]}); err != nil {
			return 0, err
		}
		began := time.Now()
		if _, err := store.Append(ctx, eventstore.StreamWrite{Stream: stream, Expect: eventstore.Exactly(versions), Events: events[versions:]}); err != nil {
			return 0, err
		}
		state, err := eventstore.Load(ctx, store, stream, accountFold())
		if err != nil {
			return 0, err
		}
		took = append(took, time.Since(began).Seconds())
		if state.Value.Events != versions+1 {
			return 0, fmt.Errorf("state after %d events", state.Value.Events)
		}
	}
	return time.Duration(median(took) * float64(time.Second)), nil
}
