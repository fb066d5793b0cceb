package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/view"
)

func TestPlaceAndLook(t *testing.T) {
	t.Parallel()
	for name, fresh := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, fresh(t))
			g := s.post(`{"user_id":"user-123","items":[{"sku":"item-1","quantity":2,"price":50},"item-3"]}`)
			p := g.placed(t)
			require.Equal(t, int64(1), p.Version)
			require.Equal(t, "pending", p.Status)
			require.Equal(t, "/api/orders/"+p.ID, g.header.Get("Location"))
			require.Equal(t, map[string]string{
				"self": "/api/orders/" + p.ID, "wait": "/api/orders/" + p.ID + "?wait=1", "history": "/api/orders/" + p.ID + "/history",
			}, p.Links)

			order := s.get(p.Links["wait"]).order(t)
			require.Equal(t, p.ID, order.ID)
			require.Equal(t, view.Pending, order.Status)
			require.Equal(t, "created", order.Stage)
			require.Equal(t, []shop.Item{{SKU: "item-1", Quantity: 2, Price: 50}, {SKU: "item-3", Quantity: 1, Price: 100}}, order.Items)
			require.Equal(t, 200, order.Amount)
			require.Equal(t, int64(1), order.Version)

			log := s.log()
			require.Len(t, log, 1)
			e := log[0]
			require.Equal(t, shop.OrderCreated, e.Type)
			require.Equal(t, "shop/order", e.Source)
			require.Equal(t, p.ID, e.Subject)
			require.Equal(t, p.ID, e.Stream)
			require.Equal(t, e.ID, e.CorrelationID())
			require.Equal(t, p.ID, e.Extension(event.ExtPartitionKey))
			require.JSONEq(t, `{"order_id":"`+p.ID+`","user_id":"user-123","amount":200,"currency":"EUR","items":[`+
				`{"sku":"item-1","quantity":2,"price":50},{"sku":"item-3","quantity":1,"price":100}]}`, string(e.Data))
		})
	}
}

func TestSameKeyIsOneOrder(t *testing.T) {
	t.Parallel()
	for name, fresh := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := fresh(t)
			s := serve(t, db)
			first := s.post(anOrder, "Idempotency-Key", `"key-1"`)
			p := first.placed(t)
			require.Empty(t, first.header.Get("Idempotency-Replayed"))
			s.post(anOrder).placed(t)
			for _, same := range []string{anOrder, " { \"items\" : [ {\"price\":5e1,\"sku\":\"item\\u002d1\"} ],\n\"user_id\":\"user-123\"}\t"} {
				again := s.post(same, "Idempotency-Key", "key-1")
				require.Equal(t, p, again.placed(t))
				require.Equal(t, "true", again.header.Get("Idempotency-Replayed"))
				require.Equal(t, first.header.Get("Location"), again.header.Get("Location"))
			}
			for _, other := range []string{
				`{"user_id":"user-124","items":[{"sku":"item-1","price":50}]}`, `{"user_id":"user-123","items":["item-1"]}`,
				`{"user_id":"user-123","items":[{"sku":"item-1","quantity":2,"price":50}]}`,
			} {
				s.post(other, "Idempotency-Key", `"key-1"`).requireProblem(t, http.StatusUnprocessableEntity, "Idempotency-Key used")
			}
			require.NotEqual(t, p.ID, s.post(anOrder, "Idempotency-Key", `"key-2"`).placed(t).ID)
			require.Len(t, s.log(), 3)
			require.NoError(t, s.stop())
			require.Equal(t, p, serve(t, db).post(anOrder, "Idempotency-Key", "key-1").placed(t), "after a restart too")
		})
	}
}

