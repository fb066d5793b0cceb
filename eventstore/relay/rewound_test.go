package relay_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/eventstore/relay"
	"github.com/evdemo/evdemo/publisher"
)

// putBack makes log and checkpoint what they were when five events were there, as a restored backup does, or a server
// that has lost its last commits. The lease still has the same owner.
func putBack(t *testing.T, store *eventstore.Store) {
	t.Helper()
	tx, err := store.DB().BeginTx(t.Context(), nil) // nobody sees the one without the other
	require.NoError(t, err)
	for _, statement := range []string{
		`DROP TRIGGER IF EXISTS evdemo_store_events_remain`,
		`DELETE FROM evdemo_store_events WHERE position > 5`,
		`UPDATE evdemo_store_checkpoints SET position = 5`,
	} {
		_, err := tx.ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}
	require.NoError(t, tx.Commit())
}

// A confirm that comes after the log was put back does not move the checkpoint of that log, and nothing of it is
// passed over.
func TestPutBackBeforeAConfirm(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	require.NoError(t, appendEvents(t.Context(), store, 0, 10))
	var again atomic.Bool
	b := &broker{decide: func(position int64) publisher.Outcome {
		if position == 10 && !again.Load() {
			return 0
		}
		return publisher.Confirmed
	}}
	run(t, relay.Config{Store: store, Publisher: b, To: relay.ToQueue("q")})
	eventually(t, func() bool { return b.held() == 1 && checkpoint(t, store) == 9 }, "the tenth waits for its answer")
	sent := len(b.positions())
	again.Store(true)
	putBack(t, store)
	b.release(publisher.Confirmed)
	require.NoError(t, appendEvents(t.Context(), store, 100, 110)) // the positions from 6 to 15
	eventually(t, func() bool { return checkpoint(t, store) == 15 }, "all of the new log is published")
	assert.Subset(t, b.positions()[sent:], through(15)[5:])
}

// Likewise where it stands still meanwhile.
func TestPutBackWhileItStandsStill(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	require.NoError(t, appendEvents(t.Context(), store, 0, 10))
	var unbound atomic.Bool
	unbound.Store(true)
	b := &broker{decide: func(position int64) publisher.Outcome {
		if position == 10 && unbound.Load() {
			return publisher.Returned
		}
		return publisher.Confirmed
	}}
	r := run(t, relay.Config{Store: store, Publisher: b, To: relay.ToQueue("q")})
	eventually(t, func() bool { return r.Stats().Returned > 1 && checkpoint(t, store) == 9 }, "it stands still at the tenth")
	putBack(t, store)
	require.NoError(t, appendEvents(t.Context(), store, 100, 110))
	sent := len(b.positions())
	unbound.Store(false)
	eventually(t, func() bool { return checkpoint(t, store) == 15 }, "all of the new log is published")
	assert.Subset(t, b.positions()[sent:], through(15)[5:])
}

// A relay that waits for answers after it was told to stop is the active one until it has ended, however short its
// lease.
func TestDrainKeepsTheLease(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	require.NoError(t, appendEvents(t.Context(), store, 0, 10))
	b := &broker{decide: func(int64) publisher.Outcome { return 0 }}
	config := relay.Config{Store: store, Publisher: b, To: relay.ToQueue("q"), Lease: shortLease, DrainTimeout: time.Hour}
	first := run(t, config)
	eventually(t, func() bool { return b.held() == 1 }, "the first event waits for its answer")
	other := &broker{}
	config.Publisher = other
	run(t, config)
	first.stop()
	over := time.Now().Add(4 * shortLease)
	eventually(t, func() bool { return time.Now().After(over) || len(other.positions()) > 0 }, "four leases have passed")
	assert.Empty(t, other.positions())
	b.release(publisher.Confirmed)
	require.NoError(t, first.wait())
	eventually(t, func() bool { return len(other.positions()) == 9 }, "the other goes on behind the first event")
	assert.Equal(t, through(10)[1:], other.positions())
}

// With CatchUp a relay ends when another has published everything.
func TestCatchUpBesideAnActiveRelay(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	require.NoError(t, appendEvents(t.Context(), store, 0, 10))
	config := relay.Config{Store: store, Publisher: &broker{}, To: relay.ToQueue("q")}
	run(t, config)
	eventually(t, func() bool { return checkpoint(t, store) == 10 }, "all is published")
	idle := &broker{}
	config.Publisher = idle
	catchUp(t, config)
	assert.Empty(t, idle.positions())
}

// A relay that does not run says nothing of a lag that others may have caught up with.
func TestLagBehindTheEnd(t *testing.T) {
	t.Parallel()
	store := openFile(t)
	require.NoError(t, appendEvents(t.Context(), store, 0, 10))
	b := &broker{decide: func(int64) publisher.Outcome { return 0 }}
	r := run(t, relay.Config{Store: store, Publisher: b, To: relay.ToQueue("q"), DrainTimeout: time.Millisecond})
	eventually(t, func() bool { return b.held() == 1 && r.Stats().Lag.Events() == 10 }, "the lag is seen")
	require.ErrorIs(t, r.end(), relay.ErrDrainTimeout)
	assert.Equal(t, relay.Lag{}, r.Stats().Lag)
}
