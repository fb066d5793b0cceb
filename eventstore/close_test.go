package eventstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/postgrestest"
)

// Close ends, and so does an append, while a server says nothing: it was stopped, or its network is gone without a word.
func TestCloseBesideASilentServer(t *testing.T) {
	t.Parallel()
	network, db := through(t, postgrestest.URL(t))
	s, err := eventstore.Open(t.Context(), eventstore.Config{DB: db, RetryFor: time.Second})
	require.NoError(t, err)
	fill(t, s, "a", 3)
	followed, reached := make(chan error, 1), make(chan struct{})
	go func() {
		for r, err := range s.Follow(t.Context(), eventstore.Query{}) {
			if err != nil {
				followed <- err
			} else if r.Position == 3 {
				close(reached)
			}
		}
	}()
	<-reached
	network.freeze()
	network.holds(t, 1) // the follower looks for more, on a connection that was there
	appended, read, closed := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() { read <- firstError(s.Read(ctx, eventstore.Query{})) }()
	go func() { appended <- one(t.Context(), s, "a") }()
	network.holds(t, 3)
	stop() // which is heeded whatever the server does
	require.ErrorIs(t, within(t, read), context.Canceled)
	go func() { closed <- s.Close() }()
	_ = within(t, closed) // it tells whether reads were still waiting
	require.ErrorIs(t, within(t, appended), eventstore.ErrOutcomeUnknown)
	require.ErrorIs(t, one(t.Context(), s, "a"), eventstore.ErrClosed)
	network.cut()
	require.Error(t, within(t, followed))
}

// within gives what comes in half a minute.
func within(t *testing.T, ended <-chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("it does not end")
		return nil
	}
}
