package ingress_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop/ingress"
)

// Bodies that somebody with the secret could send: none is recorded, and each is told what is wrong without being repeated.
func TestSignedBodiesThatAreNoMessage(t *testing.T) {
	t.Parallel()
	s := open(t, eventstore.Config{})
	h := handler(t, s)
	const (
		badName = "must be up to 200 ASCII characters without spaces"
		badText = "must be of type string, and is of type number"
		badTime = "must be a time of RFC 3339: when it happened"
		tooDeep = "The body has objects or arrays more than 100 deep in each other."
		noIDs   = "/data/metadata/order_id is missing /data/metadata/user_id is missing"
		moment  = `"2027-01-15T08:00:00Z"`
	)
	deep := func(n int) string {
		return `{"id":"evt_1","type":"x","d":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}`
	}
	for name, c := range map[string]struct {
		path, body, want string
		status           int
	}{
		"empty":                {"stripe", "", "The body is empty.", 400},
		"white space":          {"stripe", " \n", "The body is empty.", 400},
		"text":                 {"stripe", "private=1", "The body is not JSON.", 400},
		"cut off":              {"stripe", charged[:len(charged)-1], "The body is not JSON.", 400},
		"two documents":        {"stripe", charged + charged, "The body is not JSON.", 400},
		"NUL behind":           {"stripe", charged + "\x00", "The body is not JSON.", 400},
		"byte order mark":      {"stripe", "\ufeff" + charged, "The body is not JSON.", 400},
		"comment":              {"stripe", "/* */" + charged, "The body is not JSON.", 400},
		"NaN":                  {"stripe", `{"id":NaN}`, "The body is not JSON.", 400},
		"binary":               {"stripe", "\x1f\x8b\x08\x00\x00\x00\xff\xfe", "The body is not UTF-8.", 400},
		"Latin-1":              {"stripe", "{\"id\":\"\xe9\"}", "The body is not UTF-8.", 400},
		"UTF-16":               {"stripe", "{\x00\"\x00}\x00", "The body is not JSON.", 400},
		"surrogate bytes":      {"stripe", "{\"id\":\"\xed\xa0\x80\"}", "The body is not UTF-8.", 400},
		"array":                {"stripe", "[" + charged + "]", "The body is not a JSON object.", 400},
		"null":                 {"stripe", "null", "The body is not a JSON object.", 400},
		"number":               {"sms", "7", "The body is not a JSON object.", 400},
		"100 deep":             {"stripe", deep(100), tooDeep, 400},
		"100,000 deep":         {"stripe", deep(100_000), tooDeep, 400},
		"100,000 deep, open":   {"stripe", strings.Repeat("[", 100_000), tooDeep, 400},
		"nothing":              {"stripe", "{}", "/id is missing /type is missing", 422},
		"null members":         {"stripe", `{"id":null,"type":null}`, "/id is missing /type is missing", 422},
		"numeric id":           {"stripe", `{"id":-98765,"type":"x"}`, "/id " + badText, 422},
		"array for type":       {"stripe", `{"id":"evt_1","type":["x"]}`, "/type must be of type string, and is of type array", 422},
		"NUL in id":            {"stripe", `{"id":"evt_\u0000","type":"x"}`, "/id " + badName, 422},
		"lone surrogate in id": {"stripe", `{"id":"\ud800","type":"x"}`, "/id " + badName, 422},
		"long id":              {"stripe", `{"id":"` + strings.Repeat("x", 201) + `","type":"x"}`, "/id " + badName, 422},
		"type over two lines":  {"stripe", `{"id":"evt_1","type":"x\ny"}`, "/type " + badName, 422},
		"no type":              {"sms", `{"data":{}}`, "/type is missing", 422},
		"no data":              {"sms", `{"type":"sms.delivered"}`, noIDs + " /timestamp " + badTime, 422},
		"data is null":         {"mail", `{"type":"email.bounced","timestamp":` + moment + `,"data":null}`, noIDs, 422},
		"data is text":         {"mail", `{"type":"email.bounced","data":"x"}`, "/data must be of type object, and is of type string", 422},
		"numeric order":        {"mail", `{"type":"email.bounced","data":{"metadata":{"order_id":9}}}`, "/data/metadata/order_id " + badText, 422},
		"order with a space":   {"mail", strings.Replace(bounced, "order-1", "order 1", 1), "/data/metadata/order_id " + badName, 422},
		"numeric time":         {"mail", strings.Replace(bounced, moment, "1799999990", 1), "/timestamp " + badTime, 422},
		"time without zone":    {"mail", strings.Replace(bounced, "08:00:00Z", "08:00:00", 1), "/timestamp " + badTime, 422},
		"year 0 in the east":   {"mail", strings.Replace(bounced, moment, `"0000-01-01T00:00:00+09:00"`, 1), "/timestamp " + badTime, 422},
	} {
		send := map[string]func(*testing.T, http.Handler, string) answer{"stripe": sendStripe, "sms": sendSMS, "mail": sendMail}[c.path]
		got := send(t, h, c.body)
		require.Equal(t, c.status, got.status, "%s: %s", name, got.text)
		require.Equal(t, c.want, faults(got), name)
		require.NotContains(t, got.text, "private")
		require.NotContains(t, got.text, "98765")
	}
	require.Empty(t, log(t, s))
	body := deep(99)
	require.Equal(t, http.StatusOK, sendStripe(t, h, body).status, "that deep is allowed")
}

