package eventstore

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
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

	"github.com/evdemo/evdemo/internal/pglink"
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
	pgConnection      = "08" // a class
	pgProtocol        = "08P01"
	pgIdle            = "25P03"
	pgIntervention    = "57P" // the server ends, starts, or ends a session
)

// Statements that are PostgreSQL's own.
const (
	// With the lock, and in more than one round trip: a client that is frozen or cut off must not keep it for hours.
	lockPostgres statement = `SELECT last, recorded, set_config('idle_in_transaction_session_timeout',
		CASE current_setting('idle_in_transaction_session_timeout') WHEN '0' THEN '30s'
		ELSE current_setting('idle_in_transaction_session_timeout') END, true) FROM evdemo_store_lock()`
	notifyPostgres statement = `SELECT evdemo_store_notify()`
	appendPostgres           = `SELECT first, recorded, heads FROM evdemo_store_append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`

	appendOnePostgres = `SELECT first, recorded, head FROM evdemo_store_append_one($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`

	// listenLock is held, and shared, by everybody who listens: evdemo_store_notify asks for it.
	listenLock = 7311701418400448511
	// migrationLock is held by whoever makes or changes the tables.
	migrationLock = 0x6576_6465_6d6f
)

// postgresDB is a store in a PostgreSQL database. Nobody waits for connections that others hold while they wait: there
// are some for reading, some for the store's own transactions, some for the application's, and one that appends.
type postgresDB struct {
	config             *pgx.ConnConfig
	pools              []*pgxpool.Pool
	reading, own, apps *sql.DB
	writer             *pgx.Conn // the writer's goroutine's; nil until it is needed
}

// closeTime is how long Close waits for transactions that are open, and for reads that a server does not answer.
const closeTime = 10 * time.Second

// connectTimeout is for connecting to a server, where the URL says nothing of that.
const connectTimeout = 5 * time.Second

func openPostgres(ctx context.Context, config Config) (*postgresDB, error) {
	_, rest, _ := strings.Cut(config.DB, "://")
	poolConfig, err := pglink.ParseConfig("postgres://" + rest)
	if err != nil {
		return nil, explainURL(config.DB, err)
	}
	connConfig := poolConfig.ConnConfig
	if config.Unsynced {
		connConfig.RuntimeParams["synchronous_commit"] = "off"
	}
	connConfig.ConnectTimeout = cmp.Or(connConfig.ConnectTimeout, connectTimeout)
	connConfig.DialFunc = pglink.Dialer(connConfig.ConnectTimeout).DialContext
	if connConfig.ValidateConnect == nil && !strings.Contains(config.DB, "target_session_attrs") {
		// A standby is behind: whoever reads from it after another server would pass over events.
		connConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	}
	poolConfig.PingTimeout = connConfig.ConnectTimeout // a connection that says nothing is replaced
	if config.MaxConns > 0 || !strings.Contains(config.DB, "pool_max_conns") {
		poolConfig.MaxConns = int32(min(cmp.Or(config.MaxConns, DefaultMaxConns), 1000)) //nolint:gosec // it fits
	}
	d := &postgresDB{config: connConfig}
	var home pglink.Home
	err = retry(ctx, d, config.RetryFor, func() (err error) {
		home, err = pglink.FindHome(ctx, connConfig, "evdemo_store_events")
		return err
	})
	if err == nil && !home.Existing && config.Existing {
		err = fmt.Errorf("%w in that database", ErrNoStore)
	}
	if err != nil {
		return nil, err
	}
	pglink.SetUp(connConfig, map[string]string{"search_path": home.SearchPath})
	if err := d.connectPools(ctx, poolConfig); err != nil {
		_ = d.close() //nolint:contextcheck // it has a limit of its own
		return nil, err
	}
	if err := retry(ctx, d, config.RetryFor, func() error { return d.prepare(ctx, home.Existing, config.RetryFor) }); err != nil {
		_ = d.close() //nolint:contextcheck // it has a limit of its own
		return nil, err
	}
	return d, nil
}

