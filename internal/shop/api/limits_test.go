package api_test

import (
	"net/http"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/shop/api"
)

// requireLater is for a request beyond the limit.
func (g got) requireLater(tb testing.TB) {
	tb.Helper()
	g.requireProblem(tb, http.StatusTooManyRequests, "")
	seconds, err := strconv.Atoi(g.header.Get("Retry-After"))
	require.NoError(tb, err)
	require.Positive(tb, seconds)
}

func TestRate(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]func(*api.Config){
		"of all":       func(c *api.Config) { c.Rate = 0.01 },
		"of a client":  func(c *api.Config) { c.RatePerClient = 0.01 },
		"both of them": func(c *api.Config) { c.Rate, c.RatePerClient = 100, 0.01 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, file(t), limit, func(c *api.Config) { c.Webhooks = http.NotFoundHandler() })
			p := s.post(anOrder).placed(t) // the burst is of one
			s.post(anOrder).requireLater(t)
			require.Equal(t, "100", s.get(p.Links["wait"]).header.Get("Retry-After"))
			s.get(p.Links["history"]).requireLater(t)
			s.get("/api/openapi.yaml").requireLater(t)
			s.do(http.MethodPost, "/webhooks/stripe", nil).requireLater(t)
			require.Equal(t, "ok\n", string(s.get("/healthz").body))
			require.Equal(t, "ready\n", string(s.get("/readyz").body))
			require.Len(t, s.log(), 1)
		})
	}
}

func TestBurst(t *testing.T) {
	t.Parallel()
	s := serve(t, file(t), func(c *api.Config) { c.Rate = 5 })
	answered := 0
	for range 100 {
		if g := s.post(anOrder); g.status != http.StatusTooManyRequests {
			g.placed(t)
			answered++
			continue
		}
		break
	}
	require.GreaterOrEqual(t, answered, 5)
}
