package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/postgrestest"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox/postgres"
)

const (
	crashKeys   = 1000
	crashOffers = 3
	maxKills    = 10
	minKills    = 3
)

// Events that are handled by Transact have their effect exactly once, however often the process is killed
// and however often they are delivered.
func TestCrash(t *testing.T) {
	t.Parallel()
	testCrashes(t, 1)
}

// Likewise with two processes at a time on one database.
func TestCrashTwoProcesses(t *testing.T) {
	t.Parallel()
	testCrashes(t, 2)
}

func testCrashes(t *testing.T, processes int) {
	t.Helper()
	at := database(t)
	seed := rand.Uint64() //nolint:gosec // a test
	t.Logf("seed %d", seed)
	var group sync.WaitGroup
	kills, errs := make([]int, processes), make([]error, processes)
	for n := range processes {
		random := rand.New(rand.NewPCG(seed, uint64(n))) //nolint:gosec // a test
		group.Go(func() { kills[n], errs[n] = workThroughCrashes(t, at, random) })
	}
	group.Wait()
	t.Logf("killed %v times", kills)
	require.NoError(t, errors.Join(errs...))
	requireOneEffectEach(t, independent(t, at), crashKeys)
	for n := range kills {
		assert.GreaterOrEqual(t, kills[n], minKills, "too few kills to prove anything")
	}
}

func requireOneEffectEach(t *testing.T, db *sql.DB, events int) {
	t.Helper()
	distinct := count(t, db, `SELECT count(DISTINCT id) FROM effects`)
	assert.Equal(t, 0, events-distinct, "missing")
	assert.Equal(t, 0, count(t, db, `SELECT count(*) FROM effects`)-distinct, "extra")
	assert.Equal(t, events, count(t, db, `SELECT count(*) FROM evdemo_inbox_handled`))
}

// workThroughCrashes starts a child, kills it at a random moment, starts the next, until one is done.
func workThroughCrashes(t *testing.T, at string, random *rand.Rand) (kills int, err error) {
	t.Helper()
	for {
		cmd := child{URL: at, Keys: crashKeys, Offers: crashOffers, Seed: random.Uint64()}.start(t)
		limit := patience
		if kills < maxKills {
			limit = time.Duration(random.Int64N(int64(100 * time.Millisecond)))
		}
		kill := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		if kill.Stop() || err == nil || limit == patience {
			return kills, err
		}
		kills++
	}
}

// An attempt whose process lives is waited for; when it is killed another takes over.
func TestTakeOverFromKilledProcess(t *testing.T) {
	t.Parallel()
	at := database(t)
	cmd := child{URL: at, Hang: true}.start(t)
	store := open(t, postgres.Config{URL: at})
	result := make(chan error, 1)
	go func() { result <- worker.Wrap(chargeOnce, worker.Dedup(store))(t.Context(), delivery(eventKey(0))) }()
	select {
	case err := <-result:
		assert.Fail(t, "an event was taken from a process that lives", "%v", err)
	case <-time.After(time.Second):
	}
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	require.NoError(t, await(t, result))
	assert.Equal(t, 1, effects(t, independent(t, at), eventKey(0)))
}

