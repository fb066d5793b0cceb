package postgres

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/evdemo/evdemo/internal/pglink"
	"github.com/evdemo/evdemo/internal/requests"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox/internal/attempt"
)

// keeperTick is how often the keeper looks whether its connection lives.
const keeperTick = time.Second

// keeper holds the claims of this process: for each attempt under way an advisory lock of one session, whose
// connection it has for itself. When the process ends, however it does, so does the session, and with it all the
// claims. One goroutine asks the server, for all who want something at the time together.
//
// When the connection is lost while the process lives, the claims are gone until the keeper has another one, and
// makes them again. Another process may have begun with the same events meanwhile: the record of an event is made
// once all the same.
type keeper struct {
	config  *pgx.ConnConfig
	timeout time.Duration
	logger  *slog.Logger
	place   string

	asked *requests.Queue[keeping]
	ended chan struct{}

	// These are the goroutine's.
	conn *pgx.Conn     // nil until it is needed
	held map[int64]int // how many attempts are under way for each lock
	lost map[int64]int // of these, how many the session does not hold
}

// keeping is a request: for a claim, or for the end of one.
type keeping struct {
	claim   *claiming
	release int64
}

// claiming is a request for a claim.
type claiming struct {
	key     worker.Key
	lock    int64
	settled atomic.Bool // by the keeper, or by a caller that does not wait any longer
	done    chan claimed
}

// claimed is the answer.
type claimed struct {
	verdict verdict
	err     error
}

type verdict uint8

const (
	busy      verdict = iota // another process is at it
	claimedIt                // the event is the caller's, who is to release it
	handled                  // it has been handled
)

func startKeeper(ctx context.Context, base *pgx.ConnConfig, config Config) *keeper {
	k := &keeper{
		config: base.Copy(), timeout: config.Timeout, logger: config.Logger, place: place(base),
		asked: requests.New[keeping](maxGroup), ended: make(chan struct{}), held: map[int64]int{}, lost: map[int64]int{},
	}
	// Statistics come late to a table that grows quickly, and the events asked for are few in any case.
	pglink.SetUp(k.config, map[string]string{"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off", "jit": "off"})
	go k.run(ctx)
	return k
}

// claim asks for an event. The lock is the caller's where the verdict is claimedIt, and only then.
func (k *keeper) claim(ctx context.Context, key worker.Key, lock int64) (verdict, error) {
	c := &claiming{key: key, lock: lock, done: make(chan claimed, 1)}
	if !k.asked.Add(keeping{claim: c}) {
		return busy, attempt.ErrClosed
	}
	select {
	case a := <-c.done:
		return a.verdict, a.err
	case <-ctx.Done():
		if !c.settled.Swap(true) {
			return busy, ctx.Err() // the keeper gives it up
		}
		a := <-c.done
		return a.verdict, a.err
	}
}

// release ends a claim. After close there is none.
func (k *keeper) release(lock int64) { k.asked.Add(keeping{release: lock}) }

// close ends the goroutine and the session.
func (k *keeper) close() {
	k.asked.Close()
	<-k.ended
}

func (k *keeper) run(ctx context.Context) {
	defer close(k.ended)
	tick := time.NewTicker(keeperTick)
	defer tick.Stop()
	for {
		select {
		case <-k.asked.Wake():
		case <-tick.C:
		}
		group, last := k.asked.Take()
		if last {
			refuse(group)
			k.disconnect(ctx)
			return
		}
		k.serve(ctx, group)
	}
}

// refuse answers what came too late.
func refuse(group []keeping) {
	for _, r := range group {
		if r.claim != nil {
			r.claim.answer(claimed{err: attempt.ErrClosed})
		}
	}
}

// answer tells whether the caller has it.
func (c *claiming) answer(a claimed) bool {
	if c.settled.Swap(true) {
		return false
	}
	c.done <- a
	return true
}

// serve answers a group. A connection that was lost while nothing was asked is no fault of theirs.
func (k *keeper) serve(ctx context.Context, group []keeping) {
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	var r round
	for _, asked := range group {
		if asked.claim != nil {
			r.claims = append(r.claims, asked.claim)
		} else if k.drop(asked.release) {
			r.unlock = append(r.unlock, asked.release)
		}
	}
	if k.conn == nil && len(k.held) == 0 && len(r.claims) == 0 {
		return
	}
	was := k.conn
	err := k.ask(ctx, &r)
	if err != nil && was != nil {
		k.lose(ctx, err)
		r.unlock = nil // with the session
		err = k.ask(ctx, &r)
	}
	if err != nil {
		k.disconnect(ctx)
		for _, c := range r.claims {
			c.answer(claimed{err: explain(err)})
		}
		return
	}
	if len(r.got) < len(r.claims) {
		for _, c := range r.claims {
			c.answer(claimed{err: errReadOnly})
		}
		r.claims = nil
	}
	k.settle(&r)
}

