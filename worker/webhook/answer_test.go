package webhook_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/webhook"
)

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }

// permanent tells whether err keeps its event from being tried again.
func permanent(err error) bool { return marked(err, worker.Permanent(io.EOF)).IsValid() }

// delay gives that which err comes with, 0 where there is none. Only a worker can see it.
func delay(err error) time.Duration {
	mark := marked(err, worker.RetryAfter(1, io.EOF))
	if !mark.IsValid() {
		return 0
	}
	return time.Duration(mark.FieldByName("delay").Int())
}

// marked finds what is of the same type as like in err's chain.
func marked(err, like error) reflect.Value {
	for ; err != nil; err = errors.Unwrap(err) {
		if reflect.TypeOf(err) == reflect.TypeOf(like) {
			return reflect.ValueOf(err).Elem()
		}
	}
	return reflect.Value{}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	for status := 200; status < 600; status++ {
		err := answer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		switch {
		case status < 300:
			require.NoError(t, err, "%d", status)
			continue
		case status == 429, status == 503:
			require.False(t, permanent(err), "%d", status)
		default:
			require.Equal(t, status >= 400 && status < 500, permanent(err), "%d", status)
		}
		require.ErrorContains(t, err, ": "+strconv.Itoa(status))
		require.Zero(t, delay(err))
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	var followed atomic.Int64
	other := serve(t, func(http.ResponseWriter, *http.Request) { followed.Add(1) })
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, location := range []string{other.URL, "/again", "://%zz", ""} {
			err := answer(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", location)
				w.WriteHeader(status)
			})
			require.ErrorContains(t, err, fmt.Sprintf("%d %s", status, http.StatusText(status)))
			assert.False(t, permanent(err))
		}
	}
	assert.Zero(t, followed.Load())
}

// retryAfter gives the delay that a worker is told, 0 where it is told none.
func retryAfter(t *testing.T, status int, header map[string]string) time.Duration {
	t.Helper()
	err := answer(t, func(w http.ResponseWriter, _ *http.Request) {
		for name, value := range header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
	})
	require.Error(t, err)
	return delay(err)
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{
		"1": time.Second, "120": 2 * time.Minute, " 7 ": 7 * time.Second, "86400": 24 * time.Hour, "86401": 24 * time.Hour,
		"99999999999999999999999": 24 * time.Hour, "9223372036854775807": 24 * time.Hour,
		"0": 0, "-1": 0, "+1": 0, "1.5": 0, "soon": 0, "": 0, "1 second": 0, "1e3": 0, "0x10": 0,
	} {
		for _, status := range []int{429, 503} {
			assert.Equal(t, want, retryAfter(t, status, map[string]string{"Retry-After": value}), "%q", value)
		}
	}
	for _, status := range []int{500, 502, 404, 302} {
		assert.Zero(t, retryAfter(t, status, map[string]string{"Retry-After": "5"}), "%d", status)
	}
}

func TestRetryAfterADate(t *testing.T) {
	t.Parallel()
	const date = "Tue, 11 Nov 2025 16:54:00 GMT"
	for value, want := range map[string]time.Duration{
		"Tue, 11 Nov 2025 16:55:30 GMT": 90 * time.Second, "Tuesday, 11-Nov-25 16:55:30 GMT": 90 * time.Second,
		"Tue Nov 11 16:55:30 2025": 90 * time.Second, "Tue, 11 Nov 2025 16:53:59 GMT": 0, date: 0,
		"Tue, 11 Nov 2030 16:54:00 GMT": 24 * time.Hour, "Tue, 11 Nov 9999 16:54:00 GMT": 24 * time.Hour,
		"2025-11-11T16:55:30Z": 0, "Tue, 11 Nov 2025": 0,
	} {
		assert.Equal(t, want, retryAfter(t, 503, map[string]string{"Retry-After": value, "Date": date}), "%q by the service's clock", value)
	}
	in := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	assert.InDelta(t, time.Hour, retryAfter(t, 503, map[string]string{"Retry-After": in, "Date": "nonsense"}), float64(time.Minute))
}

func TestTheAnswerIsQuoted(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		"":                               "500 Internal Server Error",
		" \r\n\t ":                       "500 Internal Server Error",
		"no\n\n  stock\x00\x1b[31m\xff!": "500 Internal Server Error: no stock[31m!",
		"caf\u00e9 \u202e\u200b\ufffd":   "500 Internal Server Error: café",
		strings.Repeat("x", 1000):        "500 Internal Server Error: " + strings.Repeat("x", 300),
		strings.Repeat("é", 1000):        "500 Internal Server Error: " + strings.Repeat("é", 150),
		"x" + strings.Repeat("é", 1000):  "500 Internal Server Error: x" + strings.Repeat("é", 149),
	} {
		var url string
		server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, body)
		})
		url = server.URL
		err := handle(t, newPoster(t, webhook.Config{URL: url}))
		require.EqualError(t, err, "POST to "+url+": "+want)
	}
	assert.ErrorContains(t, answer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(599) }), ": 599")
}

// Services quote what they did not like. What is secret in it must not get into dead letters.
func TestSecretsAreNotQuoted(t *testing.T) {
	t.Parallel()
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		user, password, _ := r.BasicAuth()
		_, _ = fmt.Fprintf(w, "cannot %s %s for %s:%s, %s, key %s, token %s, %s",
			r.Method, r.RequestURI, user, password, r.Header.Get("Authorization"), r.Header.Get("X-Api-Key"), r.URL.Query().Get("token"),
			strings.Repeat("y", 255)+r.URL.Query().Get("token"))
	})
	address := strings.Replace(server.URL, "http://", "http://user:pass%2Fword@", 1) + "/hook?token=sesame%20open&short=ab"
	for _, headers := range []http.Header{nil, {"Authorization": {"Bearer abcdef"}, "x-api-key": {"abcdefgh"}}} {
		err := handle(t, newPoster(t, webhook.Config{URL: address, Headers: headers}))
		require.ErrorContains(t, err, "400 Bad Request: cannot POST /hook?xxxxx for")
		for _, secret := range []string{"pass", "word", "sesa", "open", "abcdef", "gh,", "dXNlcj"} {
			assert.NotContains(t, err.Error(), secret)
		}
	}
}
