package ingress_test

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/postgrestest"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/ingress"
)

const (
	charged = `{"id":"evt_1","object":"event","type":"charge.succeeded","created":1799999990,"pending_webhooks":2,` +
		`"data":{"object":{"id":"ch_1","amount":1200,"metadata":{"order_id":"order-1","correlation_id":"c-1"}}}}`
	delivered = `{"type":"sms.delivered","timestamp":"2027-01-15T09:00:00.123456789+01:00",` +
		`"data":{"to":"+4930123456","metadata":{"order_id":"order-1","user_id":"user-1","correlation_id":"c-1"}}}`
	bounced = `{"type":"email.bounced","timestamp":"2027-01-15T08:00:00Z",` +
		`"data":{"to":"zoë@example.com","reason":"550 5.1.1 no such user","metadata":{"order_id":"order-1","user_id":"user-1"}}}`
)

func TestStripeIsRecordedAsItCame(t *testing.T) {
	t.Parallel()
	s := open(t, eventstore.Config{})
	// Indented, as Stripe sends it, with what a decoder would change: a long number, escapes, a member twice.
	const body = "{\n  \"id\": \"evt_2\",\r\n\t\"type\": \"charge.refunded\", " +
		"\"n\": 12345678901234567890.10, \"s\": \"\\u00e9 <b> & \u2028\", \"s\": {}\n}\n"
	got := sendStripe(t, handler(t, s), body)
	require.Equal(t, http.StatusOK, got.status)
	require.Equal(t, map[string]any{"status": "recorded", "event_id": "stripe-evt_2", "type": "charge.refunded"}, got.members)
	all := log(t, s)
	require.Len(t, all, 1)
	const recorded = `{"provider":"stripe","type":"charge.refunded","id":"evt_2","payload":` +
		"{\"id\":\"evt_2\",\"type\":\"charge.refunded\",\"n\":12345678901234567890.10,\"s\":\"\\u00e9 <b> & \u2028\",\"s\":{}}}"
	require.Equal(t, recorded, string(all[0].Data)) //nolint:testifylint // byte for byte, not only as JSON
	require.Empty(t, all[0].Subject)
	require.Zero(t, all[0].Time, "it was not told")
	line, err := all[0].AppendJSON(nil)
	require.NoError(t, err)
	require.NotContains(t, string(line), "data_base64", "people can read it")
}

func TestStripeEvent(t *testing.T) {
	t.Parallel()
	s := open(t, eventstore.Config{})
	got := sendStripe(t, handler(t, s), charged)
	require.Equal(t, http.StatusOK, got.status)
	all := log(t, s)
	require.Len(t, all, 1)
	e := all[0]
	require.Equal(t, "webhook-stripe-evt_1", e.Stream)
	require.Equal(t, "stripe-evt_1", e.ID)
	require.Equal(t, "shop/webhooks/stripe", e.Source)
	require.Equal(t, shop.PaymentProviderWebhook, e.Type)
	require.Equal(t, "order-1", e.Subject)
	require.Equal(t, "application/json", e.DataContentType)
	require.Equal(t, map[string]any{"partitionkey": "order-1", "correlationid": "c-1"}, e.Extensions)
	require.True(t, e.Time.Equal(time.Unix(1799999990, 0)))
	topic, ok := shop.Topic(e.Type)
	require.True(t, ok)
	require.Equal(t, shop.Providers, topic)
}

// What the shop has given Stripe may be missing, or be of another shape: the event is recorded all the same.
func TestStripeWithoutAnOrder(t *testing.T) {
	t.Parallel()
	s := open(t, eventstore.Config{})
	h := handler(t, s)
	for id, more := range map[string]string{
		"evt_a": `,"data":null`, "evt_b": `,"data":[1]`, "evt_c": `,"data":{"object":"x"}`, "evt_d": `,"data":{"object":{"metadata":7}}`,
		"evt_e": `,"data":{"object":{"metadata":{"order_id":17}}}`, "evt_f": `,"data":{"object":{"metadata":{"order_id":"a b"}}}`,
		"evt_g": `,"data":{"object":{"metadata":{"order_id":"` + strings.Repeat("x", 201) + `","correlation_id":"\u0000"}}}`,
		"evt_h": `,"created":null`,
	} {
		body := `{"id":"` + id + `","type":"x"` + more + `}`
		require.Equal(t, http.StatusOK, sendStripe(t, h, body).status, more)
	}
	all := log(t, s)
	require.Len(t, all, 8)
	for _, e := range all {
		require.Empty(t, e.Subject, e.ID)
		require.Empty(t, e.Extensions, e.ID)
	}
}

