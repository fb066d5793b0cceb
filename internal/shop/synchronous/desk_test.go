package synchronous

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/service"
)

// The same request with the same key is one order, whether it comes meanwhile or later.
func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	r := open(t, openStore(t, file(t)), func(c *Config) {
		c.Faults.Slow = map[string]time.Duration{service.Payment: 200 * time.Millisecond}
	})
	answers := make([]got, 8)
	var group errgroup.Group
	for i := range answers {
		group.Go(func() (err error) {
			answers[i], err = r.try(t.Context(), http.MethodPost, "/api/orders", anOrder, "Idempotency-Key", "k")
			return err
		})
	}
	require.NoError(t, group.Wait())
	answers = append(answers, r.post(anOrder, "Idempotency-Key", "k"))
	replayed := 0
	for _, g := range answers {
		require.Equal(t, answers[0].told(t, http.StatusCreated).ID, g.told(t, http.StatusCreated).ID)
		require.Equal(t, Shipped, g.told(t, http.StatusCreated).Status)
		if g.header.Get("Idempotency-Replayed") == "true" {
			replayed++
		}
	}
	require.Equal(t, len(answers)-1, replayed)
	other := `{"user_id":"user-5","items":["item-2"]}`
	require.Equal(t, "Idempotency-Key used", r.post(other, "Idempotency-Key", "k").told(t, http.StatusUnprocessableEntity).Title)
	require.Equal(t, 1, untilSound(t, r.store).Orders)
}

// A customer who got an error asks again with the same key, and is told what became of the order.
func TestIdempotencyKeyAfterAnError(t *testing.T) {
	t.Parallel()
	store := openStore(t, file(t))
	r := open(t, store, func(c *Config) { c.Down = []string{service.Payment} })
	failed := r.post(anOrder, "Idempotency-Key", "k").told(t, http.StatusServiceUnavailable)
	require.Equal(t, Cancelling, failed.Status)
	again := r.post(anOrder, "Idempotency-Key", "k").told(t, http.StatusServiceUnavailable)
	require.Equal(t, "Order not finished", again.Title)
	_, err := r.stop()
	require.NoError(t, err)
	r = open(t, store)
	require.Equal(t, 1, untilSound(t, store).Cancelled)
	answer := r.post(anOrder, "Idempotency-Key", "k").told(t, http.StatusCreated)
	require.Equal(t, failed.OrderID, answer.ID)
	require.Equal(t, Cancelled, answer.Status)
	require.Equal(t, "payment cannot be reached", answer.Reason)
	require.Equal(t, 1, untilSound(t, store).Orders)
}

func TestTooManyCustomers(t *testing.T) {
	t.Parallel()
	r := open(t, openStore(t, file(t)), func(c *Config) {
		c.Customers, c.Faults.Slow = 1, map[string]time.Duration{service.Fraud: time.Second}
	})
	var group errgroup.Group
	group.Go(func() error {
		_, err := r.try(t.Context(), http.MethodPost, "/api/orders", anOrder)
		return err
	})
	untilLogged(t, r.store, shop.CheckFraud)
	g := r.post(anOrder)
	require.Equal(t, "Too many customers", g.told(t, http.StatusServiceUnavailable).Title)
	require.NotEmpty(t, g.header.Get("Retry-After"))
	require.NoError(t, group.Wait())
	require.Equal(t, 1, untilSound(t, r.store).Orders)
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db func(*testing.T) string) {
		t.Helper()
		badRequests(t, open(t, openStore(t, db(t))))
	})
}

func badRequests(t *testing.T, r *running) {
	t.Helper()
	for _, test := range []struct {
		method, path, body string
		header             []string
		status             int
	}{
		{"POST", "/api/orders", "", nil, http.StatusBadRequest},
		{"POST", "/api/orders", "{", nil, http.StatusBadRequest},
		{"POST", "/api/orders", "[]", nil, http.StatusUnprocessableEntity},
		{"POST", "/api/orders", `{"user_id":"u","items":[]}`, nil, http.StatusUnprocessableEntity},
		{"POST", "/api/orders", `{"user_id":"u","items":["item-99"]}`, nil, http.StatusUnprocessableEntity},
		{"POST", "/api/orders", `{"user_id":"u","items":[{"sku":"item-1","quantity":-1}]}`, nil, http.StatusUnprocessableEntity},
		{"POST", "/api/orders", `{"user_id":"` + strings.Repeat("u", 1<<20) + `"}`, nil, http.StatusRequestEntityTooLarge},
		{"POST", "/api/orders", anOrder, []string{"Content-Type", "text/plain"}, http.StatusUnsupportedMediaType},
		{"POST", "/api/orders", anOrder, []string{"Content-Encoding", "gzip"}, http.StatusUnsupportedMediaType},
		{"POST", "/api/orders", anOrder, []string{"Idempotency-Key", ""}, http.StatusBadRequest},
		{"GET", "/api/orders", "", nil, http.StatusMethodNotAllowed},
		{"DELETE", "/api/orders/order-1", "", nil, http.StatusMethodNotAllowed},
		{"GET", "/api/orders/order-1", "", nil, http.StatusNotFound},
		{"GET", "/api/orders/shop", "", nil, http.StatusNotFound},
		{"GET", "/api/orders/%00%ff", "", nil, http.StatusNotFound},
		{"GET", "/api/orders/%00", "", nil, http.StatusNotFound},
		{"GET", "/api/orders/" + strings.Repeat("x", 1000), "", nil, http.StatusNotFound},
		{"GET", "/api/orders/", "", nil, http.StatusNotFound},
		{"GET", "/api/orders/a/b", "", nil, http.StatusNotFound},
		{"GET", "/", "", nil, http.StatusNotFound},
	} {
		r.do(test.method, test.path, test.body, test.header...).told(t, test.status)
	}
	require.Zero(t, untilSound(t, r.store).Orders)
}
