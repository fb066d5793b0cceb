package synchronous

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/postgrestest"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/check"
)

const (
	// patience bounds every wait.
	patience = 2 * time.Minute

	childEnv = "EVDEMO_SYNCHRONOUS_CHILD"

	anOrder = `{"user_id":"user-123","items":[{"sku":"item-1","quantity":2},{"sku":"item-7","quantity":1}]}`
)

// TestMain runs this binary as a child where a test has started it as one.
func TestMain(m *testing.M) {
	if db := os.Getenv(childEnv); db != "" {
		if err := runChild(context.Background(), db); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(postgrestest.Main(m), goleak.IgnoreAnyFunction("github.com/blevesearch/bleve_index_api.AnalysisWorker")) // of a sink's library
}

func file(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "shop.db")
}

// onBoth runs a test on SQLite and on PostgreSQL.
func onBoth(t *testing.T, test func(t *testing.T, db func(*testing.T) string)) {
	t.Helper()
	for name, db := range map[string]func(*testing.T) string{
		"SQLite": file, "PostgreSQL": func(t *testing.T) string { t.Helper(); return postgrestest.URL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, db)
		})
	}
}

func openStore(t *testing.T, db string) *eventstore.Store {
	t.Helper()
	store, err := eventstore.Open(t.Context(), eventstore.Config{DB: db, BusyTimeout: patience, Poll: 5 * time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}

// running is a shop that runs.
type running struct {
	t      *testing.T
	store  *eventstore.Store
	url    string
	client *http.Client
	stop   func() (Counts, error) // has it end
}

// open runs a shop until the test ends, or stop is called. Where it can be opened, it is open.
func open(t *testing.T, store *eventstore.Store, change ...func(*Config)) *running {
	t.Helper()
	config := Config{
		Store: store, Timeout: patience, Pause: 5 * time.Millisecond, LongestPause: 50 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	for _, c := range change {
		c(&config)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	type ended struct {
		counts Counts
		err    error
	}
	done := make(chan ended, 1)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	go func() {
		counts, err := Run(ctx, config, listener)
		done <- ended{counts, err}
	}()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	r := &running{
		t: t, store: store, url: "http://" + listener.Addr().String(), client: &http.Client{Transport: transport, Timeout: patience},
	}
	stopped := false
	r.stop = func() (Counts, error) {
		stopped = true
		cancel()
		e := <-done
		return e.counts, e.err
	}
	_, _ = r.try(t.Context(), http.MethodGet, "/", "") // an answer, or a connection that is closed
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if !stopped {
			_, err := r.stop()
			require.NoError(t, err)
		}
	})
	return r
}

// got is an answer.
type got struct {
	status int
	header http.Header
	body   []byte
	took   time.Duration
}

// told is what is in answers, good and bad.
type told struct {
	ID      string `json:"id"`
	OrderID string `json:"order_id"`
	Status  Status `json:"-"` // the order's
	Title   string `json:"title"`
	Detail  string `json:"detail"`
	Reason  string `json:"reason"`
	Calls   []Call `json:"calls"`
}

// try makes a request. Of the headers each name is followed by its value.
func (r *running) try(ctx context.Context, method, path, body string, header ...string) (g got, err error) {
	request, err := http.NewRequestWithContext(ctx, method, r.url+path, strings.NewReader(body))
	if err != nil {
		return g, err
	}
	request.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	begin := time.Now()
	response, err := r.client.Do(request)
	if err != nil {
		return g, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return got{response.StatusCode, response.Header, text, time.Since(begin)}, err
}

func (r *running) do(method, path, body string, header ...string) got {
	r.t.Helper()
	g, err := r.try(r.t.Context(), method, path, body, header...)
	require.NoError(r.t, err)
	return g
}

func (r *running) post(body string, header ...string) got {
	r.t.Helper()
	return r.do(http.MethodPost, "/api/orders", body, header...)
}

// told checks what kind of answer it is, and reads it.
func (g got) told(t *testing.T, status int) (answer told) {
	t.Helper()
	require.Equal(t, status, g.status, "%s", g.body)
	kind := "application/json"
	if status >= 400 {
		kind = "application/problem+json"
	}
	require.Equal(t, kind, g.header.Get("Content-Type"))
	require.NoError(t, answer.read(g.body), "%s", g.body)
	return answer
}

// read reads an answer. In a problem status is that of HTTP.
func (a *told) read(body []byte) error {
	both := struct {
		*told
		Any   any    `json:"status"`
		Order Status `json:"order_status"`
	}{told: a}
	err := json.Unmarshal(body, &both)
	if text, ok := both.Any.(string); ok {
		both.Order = Status(text)
	}
	a.Status = both.Order
	return err
}

// called names the services that were called, with what they were told.
func (a told) called() (all []string) {
	for _, c := range a.Calls {
		all = append(all, c.Service+" "+c.Event)
	}
	return all
}

// statusOf is what GET says of an order.
func (r *running) statusOf(id string) told {
	r.t.Helper()
	return r.do(http.MethodGet, "/api/orders/"+id, "").told(r.t, http.StatusOK)
}

// eventually waits until a thing is so.
func eventually(t *testing.T, so func() bool, what string) {
	t.Helper()
	require.Eventually(t, so, patience, 10*time.Millisecond, what)
}

// untilLogged waits for an event of a type.
func untilLogged(t *testing.T, store *eventstore.Store, eventType string) {
	t.Helper()
	eventually(t, func() bool {
		for _, err := range store.Read(t.Context(), eventstore.Query{Types: []string{eventType}, Limit: 1}) {
			return err == nil
		}
		return false
	}, eventType)
}

// untilSound waits until nothing is wrong with a shop any more.
func untilSound(t *testing.T, store *eventstore.Store) check.Report {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		report, err := check.Log(t.Context(), store, func(check.Finding) {})
		require.NoError(t, err)
		if report.Sound() {
			requireWhole(t, store)
			return report
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			_, err := check.Log(t.Context(), store, func(f check.Finding) { t.Log(f) })
			require.NoError(t, err)
			t.Fatal("not all orders have come to their right end")
		}
	}
}

// requireWhole checks that every event of the shop is as its schema says, and that its cause is in the log.
func requireWhole(t *testing.T, store *eventstore.Store) {
	t.Helper()
	registry, err := shop.Schemas()
	require.NoError(t, err)
	ids := map[string]bool{}
	for r, err := range store.Read(t.Context(), eventstore.Query{}) {
		require.NoError(t, err)
		ids[r.ID] = true
		if slices.Contains(registry.Types(), r.Type) {
			require.NoError(t, registry.Check(r.Event))
		} else if _, published := shop.Topic(r.Type); published {
			require.Fail(t, "no schema", r.Type)
		}
		if cause := r.CausationID(); cause != "" {
			require.True(t, ids[cause], "%s at position %d has a cause that is not in the log", r.Type, r.Position)
		}
	}
}

// typesOf are the types of an order's events, in the order of the log.
func typesOf(t *testing.T, store *eventstore.Store, id string) (types []string) {
	t.Helper()
	for r, err := range store.Read(t.Context(), eventstore.Query{Subject: id}) {
		require.NoError(t, err)
		types = append(types, r.Type)
	}
	return types
}

func anyOrder() shop.Order {
	return shop.Order{
		OrderID: "order-1", UserID: "user-1", Items: []shop.Item{{SKU: "item-1", Quantity: 1, Price: 50}}, Amount: 50, Currency: shop.Currency,
	}
}

// command is one that a service can be asked.
func command(t *testing.T, eventType string) event.Event {
	t.Helper()
	order := anyOrder()
	e, err := event.New(eventType, source, shop.Decision{Order: order})
	require.NoError(t, err)
	e.Subject = order.OrderID
	return e
}