func TestStripeTimes(t *testing.T) {
	t.Parallel()
	s := open(t, eventstore.Config{})
	h := handler(t, s)
	for created, want := range map[string]string{
		"1": "1970-01-01T00:00:01Z", "253402300799": "9999-12-31T23:59:59Z",
		`"2026-11-28T10:15:00.1234567Z"`: "2026-11-28T10:15:00.123456Z",
		"0":                              "", "-1": "", "253402300800": "", "1e400": "", "1.5": "", `"yesterday"`: "", `""`: "", "[]": "", "true": "",
	} {
		body := `{"id":"evt_` + strings.Map(letters, created) + `","type":"x","created":` + created + `}`
		got := sendStripe(t, h, body)
		if want == "" {
			require.Equal(t, http.StatusUnprocessableEntity, got.status, created)
			continue
		}
		require.Equal(t, http.StatusOK, got.status, created)
		all := log(t, s)
		require.Equal(t, want, all[len(all)-1].Time.Format(time.RFC3339Nano))
	}
}

// letters leaves what may be in an id.
func letters(c rune) rune {
	if c == '"' {
		return 'q'
	}
	return c
}

func TestDeliveries(t *testing.T) {
	t.Parallel()
	s := open(t, eventstore.Config{})
	h := handler(t, s)
	got := sendSMS(t, h, delivered)
	require.Equal(t, map[string]any{"status": "recorded", "event_id": "sms-msg_1", "type": "sms.delivered"}, got.members)
	got = sendMail(t, h, bounced)
	require.Equal(t, map[string]any{"status": "recorded", "event_id": "mail-msg_1", "type": "email.bounced"}, got.members)
	all := log(t, s)
	require.Len(t, all, 2, "each provider has ids of its own")

	var data shop.Delivery
	require.Equal(t, shop.SMSConfirmed, all[0].Type)
	require.Equal(t, "shop/webhooks/sms", all[0].Source)
	require.Equal(t, "webhook-sms-msg_1", all[0].Stream)
	require.Equal(t, "2027-01-15T08:00:00.123456Z", all[0].Time.Format(time.RFC3339Nano))
	require.Equal(t, "c-1", all[0].CorrelationID())
	require.NoError(t, json.Unmarshal(all[0].Data, &data))
	require.Equal(t, shop.Delivery{OrderID: "order-1", UserID: "user-1", To: "+4930123456"}, data)

	require.Equal(t, shop.EmailBounced, all[1].Type)
	require.Equal(t, "order-1", all[1].Subject)
	require.NoError(t, json.Unmarshal(all[1].Data, &data))
	require.Equal(t, shop.Delivery{OrderID: "order-1", UserID: "user-1", To: "zoë@example.com", Reason: "550 5.1.1 no such user"}, data)
}

func TestOtherTypesAreIgnored(t *testing.T) {
	t.Parallel()
	s := open(t, eventstore.Config{})
	h := handler(t, s)
	for _, body := range []string{`{"type":"sms.failed"}`, `{"type":"email.bounced","data":7}`, `{"type":"SMS.DELIVERED"}`} {
		got := sendSMS(t, h, body)
		require.Equal(t, http.StatusAccepted, got.status)
		require.Equal(t, "ignored", got.members["status"])
		require.Contains(t, body, got.members["type"])
	}
	require.Empty(t, log(t, s))
}

// A provider sends a message until it is answered, each time with a new time and signature; a listener sends it unchanged.
func TestMessagesAreRecordedOnce(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "shop.db")
	first, err := eventstore.Open(t.Context(), eventstore.Config{DB: db})
	require.NoError(t, err)
	h := handler(t, first)
	signed := signStripe(t, charged, now())
	require.Equal(t, "recorded", serve(t, h, request(t, "/webhooks/stripe", charged, signed)).members["status"])
	require.Equal(t, "recorded", sendSMS(t, h, delivered).members["status"])
	require.NoError(t, first.Close())

	s := open(t, eventstore.Config{DB: db})
	h = handler(t, s)
	again := func(path, body string, header http.Header) {
		got := serve(t, h, request(t, path, body, header))
		require.Equal(t, http.StatusOK, got.status, got.text)
		require.Equal(t, "duplicate", got.members["status"])
		require.NotEmpty(t, got.members["event_id"])
	}
	again("/webhooks/stripe", charged, signed)
	again("/webhooks/stripe", charged, signStripe(t, charged, now().Add(-time.Minute)))
	again("/webhooks/sms", delivered, signStandard(t, smsSecret, delivered, now().Add(time.Minute)))
	for _, otherwise := range []string{
		strings.Replace(charged, `"pending_webhooks":2`, `"pending_webhooks":1`, 1), // it counts down as endpoints answer
		strings.Replace(charged, `"pending_webhooks":2,`, ``, 1),
		strings.Replace(charged, `:`, ` : `, 1),
		strings.Replace(charged, `"object":"event","type":"charge.succeeded",`, `"type":"charge.succeeded","object":"event",`, 1),
	} {
		again("/webhooks/stripe", otherwise, signStripe(t, otherwise, now()))
	}
	require.Len(t, log(t, s), 2)
}

