package eventstore_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/postgrestest"
)

// Appends that are too many for one transaction wait for a server that is away side by side, not one after the other.
func TestAppendsWaitSideBySide(t *testing.T) {
	t.Parallel()
	network, db := through(t, postgrestest.URL(t))
	const retryFor, groups = 3 * time.Second, 6
	s := open(t, eventstore.Config{DB: db, RetryFor: retryFor})
	network.cut()
	began := time.Now()
	var crowd sync.WaitGroup
	errs := make([]error, groups)
	for i := range groups {
		write := eventstore.StreamWrite{Stream: "a", Events: someEvents(600)}
		crowd.Go(func() { _, errs[i] = s.Append(t.Context(), write) })
	}
	crowd.Wait()
	t.Logf("the last one has ended after %s", time.Since(began))
	require.Less(t, time.Since(began), 2*retryFor)
	for _, err := range errs {
		require.ErrorIs(t, err, eventstore.ErrUnavailable)
		require.NotErrorIs(t, err, eventstore.ErrOutcomeUnknown)
	}
	network.mend()
	require.NoError(t, one(t.Context(), s, "a"))
	require.Len(t, read(t, s), 1)
}

// An append that comes late in an outage is tried again for its own time, not for that of those it shares a transaction with.
func TestAppendWaitsForItsOwnTime(t *testing.T) {
	t.Parallel()
	network, db := through(t, postgrestest.URL(t))
	const retryFor = 6 * time.Second
	s := open(t, eventstore.Config{DB: db, RetryFor: retryFor})
	network.cut()
	early, late := make(chan error, 2), make(chan error, 1)
	for range 2 { // the second is not in a group with the first, but with the late one
		write := eventstore.StreamWrite{Stream: "early", Events: someEvents(600)}
		go func() {
			_, err := s.Append(t.Context(), write)
			early <- err
		}()
	}
	<-time.After(retryFor * 2 / 3)
	require.Empty(t, early, "they wait for as long as that")
	go func() { late <- one(t.Context(), s, "late") }()
	for range 2 {
		require.ErrorIs(t, within(t, early), eventstore.ErrUnavailable)
	}
	require.Empty(t, late, "its time is not over")
	network.mend()
	require.NoError(t, within(t, late))
	require.Equal(t, "late", read(t, s)[0].Stream)
}

// What the server has refused was rolled back, and that is known.
func TestRefusalsAreKnown(t *testing.T) {
	t.Parallel()
	db := postgrestest.URL(t)
	fill(t, open(t, eventstore.Config{DB: db}), "a", 5)
	const retryFor = time.Second
	s := open(t, eventstore.Config{DB: db + "&default_transaction_read_only=on", RetryFor: retryFor})
	for range 2 {
		err := one(t.Context(), s, "a")
		require.ErrorIs(t, err, eventstore.ErrUnavailable)
		require.NotErrorIs(t, err, eventstore.ErrOutcomeUnknown)
	}
	require.Len(t, read(t, s), 5)
	began := time.Now()
	state, err := eventstore.Load(t.Context(), s, "a", total(), eventstore.SnapshotEvery(1))
	require.NoError(t, err)
	require.Equal(t, 5, state.Value)
	require.Less(t, time.Since(began), retryFor, "a snapshot is not tried again")
}

// A file that another program has locked has everybody wait once, not one after the other.
func TestAppendsToALockedFile(t *testing.T) {
	t.Parallel()
	db := file(t)
	const timeout, callers = 300 * time.Millisecond, 20
	s := open(t, eventstore.Config{DB: db, BusyTimeout: timeout})
	other, err := connect(t, db).Conn(t.Context())
	require.NoError(t, err)
	defer other.Close()
	_, err = other.ExecContext(t.Context(), `BEGIN IMMEDIATE`)
	require.NoError(t, err)
	began := time.Now()
	var crowd sync.WaitGroup
	errs := make([]error, callers)
	for i := range callers {
		crowd.Go(func() { errs[i] = one(t.Context(), s, "a") })
	}
	crowd.Wait()
	require.Less(t, time.Since(began), callers/2*timeout)
	for _, err := range errs {
		require.ErrorIs(t, err, eventstore.ErrLocked)
		require.NotErrorIs(t, err, eventstore.ErrOutcomeUnknown)
	}
	_, err = other.ExecContext(t.Context(), `ROLLBACK`)
	require.NoError(t, err)
	require.NoError(t, one(t.Context(), s, "a"))
	require.Len(t, read(t, s), 1)
}
