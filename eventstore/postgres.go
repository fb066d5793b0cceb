package eventstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// What PostgreSQL reports by its SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html), and what
// evdemo_store_append raises.
const (
	pgStreamVersion   = "EV001"
	pgIsolation       = "EV002"
	pgUniqueViolation = "23505"
	pgInvalidCatalog  = "3D000"
	pgTooManyConns    = "53300"
	pgDiskFull        = "53100"
	pgNoPrivilege     = "42501"
	pgSerialization   = "40001"
	pgDeadlock        = "40P01"
	pgReadOnly        = "25006"
	pgConnection      = "08"  // a class
	pgIntervention    = "57P" // the server ends, starts, or ends a session
)

// Statements that are PostgreSQL's own.
const (
	lockPostgres   statement = `SELECT last, recorded FROM evdemo_store_lock()`
	notifyPostgres statement = `SELECT evdemo_store_notify()`
	appendPostgres           = `SELECT first, recorded, heads FROM evdemo_store_append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`

	appendOnePostgres = `SELECT first, recorded, version FROM evdemo_store_append_one($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`

	// listenLock is held, and shared, by everybody who listens: evdemo_store_notify asks for it.
	listenLock = 7311701420894385266
	// advisoryLock is held by whoever makes or changes the tables.
	advisoryLock = 0x6576_6465_6d6f
)

// postgresDB is a store in a PostgreSQL database: a pool of connections, and one that appends alone, so that appends
// never wait for those who hold the others.
type postgresDB struct {
	pool   *pgxpool.Pool
	db     *sql.DB
	config *pgx.ConnConfig
	writer *pgx.Conn // the writer's goroutine's; nil until it is needed
}

func openPostgres(ctx context.Context, config Config) (*postgresDB, error) {
	poolConfig, err := pgxpool.ParseConfig(config.DB)
	if err != nil {
		return nil, ErrURL // err may show a password
	}
	params := poolConfig.ConnConfig.RuntimeParams
	if params["application_name"] == "" {
		params["application_name"] = "evdemo"
	}
	if config.Unsynced {
		params["synchronous_commit"] = "off"
	}
	poolConfig.MaxConns = int32(min(config.MaxConns, 1000)) //nolint:gosec // it fits
	d := &postgresDB{config: poolConfig.ConnConfig.Copy()}
	if d.pool, err = pgxpool.NewWithConfig(ctx, poolConfig); err != nil {
		return nil, err
	}
	d.db = stdlib.OpenDBFromPool(d.pool)
	if err := retry(ctx, d, config.RetryFor, func() error { return d.prepare(ctx, config.Existing) }); err != nil {
		_ = d.close() //nolint:contextcheck // it has a limit of its own
		return nil, err
	}
	return d, nil
}

// prepare makes the tables, one program at a time.
func (d *postgresDB) prepare(ctx context.Context, existing bool) error {
	if existing {
		var there bool
		if err := d.pool.QueryRow(ctx, `SELECT to_regclass('evdemo_store_events') IS NOT NULL`).Scan(&there); err != nil {
			return err
		}
		if !there {
			return fmt.Errorf("%w in that database", ErrNoStore)
		}
	}
	conn, err := pgx.ConnectConfig(ctx, d.config) // its end is the end of the lock
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, int64(advisoryLock)); err != nil {
		return err
	}
	return migrate(ctx, goose.DialectPostgres, d.db, "migrations/postgres")
}

func (d *postgresDB) appendGroup(ctx context.Context, group []*appending) (begun bool, err error) {
	if d.writer == nil {
		config := d.config.Copy()
		config.RuntimeParams["default_transaction_isolation"] = "read committed" // behind the lock the newest versions count
		if d.writer, err = pgx.ConnectConfig(ctx, config); err != nil {
			return false, err
		}
	}
	if g, ok := gather(group); ok {
		err = g.append(ctx, d.writer)
		if err == nil {
			g.answer(group)
			return true, nil
		}
		begun = !pgconn.SafeToRetry(err) && d.transient(err)
	}
	if err == nil || isSQLState(err, pgStreamVersion, pgUniqueViolation) {
		begun, err = d.appendOneByOne(ctx, group)
	}
	if err != nil {
		d.disconnect(context.WithoutCancel(ctx))
	}
	return begun, err
}

