package ingress_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop/ingress"
)

func TestAllMistakesAreReportedTogether(t *testing.T) {
	t.Parallel()
	_, err := ingress.New(ingress.Config{
		Secrets: ingress.Secrets{
			Stripe: []string{stripeSecret, "sk_live_private0123456789"},
			SMS:    []string{"whsec_private"}, Mail: []string{mailSecret, mailSecret, ""},
		},
		Tolerance: -1, MaxBody: -2, Timeout: -3 * time.Second,
	})
	require.EqualError(t, err, strings.Join([]string{
		"webhooks: no event store to record them in",
		"webhooks: tolerance -1ns: must not be negative",
		"webhooks: largest body of -2 bytes: must not be negative",
		"webhooks: timeout -3s: must not be negative",
		"stripe secret 2 of 2: does not begin with whsec_: it must be an endpoint's signing secret, not an API key",
		"sms secret 1 of 1: is not base64, with or without whsec_ before it",
		"mail secret 3 of 3: is empty",
	}, "\n"))
	require.NotContains(t, err.Error(), "private")
}

func TestSecretsAreNotShown(t *testing.T) {
	t.Parallel()
	config := ingress.Config{Secrets: ingress.Secrets{Stripe: []string{stripeSecret}, SMS: []string{smsSecret, smsSecret}}}
	var logged strings.Builder
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("made", slog.Any("secrets", config.Secrets))
	written, err := json.Marshal(config.Secrets)
	require.NoError(t, err)
	for _, text := range []string{
		fmt.Sprint(config), fmt.Sprintf("%+v", config), fmt.Sprintf("%#v", config), logged.String(), string(written),
	} {
		require.NotContains(t, text, "DaLRHCRs")
		require.NotContains(t, text, "MfKQ9r8G")
	}
	require.Equal(t, "stripe: 1, sms: 2, mail: 0 (not shown)", config.Secrets.String())
}

// A provider without a secret is not served: nobody could sign for it.
func TestProvidersWithoutASecret(t *testing.T) {
	t.Parallel()
	h := handler(t, open(t, eventstore.Config{}), func(c *ingress.Config) { c.Secrets.Mail, c.Secrets.SMS = nil, []string{} })
	for _, path := range []string{"/webhooks/mail", "/webhooks/sms"} {
		got := serve(t, h, request(t, path, "{}", signStandard(t, mailSecret, "{}", now())))
		require.Equal(t, http.StatusNotFound, got.status)
	}
	body := `{"id":"evt_1","type":"charge.succeeded"}`
	require.Equal(t, http.StatusOK, sendStripe(t, h, body).status)
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	h, err := ingress.New(ingress.Config{
		Store: open(t, eventstore.Config{}), Secrets: ingress.Secrets{Stripe: []string{"  " + stripeSecret + "\n"}},
	})
	require.NoError(t, err)
	body := `{"id":"evt_1","type":"charge.succeeded"}`
	require.Equal(t, http.StatusOK, serve(t, h, request(t, "/webhooks/stripe", body, signStripe(t, body, time.Now()))).status)
	for _, off := range []time.Duration{-ingress.DefaultTolerance, ingress.DefaultTolerance + 2*time.Second} {
		got := serve(t, h, request(t, "/webhooks/stripe", body, signStripe(t, body, time.Now().Add(off-time.Second))))
		if off < 0 {
			require.Equal(t, "Time out of tolerance", got.title())
		} else {
			require.Equal(t, http.StatusUnauthorized, got.status)
		}
	}
	large := `{"id":"evt_2","type":"` + strings.Repeat("x", int(ingress.DefaultMaxBody))
	got := serve(t, h, request(t, "/webhooks/stripe", large, signStripe(t, large, time.Now())))
	require.Equal(t, http.StatusRequestEntityTooLarge, got.status)
}