// drop notes the end of an attempt, and tells whether the session holds a lock for it.
func (k *keeper) drop(lock int64) (locked bool) {
	less(k.held, lock)
	return !less(k.lost, lock)
}

// less takes one off a count.
func less(counts map[int64]int, lock int64) bool {
	n := counts[lock]
	if n > 1 {
		counts[lock] = n - 1
	} else {
		delete(counts, lock)
	}
	return n > 0
}

// round is what the server is asked at a time, and what it says.
type round struct {
	claims []*claiming
	unlock []int64

	again         []int64 // locks that were lost
	gotAgain, got []bool
	handled       map[int]bool // claims whose events were handled
}

// ask asks the server. Whether an event was handled is asked after it was locked, by a statement that sees what
// was committed until then: whoever had it locked before has recorded it before that.
func (k *keeper) ask(ctx context.Context, r *round) (err error) {
	if k.conn == nil {
		if k.conn, err = pgx.ConnectConfig(ctx, k.config); err != nil {
			return err
		}
		k.lost = maps.Clone(k.held)
	}
	const lock = `SELECT pg_try_advisory_lock(lock) FROM unnest($1::bigint[]) WITH ORDINALITY AS t(lock, n) ORDER BY n`
	// Nothing is begun that cannot be recorded.
	const claim = `SELECT pg_try_advisory_lock(lock) FROM unnest($1::bigint[]) WITH ORDINALITY AS t(lock, n)
		WHERE current_setting('transaction_read_only') = 'off' ORDER BY n`
	batch := &pgx.Batch{}
	batch.Queue(`SELECT count(pg_advisory_unlock(lock)) FROM unnest($1::bigint[]) AS t(lock)`, r.unlock)
	r.again = nil
	for lock, n := range k.lost {
		r.again = append(r.again, slices.Repeat([]int64{lock}, n)...)
	}
	batch.Queue(lock, r.again).Query(func(rows pgx.Rows) (err error) {
		r.gotAgain, err = pgx.CollectRows(rows, pgx.RowTo[bool])
		return err
	})
	locks, consumers, sources, ids := keys(r.claims)
	batch.Queue(claim, locks).Query(func(rows pgx.Rows) (err error) {
		r.got, err = pgx.CollectRows(rows, pgx.RowTo[bool])
		return err
	})
	batch.Queue(`SELECT n FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS t(consumer, source, id, n)
		JOIN evdemo_inbox_handled USING (consumer, source, id)`, consumers, sources, ids).Query(func(rows pgx.Rows) error {
		numbers, err := pgx.CollectRows(rows, pgx.RowTo[int])
		r.handled = make(map[int]bool, len(numbers))
		for _, n := range numbers {
			r.handled[n-1] = true
		}
		return err
	})
	return k.conn.SendBatch(ctx, batch).Close()
}

var errReadOnly = errors.New("the database cannot be written to")

func keys(claims []*claiming) (locks []int64, consumers, sources, ids []string) {
	for _, c := range claims {
		locks = append(locks, c.lock)
		consumers, sources, ids = append(consumers, c.key.Consumer), append(sources, c.key.Source), append(ids, c.key.ID)
	}
	return locks, consumers, sources, ids
}

// settle tells the callers what the server has said, and gives up what nobody wants.
func (k *keeper) settle(r *round) {
	for i, lock := range r.again {
		if r.gotAgain[i] {
			less(k.lost, lock)
		}
	}
	for i, c := range r.claims {
		if r.got[i] {
			k.held[c.lock]++
		}
		wanted := false
		switch {
		case r.handled[i]:
			c.answer(claimed{verdict: handled})
		case r.got[i]:
			wanted = c.answer(claimed{verdict: claimedIt})
		default:
			c.answer(claimed{verdict: busy})
		}
		if r.got[i] && !wanted {
			k.release(c.lock)
		}
	}
}

// lose is for a connection that has ended by itself.
func (k *keeper) lose(ctx context.Context, err error) {
	k.disconnect(ctx)
	if len(k.held) > 0 {
		k.logger.Warn("inbox: the connection with the claims was lost; until it is back other processes may begin with the same events",
			slog.String("database", k.place), slog.Int("claims", len(k.held)), slog.Any("error", err))
	}
}

func (k *keeper) disconnect(ctx context.Context) {
	if k.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(k.timeout, time.Second))
	defer cancel()
	_ = k.conn.Close(ctx)
	k.conn = nil
}