// disconnect has the next group use a new connection: to another server, where the URL has several and this one is
// no longer the first.
func (d *postgresDB) disconnect(ctx context.Context) {
	if d.writer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = d.writer.Close(ctx)
	d.writer = nil
}

// appendOneByOne is for a group some of whose appends may fail, or have been made before.
func (d *postgresDB) appendOneByOne(ctx context.Context, group []*appending) (begun bool, err error) {
	tx, err := d.writer.Begin(ctx)
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback(ctx) }() // nothing, once committed
	if err := appendAll(ctx, d, pgxRunner{tx}, group); err != nil {
		return false, err
	}
	err = tx.Commit(ctx)
	return err != nil && !pgconn.SafeToRetry(err), err
}

func (d *postgresDB) lock(ctx context.Context, q runner) (h head, err error) {
	err = q.row(ctx, lockPostgres).Scan(&h.position, &h.recordedAt)
	return h, err
}

func (d *postgresDB) appended(ctx context.Context, q runner) error {
	return q.exec(ctx, notifyPostgres)
}

// gathered is a group as the arguments of evdemo_store_append.
type gathered struct {
	streams []string
	bases   []int64 // the version that each stream must have, -1 where any will do
	counts  []int64 // how many events each gets
	index   map[string]int32

	of    []int32 // each event's stream, counted from 1
	place []int64 // and its place among that stream's events

	ids, sources, types, subjects, times, contentTypes, dataSchemas, correlations, extensions []string

	data [][]byte

	first, recorded int64
	heads           []int64
}

// gather puts a group together. It cannot where appends of the same group contradict each other, or have no
// events.
func gather(group []*appending) (g *gathered, ok bool) {
	g = &gathered{index: map[string]int32{}}
	for _, a := range group {
		for i := range a.writes {
			if len(a.writes[i].rows) == 0 || !g.add(&a.writes[i]) {
				return nil, false
			}
		}
	}
	return g, len(g.ids) > 0
}

func (g *gathered) add(w *write) bool {
	i, known := g.index[w.stream]
	if !known {
		i = int32(len(g.streams)) //nolint:gosec // groups are small
		g.index[w.stream] = i
		g.streams, g.bases, g.counts = append(g.streams, w.stream), append(g.bases, -1), append(g.counts, 0)
	}
	if expected := w.expect.version(); expected >= 0 {
		base := expected - g.counts[i]
		if base < 0 || g.bases[i] >= 0 && g.bases[i] != base {
			return false
		}
		g.bases[i] = base
	}
	for j := range w.rows {
		r := &w.rows[j]
		g.counts[i]++
		g.of, g.place = append(g.of, i+1), append(g.place, g.counts[i])
		g.ids, g.sources, g.types = append(g.ids, r.id), append(g.sources, r.source), append(g.types, r.kind)
		g.subjects, g.times = append(g.subjects, r.subject), append(g.times, r.time)
		g.contentTypes, g.dataSchemas = append(g.contentTypes, r.contentType), append(g.dataSchemas, r.dataSchema)
		g.correlations, g.extensions = append(g.correlations, r.correlation), append(g.extensions, r.extensions)
		data := r.data
		if len(data) == 0 {
			data = nil
		}
		g.data = append(g.data, data)
	}
	return true
}

// append appends all in a transaction of its own.
func (g *gathered) append(ctx context.Context, conn *pgx.Conn) error {
	if len(g.ids) == 1 {
		var version int64
		err := conn.QueryRow(ctx, appendOnePostgres, g.streams[0], g.bases[0], g.ids[0], g.sources[0], g.types[0], g.subjects[0],
			g.times[0], g.contentTypes[0], g.dataSchemas[0], g.correlations[0], g.extensions[0], g.data[0]).
			Scan(&g.first, &g.recorded, &version)
		g.heads = []int64{version}
		return err
	}
	return conn.QueryRow(ctx, appendPostgres, g.streams, g.bases, g.of, g.place, g.ids, g.sources, g.types, g.subjects, g.times,
		g.contentTypes, g.dataSchemas, g.correlations, g.extensions, g.data).Scan(&g.first, &g.recorded, &g.heads)
}

