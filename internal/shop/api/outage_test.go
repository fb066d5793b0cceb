package api_test

import (
	"database/sql"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/postgrestest"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/api"
	"github.com/evdemo/evdemo/internal/shop/view"
)

// While the database is away every request is told so, and once it is there again everything goes on by itself.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	server := postgrestest.Server(t)
	var store *eventstore.Store
	s := serve(t, server.URL("postgres"), func(c *api.Config) { store = c.Store }, taking(t, func() *eventstore.Store { return store }))
	p := s.post(anOrder, "Idempotency-Key", "before").placed(t)
	s.get(p.Links["wait"]).order(t)
	require.NoError(t, server.Kill())
	for _, path := range []string{p.Links["self"], p.Links["self"] + "?as_of=2026-01-01T00:00:00Z", p.Links["history"], "/readyz"} {
		s.get(path).requireProblem(t, http.StatusServiceUnavailable, "Database away")
	}
	s.hook("stripe", "", `{"id":"evt_1","type":"charge.succeeded","data":{}}`).requireProblem(t, http.StatusServiceUnavailable, "")
	require.Equal(t, "ok\n", string(s.get("/healthz").body))
	refused := s.post(anOrder, "Idempotency-Key", "during")
	require.Equal(t, http.StatusServiceUnavailable, refused.status, "%s", refused.body)
	s.post(anOrder).requireProblem(t, http.StatusServiceUnavailable, "Database away") // there is no connection any more that it could have been in
	require.NoError(t, server.Restart(t.Context()))
	require.Eventually(t, func() bool { return s.get("/readyz").status == http.StatusOK }, patience, 50*time.Millisecond)
	require.Equal(t, p.ID, s.post(anOrder, "Idempotency-Key", "before").placed(t).ID)
	during := s.post(anOrder, "Idempotency-Key", "during").placed(t)
	s.get(during.Links["wait"] + "&timeout=30s").order(t)
}

// Whatever happens to the database while orders come in: what was said to be stored is, once, what was said not to be is
// not, and what nobody knew is one order once the request is made again.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	server := postgrestest.Server(t)
	s := serve(t, server.URL("postgres"), func(c *api.Config) { c.AppendTimeout = 500 * time.Millisecond })
	var mu sync.Mutex
	told := map[string]string{} // by key: what was answered
	var crowd errgroup.Group
	stop := make(chan struct{})
	for i := range 8 {
		crowd.Go(func() error {
			for j := 0; ; j++ {
				select {
				case <-stop:
					return nil
				default:
				}
				key := fmt.Sprintf("key-%d-%d", i, j)
				g, err := s.try(http.MethodPost, "/api/orders", strings.NewReader(anOrder), "Content-Type", jsonType, "Idempotency-Key", key)
				if err != nil {
					return err
				}
				said := "stored"
				if g.status != http.StatusAccepted {
					if said = fmt.Sprint(g.members(t)["title"]); g.status != http.StatusServiceUnavailable {
						return fmt.Errorf("%d %s", g.status, g.body)
					}
				}
				mu.Lock()
				told[key] = said
				mu.Unlock()
			}
		})
	}
	count := func(said string) (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, one := range told {
			if one == said {
				n++
			}
		}
		return n
	}
	for range 2 {
		before := count("stored")
		require.Eventually(t, func() bool { return count("stored") > before+50 }, patience, 5*time.Millisecond)
		require.NoError(t, server.Kill())
		failed := len(told) - count("stored")
		require.Eventually(t, func() bool {
			mu.Lock()
			all := len(told)
			mu.Unlock()
			return all-count("stored") >= failed+8
		}, patience, 5*time.Millisecond)
		require.NoError(t, server.Restart(t.Context()))
	}
	before := count("stored")
	require.Eventually(t, func() bool { return count("stored") > before+50 }, patience, 5*time.Millisecond)
	close(stop)
	require.NoError(t, crowd.Wait())
	t.Logf("%d stored, %d away, %d unknown", count("stored"), count("Database away"), count("Outcome unknown"))

	s.checkTold(t, told)
}

