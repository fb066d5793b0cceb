package ingress

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/problem"
)

// What the parser makes of any header is a claim that could be verified, and no header but a signed one is.
func FuzzStripeHeader(f *testing.F) {
	f.Add("t=1700000000,v1=5257a869e7ecebeda32affa62cdca3fa51cad7e77a0e56ff536d0ce8e108d8bd,v0=6ffb")
	s, err := newStripeScheme([]string{aStripeSecret})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, value string) {
		c, err := s.claim(http.Header{"Stripe-Signature": {value}})
		if err != nil {
			require.Zero(t, c)
			require.LessOrEqual(t, len(err.Error()), 200, "it does not repeat what was sent")
			return
		}
		checkClaim(t, c)
		require.False(t, s.verify(c, []byte("a body that nobody has signed")))
	})
}

// The same of Standard Webhooks.
func FuzzStandardHeaders(f *testing.F) {
	f.Add("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= v1a,x")
	s, err := newStandardScheme(SMS, []string{aStandardSecret})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, id, at, signatures string) {
		c, err := s.claim(http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {at}, "Webhook-Signature": {signatures}})
		if err != nil {
			require.Zero(t, c)
			require.LessOrEqual(t, len(err.Error()), 200, "it does not repeat what was sent")
			return
		}
		checkClaim(t, c)
		require.Equal(t, id, c.id)
		require.NotContains(t, c.id, ".")
		require.Equal(t, at, c.header().Get("Webhook-Timestamp"), "a time is written in one way")
		require.False(t, s.verify(c, []byte("a body that nobody has signed")))
	})
}

func checkClaim(t *testing.T, c claim) {
	t.Helper()
	require.True(t, c.at.After(time.Unix(0, 0)))
	require.NotEmpty(t, c.signatures)
	require.LessOrEqual(t, len(c.signatures), maxSignatures)
}

// Whatever body is taken makes an event that can be stored, written as JSON for people, and read again by anybody.
func FuzzBody(f *testing.F) {
	f.Add([]byte(`{"id":"evt_1","type":"charge.succeeded","created":1700000000,"data":{"object":{"metadata":{"order_id":"order-1"}}}}`))
	f.Add([]byte(`{"type":"email.bounced","timestamp":"2027-01-15T08:00:00Z","data":{"metadata":{"order_id":"o","user_id":"u"}}}`))
	schemas, err := shop.Schemas()
	require.NoError(f, err)
	mail := readDelivery(Mail, typeEmailBounced, shop.EmailBounced)
	f.Fuzz(func(t *testing.T, body []byte) {
		if checkDocument(body) != nil {
			return
		}
		require.True(t, json.Valid(body))
		for _, read := range []func([]byte, claim) (*message, *problem.Problem){readStripe, mail} {
			m, refused := read(body, claim{id: "msg_1"})
			if refused == nil && !m.ignored() {
				checkEvent(t, m.event)
				require.NoError(t, schemas.Check(m.event))
			}
		}
	})
}

func checkEvent(t *testing.T, e event.Event) {
	t.Helper()
	require.NoError(t, e.Validate())
	require.True(t, json.Valid(e.Data))
	line, err := e.AppendJSON(nil)
	require.NoError(t, err)
	var members map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(line, &members))
	require.Contains(t, members, "data", "not as base64")
	require.True(t, sameData(e.Data, e.Data))
}