// answer tells each append where its events are.
func (g *gathered) answer(group []*appending) {
	position := g.first
	versions := g.heads
	for _, a := range group {
		a.err = nil
		a.out = Appended{Added: a.events, RecordedAt: micros(g.recorded), Positions: make([]int64, 0, a.events), Versions: make([]int64, 0, len(a.writes))}
		for i := range a.writes {
			w := &a.writes[i]
			of := g.index[w.stream]
			for range w.rows {
				position++
				versions[of]++
				a.out.Positions = append(a.out.Positions, position)
			}
			a.out.Versions = append(a.out.Versions, versions[of])
		}
	}
}

func (d *postgresDB) reads() *sql.DB  { return d.db }
func (d *postgresDB) writes() *sql.DB { return d.db }

// listen has a connection of its own, and another whenever that is lost. What was missed meanwhile is looked for
// at once, and by the followers' polls.
func (d *postgresDB) listen(ctx context.Context, changed func()) {
	pauses := backoff.NewExponentialBackOff()
	pauses.MaxInterval = 5 * time.Second
	for ctx.Err() == nil {
		if d.listenOnce(ctx, changed) {
			pauses.Reset()
		}
		select {
		case <-time.After(pauses.NextBackOff()):
		case <-ctx.Done():
		}
	}
}

func (d *postgresDB) listenOnce(ctx context.Context, changed func()) (heard bool) {
	conn, err := pgx.ConnectConfig(ctx, d.config)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, `LISTEN evdemo_store`); err != nil {
		return false
	}
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock_shared($1)`, int64(listenLock)); err != nil {
		return false
	}
	for {
		changed()
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return true
		}
	}
}

func (d *postgresDB) check(context.Context, func(string)) error { return nil }

func (d *postgresDB) close() error {
	d.disconnect(context.Background())
	err := d.db.Close()
	d.pool.Close()
	return err
}

// transient implements database: the server is away or has become a standby, or has chosen this transaction to end a
// deadlock.
func (d *postgresDB) transient(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return strings.HasPrefix(pgErr.Code, pgConnection) || strings.HasPrefix(pgErr.Code, pgIntervention) ||
			isSQLState(err, pgTooManyConns, pgSerialization, pgDeadlock, pgReadOnly)
	}
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		pgconn.SafeToRetry(err) || strings.Contains(err.Error(), "conn closed")
}

func (d *postgresDB) explain(err error) error {
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	switch {
	case err == nil:
		return nil
	case isSQLState(err, "28P01", "28000"):
		return fmt.Errorf("%w: the server refuses the login: %w", ErrUnavailable, err)
	case isSQLState(err, pgInvalidCatalog):
		return fmt.Errorf("%w: the server has no such database: %w", ErrUnavailable, err)
	case isSQLState(err, pgIsolation):
		return fmt.Errorf("begin the transaction with the isolation level read committed: %w", err)
	case isSQLState(err, pgDiskFull):
		return fmt.Errorf("the server's disk is full, and nothing of this was written: %w", err)
	case isSQLState(err, pgNoPrivilege):
		return fmt.Errorf("the user may not do this: %w", err)
	case connecting && !errors.Is(err, ErrUnavailable):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	default:
		return closedOr(err)
	}
}

// isSQLState tells whether an error is the server's, with one of these codes.
func isSQLState(err error, codes ...string) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && slices.Contains(codes, pgErr.Code)
}

// withoutPassword is a URL without its password, and without parameters that may be one.
func withoutPassword(db string) string {
	u, err := url.Parse(db)
	if err != nil {
		return "postgres://…"
	}
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	query := u.Query()
	for _, secret := range []string{"password", "sslpassword", "passfile"} {
		query.Del(secret)
	}
	u.RawQuery = query.Encode()
	return u.String()
}