// Whatever else a message under a known id says, it is not taken for the one that was recorded.
func TestAnotherMessageUnderAKnownID(t *testing.T) {
	t.Parallel()
	s := open(t, eventstore.Config{})
	h := handler(t, s)
	require.Equal(t, http.StatusOK, sendStripe(t, h, charged).status)
	require.Equal(t, http.StatusOK, sendMail(t, h, bounced).status)
	before := log(t, s)
	for _, change := range [][2]string{
		{"1200", "1201"}, {"1200", "1200.0"}, {"1799999990", "1799999991"}, {"order-1", "order-2"}, {"charge.succeeded", "charge.failed"},
	} {
		body := strings.Replace(charged, change[0], change[1], 1)
		got := sendStripe(t, h, body)
		require.Equal(t, http.StatusConflict, got.status, change)
		require.Equal(t, "stripe-evt_1", got.members["event_id"])
	}
	for _, change := range [][2]string{{"08:00:00Z", "08:00:01Z"}, {"user-1", "user-2"}, {"550", "551"}} {
		body := strings.Replace(bounced, change[0], change[1], 1)
		got := sendMail(t, h, body)
		require.Equal(t, http.StatusConflict, got.status, change)
	}
	require.Equal(t, before, log(t, s))
}

// The same message, at once, to two processes that share a database.
func TestTheSameMessageAtOnce(t *testing.T) {
	t.Parallel()
	for name, db := range map[string]string{"sqlite": filepath.Join(t.TempDir(), "shop.db"), "postgres": postgrestest.URL(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := eventstore.Config{DB: db}
			s := open(t, config)
			handlers := []http.Handler{handler(t, s), handler(t, open(t, config))}
			var mu sync.Mutex
			told := map[any]int{}
			var crowd sync.WaitGroup
			start := make(chan struct{})
			for i := range 50 {
				r := request(t, "/webhooks/stripe", charged, signStripe(t, charged, now().Add(time.Duration(i%7)*time.Second)))
				crowd.Go(func() {
					<-start
					got := serve(t, handlers[i%2], r)
					assert.Equal(t, http.StatusOK, got.status, got.text)
					mu.Lock()
					defer mu.Unlock()
					told[got.members["status"]]++
				})
			}
			close(start)
			crowd.Wait()
			require.Equal(t, map[any]int{"recorded": 1, "duplicate": 49}, told)
			require.Len(t, log(t, s), 1)
		})
	}
}

// An old secret and a new one are both good while one takes the place of the other.
func TestSecretsChange(t *testing.T) {
	t.Parallel()
	const next = "whsec_test_secret_0123456789abcdef"
	s := open(t, eventstore.Config{})
	h := handler(t, s, func(c *ingress.Config) { c.Secrets.Stripe = []string{stripeSecret, next} })
	header, err := ingress.SignStripe(next, []byte(charged), now())
	require.NoError(t, err)
	require.Equal(t, "recorded", serve(t, h, request(t, "/webhooks/stripe", charged, header)).members["status"])
	require.Equal(t, "duplicate", sendStripe(t, h, charged).members["status"])
	h = handler(t, s, func(c *ingress.Config) { c.Secrets.Stripe = []string{next} })
	require.Equal(t, "Wrong signature", sendStripe(t, h, charged).title())
}

func TestTolerance(t *testing.T) {
	t.Parallel()
	s := open(t, eventstore.Config{})
	h := handler(t, s, func(c *ingress.Config) { c.Tolerance = time.Minute })
	// The clock is at 0.7 s of its second, and signatures have whole ones.
	for off, want := range map[time.Duration]int{
		-59 * time.Second: 200, -60 * time.Second: 401, 0: 200, 60 * time.Second: 200, 61 * time.Second: 401,
		-365 * 24 * time.Hour: 401, 100 * 365 * 24 * time.Hour: 401,
	} {
		at := now().Truncate(time.Second).Add(off)
		for path, header := range map[string]http.Header{
			"/webhooks/stripe": signStripe(t, charged, at), "/webhooks/sms": signStandard(t, smsSecret, delivered, at),
		} {
			body := charged
			if path == "/webhooks/sms" {
				body = delivered
			}
			got := serve(t, h, request(t, path, body, header))
			require.Equal(t, want, got.status, "%s signed %v from now", path, off)
			if want == http.StatusUnauthorized {
				require.Equal(t, "Time out of tolerance", got.title())
			}
		}
	}
	require.Len(t, log(t, s), 2)
}
