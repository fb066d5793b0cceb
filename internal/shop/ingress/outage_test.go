package ingress_test

import (
	"context"
	"database/sql"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/postgrestest"
	"github.com/evdemo/evdemo/internal/shop/ingress"
)

// away checks that a webhook is not taken now, and that the provider is told to come back.
func away(t *testing.T, h http.Handler) {
	t.Helper()
	got := sendStripe(t, h, charged)
	require.Equal(t, http.StatusServiceUnavailable, got.status, got.text)
	require.Equal(t, "5", got.header.Get("Retry-After"))
	require.NotContains(t, got.text, "order-1")
}

// taken checks that the webhook is there once after it was sent again.
func taken(t *testing.T, h http.Handler, s *eventstore.Store) {
	t.Helper()
	got := sendStripe(t, h, charged)
	require.Equal(t, http.StatusOK, got.status, got.text)
	require.Len(t, log(t, s), 1)
}

func TestStoreIsClosed(t *testing.T) {
	t.Parallel()
	s, err := eventstore.Open(t.Context(), eventstore.Config{DB: filepath.Join(t.TempDir(), "shop.db")})
	require.NoError(t, err)
	h := handler(t, s)
	require.NoError(t, s.Close())
	away(t, h)
}

func TestFileIsLocked(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "shop.db")
	s := open(t, eventstore.Config{DB: file, BusyTimeout: 50 * time.Millisecond})
	h := handler(t, s)
	other, err := sql.Open("sqlite", file)
	require.NoError(t, err)
	defer func() { require.NoError(t, other.Close()) }()
	conn, err := other.Conn(t.Context())
	require.NoError(t, err)
	_, err = conn.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	require.NoError(t, err)
	away(t, h)
	_, err = conn.ExecContext(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	taken(t, h, s)
}

// The provider is answered while it still listens, however long the store would wait for its server.
func TestServerIsAway(t *testing.T) {
	t.Parallel()
	server := postgrestest.Server(t)
	s := open(t, eventstore.Config{DB: server.URL("postgres"), RetryFor: time.Minute})
	h := handler(t, s, func(c *ingress.Config) { c.Timeout = 300 * time.Millisecond })
	require.NoError(t, server.Kill())
	began := time.Now()
	away(t, h)
	require.Less(t, time.Since(began), 30*time.Second)
	require.NoError(t, server.Restart(t.Context()))
	taken(t, handler(t, s), s)
}

func TestSenderIsGone(t *testing.T) {
	t.Parallel()
	s := open(t, eventstore.Config{})
	h := handler(t, s)
	ctx, leave := context.WithCancel(t.Context())
	leave()
	got := serve(t, h, request(t, "/webhooks/stripe", charged, signStripe(t, charged, now())).WithContext(ctx))
	require.Equal(t, http.StatusServiceUnavailable, got.status, "it was not said to be recorded")
	taken(t, h, s)
}
