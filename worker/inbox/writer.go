package inbox

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"

	"github.com/evdemo/evdemo/internal/sqlitefile"
)

// maxGroup is how many requests one transaction serves at most: other processes wait for its end.
const maxGroup = 256

// writer owns the store's only writing connection. One goroutine takes what callers have asked for
// meanwhile, does it in one transaction, and answers them all once that is durable.
//
// The connection commits nothing but the writer's own transactions: a hook turns every other commit
// into a rollback. So a function that has lost the transaction, and goes on all the same, leaves nothing
// behind.
type writer struct {
	db     *sql.DB
	config Config
	owner  owner

	conn      *sql.Conn // nil until it is needed
	do        statements
	permitted atomic.Bool // the commit under way is the writer's
	backlog   bool        // there is more to prune

	mu     sync.Mutex
	queue  []*request
	closed bool
	failed map[claimKey]struct{} // claims that are to be released, and could not be

	wake  chan struct{} // holds one
	ended chan struct{}
	idle  func() bool // set before closed is; tells whether no attempt is under way
}

// request is something to be written for one caller.
type request struct {
	// work does it in the group's transaction. An error means trouble with the file, and fails the
	// group; ErrTransactionLost means that the transaction is gone through this request, whose outcome
	// is err.
	work func(ctx context.Context, tx *sql.Tx) error
	// err is the outcome where the request has left nothing in the transaction.
	err error

	taken atomic.Bool // by the writer, or by a caller that does not wait any longer
	done  chan error  // holds one
}

func newRequest(work func(context.Context, *sql.Tx) error) *request {
	return &request{work: work, done: make(chan error, 1)}
}

