package webhook_test

import (
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/webhook"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// What is signed here the library of Standard Webhooks finds right, and nothing else.
func TestSignature(t *testing.T) {
	t.Parallel()
	verifier, err := standardwebhooks.NewWebhook(secret)
	require.NoError(t, err)
	for name, given := range map[string]string{
		"as it is": secret, "without its prefix": strings.TrimPrefix(secret, "whsec_"), "from a file": secret + "\n",
	} {
		for _, id := range []string{"1", "a.b.c", "größer als ein Header", strings.Repeat("x", 1000)} {
			d := delivery(t)
			d.Event.ID = id
			r := record(t.Context(), t, webhook.Config{Secret: given}, d)
			require.NoError(t, verifier.Verify(r.body, r.Header), name)
			require.Error(t, verifier.Verify(append(r.body, ' '), r.Header))
			assert.NotContains(t, r.Header.Get("Webhook-Id"), ".")
			assert.Less(t, len(r.Header.Get("Webhook-Id")), 64)
		}
	}
	other, err := standardwebhooks.NewWebhookRaw([]byte("another secret"))
	require.NoError(t, err)
	r := record(t.Context(), t, webhook.Config{Secret: secret}, delivery(t))
	require.ErrorIs(t, other.Verify(r.body, r.Header), standardwebhooks.ErrNoMatchingSignature)
	assert.NotContains(t, record(t.Context(), t, webhook.Config{Secret: " \n"}, delivery(t)).Header, "Webhook-Id")
}

// A receiver knows a duplicate by webhook-id alone: it is the same for every attempt, and another for
// what another source calls by the same id.
func TestWebhookID(t *testing.T) {
	t.Parallel()
	id := func(source, id string, attempt int) string {
		d := delivery(t)
		d.Event.Source, d.Event.ID, d.Attempt = source, id, attempt
		return record(t.Context(), t, webhook.Config{Secret: secret}, d).Header.Get("Webhook-Id")
	}
	first := id("orders", "1", 1)
	assert.Equal(t, first, id("orders", "1", 2))
	assert.NotEqual(t, first, id("payments", "1", 1))
	assert.NotEqual(t, first, id("orders", "2", 1))
	assert.NotEqual(t, id("a", "bc", 1), id("ab", "c", 1))
}

// The time is that of the attempt: a receiver refuses what is older than five minutes.
func TestTheTimeThatIsSigned(t *testing.T) {
	t.Parallel()
	verifier, err := standardwebhooks.NewWebhook(secret)
	require.NoError(t, err)
	d := &worker.Delivery{Event: delivery(t).Event, Attempt: 2}
	d.Event.Time = time.Now().Add(-time.Hour)
	r := record(t.Context(), t, webhook.Config{Secret: secret}, d)
	require.NoError(t, verifier.Verify(r.body, r.Header))
}
