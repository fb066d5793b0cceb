package cmd

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop/service"
	"github.com/evdemo/evdemo/internal/shop/synchronous"
	"github.com/evdemo/evdemo/internal/shop/system"
)

// runShopSyncLine runs "shop sync" with nothing but itself in the shop. Run, if not nil, takes the place of what it does.
func runShopSyncLine(
	ctx context.Context, t *testing.T, c *commandLine, run func(context.Context, *App, *shopSyncOptions) error, args ...string,
) int {
	t.Helper()
	root := newRootCommand(c.app)
	for _, other := range root.Commands() {
		if other.Name() == "shop" {
			root.RemoveCommand(other)
		}
	}
	shop := &cobra.Command{Use: "shop"}
	shop.AddCommand(newShopSyncCommand(c.app, run))
	root.AddCommand(shop)
	return c.app.run(ctx, root, append([]string{"shop", "sync"}, args...))
}

func parseShopSync(t *testing.T, c *commandLine, args ...string) (*shopSyncOptions, int) {
	t.Helper()
	var got *shopSyncOptions
	code := runShopSyncLine(t.Context(), t, c, func(_ context.Context, _ *App, o *shopSyncOptions) error { got = o; return nil }, args...)
	return got, code
}

func TestShopSyncOptions(t *testing.T) {
	t.Parallel()
	o, code := parseShopSync(t, newCommandLine(nil))
	require.Equal(t, exitOK, code)
	assert.Equal(t, "shop-sync.db", o.db)
	assert.Equal(t, "127.0.0.1:8081", o.addr)
	assert.Equal(t, synchronous.DefaultTimeout, o.timeout)
	assert.Equal(t, synchronous.DefaultAttempts, o.attempts)
	assert.Equal(t, system.Faults{
		Seed: 1, Slow: map[string]time.Duration{}, Fail: map[string]float64{}, Refuse: map[string]float64{},
	}, o.faults)

	c := newCommandLine(map[string]string{"EVDEMO_DB": "other.db"})
	o, code = parseShopSync(t, c, "--slow", "payment=2s,email=1s", "--fail", "payment=0.2", "--refuse", "shipping=0.05", "--down", "email,sms",
		"--timeout", "1s", "--attempts", "2", "--customers", "9", "--drain-timeout", "3s", "--seed", "7", "--addr", "127.0.0.1:0", "-o", "json")
	require.Equal(t, exitOK, code, &c.err)
	assert.Equal(t, "other.db", o.db)
	assert.Equal(t, []string{"email", "sms"}, o.down)
	assert.Equal(t, system.Faults{
		Seed: 7, Slow: map[string]time.Duration{service.Payment: 2 * time.Second, service.Email: time.Second},
		Fail: map[string]float64{service.Payment: 0.2}, Refuse: map[string]float64{service.Shipping: 0.05},
	}, o.faults)
}

func TestShopSyncMistakes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ args, text string }{
		{"--addr 8081", "--addr \"8081\": want HOST:PORT"},
		{"--timeout 0s", "--timeout 0s: want more than 0"},
		{"--attempts 0", "--attempts 0: want 1 to 100"},
		{"--customers 0", "--customers 0: want 1 to 100000"},
		{"--drain-timeout -1s", "--drain-timeout -1s: want 0 or more"},
		{"--slow payment=2", `--slow payment="2": want a duration`},
		{"--fail payment=2", `--fail payment="2": want a fraction`},
		{"--refuse payment=x", `--refuse payment="x": want a fraction`},
		{"--db .", "--db . is a directory"},
	} {
		t.Run(test.args, func(t *testing.T) {
			t.Parallel()
			c := newCommandLine(nil)
			o, code := parseShopSync(t, c, strings.Fields(test.args)...)
			requireMistake(t, c, code, test.text)
			assert.Nil(t, o, "the command was run")
		})
	}
}

// An order is placed, and the command tells of it when it ends. Its store is not for "shop run", nor the other way round.
func TestShopSync(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "sync.db")
	c, log := newCommandLine(nil), &lockedBuffer{}
	c.app.Err = log
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan int, 1)
	go func() {
		ended <- runShopSyncLine(ctx, t, c, nil, "--db", db, "--addr", "127.0.0.1:0",
			"--slow", "payment=50ms", "--refuse", "shipping=1", "-o", "json")
	}()
	var address string
	require.Eventually(t, func() bool {
		found := regexp.MustCompile(`url=(http://\S+)`).FindStringSubmatch(log.String())
		if found != nil {
			address = found[1]
		}
		return found != nil
	}, patience, 10*time.Millisecond)
	order := strings.NewReader(`{"user_id":"u","items":["item-1"]}`)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address+"/api/orders", order)
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, response.StatusCode, "%s", body)
	require.Contains(t, string(body), `"status":"cancelled"`)
	cancel()
	require.Equal(t, exitOK, <-ended, log)
	var counts synchronous.Counts
	require.NoError(t, json.Unmarshal(c.out.Bytes(), &counts))
	require.Equal(t, synchronous.Counts{Cancelled: 1}, counts)

	c = newCommandLine(nil)
	require.Equal(t, exitOK, c.run(t, "shop", "check", "--db", db, "--sinks", ""), &c.err)
	require.Contains(t, c.out.String(), "1 orders, 0 shipped, 1 cancelled, 0 open")
	c = newCommandLine(nil)
	require.Equal(t, exitUsage, c.run(t, "shop", "run", "--bus", "memory", "--db", db, "--sinks", t.TempDir()))
	require.Contains(t, c.err.String(), "synchronous, not choreography")
}

func TestShopSyncRefuses(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "run.db")
	store, err := eventstore.Open(t.Context(), eventstore.Config{DB: db})
	require.NoError(t, err)
	require.NoError(t, system.KeepFlow(t.Context(), store, service.Choreography))
	require.NoError(t, store.Close())
	for text, args := range map[string][]string{
		"choreography, not synchronous":    {"--db", db},
		`"mail": there is no such service`: {"--db", filepath.Join(t.TempDir(), "new.db"), "--down", "mail"},
		"--addr: ":                         {"--db", db, "--addr", "127.0.0.1:99999"},
	} {
		c := newCommandLine(nil)
		args = append([]string{"--addr", "127.0.0.1:0"}, args...)
		require.Equal(t, exitUsage, runShopSyncLine(t.Context(), t, c, nil, args...), &c.err)
		require.Contains(t, c.err.String(), text)
		require.Empty(t, c.out.String())
	}
}