// A process that loses the session with its claims makes them again: others go on waiting.
func TestSessionOfClaimsIsLost(t *testing.T) {
	t.Parallel()
	at := database(t)
	db := independent(t, at)
	holder, waiter := open(t, postgres.Config{URL: at}), open(t, postgres.Config{URL: at})
	finish, held := hold(t, holder, eventKey(0))
	finishSecond, second := hold(t, holder, eventKey(1))
	require.Equal(t, 2, claims(t, db))
	const session = `SELECT DISTINCT pid FROM pg_locks WHERE locktype = 'advisory'
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
	pid := count(t, db, session)
	require.Equal(t, 1, count(t, db, `SELECT count(*) WHERE pg_terminate_backend($1)`, pid))
	require.Eventually(t, func() bool { // the server ends it a moment later
		return count(t, db, `SELECT count(*) FROM pg_stat_activity WHERE pid = $1`, pid) == 0 && claims(t, db) == 2
	}, patience, 10*time.Millisecond, "they are made again")
	require.NotEqual(t, pid, count(t, db, session))
	waiting := once(t.Context(), waiter, eventKey(0), succeed)
	select {
	case <-waiting:
		assert.Fail(t, "a claim was taken from a process that lives")
	case <-time.After(500 * time.Millisecond):
	}
	finish <- nil
	assert.Equal(t, outcome{called: true}, await(t, held))
	assert.Equal(t, outcome{called: false}, await(t, waiting))
	finishSecond <- errHandler
	assert.Equal(t, outcome{called: true, err: errHandler}, await(t, second))
	expect(t, waiter, eventKey(1), succeed, true, nil)
	require.Eventually(t, func() bool { return claims(t, db) == 0 }, patience, 10*time.Millisecond)
}

// A COMMIT whose answer is lost is looked up, and what is said about it is true.
func TestCommitIsLost(t *testing.T) {
	t.Parallel()
	at := database(t)
	db := independent(t, at)
	link, through := startProxy(t, at)
	store := open(t, postgres.Config{URL: through})
	link.next.Store(loseAnswer)
	expect(t, store, eventKey(0), transact(eventKey(0), nil), true, nil)
	assert.Equal(t, 1, effects(t, db, eventKey(0)))
	expect(t, store, eventKey(0), succeed, false, nil)

	link.next.Store(loseCommit)
	called, err := store.Once(t.Context(), eventKey(1), transact(eventKey(1), nil))
	require.ErrorContains(t, err, "was not committed, and nothing of it remains")
	assert.True(t, called)
	assert.Equal(t, 0, effects(t, db, eventKey(1)))
	expect(t, store, eventKey(1), transact(eventKey(1), nil), true, nil)
	assert.Equal(t, 1, effects(t, db, eventKey(1)))

	link.next.Store(loseCommitAndWait)
	called, err = store.Once(t.Context(), eventKey(2), func(ctx context.Context) error {
		return transact(eventKey(2), func(ctx context.Context, _ *sql.Tx) error {
			go func() { // another process's attempt, which waits for the transaction to end
				defer close(link.goOn)
				_, _ = db.ExecContext(ctx, `INSERT INTO evdemo_inbox_handled VALUES ($1, $2, $3, 1)`, eventKey(2).Consumer, eventKey(2).Source, eventKey(2).ID)
			}()
			require.Eventually(t, func() bool { return waitingInserts(t, db) == 1 }, patience, time.Millisecond)
			return nil
		})(ctx)
	})
	require.ErrorIs(t, err, worker.ErrDuplicate, "that one has it")
	assert.True(t, called)
	expect(t, store, eventKey(2), succeed, false, nil)
}

func waitingInserts(t *testing.T, db *sql.DB) int {
	t.Helper()
	return count(t, db, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
		AND query LIKE 'INSERT INTO evdemo_inbox_handled%'`)
}

// While the server is still at a COMMIT whose connection broke, nothing is said about it. Here that waits for a
// standby which does not exist.
func TestCommitTakesLongAndIsLost(t *testing.T) {
	t.Parallel()
	server := postgrestest.Server(t)
	at := server.URL("postgres")
	makeEffects(t, at)
	db := independent(t, at)
	link, through := startProxy(t, at)
	store := open(t, postgres.Config{URL: through})
	setStandby(t, db, "'nobody'")
	result := once(t.Context(), store, eventKey(0), transact(eventKey(0), func(ctx context.Context, _ *sql.Tx) error {
		var probes sync.WaitGroup
		defer probes.Wait()
		probe, cancel := context.WithCancel(ctx)
		defer cancel()
		probes.Go(func() { // until one waits, commits do not yet
			for probe.Err() == nil {
				_, _ = db.ExecContext(probe, `INSERT INTO effects VALUES ('probe')`)
			}
		})
		require.Eventually(t, func() bool { return waitingCommits(t, db) == 1 }, patience, time.Millisecond)
		link.next.Store(leaveWaiting)
		return nil
	}))
	require.Eventually(t, func() bool { return waitingInserts(t, db) == 1 }, patience, time.Millisecond, "the look-up waits")
	assert.Equal(t, 0, effects(t, db, eventKey(0)))
	assert.Empty(t, result)
	setStandby(t, db, "''")
	assert.Equal(t, outcome{called: true}, await(t, result))
	assert.Equal(t, 1, effects(t, db, eventKey(0)))
}