// faults are what an answer says is wrong.
func faults(a answer) string {
	list, listed := a.members["errors"].([]any)
	if !listed {
		return a.members["detail"].(string)
	}
	var all []string
	for _, f := range list {
		members := f.(map[string]any)
		pointer, _ := members["pointer"].(string)
		all = append(all, pointer+" "+members["detail"].(string))
	}
	return strings.Join(all, " ")
}

func TestRequestsThatAreNotSigned(t *testing.T) {
	t.Parallel()
	s := open(t, eventstore.Config{})
	h := handler(t, s)
	good, sms := signStripe(t, charged, now()), signStandard(t, smsSecret, delivered, now())
	forged := "t=1800000000,v1=" + strings.Repeat("0", 64)
	one := good.Get("Stripe-Signature")
	with := func(h http.Header, name string, values ...string) http.Header {
		h = h.Clone()
		h[name] = values
		return h
	}
	for name, c := range map[string]struct {
		path, body string
		header     http.Header
		title      string
	}{
		"nothing":                      {"stripe", charged, nil, "No signature"},
		"empty":                        {"stripe", charged, with(good, "Stripe-Signature", ""), "No signature"},
		"twice":                        {"stripe", charged, with(good, "Stripe-Signature", one, one), "Unreadable signature"},
		"a bad one before":             {"stripe", charged, with(good, "Stripe-Signature", "t=1,v1=00", one), "Unreadable signature"},
		"words":                        {"stripe", charged, with(good, "Stripe-Signature", "let me in"), "Unreadable signature"},
		"another body":                 {"stripe", charged + " ", good, "Wrong signature"},
		"another header":               {"stripe", charged, with(good, "Stripe-Signature", forged), "Wrong signature"},
		"the other scheme":             {"stripe", delivered, sms, "No signature"},
		"another provider's secret":    {"mail", delivered, sms, "Wrong signature"},
		"sms without id":               {"sms", delivered, with(sms, "Webhook-Id"), "No signature"},
		"sms under another id":         {"sms", delivered, with(sms, "Webhook-Id", "msg_2"), "Wrong signature"},
		"sms id with a full stop":      {"sms", delivered, with(sms, "Webhook-Id", "msg_1.1800000000"), "Unreadable signature"},
		"sms at another time":          {"sms", delivered, with(sms, "Webhook-Timestamp", "1800000001"), "Wrong signature"},
		"sms with two times":           {"sms", delivered, with(sms, "Webhook-Timestamp", "1800000000", "1800000000"), "Unreadable signature"},
		"sms of an unknown version":    {"sms", delivered, with(sms, "Webhook-Signature", "v9,abc"), "No signature"},
		"sms with an empty one":        {"sms", delivered, with(sms, "Webhook-Signature", "v1,"), "Wrong signature"},
		"a hundred signatures":         {"sms", delivered, with(sms, "Webhook-Signature", strings.Repeat("v1,abc ", 100)), "Unreadable signature"},
		"a body that is not looked at": {"stripe", strings.Repeat("x", 300<<10), nil, "No signature"},
	} {
		got := serve(t, h, request(t, "/webhooks/"+c.path, c.body, c.header))
		require.Equal(t, http.StatusUnauthorized, got.status, name)
		require.Equal(t, c.title, got.title(), name)
	}
	require.Empty(t, log(t, s))
}

