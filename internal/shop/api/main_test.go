package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/postgrestest"
	"github.com/evdemo/evdemo/internal/shop/api"
	"github.com/evdemo/evdemo/internal/shop/view"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(postgrestest.Main(whole{m}), goleak.IgnoreTopFunction("github.com/blevesearch/bleve_index_api.AnalysisWorker"))
}

// whole is the run of all tests, which fails where something is documented that none of them has seen.
type whole struct{ postgrestest.Runner }

func (w whole) Run() int {
	code := w.Runner.Run()
	for _, name := range []string{"test.run", "test.skip", "test.list", "test.fuzz"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" {
			return code // those are some of the tests
		}
	}
	if missing := promised.missing(); code == 0 && len(missing) > 0 {
		fmt.Fprintln(os.Stderr, "documented in openapi.yaml, and in no test:\n  "+strings.Join(missing, "\n  "))
		return 1
	}
	return code
}

// patience bounds every wait.
const patience = time.Minute

func databases() map[string]func(tb testing.TB) string {
	return map[string]func(tb testing.TB) string{"SQLite": file, "PostgreSQL": postgrestest.URL}
}

func file(tb testing.TB) string {
	tb.Helper()
	return filepath.Join(tb.TempDir(), "shop.db")
}

// served is a shop that is served.
type served struct {
	tb     testing.TB
	store  *eventstore.Store
	orders *view.Orders
	url    string
	addr   string
	client *http.Client
	stop   func() error // has it end, and gives Serve's error
}

// quick is a store that does not try for long.
func quick(db string) eventstore.Config { return eventstore.Config{DB: db, RetryFor: time.Second} }

// serve serves a shop with a view that is kept, until the test ends.
func serve(tb testing.TB, db string, change ...func(*api.Config)) *served {
	tb.Helper()
	return serveStore(tb, quick(db), true, change...)
}

func serveStore(tb testing.TB, config eventstore.Config, keep bool, change ...func(*api.Config)) *served {
	tb.Helper()
	store, err := eventstore.Open(tb.Context(), config)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, store.Close()) })
	orders, err := view.Open(tb.Context(), view.Config{Store: store, DB: config.DB, Lease: time.Second})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, orders.Close()) })
	if keep {
		ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
		ended := make(chan error, 1)
		go func() { ended <- orders.Run(ctx) }()
		tb.Cleanup(func() {
			cancel()
			require.ErrorIs(tb, <-ended, context.Canceled)
		})
	}
	s := &served{tb: tb, store: store, orders: orders}
	s.listen(change...)
	return s
}

func (s *served) listen(change ...func(*api.Config)) {
	s.tb.Helper()
	config := api.Config{Store: s.store, Orders: s.orders, Logger: slog.New(slog.NewTextHandler(s.tb.Output(), nil))}
	for _, c := range change {
		c(&config)
	}
	server, err := api.New(config)
	require.NoError(s.tb, err)
	listener, err := new(net.ListenConfig).Listen(s.tb.Context(), "tcp", "127.0.0.1:0")
	require.NoError(s.tb, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.tb.Context()))
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, listener) }()
	stopped := false
	s.stop = func() error {
		stopped = true
		cancel()
		return <-ended
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	s.addr = listener.Addr().String()
	s.url, s.client = "http://"+s.addr, &http.Client{Transport: held{transport}, Timeout: patience}
	s.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	s.tb.Cleanup(func() {
		transport.CloseIdleConnections()
		if !stopped {
			require.NoError(s.tb, s.stop())
		}
	})
}

// got is an answer.
type got struct {
	status int
	header http.Header
	body   []byte
}

// members are those of the answer, which is an object.
func (g got) members(tb testing.TB) (all map[string]any) {
	tb.Helper()
	require.NoError(tb, json.Unmarshal(g.body, &all), "%s", g.body)
	return all
}

func (g got) order(tb testing.TB) (order view.Order) {
	tb.Helper()
	require.Equal(tb, http.StatusOK, g.status, "%s", g.body)
	require.NoError(tb, json.Unmarshal(g.body, &order))
	return order
}

func (s *served) do(method, path string, body io.Reader, header ...string) got {
	s.tb.Helper()
	g, err := s.try(method, path, body, header...)
	require.NoError(s.tb, err)
	return g
}

// try is do for a goroutine of the test's. Of the headers each name is followed by its value.
func (s *served) try(method, path string, body io.Reader, header ...string) (got, error) {
	r, err := http.NewRequestWithContext(s.tb.Context(), method, s.url+path, body)
	if err != nil {
		return got{}, err
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	response, err := s.client.Do(r)
	if err != nil {
		return got{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return got{response.StatusCode, response.Header, text}, err
}

func (s *served) get(path string, header ...string) got {
	s.tb.Helper()
	return s.do(http.MethodGet, path, nil, header...)
}

const jsonType = "application/json"

func (s *served) post(body string, header ...string) got {
	s.tb.Helper()
	return s.do(http.MethodPost, "/api/orders", strings.NewReader(body), append([]string{"Content-Type", jsonType}, header...)...)
}

// placed is what placing an order answers.
type placed struct {
	ID      string            `json:"id"`
	Version int64             `json:"version"`
	Status  string            `json:"status"`
	Links   map[string]string `json:"links"`
}

func (g got) placed(tb testing.TB) (p placed) {
	tb.Helper()
	require.Equal(tb, http.StatusAccepted, g.status, "%s", g.body)
	require.NoError(tb, json.Unmarshal(g.body, &p))
	return p
}

const anOrder = `{"user_id":"user-123","items":[{"sku":"item-1","quantity":1,"price":50}]}`

// log is all events of the store.
func (s *served) log() (all []eventstore.Recorded) {
	s.tb.Helper()
	for r, err := range s.store.Read(s.tb.Context(), eventstore.Query{}) {
		require.NoError(s.tb, err)
		all = append(all, r)
	}
	return all
}

func (g got) requireProblem(tb testing.TB, status int, title string) map[string]any {
	tb.Helper()
	require.Equal(tb, status, g.status, "%s", g.body)
	require.Equal(tb, "application/problem+json", g.header.Get("Content-Type"))
	members := g.members(tb)
	require.EqualValues(tb, status, members["status"])
	if title != "" {
		require.Equal(tb, title, members["title"])
	}
	require.False(tb, bytes.Contains(g.body, []byte("goroutine")))
	return members
}