func setStandby(t *testing.T, db *sql.DB, name string) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), `ALTER SYSTEM SET synchronous_standby_names = `+name)
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), `SELECT pg_reload_conf()`)
	require.NoError(t, err)
}

func waitingCommits(t *testing.T, db *sql.DB) int {
	t.Helper()
	return count(t, db, `SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`)
}

// While there is no server an event is not handed to the handler, and one that has been handled waits until that
// is recorded.
func TestServerIsAway(t *testing.T) {
	t.Parallel()
	server := postgrestest.Server(t)
	at := server.URL("postgres")
	makeEffects(t, at)
	store := open(t, postgres.Config{URL: at, Timeout: 5 * time.Second})
	away, killed := make(chan struct{}), make(chan struct{})
	handlers := map[int64]func(context.Context) error{
		0: succeed,
		1: transact(eventKey(1), nil),
		2: func(context.Context) error { return errHandler },
	}
	results := map[int64]<-chan outcome{}
	var begun sync.WaitGroup
	for n, handle := range handlers {
		begun.Add(1)
		results[n] = once(t.Context(), store, eventKey(n), func(ctx context.Context) error {
			begun.Done()
			<-away
			return handle(ctx)
		})
	}
	inTransact := once(t.Context(), store, eventKey(3), transact(eventKey(3), func(context.Context, *sql.Tx) error {
		begun.Wait()
		defer close(killed)
		return server.Kill()
	}))
	await(t, killed)
	called, err := store.Once(t.Context(), eventKey(4), succeed)
	require.ErrorContains(t, err, "claim event")
	assert.False(t, called)
	close(away)
	assert.Equal(t, outcome{called: true, err: errHandler}, await(t, results[2]))
	select {
	case <-results[0]:
		assert.Fail(t, "recorded by no server")
	case <-results[1]:
		assert.Fail(t, "committed by no server")
	case <-time.After(300 * time.Millisecond):
	}
	require.NoError(t, server.Restart(t.Context()))
	assert.Equal(t, outcome{called: true}, await(t, results[0]))
	assert.Equal(t, outcome{called: true}, await(t, results[1]))
	require.Error(t, await(t, inTransact).err)
	db := independent(t, at)
	assert.Equal(t, 1, effects(t, db, eventKey(1)))
	assert.Equal(t, 0, effects(t, db, eventKey(3)))
	require.Eventually(t, func() bool {
		called, err := store.Once(t.Context(), eventKey(3), transact(eventKey(3), nil))
		return err == nil && called
	}, patience, 10*time.Millisecond)
	for n := range int64(2) {
		expect(t, store, eventKey(n), succeed, false, nil)
	}
}

// Workers on two stores, whose server is killed and started again in the middle, miss nothing and do nothing twice.
func TestServerIsKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	const events, offers, kills = 600, 3, 3
	server := postgrestest.Server(t)
	at := server.URL("postgres")
	makeEffects(t, at)
	handles := make([]worker.Handler, 2)
	for i := range handles {
		handles[i] = worker.Wrap(func(ctx context.Context, d *worker.Delivery) error {
			<-time.After(10 * time.Millisecond)
			return chargeOnce(ctx, d)
		}, worker.Dedup(open(t, postgres.Config{URL: at, Timeout: 5 * time.Second})))
	}
	var work sync.WaitGroup
	queue := make(chan int64)
	for n := range 16 {
		work.Go(func() {
			for event := range queue {
				insist(t, handles[n%2], event)
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range kills {
			<-time.After(300 * time.Millisecond)
			assert.NoError(t, server.Kill())
			assert.NoError(t, server.Restart(context.WithoutCancel(t.Context())))
		}
	}()
	for _, n := range rand.Perm(events * offers) { //nolint:gosec // a test
		queue <- int64(n % events)
	}
	close(queue)
	work.Wait()
	await(t, ended)
	requireOneEffectEach(t, independent(t, at), events)
}

// insist delivers an event until it is handled, as a broker does.
func insist(t *testing.T, handle worker.Handler, n int64) {
	t.Helper()
	for {
		err := handle(t.Context(), delivery(eventKey(n)))
		if err == nil || errors.Is(err, worker.ErrDuplicate) || t.Context().Err() != nil {
			return
		}
		<-time.After(5 * time.Millisecond)
	}
}
