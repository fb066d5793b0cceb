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

// Close ends, and so does an append, while a server says nothing: it was stopped, or its network is gone without a word.
func TestCloseBesideASilentServer(t *testing.T) {
	t.Parallel()
	network, db := through(t, postgrestest.URL(t))
	s, err := eventstore.Open(t.Context(), eventstore.Config{DB: db, RetryFor: time.Second})
	require.NoError(t, err)
	fill(t, s, "a", 3)
	followed, reached := make(chan error, 1), make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		for r, err := range s.Follow(ctx, eventstore.Query{}) {
			if err != nil {
				followed <- err
			} else if r.Position == 3 {
				close(reached)
			}
		}
	}()
	<-reached
	network.freeze()
	appended, read, closed := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	go func() { appended <- one(t.Context(), s, "a") }()
	go func() { read <- firstError(s.Read(t.Context(), eventstore.Query{})) }()
	stop() // an end of ctx is heeded whatever the server does
	require.ErrorIs(t, within(t, followed), context.Canceled)
	go func() { closed <- s.Close() }()
	_ = within(t, closed)     // it tells whether reads were still waiting
	err = within(t, appended) // it may have come after Close
	require.True(t, errors.Is(err, eventstore.ErrOutcomeUnknown) || errors.Is(err, eventstore.ErrClosed), "%v", err)
	require.ErrorIs(t, one(t.Context(), s, "a"), eventstore.ErrClosed)
	network.cut()
	require.Error(t, within(t, read))
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