func (d *postgresDB) connectPools(ctx context.Context, config *pgxpool.Config) error {
	for _, db := range []**sql.DB{&d.reading, &d.own, &d.apps} {
		pool, err := pgxpool.NewWithConfig(ctx, config.Copy())
		if err != nil {
			return err
		}
		d.pools = append(d.pools, pool)
		*db = stdlib.OpenDBFromPool(pool)
	}
	return nil
}

// prepare makes the tables, one program at a time, where they are not as they should be.
func (d *postgresDB) prepare(ctx context.Context, existing bool, limit time.Duration) error {
	set := migrationsOf(goose.DialectPostgres, "migrations/postgres")
	if existing {
		if current, err := set.Current(ctx, d.own); err != nil || current {
			return err
		}
	}
	lock, err := d.apps.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Rollback() }() // the end of the lock
	limit = max(limit, time.Second)
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if _, err := lock.ExecContext(limited, `SELECT pg_advisory_xact_lock($1)`, int64(migrationLock)); err != nil {
		if limited.Err() != nil && ctx.Err() == nil {
			return fmt.Errorf("another program has been making the tables for longer than %s", limit)
		}
		return err
	}
	return set.Up(ctx, d.own)
}

func (d *postgresDB) appendGroup(ctx context.Context, group []*appending) (begun bool, err error) {
	if d.writer == nil {
		if d.writer, err = d.connectWriter(ctx); err != nil {
			return false, err
		}
	}
	if g, ok := gather(group); ok {
		err = g.append(ctx, d.writer)
		if err == nil {
			g.answer(group)
			return true, nil
		}
		begun = mayBeCommitted(err)
	}
	if err == nil || isSQLState(err, pgStreamVersion, pgUniqueViolation) {
		begun, err = d.appendOneByOne(ctx, group)
	}
	if err != nil {
		d.disconnect(context.WithoutCancel(ctx))
	}
	return begun, err
}

// connectWriter gives a connection whose transactions see, behind the lock, what was committed last.
func (d *postgresDB) connectWriter(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, d.config)
	if err != nil {
		return nil, err
	}
	var isolation string
	err = conn.QueryRow(ctx, `SHOW default_transaction_isolation`).Scan(&isolation)
	if err == nil && isolation != "read committed" { // a parameter of the connection is refused by poolers
		_, err = conn.Exec(ctx, `SET default_transaction_isolation = 'read committed'`)
	}
	if err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, err
	}
	return conn, nil
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
	return mayBeCommitted(err), err
}

// mayBeCommitted tells whether a transaction that ended with an error may have been committed: the server did not
// say that it was rolled back, which it does with the severity ERROR.
func mayBeCommitted(err error) bool {
	if err == nil || pgconn.SafeToRetry(err) {
		return false
	}
	pgErr, answered := errors.AsType[*pgconn.PgError](err)
	return !answered || pgErr.SeverityUnlocalized != "ERROR"
}

func (d *postgresDB) lock(ctx context.Context, q runner) (h head, err error) {
	var timeout string
	err = q.row(ctx, lockPostgres).Scan(&h.position, &h.recordedAt, &timeout)
	return h, err
}

func (d *postgresDB) appended(ctx context.Context, q runner) error {
	return q.exec(ctx, notifyPostgres)
}