func TestSameKeyAtTheSameTime(t *testing.T) {
	t.Parallel()
	for name, fresh := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := fresh(t)
			servers := []*served{serve(t, db), serve(t, db)}
			var crowd errgroup.Group
			answers := make([]got, 50)
			for i := range answers {
				crowd.Go(func() (err error) {
					body := anOrder
					if i%5 == 4 {
						body = `{"user_id":"another","items":["item-1"]}`
					}
					answers[i], err = servers[i%2].try(http.MethodPost, "/api/orders", strings.NewReader(body),
						"Content-Type", jsonType, "Idempotency-Key", "k")
					return err
				})
			}
			require.NoError(t, crowd.Wait())
			require.Len(t, servers[0].log(), 1)
			counts, ids := map[string]int{}, map[string]bool{}
			for _, a := range answers {
				counts[fmt.Sprint(a.status, a.header.Get("Idempotency-Replayed"))]++
				if a.status == http.StatusAccepted {
					ids[a.placed(t).ID] = true
				}
			}
			require.Len(t, ids, 1)
			require.Equal(t, 1, counts["202"])
			require.Contains(t, []int{10, 40}, counts["422"], "whichever request was the first, all of the others are refused")
			require.Equal(t, 49, counts["202true"]+counts["422"])
		})
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	s := serve(t, file(t))
	same := map[string]string{}
	for _, key := range []string{
		`abc`, `"abc"`, ` "abc" `, `8e03978e-40d5-43dd-bc93-6894a57f9324`, `"with space, comma; and \"quote\" \\"`, strings.Repeat("k", 255),
		`"` + strings.Repeat(`\\`, 255) + `"`,
	} {
		same[strings.Trim(key, `" `)] = s.post(anOrder, "Idempotency-Key", key).placed(t).ID
	}
	require.Len(t, s.log(), 5)
	require.Len(t, same, 5)
	for _, key := range []string{
		``, ` `, `""`, `"`, `"abc`, `abc"`, `"a"b`, `"a";p=1`, `a b`, `a,b`, `a;b`, `a\b`, `"a\b"`, `"a\`, strings.Repeat("k", 256), "ä", `"ä"`, "a\tb",
	} {
		s.post(anOrder, "Idempotency-Key", key).requireProblem(t, http.StatusBadRequest, "Idempotency-Key not valid")
	}
	s.post(anOrder, "Idempotency-Key", "a", "Idempotency-Key", "a").requireProblem(t, http.StatusBadRequest, "Idempotency-Key not valid")
	require.Len(t, s.log(), 5)
}

func TestContentTypes(t *testing.T) {
	t.Parallel()
	s := serve(t, file(t))
	for kind, status := range map[string]int{
		"application/json": 202, "Application/JSON ; charset=UTF-8": 202, `application/json; charset="utf-8"`: 202, "": 415, "text/plain": 415,
		"application/json; charset=latin1": 415, "application/cloudevents+json": 415, "application/x-www-form-urlencoded": 415, ";": 415,
		"application/json, text/plain": 415,
	} {
		g := s.do(http.MethodPost, "/api/orders", strings.NewReader(anOrder), "Content-Type", kind)
		require.Equal(t, status, g.status, kind)
	}
	g := s.post(anOrder, "Content-Encoding", "gzip")
	g.requireProblem(t, http.StatusUnsupportedMediaType, "")
	require.Equal(t, "identity", g.header.Get("Accept-Encoding"))
	s.post(anOrder, "Content-Encoding", "identity").placed(t)
}

// What the services make of an order is seen, and told.
func TestWhatBecameOfIt(t *testing.T) {
	t.Parallel()
	for name, fresh := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, fresh(t))
			p := s.post(anOrder).placed(t)
			before := s.get(p.Links["wait"])
			created := s.log()[0]
			shipped := s.caused(created, shop.OrderShipped, "shop/shipping", shop.Decision{Reference: "T-1"})
			after := s.get(fmt.Sprintf("%s?wait=%d&timeout=20s", p.Links["self"], shipped))
			order := after.order(t)
			require.Equal(t, view.Shipped, order.Status)
			require.Equal(t, "T-1", order.Reference)
			require.Equal(t, shipped, order.Version)

			require.NotEqual(t, before.header.Get("Etag"), after.header.Get("Etag"))
			then := s.get(p.Links["self"] + "?as_of=" + created.RecordedAt.Format("2006-01-02T15:04:05.999999Z"))
			require.JSONEq(t, string(before.body), string(then.body))
			require.Equal(t, before.header.Get("Etag"), then.header.Get("Etag"))
			require.Contains(t, s.get(p.Links["self"]+"?as_of="+created.RecordedAt.Add(-1e9).Format("2006-01-02T15:04:05Z")).
				requireProblem(t, http.StatusNotFound, "Order not there yet")["detail"], "it was stored at")

			history := s.get(p.Links["history"])
			require.Equal(t, http.StatusOK, history.status)
			steps, _ := history.members(t)["steps"].([]any)
			require.Len(t, steps, 2)
			last, _ := steps[1].(map[string]any)
			require.Equal(t, shop.OrderShipped, last["type"])
			require.Equal(t, "shop/shipping", last["who"])
			require.Equal(t, created.ID, last["cause"])
			require.Contains(t, last["changes"], map[string]any{"path": "/status", "op": "changed", "old": "pending", "new": "shipped"})
			require.Equal(t, http.StatusNotModified, s.get(p.Links["history"], "If-None-Match", history.header.Get("Etag")).status)
		})
	}
}
