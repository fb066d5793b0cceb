package eventstore_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/localpostgres"
	"github.com/evdemo/evdemo/internal/postgrestest"
)

// standby gives two servers: the second is a standby that has got the first five of ten events.
func standby(t *testing.T) (primary, behind *localpostgres.Server) {
	t.Helper()
	primary, behind = postgrestest.Server(t), postgrestest.Server(t)
	s := open(t, eventstore.Config{DB: primary.URL("postgres")})
	fill(t, s, "a", 5)
	_, err := s.Backup(t.Context(), behind.URL("postgres"))
	require.NoError(t, err)
	fill(t, s, "a", 5)
	signal := filepath.Join(filepath.Dir(behind.LogFile()), "data", "standby.signal")
	require.NoError(t, os.WriteFile(signal, nil, 0o600))
	require.NoError(t, os.Chmod(signal, 0o666)) //nolint:gosec // the server may run as another user, and removes it
	require.NoError(t, behind.Restart(t.Context()))
	return primary, behind
}

// A standby is behind: reads that go to it now and then would pass over events. It is not used, unless the URL says so.
func TestStandbyIsNotUsed(t *testing.T) {
	t.Parallel()
	primary, behind := standby(t)
	at := behind.URL("postgres")
	require.Equal(t, 1, number(t, connect(t, at), `SELECT pg_is_in_recovery()::int`))
	err := refused(t, eventstore.Config{DB: at, RetryFor: 300 * time.Millisecond})
	require.ErrorIs(t, err, eventstore.ErrUnavailable)
	require.ErrorContains(t, err, "standby")

	u, err := url.Parse(at)
	require.NoError(t, err)
	p, err := url.Parse(primary.URL("postgres"))
	require.NoError(t, err)
	u.Host += "," + p.Host // each connection asks the standby first
	both := open(t, eventstore.Config{DB: u.String(), MaxConns: 3})
	fill(t, both, "a", 1)
	require.Len(t, read(t, both), 11)
	n := 0
	for _, err := range both.Follow(t.Context(), eventstore.Query{Limit: 11}) {
		require.NoError(t, err)
		n++
	}
	require.Equal(t, 11, n)

	onPurpose := open(t, eventstore.Config{DB: at + "&target_session_attrs=any", Existing: true, RetryFor: -1})
	require.Len(t, read(t, onPurpose), 5)
	require.Error(t, one(t.Context(), onPurpose, "a"))

	// One that is being promoted is waited for.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	opened := make(chan error, 1)
	go func() {
		promoted, err := eventstore.Open(ctx, eventstore.Config{DB: at, RetryFor: time.Minute})
		if err == nil {
			err = errors.Join(one(ctx, promoted, "a"), promoted.Close())
		}
		opened <- err
	}()
	select {
	case err := <-opened:
		t.Fatalf("it is not waited for: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	execute(t, connect(t, at), `SELECT pg_promote()`)
	require.NoError(t, within(t, opened))
	require.Len(t, read(t, onPurpose), 6)
}