func TestOtherRequests(t *testing.T) {
	t.Parallel()
	h := handler(t, open(t, eventstore.Config{}))
	for _, path := range []string{
		"/", "/webhooks", "/webhooks/", "/webhooks/paypal", "/webhooks/Stripe", "/webhooks/stripe/", "/webhooks//stripe", "/stripe",
		"/webhooks/../webhooks/stripe", "/webhooks/stripe%00", "/webhooks/" + strings.Repeat("x", 5000), "/webhooks/%ff", "/x/webhooks/stripe",
	} {
		require.Equal(t, http.StatusNotFound, serve(t, h, request(t, path, charged, signStripe(t, charged, now()))).status, path)
	}
	r := request(t, "/webhooks/stripe", charged)
	r.URL.Path = "stripe"
	require.Equal(t, http.StatusNotFound, serve(t, h, r).status)
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch, "BREW"} {
		r := request(t, "/webhooks/stripe", charged, signStripe(t, charged, now()))
		r.Method = method
		got := serve(t, h, r)
		require.Equal(t, http.StatusMethodNotAllowed, got.status, method)
		require.Equal(t, http.MethodPost, got.header.Get("Allow"))
	}
}

func TestMediaTypes(t *testing.T) {
	t.Parallel()
	h := handler(t, open(t, eventstore.Config{}))
	for _, c := range []struct {
		media, coding string
		want          int
	}{
		{"application/json", "", 200},
		{"", "", 200},
		{"APPLICATION/JSON;charset=UTF-8", "identity", 200},
		{"application/cloudevents+json", "", 200},
		{"text/plain", "", 415},
		{"application/x-www-form-urlencoded", "", 415},
		{"multipart/form-data; boundary=x", "", 415},
		{"application/jsonp", "", 415},
		{"json", "", 415},
		{";;;", "", 415},
		{"\x00", "", 415},
		{"application/json", "gzip", 415},
		{"application/json", "gzip, identity", 415},
	} {
		got := serve(t, h, request(t, "/webhooks/stripe", charged, signStripe(t, charged, now()),
			http.Header{"Content-Type": {c.media}, "Content-Encoding": {c.coding}}))
		require.Equal(t, c.want, got.status, c)
	}
}

func TestBodyLimit(t *testing.T) {
	t.Parallel()
	h := handler(t, open(t, eventstore.Config{}), func(c *ingress.Config) { c.MaxBody = int64(len(charged)) })
	require.Equal(t, http.StatusOK, sendStripe(t, h, charged).status)
	for _, told := range []bool{true, false} {
		body := charged + " "
		r := request(t, "/webhooks/stripe", body, signStripe(t, body, now()))
		if !told {
			r.ContentLength = -1
		}
		require.Equal(t, http.StatusRequestEntityTooLarge, serve(t, h, r).status)
	}
}

// What is logged names the reason, and nothing that was sent or is secret.
func TestTheLogIsDiscreet(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	s := open(t, eventstore.Config{})
	h := handler(t, s, func(c *ingress.Config) {
		c.Logger = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	post := func(body string, header http.Header) int {
		recorder := httptest.NewRecorder()
		h.ServeHTTP(recorder, request(t, "/webhooks/stripe", body, header))
		return recorder.Code
	}
	const private = `{"id":"evt_1","type":"charge.succeeded","card":"private"}`
	require.Equal(t, 200, post(private, signStripe(t, private, now())))
	other := strings.Replace(private, "card", "iban", 1)
	require.Equal(t, 409, post(other, signStripe(t, other, now())))
	require.Equal(t, 400, post("private", signStripe(t, "private", now())))
	require.Equal(t, 422, post(`{"id":{"private":1}}`, signStripe(t, `{"id":{"private":1}}`, now())))
	require.Equal(t, 401, post(private, http.Header{"Stripe-Signature": {"private"}}))
	require.Equal(t, 401, post("private", signStripe(t, private, now())))
	require.Contains(t, logged.String(), "Wrong signature")
	require.Contains(t, logged.String(), "event=stripe-evt_1")
	require.Equal(t, 6, strings.Count(logged.String(), "\n"))
	for _, secret := range []string{"private", "DaLRHCRs", "v1="} {
		require.NotContains(t, strings.ReplaceAll(logged.String(), "t= and v1=", ""), secret)
	}
}
