package inbox_test

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox"
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

// Likewise with two processes at a time on one file.
func TestCrashTwoProcesses(t *testing.T) {
	t.Parallel()
	testCrashes(t, 2)
}

func testCrashes(t *testing.T, processes int) {
	t.Helper()
	path := dbPath(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var group sync.WaitGroup
	kills, errs := make([]int, processes), make([]error, processes)
	for n := range processes {
		random := rand.New(rand.NewPCG(seed, uint64(n)))
		group.Go(func() { kills[n], errs[n] = workThroughCrashes(t, path, random) })
	}
	group.Wait()
	t.Logf("killed %v times", kills)
	require.NoError(t, errors.Join(errs...))
	db := independent(t, path)
	distinct := count(t, db, `SELECT count(DISTINCT id) FROM effects`)
	assert.Equal(t, 0, crashKeys-distinct, "missing")
	assert.Equal(t, 0, count(t, db, `SELECT count(*) FROM effects`)-distinct, "extra")
	assert.Equal(t, crashKeys, count(t, db, `SELECT count(*) FROM evdemo_inbox_handled`))
	for n := range kills {
		assert.GreaterOrEqual(t, kills[n], minKills, "too few kills to prove anything")
	}
}

// workThroughCrashes starts a child, kills it at a random moment, starts the next, until one is done.
func workThroughCrashes(t *testing.T, path string, random *rand.Rand) (kills int, err error) {
	t.Helper()
	for {
		cmd := child{Path: path, Keys: crashKeys, Offers: crashOffers, Seed: random.Uint64()}.start(t)
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

// An attempt whose process lives is waited for, however long; when it is killed another takes over after its
// lease. An effect outside the store's transaction happens again then: that is what Transact is for.
func TestTakeOverFromKilledProcess(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	cmd := child{Path: path, Hang: true}.start(t)
	store := open(t, inbox.Config{Path: path, Lease: shortLease, BusyTimeout: patience})
	d := &worker.Delivery{Queue: eventKey(0).Consumer}
	d.Event.Source, d.Event.ID = eventKey(0).Source, eventKey(0).ID
	result := make(chan error, 1)
	go func() { result <- worker.Wrap(chargeOnce, worker.Dedup(store))(t.Context(), d) }()
	select {
	case err := <-result:
		assert.Fail(t, "an event was taken from a process that lives", "%v", err)
	case <-time.After(4 * shortLease):
	}
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	require.NoError(t, await(t, result))
	assert.Equal(t, 2, effects(t, path, eventKey(0)))
}