// checkTold holds the log to what was answered, and then makes every request again.
func (s *served) checkTold(t *testing.T, told map[string]string) {
	t.Helper()
	there := map[string]int{}
	for _, e := range s.log() {
		there[e.Subject]++
		require.Equal(t, 1, there[e.Subject])
	}
	n := len(there)
	for key, said := range told {
		again := s.post(anOrder, "Idempotency-Key", key)
		p := again.placed(t)
		switch said {
		case "stored":
			require.Equal(t, 1, there[p.ID], "%s was said to be stored", key)
		case "Database away":
			require.Zero(t, there[p.ID], "%s was said not to be stored", key)
		default:
			require.Equal(t, "Outcome unknown", said)
		}
		if there[p.ID] == 0 {
			n++
		}
		require.Equal(t, there[p.ID] == 1, again.header.Get("Idempotency-Replayed") == "true")
	}
	require.Len(t, s.log(), n)
	require.Len(t, told, n)
}

// Another program that has the file locked for longer than an order may wait is an outcome that nobody knows.
func TestLockedFile(t *testing.T) {
	t.Parallel()
	db := file(t)
	s := serve(t, db, func(c *api.Config) { c.AppendTimeout = 2 * time.Second })
	s.post(anOrder).placed(t)
	other, err := sql.Open("sqlite", "file:"+db+"?_txlock=immediate&_pragma=busy_timeout(30000)")
	require.NoError(t, err)
	defer func() { require.NoError(t, other.Close()) }()
	lock, err := other.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	g := s.post(anOrder, "Idempotency-Key", "k")
	members := g.requireProblem(t, http.StatusServiceUnavailable, "Outcome unknown")
	require.Equal(t, "urn:problem:evdemo:outcome-unknown", members["type"])
	require.NoError(t, lock.Rollback())
	p := s.post(anOrder, "Idempotency-Key", "k").placed(t)
	require.Equal(t, members["order_id"], p.ID)
	require.Equal(t, map[string]any{"self": "/api/orders/" + p.ID}, members["links"])
	require.Len(t, s.log(), 2)
}

// A store that was closed has stored nothing.
func TestClosedStore(t *testing.T) {
	t.Parallel()
	store, err := eventstore.Open(t.Context(), quick(file(t)))
	require.NoError(t, err)
	s := serve(t, file(t), func(c *api.Config) { c.Store = store })
	require.NoError(t, store.Close())
	s.post(anOrder).requireProblem(t, http.StatusServiceUnavailable, "Database away")
}

// A mistake of the program is told as one, without how it came about, and the next request is answered.
func TestPanics(t *testing.T) {
	t.Parallel()
	s := serve(t, file(t), func(c *api.Config) {
		c.Store, c.Orders = &eventstore.Store{}, &view.Orders{} // which nobody has opened
		c.Webhooks = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a mistake") })
	})
	id := "order-0198c5a2-7c1e-7d8a-9a51-0242ac120002"
	s.post(anOrder).requireProblem(t, http.StatusInternalServerError, "")
	s.get("/api/orders/"+id).requireProblem(t, http.StatusInternalServerError, "")
	s.get("/api/orders/"+id+"/history").requireProblem(t, http.StatusInternalServerError, "")
	s.do(http.MethodPost, "/webhooks/stripe", nil).requireProblem(t, http.StatusInternalServerError, "")
	require.Equal(t, "ok\n", string(s.get("/healthz").body))
	aborts := serve(t, file(t), func(c *api.Config) {
		c.Webhooks = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	})
	w := aborts.dial(t)
	w.say("POST /webhooks/stripe HTTP/1.1\r\nHost: shop\r\n\r\n")
	w.ended()
}

// An order whose event is damaged is told of, and is in nobody's way.
func TestDamagedOrder(t *testing.T) {
	t.Parallel()
	db := file(t)
	s := serve(t, db)
	p := s.post(anOrder).placed(t)
	s.get(p.Links["wait"]).order(t)
	other, err := sql.Open("sqlite", "file:"+db)
	require.NoError(t, err)
	for _, statement := range []string{
		`DROP TRIGGER evdemo_store_events_stay`, `UPDATE evdemo_store_events SET extensions = '{"a":' WHERE position = 1`,
	} {
		_, err = other.ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}
	require.NoError(t, other.Close())
	s.get(p.Links["history"]).requireProblem(t, http.StatusInternalServerError, "")
	require.Equal(t, p.ID, s.get(p.Links["self"]).order(t).ID)
	require.Equal(t, int64(2), s.post(anOrder).placed(t).Version)
	require.Equal(t, shop.Currency, s.get(p.Links["self"]).order(t).Currency)
}
