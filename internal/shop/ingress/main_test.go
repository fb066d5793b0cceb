package ingress_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/postgrestest"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/ingress"
	"github.com/evdemo/evdemo/internal/shop/problem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Main(m)) }

const (
	stripeSecret = "whsec_DaLRHCRs35vEXqOE8uTEAXGLGUOnyaFf"
	smsSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	mailSecret   = "YmFzZTY0IG9mIGEgc2VjcmV0IG9mIDMyIGJ5dGVzISE="
)

// now is what every handler's clock shows.
func now() time.Time { return time.Unix(1_800_000_000, 700_000_000) }

func open(t *testing.T, config eventstore.Config) *eventstore.Store {
	t.Helper()
	if config.DB == "" {
		config.DB = filepath.Join(t.TempDir(), "shop.db")
	}
	s, err := eventstore.Open(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// handler makes a handler with a secret for each provider and the clock above, changed as a test needs it.
func handler(t *testing.T, s *eventstore.Store, change ...func(*ingress.Config)) *ingress.Handler {
	t.Helper()
	config := ingress.Config{
		Store:   s,
		Secrets: ingress.Secrets{Stripe: []string{stripeSecret}, SMS: []string{smsSecret}, Mail: []string{mailSecret}},
		Now:     now,
		Logger:  slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	for _, f := range change {
		f(&config)
	}
	h, err := ingress.New(config)
	require.NoError(t, err)
	return h
}

// log is everything that is recorded. Each event is what its schema says.
func log(t *testing.T, s *eventstore.Store) []eventstore.Recorded {
	t.Helper()
	schemas, err := shop.Schemas()
	require.NoError(t, err)
	var all []eventstore.Recorded
	for r, err := range s.Read(t.Context(), eventstore.Query{}) {
		require.NoError(t, err)
		require.NoError(t, schemas.Check(r.Event))
		all = append(all, r)
	}
	return all
}

func signStripe(t *testing.T, body string, at time.Time) http.Header {
	t.Helper()
	header, err := ingress.SignStripe(stripeSecret, []byte(body), at)
	require.NoError(t, err)
	return header
}

// signStandard signs the message msg_1.
func signStandard(t *testing.T, secret, body string, at time.Time) http.Header {
	t.Helper()
	header, err := ingress.SignStandard(secret, "msg_1", []byte(body), at)
	require.NoError(t, err)
	return header
}

// answer is what was answered.
type answer struct {
	status  int
	header  http.Header
	text    string
	members map[string]any
}

// title is the title of a problem.
func (a answer) title() string { s, _ := a.members["title"].(string); return s }

// request makes a request with a body and the headers, and says that it is JSON.
func request(t *testing.T, path, body string, headers ...http.Header) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	for _, h := range headers {
		maps.Copy(r.Header, h)
	}
	return r
}

// serve gives the answer to a request. Every answer is JSON, and no error is anything but a problem.
func serve(t *testing.T, h http.Handler, r *http.Request) answer {
	t.Helper()
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, r)
	return check(t, recorder.Code, recorder.Header(), recorder.Body)
}

// sendStripe, sendSMS and sendMail send a body as the provider would, signed now.
func sendStripe(t *testing.T, h http.Handler, body string) answer {
	t.Helper()
	return serve(t, h, request(t, "/webhooks/stripe", body, signStripe(t, body, now())))
}

func sendSMS(t *testing.T, h http.Handler, body string) answer {
	t.Helper()
	return serve(t, h, request(t, "/webhooks/sms", body, signStandard(t, smsSecret, body, now())))
}

func sendMail(t *testing.T, h http.Handler, body string) answer {
	t.Helper()
	return serve(t, h, request(t, "/webhooks/mail", body, signStandard(t, mailSecret, body, now())))
}

func check(t *testing.T, status int, header http.Header, body io.Reader) answer {
	t.Helper()
	var text bytes.Buffer
	_, err := text.ReadFrom(body)
	require.NoError(t, err)
	a := answer{status: status, header: header, text: text.String()}
	require.NoError(t, json.Unmarshal(text.Bytes(), &a.members), text.String())
	if status < 300 {
		require.Equal(t, "application/json", header.Get("Content-Type"))
		return a
	}
	require.Equal(t, problem.ContentType, header.Get("Content-Type"))
	require.EqualValues(t, status, a.members["status"])
	require.NotEmpty(t, a.title())
	require.NotEmpty(t, a.members["detail"], "it says what to do")
	for _, secret := range []string{stripeSecret, smsSecret, mailSecret} {
		require.NotContains(t, a.text, strings.TrimPrefix(secret, "whsec_"))
	}
	if status == http.StatusUnauthorized {
		require.NotEmpty(t, header.Get("WWW-Authenticate"), "RFC 9110 wants it with a 401")
	}
	return a
}
