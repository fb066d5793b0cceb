package redistest_test

import (
	"net"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/evdemo/evdemo/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestServersAreOfTheirOwn(t *testing.T) {
	t.Parallel()
	for range 2 {
		options, err := redis.ParseURL(redistest.URL(t))
		require.NoError(t, err)
		client := redis.NewClient(options)
		n, err := client.DBSize(t.Context()).Result()
		require.NoError(t, err)
		assert.Zero(t, n)
		require.NoError(t, client.Set(t.Context(), "a", "b", 0).Err())
		require.NoError(t, client.Close())
	}
}

func TestKill(t *testing.T) {
	t.Parallel()
	server, err := redistest.Start(t.Context())
	require.NoError(t, err)
	server.Kill()
	server.Kill()
	address := strings.TrimSuffix(strings.TrimPrefix(server.URL(), "redis://"), "/0")
	_, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	require.Error(t, err)
}

func TestNotInstalled(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := redistest.Start(t.Context())
	require.ErrorIs(t, err, redistest.ErrNotInstalled)
	assert.ErrorContains(t, err, "apt-get install")
}
