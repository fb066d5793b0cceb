package eventstore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/postgrestest"
)

// A leader that the network is cut off from in the middle of saving ends before another one begins, though what it saves
// is tried again for much longer than the lease.
func TestLeaderCutOffWhileItSaves(t *testing.T) {
	t.Parallel()
	db := postgrestest.URL(t)
	network, through := through(t, db)
	cutOff := open(t, eventstore.Config{DB: through, RetryFor: time.Minute})
	successor := open(t, eventstore.Config{DB: db})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const lease = 2 * time.Second
	leading := make(chan context.Context, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- cutOff.Lead(ctx, "x", lease, func(working context.Context, l *eventstore.Lease) error {
			for i := int64(1); working.Err() == nil; i++ {
				if err := l.SaveNow(working, eventstore.Checkpoint{Version: 1, Position: i}); err != nil {
					return err
				}
				if i == 20 {
					leading <- working
				}
			}
			return working.Err()
		})
	}()
	working := <-leading
	network.cut()
	require.NoError(t, successor.Lead(ctx, "x", lease, func(context.Context, *eventstore.Lease) error {
		if working.Err() == nil {
			return errors.New("two lead at a time")
		}
		return nil
	}))
	require.ErrorIs(t, context.Cause(working), eventstore.ErrLeaseLost)
	cancel()
	require.Error(t, <-ended)
}

// A lease is kept for longer than it lasts while the application has every connection that there is for it.
func TestLeaseBesideTheApplicationsTransactions(t *testing.T) {
	t.Parallel()
	s := open(t, eventstore.Config{DB: postgrestest.URL(t), MaxConns: 2})
	const lease = 2 * time.Second
	turns := 0
	err := s.Lead(t.Context(), "x", lease, func(ctx context.Context, _ *eventstore.Lease) error {
		if turns++; turns > 1 {
			return eventstore.ErrOutcomeUnknown
		}
		for range 2 {
			tx, err := s.DB().BeginTx(t.Context(), nil)
			if err != nil {
				return err
			}
			defer func() { _ = tx.Rollback() }()
		}
		select {
		case <-time.After(lease * 5 / 4):
		case <-ctx.Done():
		}
		return ctx.Err()
	})
	require.NoError(t, err)
	require.Equal(t, 1, turns, "it was lost")
}
