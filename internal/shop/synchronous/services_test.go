package synchronous

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/service"
)

// serveAll serves the services alone.
func serveAll(t *testing.T) *services {
	t.Helper()
	config, err := Config{Store: openStore(t, file(t))}.withDefaults()
	require.NoError(t, err)
	s, err := config.serve(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { s.close(context.WithoutCancel(t.Context())) })
	return s
}

// A service decides on an event once, however often it is asked.
func TestAServiceAnswersTheSameAgain(t *testing.T) {
	t.Parallel()
	s := serveAll(t)
	reserve := command(t, shop.ReserveInventory)
	first, err := s.ask[service.Inventory](t.Context(), reserve)
	require.NoError(t, err)
	require.Len(t, first, 2)
	require.Equal(t, shop.InventoryReserved, first[0].Type)
	require.Equal(t, reserve.ID, first[0].CausationID())
	again, err := s.ask[service.Inventory](t.Context(), reserve)
	require.NoError(t, err)
	require.Equal(t, first, again)
}

func TestWhatIsNoEvent(t *testing.T) {
	t.Parallel()
	post := func(change func(*http.Request)) *http.Request {
		header, body := command(t, shop.ChargePayment).EncodeHTTP()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(body))
		r.Header = header
		change(r)
		return r
	}
	half := io.MultiReader(strings.NewReader("{"), broken{})
	e := &endpoint{service.Payment, []string{shop.ChargePayment}, nil, slog.New(slog.DiscardHandler)}
	for name, test := range map[string]struct {
		request *http.Request
		status  int
	}{
		"other path":   {post(func(r *http.Request) { r.URL.Path = "/x" }), http.StatusNotFound},
		"other method": {post(func(r *http.Request) { r.Method = http.MethodGet }), http.StatusMethodNotAllowed},
		"no event":     {post(func(r *http.Request) { r.Header = http.Header{} }), http.StatusUnsupportedMediaType},
		"no id":        {post(func(r *http.Request) { r.Header.Del("Ce-Id") }), http.StatusBadRequest},
		"half":         {post(func(r *http.Request) { r.Body = io.NopCloser(half) }), http.StatusBadRequest},
		"large": {post(func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader(strings.Repeat("x", maxEvent+1)))
		}), http.StatusRequestEntityTooLarge},
	} {
		w := httptest.NewRecorder()
		e.ServeHTTP(w, test.request)
		require.Equal(t, test.status, w.Code, "%s: %s", name, w.Body)
		require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"), name)
	}
}

// What a service will never decide on it says so of, and it is not called again.
func TestWhatAServiceDoesNotTake(t *testing.T) {
	t.Parallel()
	s := serveAll(t)
	subject, data := command(t, shop.ChargePayment), command(t, shop.ChargePayment)
	subject.Subject = "order-2"
	data.Data = []byte(`"x"`)
	for name, e := range map[string]event.Event{"type": command(t, shop.ShipOrder), "subject": subject, "data": data} {
		_, err := s.ask[service.Payment](t.Context(), e)
		failed, ok := errors.AsType[*CallError](err)
		require.True(t, ok, name)
		require.True(t, failed.Permanent, "%s: %v", name, err)
		require.ErrorContains(t, err, "422", name)
	}
}

// broken is a body that cannot be read.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("broken") }

// What a service answers that is not what it should be is no answer.
func TestAnswersThatAreNone(t *testing.T) {
	t.Parallel()
	batch := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", event.ContentTypeBatch)
			_, _ = io.WriteString(w, body)
		}
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(code)
		}
	}
	for name, test := range map[string]struct {
		answer    http.HandlerFunc
		short     string
		permanent bool
	}{
		"text":       {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "[]") }, notUnderstood, false},
		"cut":        {batch("[{"), notUnderstood, false},
		"nothing":    {batch("[]"), notUnderstood, false},
		"null":       {batch("null"), notUnderstood, false},
		"no event":   {batch(`[{"specversion":"1.0","id":"","source":"","type":""}]`), notUnderstood, false},
		"much":       {batch(strings.Repeat(" ", maxAnswer+1)), notUnderstood, false},
		"other type": {batch(`[{"specversion":"1.0","id":"1","source":"s","type":"t"}]`), notUnderstood, false},
		"busy":       {status(http.StatusTooManyRequests), "answered Too Many Requests", false},
		"fault":      {status(http.StatusInternalServerError), "answered Internal Server Error", false},
		"moved":      {status(http.StatusTemporaryRedirect), "answered Temporary Redirect", true},
		"never":      {status(http.StatusUnprocessableEntity), "answered Unprocessable Entity", true},
		"hangs up":   {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "cannot be reached", false},
		"half": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			batch("[")(w, r)
			panic(http.ErrAbortHandler)
		}, "cannot be reached", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(test.answer)
			defer server.Close()
			s := &services{ask: map[string]asker{}, transport: &http.Transport{}}
			defer s.transport.CloseIdleConnections()
			s.ask[service.Payment] = s.caller(service.Payment, server.URL, patience)
			config, err := Config{Store: openStore(t, file(t)), Pause: time.Millisecond}.withDefaults()
			require.NoError(t, err)
			charge := command(t, shop.ChargePayment)
			_, made, err := newOrders(config, s).call(t.Context(), service.Payment, charge, 2, shop.PaymentProcessed)
			failed, ok := errors.AsType[*CallError](err)
			require.True(t, ok)
			require.Equal(t, "payment "+test.short, failed.Short())
			require.Equal(t, test.permanent, failed.Permanent)
			attempts := 2
			if test.permanent {
				attempts = 1
			}
			require.Equal(t, attempts, made)
			require.ErrorContains(t, err, fmt.Sprintf("after %d", made))
			require.False(t, failed.Timeout)
		})
	}
}