func (d *postgresDB) insertAll(ctx context.Context, tx *sql.Tx, all []placed) (int64, error) {
	const insert = `INSERT INTO evdemo_store_events
		SELECT position, stream, version, recorded_at, id, source, type, nullif(subject, ''), nullif(time, ''), nullif(content_type, ''),
			nullif(data_schema, ''), nullif(correlation, ''), nullif(extensions, ''), data
		FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
			$10::text[], $11::text[], $12::text[], $13::text[], $14::bytea[])
			AS e(position, stream, version, recorded_at, id, source, type, subject, time, content_type, data_schema, correlation, extensions, data)
		ON CONFLICT (id, source) DO NOTHING`
	var numbers [3][]int64
	var texts [10][]string
	var data [][]byte
	for i := range all {
		p := &all[i]
		for j, n := range []int64{p.position, p.version, p.recordedAt} {
			numbers[j] = append(numbers[j], n)
		}
		for j, text := range []string{
			p.stream, p.id, p.source, p.kind, p.subject, p.time, p.contentType, p.dataSchema, p.correlation, p.extensions,
		} {
			texts[j] = append(texts[j], text)
		}
		data = append(data, p.bytes())
	}
	result, err := tx.ExecContext(ctx, insert, numbers[0], texts[0], numbers[1], numbers[2], texts[1], texts[2], texts[3], texts[4],
		texts[5], texts[6], texts[7], texts[8], texts[9], data)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
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
		g.data = append(g.data, r.bytes())
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

func (d *postgresDB) reads() *sql.DB { return d.reading }

// query implements database. Package pgx keeps statements prepared by itself.
func (d *postgresDB) query(ctx context.Context, _ bool, text string, args ...any) (*sql.Rows, error) {
	return d.reading.QueryContext(ctx, text, args...)
}
func (d *postgresDB) writes() *sql.DB       { return d.own }
func (d *postgresDB) applications() *sql.DB { return d.apps }

// options implements database: appends are refused in other transactions, whatever the database's default is.
func (d *postgresDB) options() *sql.TxOptions {
	return &sql.TxOptions{Isolation: sql.LevelReadCommitted}
}

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

func (d *postgresDB) check(context.Context) ([]string, error) { return nil, nil }

func (d *postgresDB) close() error {
	d.disconnect(context.Background())
	ended := make(chan error, 1)
	go func() {
		var errs []error
		for i, db := range []*sql.DB{d.reading, d.own, d.apps} {
			if i < len(d.pools) {
				errs = append(errs, db.Close())
				d.pools[i].Close()
			}
		}
		ended <- errors.Join(errs...)
	}()
	select {
	case err := <-ended:
		return err
	case <-time.After(closeTime):
		return fmt.Errorf("connections were still in use after %s: they are closed when their users are done", closeTime)
	}
}

// refused implements database: by what an event has in it.
func (d *postgresDB) refused(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && slices.Contains([]string{"22", "23", "54", "P0"}, pgErr.Code[:min(2, len(pgErr.Code))])
}

// transient implements database: the server is away or has become a standby, or has chosen this transaction to end a
// deadlock.
func (d *postgresDB) transient(err error) bool {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return strings.HasPrefix(pgErr.Code, pgConnection) && pgErr.Code != pgProtocol || strings.HasPrefix(pgErr.Code, pgIntervention) ||
			isSQLState(err, pgTooManyConns, pgSerialization, pgDeadlock, pgReadOnly)
	}
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	switch {
	case err == nil:
		return false
	case connecting: // also where the time for it was over
		return true
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	}
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, io.EOF) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, pgconn.ErrStandbyConnection) || pgconn.SafeToRetry(err) || strings.Contains(err.Error(), "conn closed")
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
	case isSQLState(err, pgIdle):
		return fmt.Errorf("the transaction was idle for too long while others waited to append: %w", err)
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

// explainURL says what is wrong with a URL, without the URL and the password in it.
func explainURL(db string, err error) error {
	if errors.Is(err, pglink.ErrPassword) {
		return fmt.Errorf("%w: %w", ErrURL, err)
	}
	_, problem, _ := strings.Cut(err.Error(), "`: ") // behind the URL
	if u, err := url.Parse(db); err != nil || problem == "" {
		problem = ""
	} else if password, set := u.User.Password(); set && password != "" && strings.Contains(problem, password) {
		problem = ""
	}
	if problem == "" {
		return fmt.Errorf("%w: write postgres://user@host:5432/database", ErrURL)
	}
	return fmt.Errorf("%w: %s", ErrURL, problem)
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
