package api_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/api"
	"github.com/evdemo/evdemo/internal/shop/ingress"
)

func secrets() ingress.Secrets {
	standard := "whsec_" + base64.StdEncoding.EncodeToString([]byte("a secret of thirty-two characters"))
	return ingress.Secrets{Stripe: []string{"whsec_for_the_tests_of_the_api"}, SMS: []string{standard}, Mail: []string{standard}}
}

// taking has the webhooks of all providers served, from a store.
func taking(t *testing.T, store func() *eventstore.Store) func(*api.Config) {
	t.Helper()
	return func(c *api.Config) {
		s := c.Store
		if store != nil {
			s = store()
		}
		handler, err := ingress.New(ingress.Config{Store: s, Secrets: secrets(), MaxBody: 1000, Timeout: 300 * time.Millisecond})
		require.NoError(t, err)
		c.Webhooks = handler
	}
}

// hook sends what a provider signs.
func (s *served) hook(provider, id, body string) got {
	s.tb.Helper()
	var signed http.Header
	var err error
	if provider == ingress.Stripe {
		signed, err = ingress.SignStripe(secrets().Stripe[0], []byte(body), time.Now())
	} else {
		signed, err = ingress.SignStandard(secrets().SMS[0], id, []byte(body), time.Now())
	}
	require.NoError(s.tb, err)
	header := []string{"Content-Type", jsonType}
	for name, values := range signed {
		if name != "Content-Type" {
			header = append(header, name, values[0])
		}
	}
	return s.do(http.MethodPost, "/webhooks/"+provider, strings.NewReader(body), header...)
}

// Webhooks are answered as the document says, and what they tell is in the order's history.
func TestWebhooks(t *testing.T) {
	t.Parallel()
	s := serve(t, file(t), taking(t, nil))
	p := s.post(anOrder).placed(t)
	bounced := `{"type":"email.bounced","timestamp":"2026-11-28T10:15:00Z","data":{"to":"a@example.com","reason":"no such user","metadata":` +
		`{"order_id":"` + p.ID + `","user_id":"user-123"}}}`
	require.Equal(t, http.StatusOK, s.hook("mail", "m-1", bounced).status)
	require.Equal(t, "duplicate", s.hook("mail", "m-1", bounced).members(t)["status"])
	require.Equal(t, http.StatusOK, s.hook("stripe", "", `{"id":"evt_1","type":"charge.succeeded","data":{}}`).status)
	require.Equal(t, http.StatusAccepted, s.hook("mail", "m-2", strings.Replace(bounced, "email.bounced", "email.opened", 1)).status)
	s.hook("mail", "m-1", strings.Replace(bounced, "no such", "some", 1)).requireProblem(t, http.StatusConflict, "")
	s.hook("stripe", "", `{"id":`).requireProblem(t, http.StatusBadRequest, "")
	s.hook("stripe", "", `{}`).requireProblem(t, http.StatusUnprocessableEntity, "")
	s.hook("stripe", "", strings.Repeat(" ", 1001)).requireProblem(t, http.StatusRequestEntityTooLarge, "")
	s.do(http.MethodPost, "/webhooks/stripe", strings.NewReader("{}"), "Content-Type", jsonType).requireProblem(t, http.StatusUnauthorized, "")
	s.do(http.MethodPost, "/webhooks/stripe", strings.NewReader("{}"), "Content-Type", "text/plain").requireProblem(t, http.StatusUnsupportedMediaType, "")
	s.do(http.MethodPost, "/webhooks/nobody", strings.NewReader("{}")).requireProblem(t, http.StatusNotFound, "")
	s.get("/webhooks/stripe").requireProblem(t, http.StatusMethodNotAllowed, "")

	w := s.dial(t)
	signed, err := ingress.SignStripe(secrets().Stripe[0], []byte("{}"), time.Now())
	require.NoError(t, err)
	w.say("POST /webhooks/stripe HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\nContent-Length: 2\r\n")
	w.say("Stripe-Signature: %s\r\n\r\n{", signed.Get("Stripe-Signature"))
	w.hear(http.MethodPost, "/webhooks/stripe").requireProblem(t, http.StatusRequestTimeout, "")

	steps, _ := s.get(p.Links["history"]).members(t)["steps"].([]any)
	require.Len(t, steps, 2)
	step, _ := steps[1].(map[string]any)
	require.Equal(t, shop.EmailBounced, step["type"])
	require.Equal(t, "no such user", step["reason"])
}

// Without secrets nobody takes webhooks.
func TestNoWebhooks(t *testing.T) {
	t.Parallel()
	s := serve(t, file(t))
	for _, path := range []string{"/webhooks/stripe", "/webhooks/", "/webhooks"} {
		s.do(http.MethodPost, path, strings.NewReader("{}")).requireProblem(t, http.StatusNotFound, "")
	}
}
