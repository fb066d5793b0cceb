package telemetry_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/telemetry"
)

func serve(t *testing.T, metrics prometheus.Gatherer, ready func() bool) (*telemetry.Server, *logged) {
	t.Helper()
	log, text := newLog()
	s, err := telemetry.Serve(t.Context(), "127.0.0.1:0", metrics, ready, log)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s, text
}

// client is one whose connections end with the test.
func client(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

func request(t *testing.T, c *http.Client, method string, s *telemetry.Server, path string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Addr().String()+path, nil)
	require.NoError(t, err)
	response, err := c.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(text)
}

func TestServerServesMetrics(t *testing.T) {
	t.Parallel()
	registry := telemetry.NewRegistry()
	count := prometheus.NewCounter(prometheus.CounterOpts{Name: "test_total", Help: "For the test."})
	registry.MustRegister(count)
	count.Add(7)
	s, text := serve(t, registry, nil)

	status, body := request(t, client(t), http.MethodGet, s, "/metrics")
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, body, "\ntest_total 7\n")
	assert.Contains(t, body, "\ngo_goroutines ")
	assert.Contains(t, body, "\nprocess_start_time_seconds ")
	require.NoError(t, s.Close())
	assert.Empty(t, text.String())
}

func TestRegistriesAreTheirOwn(t *testing.T) {
	t.Parallel()
	one, other := telemetry.NewRegistry(), telemetry.NewRegistry()
	one.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "test_total", Help: "For the test."}))
	n, err := testutil.GatherAndCount(other, "test_total")
	require.NoError(t, err)
	assert.Zero(t, n)
}

func TestServerTellsHealthAndReadiness(t *testing.T) {
	t.Parallel()
	var ready atomic.Bool
	s, _ := serve(t, telemetry.NewRegistry(), ready.Load)
	c := client(t)

	status, body := request(t, c, http.MethodGet, s, "/healthz")
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, "ok\n", body)

	for _, is := range []bool{false, true, false} {
		ready.Store(is)
		status, _ := request(t, c, http.MethodGet, s, "/readyz")
		assert.Equal(t, is, status == http.StatusOK)
		if !is {
			assert.Equal(t, http.StatusServiceUnavailable, status)
		}
	}
}

func TestServerWithoutReadyIsNotReady(t *testing.T) {
	t.Parallel()
	s, _ := serve(t, telemetry.NewRegistry(), nil)
	status, _ := request(t, client(t), http.MethodGet, s, "/readyz")
	assert.Equal(t, http.StatusServiceUnavailable, status)
}

func TestServerAnswersNothingElse(t *testing.T) {
	t.Parallel()
	s, _ := serve(t, telemetry.NewRegistry(), nil)
	c := client(t)
	status, _ := request(t, c, http.MethodPost, s, "/metrics")
	assert.Equal(t, http.StatusMethodNotAllowed, status)
	status, _ = request(t, c, http.MethodGet, s, "/debug/pprof/")
	assert.Equal(t, http.StatusNotFound, status)
}

func TestServePortTaken(t *testing.T) {
	t.Parallel()
	s, _ := serve(t, telemetry.NewRegistry(), nil)
	log, _ := newLog()
	_, err := telemetry.Serve(t.Context(), s.Addr().String(), telemetry.NewRegistry(), nil, log)
	require.ErrorContains(t, err, "serve metrics on "+s.Addr().String())
	var of *net.OpError
	assert.ErrorAs(t, err, &of)
}

func TestServeWhatIsNoAddress(t *testing.T) {
	t.Parallel()
	log, _ := newLog()
	for _, addr := range []string{"9090", "127.0.0.1:no-such-port", "127.0.0.1:70000"} {
		_, err := telemetry.Serve(t.Context(), addr, telemetry.NewRegistry(), nil, log)
		assert.ErrorContains(t, err, "serve metrics on "+addr)
	}
}

func TestReachable(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"127.0.0.1": false, "127.8.9.10": false, "::1": false, "0.0.0.0": true, "::": true, "192.0.2.1": true,
	} {
		assert.Equal(t, want, telemetry.Reachable(&net.TCPAddr{IP: net.ParseIP(text)}), text)
	}
}

func TestCloseFreesThePort(t *testing.T) {
	t.Parallel()
	s, _ := serve(t, telemetry.NewRegistry(), nil)
	request(t, client(t), http.MethodGet, s, "/healthz") // leaves an idle connection
	began := time.Now()
	require.NoError(t, s.Close())
	assert.Less(t, time.Since(began), patience)
	require.NoError(t, s.Close())

	var dialer net.Dialer
	_, err := dialer.DialContext(t.Context(), "tcp", s.Addr().String())
	assert.Error(t, err)
}

func TestCloseDoesNotWaitForAScrapeThatHangs(t *testing.T) {
	t.Parallel()
	scraping, finish := make(chan struct{}), make(chan struct{})
	s, _ := serve(t, prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		close(scraping)
		<-finish
		return nil, nil
	}), nil)
	c := client(t)
	ended := make(chan error, 1)
	go func() {
		r, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, "http://"+s.Addr().String()+"/metrics", nil)
		if err == nil {
			var response *http.Response
			if response, err = c.Do(r); err == nil {
				err = response.Body.Close()
			}
		}
		ended <- err
	}()
	<-scraping
	require.ErrorIs(t, s.Close(), context.DeadlineExceeded)
	require.Error(t, <-ended)
	close(finish)
}
