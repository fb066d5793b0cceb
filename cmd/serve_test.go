package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/postgrestest"
)

func parseServe(t *testing.T, c *commandLine, args ...string) (*serveOptions, int) {
	t.Helper()
	var got *serveOptions
	code := c.parse(t, newServeCommand(c.app, func(_ context.Context, _ *App, o *serveOptions) error { got = o; return nil }), args...)
	return got, code
}

func TestServeOptions(t *testing.T) {
	t.Parallel()
	c := newCommandLine(map[string]string{"EVDEMO_STRIPE_SECRET": "whsec_for_the_tests_of_serve_1, whsec_for_the_tests_of_serve_2,", "EVDEMO_RATE": "50", "EVDEMO_DB": "shop.db"})
	o, code := parseServe(t, c, "--addr", "127.0.0.1:0")
	require.Equal(t, exitOK, code, &c.err)
	require.Equal(t, "127.0.0.1:0", o.addr)
	require.InDelta(t, 50, o.rate, 0)
	require.Equal(t, []string{"whsec_for_the_tests_of_serve_1", "whsec_for_the_tests_of_serve_2"}, o.secrets().Stripe)
	require.Empty(t, o.secrets().SMS)
	require.Equal(t, serveRetryFor, o.retryFor)
	for _, test := range []struct{ text, args string }{
		{"say which event store", ""},
		{"want HOST:PORT", "--db a.db --addr 8080"},
		{"--rate -1", "--db a.db --rate -1"},
		{"--rate-per-client NaN", "--db a.db --rate-per-client NaN"},
		{"--max-body 0", "--db a.db --max-body 0"},
		{"--webhook-tolerance 0s", "--db a.db --webhook-tolerance 0"},
		{"--drain-delay and --drain-timeout", "--db a.db --drain-delay -1s"},
	} {
		c := newCommandLine(nil)
		_, code := parseServe(t, c, strings.Fields(test.args)...)
		requireMistake(t, c, code, test.text)
	}
	c = newCommandLine(nil)
	_, code = parseServe(t, c, "--db", "a.db", "--rate", "-1", "--max-body", "0")
	requireMistake(t, c, code, "--rate -1")
	require.Contains(t, c.err.String(), "--max-body 0", "all mistakes at once")
}

// serving is "serve" in this process, until its ctx ends.
type serving struct {
	url  string
	out  *lockedBuffer
	stop func() int // gives the exit code
}

func startServe(t *testing.T, args ...string) *serving {
	t.Helper()
	s := &serving{out: &lockedBuffer{}}
	c := newCommandLine(nil)
	c.app.Err = s.out
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(cancel)
	ended := make(chan int, 1)
	root := newRootCommand(c.app)
	for _, other := range root.Commands() {
		if other.Name() == "serve" {
			root.RemoveCommand(other)
		}
	}
	root.AddCommand(newServeCommand(c.app, nil))
	go func() { ended <- c.app.run(ctx, root, append([]string{"serve", "--addr", "127.0.0.1:0"}, args...)) }()
	s.stop = func() int {
		cancel()
		return <-ended
	}
	address := regexp.MustCompile(`msg=serving url=(http://127\.0\.0\.1:\d+) `)
	require.Eventually(t, func() bool {
		found := address.FindStringSubmatch(s.out.String())
		if found != nil {
			s.url = found[1]
		}
		return found != nil
	}, time.Minute, 5*time.Millisecond, "%s", s.out)
	return s
}

func (s *serving) ask(t *testing.T, method, path, body string) (status int, members map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	if bytes.HasPrefix(text, []byte("{")) {
		require.NoError(t, json.Unmarshal(text, &members))
	}
	return response.StatusCode, members
}

func TestServe(t *testing.T) {
	t.Parallel()
	for name, db := range map[string]string{"SQLite": filepath.Join(t.TempDir(), "shop.db"), "PostgreSQL": postgrestest.URL(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServe(t, "--db", db, "--stripe-secret", "whsec_not_to_be_seen_by_anybody")
			status, placed := s.ask(t, http.MethodPost, "/api/orders", `{"user_id":"user-123","items":["item-1"]}`)
			require.Equal(t, http.StatusAccepted, status)
			links, _ := placed["links"].(map[string]any)
			wait, _ := links["wait"].(string)
			status, order := s.ask(t, http.MethodGet, wait, "")
			require.Equal(t, http.StatusOK, status)
			require.Equal(t, "pending", order["status"])
			status, _ = s.ask(t, http.MethodPost, "/webhooks/stripe", "{}")
			require.Equal(t, http.StatusUnauthorized, status)
			status, _ = s.ask(t, http.MethodPost, "/webhooks/sms", "{}")
			require.Equal(t, http.StatusNotFound, status)
			require.Equal(t, exitOK, s.stop(), "%s", s.out)
			require.NotContains(t, s.out.String(), "whsec")

			again := startServe(t, "--db", db)
			status, _ = again.ask(t, http.MethodGet, wait, "")
			require.Equal(t, http.StatusOK, status)
			require.Equal(t, exitOK, again.stop())
		})
	}
}

func TestServeMistakes(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	db := filepath.Join(t.TempDir(), "shop.db")
	for _, test := range []struct {
		code int
		text string
		args []string
	}{
		{exitUsage, "address already in use", []string{"--db", db, "--addr", taken.Addr().String()}},
		{exitUsage, "sms secret", []string{"--db", db, "--addr", "127.0.0.1:0", "--sms-secret", "short"}},
		{exitUnreachable, "cannot be reached", []string{"--db", "postgres://u@127.0.0.1:1/x", "--addr", "127.0.0.1:0", "--retry-for", "0"}},
	} {
		c := newCommandLine(nil)
		code := c.parse(t, newServeCommand(c.app, nil), test.args...)
		require.Equal(t, test.code, code, &c.err)
		require.Contains(t, c.err.String(), test.text)
		require.NotContains(t, c.err.String(), "short:")
	}
}
