package problem_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/evdemo/evdemo/internal/shop/problem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func ExampleWrite() {
	handler := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "5")
		problem.Write(w, r, http.StatusServiceUnavailable, "Database away", "Try again in 5 seconds.", map[string]any{"attempt": 3})
	}
	recorder := httptest.NewRecorder()
	handler(recorder, httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/api/orders?key=secret", nil))
	_, _ = recorder.Body.WriteTo(os.Stdout)
	// Output:
	// {"type":"urn:problem:evdemo:database-away","title":"Database away","status":503,"detail":"Try again in 5 seconds.","instance":"/api/orders","attempt":3}
}

// answer gives the headers and the members of an answer that says the same length and status as it has.
func answer(t *testing.T, p problem.Problem, target string) (http.Header, map[string]any) {
	t.Helper()
	recorder := httptest.NewRecorder()
	recorder.Header().Set("Etag", `"1"`)
	recorder.Header().Set("Allow", "POST")
	p.Write(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil))
	require.Equal(t, p.Status, recorder.Code)
	require.Equal(t, strconv.Itoa(recorder.Body.Len()), recorder.Header().Get("Content-Length"))
	var members map[string]any
	require.NoError(t, json.Unmarshal(recorder.Body.Bytes(), &members))
	return recorder.Header(), members
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	header, members := answer(t, problem.Problem{Status: http.StatusMethodNotAllowed}, "/x")
	require.Equal(t, problem.ContentType, header.Get("Content-Type"))
	require.Equal(t, "POST", header.Get("Allow"))
	require.Empty(t, header.Get("Etag"), "it is another body's")
	require.Equal(t, map[string]any{"type": "about:blank", "title": "Method Not Allowed", "status": 405.0, "instance": "/x"}, members)
}

func TestExtraMembers(t *testing.T) {
	t.Parallel()
	_, members := answer(t, problem.Problem{
		Status: http.StatusConflict, Title: "  Already there: twice!", Detail: `a "quoted" <b>`,
		Extra: map[string]any{
			"status": 1, "title": "no", "detail": "no", "instance": "/other", "errors": []string{"a"}, "nan": math.NaN(), `k"y`: 1,
		},
	}, "/x")
	require.Equal(t, map[string]any{
		"type": "urn:problem:evdemo:already-there-twice", "title": "  Already there: twice!", "status": 409.0,
		"detail": `a "quoted" <b>`, "instance": "/other", "errors": []any{"a"}, `k"y`: 1.0,
	}, members)
}

func TestInstance(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]any{
		"/a%2Fb?secret=1": "/a%2Fb", "/%ff%0d%0a": "/%ff%0d%0a", "//host/path": nil, "/" + strings.Repeat("x", 300): nil,
	} {
		_, members := answer(t, problem.Problem{Status: http.StatusNotFound}, target)
		require.Equal(t, want, members["instance"], target)
	}
}

func TestProblemIsAnError(t *testing.T) {
	t.Parallel()
	var err error = &problem.Problem{Status: http.StatusNotFound, Detail: "no order order-1"}
	require.EqualError(t, err, "Not Found: no order order-1")
	found, ok := errors.AsType[*problem.Problem](err)
	require.True(t, ok)
	require.Equal(t, http.StatusNotFound, found.Status)
	require.EqualError(t, &problem.Problem{Status: http.StatusGone, Title: "Order is gone"}, "Order is gone")
}