// startWriter prepares the file and starts the goroutine, which close ends.
func startWriter(ctx context.Context, db *sql.DB, config Config) (*writer, error) {
	w := &writer{
		db: db, config: config, owner: owner{lease: config.Lease, seen: make(map[int64]sighting)},
		failed: make(map[claimKey]struct{}), wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	if err := w.prepareFile(ctx); err != nil {
		return nil, err
	}
	if err := w.connect(ctx); err != nil {
		return nil, err
	}
	first := newRequest(func(ctx context.Context, _ *sql.Tx) error { return w.owner.look(ctx, &w.do) })
	w.commit(ctx, []*request{first})
	if err := <-first.done; err != nil {
		w.disconnect()
		return nil, err
	}
	go w.run(context.WithoutCancel(ctx))
	return w, nil
}

// prepareFile makes the tables and the write-ahead log. SQLite does not wait for a lock while it changes
// to that log, so programs that open a new file at the same moment have to.
func (w *writer) prepareFile(ctx context.Context) error {
	deadline := time.Now().Add(w.config.BusyTimeout)
	for {
		err := w.tryPrepareFile(ctx)
		if sqlitefile.Code(err) != sqlitefile.Busy || time.Now().After(deadline) {
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

func (w *writer) tryPrepareFile(ctx context.Context) error {
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing, once committed
	if err := migrate(ctx, tx); err != nil {
		return err
	}
	if w.owner.id == 0 {
		if w.owner.id, err = enroll(ctx, tx, w.config.Lease); err != nil {
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		w.owner.id = 0
		return err
	}
	return sqlitefile.WriteAheadLog(ctx, w.db)
}

// connect takes a connection of the pool for the writer alone.
func (w *writer) connect(ctx context.Context) (err error) {
	if w.conn, err = w.db.Conn(ctx); err != nil {
		return err
	}
	err = w.conn.Raw(func(conn any) error {
		hooks, ok := conn.(sqlite.HookRegisterer)
		if !ok {
			return errors.New("SQLite driver has no commit hooks")
		}
		hooks.RegisterCommitHook(func() int32 {
			if w.permitted.Load() {
				return 0
			}
			return 1
		})
		return nil
	})
	if err == nil {
		w.do, err = prepare(ctx, w.conn)
	}
	if err != nil {
		w.disconnect()
	}
	return err
}

// disconnect closes the connection. It must not go back to the pool, where its hook would be in the way.
func (w *writer) disconnect() {
	if w.conn == nil {
		return
	}
	_ = w.conn.Raw(func(any) error { return driver.ErrBadConn })
	w.conn = nil
}

// write has work done and waits for the answer. When ctx ends before the writer has begun with it,
// nothing of it happens.
func (w *writer) write(ctx context.Context, work func(context.Context, *sql.Tx) error) error {
	r := newRequest(work)
	if err := w.enqueue(r); err != nil {
		return err
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		if !r.taken.Swap(true) {
			return ctx.Err()
		}
		return <-r.done
	}
}

func (w *writer) enqueue(r *request) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return ErrClosed
	}
	w.queue = append(w.queue, r)
	w.poke()
	return nil
}

func (w *writer) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *writer) run(ctx context.Context) {
	defer close(w.ended)
	tick := time.NewTicker(w.config.Lease / 3)
	defer tick.Stop()
	for last := false; !last; {
		chores := w.backlog
		select {
		case <-w.wake:
		case <-tick.C:
			chores = true
		}
		var group []*request
		if group, last = w.take(); chores {
			w.commitWithChores(ctx, group)
		} else {
			w.commit(ctx, group)
		}
		if w.backlog {
			w.poke()
		}
	}
	w.resign(ctx)
}

// take gives the requests of the next group. Last means that none will follow.
func (w *writer) take() (group []*request, last bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(len(w.queue), maxGroup)
	for _, r := range w.queue[:n] {
		if !r.taken.Swap(true) {
			group = append(group, r)
		}
	}
	clear(w.queue[:n])
	w.queue = w.queue[n:]
	if len(w.queue) > 0 {
		w.poke()
		return group, false
	}
	w.queue = nil
	return group, w.closed
}

// commit does the requests and answers them. Those that lose their transaction through another's fault
// are done once more.
func (w *writer) commit(ctx context.Context, group []*request) {
	for len(group) > 0 {
		group = w.commitOnce(ctx, group)
	}
}

func (w *writer) commitOnce(ctx context.Context, group []*request) (again []*request) {
	tx, err := w.begin(ctx)
	if err != nil {
		answer(group, err)
		return nil
	}
	kept := make([]*request, 0, len(group))
	for i, r := range group {
		switch err := r.work(ctx, tx); {
		case errors.Is(err, ErrTransactionLost):
			_ = tx.Rollback()
			r.done <- r.err
			return append(kept, group[i+1:]...)
		case err != nil:
			_ = tx.Rollback()
			w.disconnect()
			answer(append(kept, group[i:]...), err)
			return nil
		case r.err != nil:
			r.done <- r.err
		default:
			kept = append(kept, r)
		}
	}
	answer(kept, w.end(ctx, tx))
	return nil
}

func (w *writer) begin(ctx context.Context) (*sql.Tx, error) {
	if w.conn == nil {
		if err := w.connect(ctx); err != nil {
			return nil, fmt.Errorf("connect: %w", err)
		}
	}
	tx, err := w.conn.BeginTx(ctx, nil)
	if err != nil {
		w.disconnect()
		return nil, fmt.Errorf("begin: %w", err)
	}
	return tx, nil
}

// end commits. The lease is renewed in the same transaction where it is time for that: nobody else can
// have written while it was open, however long that was.
func (w *writer) end(ctx context.Context, tx *sql.Tx) error {
	err := w.owner.renewIfDue(ctx, &w.do)
	if err == nil {
		w.permitted.Store(true)
		err = tx.Commit()
		w.permitted.Store(false)
	}
	if err != nil {
		_ = tx.Rollback()
		w.disconnect()
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

func answer(group []*request, err error) {
	for _, r := range group {
		r.done <- sqlitefile.Explain(err)
	}
}

// commitWithChores does beside the requests what is to be done from time to time.
func (w *writer) commitWithChores(ctx context.Context, group []*request) {
	var released []claimKey
	chores := newRequest(func(ctx context.Context, _ *sql.Tx) (err error) {
		if released, err = w.releaseFailed(ctx); err != nil {
			return err
		}
		if err = w.owner.look(ctx, &w.do); err != nil {
			return err
		}
		w.backlog, err = w.do.prune(ctx, time.Now().Add(-w.config.Retention))
		return err
	})
	w.commit(ctx, append(group, chores))
	if err := <-chores.done; err != nil {
		w.backlog = false
		w.config.Logger.Warn("inbox cannot be written to", slog.String("path", w.config.Path), slog.Any("error", err))
		return
	}
	for _, key := range released {
		w.forgetFailed(key)
	}
}

// close ends the goroutine once everything accepted is done. Idle tells whether no attempt is under way.
func (w *writer) close(idle func() bool) {
	w.mu.Lock()
	w.closed = true
	w.idle = idle
	w.poke()
	w.mu.Unlock()
	<-w.ended
}

// resign gives up the claims and the lease, unless an attempt is still under way: that one is given the
// time of the lease.
func (w *writer) resign(ctx context.Context) {
	defer w.disconnect()
	if !w.idle() {
		return
	}
	w.owner.resigned = true
	r := newRequest(func(ctx context.Context, _ *sql.Tx) error { return w.do.dismiss(ctx, w.owner.id) })
	w.commit(ctx, []*request{r})
	if err := <-r.done; err != nil {
		w.config.Logger.Warn("inbox: claims are left until the lease runs out",
			slog.String("path", w.config.Path), slog.Any("error", err))
	}
}
