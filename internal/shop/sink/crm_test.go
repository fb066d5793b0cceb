package sink_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/sink"
	"github.com/evdemo/evdemo/worker"
)

func TestCRM(t *testing.T) {
	t.Parallel()
	subject{kind: "crm", place: databaseFile, check: checkCRM}.run(t)
}

// crmWithServer is the sink together with the stand-in that it talks to: they are killed together.
type crmWithServer struct {
	*sink.CRM

	server *sink.CRMServer
	http   *httptest.Server
}

func openCRM(ctx context.Context, at place) (sink.Sink, error) {
	server, err := sink.OpenCRMServer(ctx, at.Dir)
	if err != nil {
		return nil, err
	}
	listening := httptest.NewServer(server)
	crm, err := sink.OpenCRM(ctx, sink.CRMConfig{URL: listening.URL})
	return &crmWithServer{crm, server, listening}, err
}

func (c *crmWithServer) Close(ctx context.Context) error {
	err := c.CRM.Close(ctx)
	c.http.Close()
	return errors.Join(err, c.server.Close())
}

func checkCRM(t *testing.T, at place, orders int) {
	t.Helper()
	want := map[string]sink.Customer{}
	for n := range orders {
		o := orderOf(n)
		c := want[o.UserID]
		c.UserID = o.UserID
		c.Placed++
		if cancelled(n) {
			c.Cancelled++
		} else {
			c.Shipped++
			c.Spent += int64(o.Amount)
			c.Points += int64(o.Amount / 100)
		}
		want[o.UserID] = c
	}
	server, err := sink.OpenCRMServer(t.Context(), at.Dir)
	require.NoError(t, err)
	customers, err := server.Customers(t.Context(), "")
	require.NoError(t, err)
	assert.Len(t, customers, len(want))
	for _, c := range customers {
		assert.Equal(t, want[c.UserID], c)
	}
	require.NoError(t, server.Close())
}

// standIn is a stand-in that ends with the test.
func standIn(t *testing.T) (address string) {
	t.Helper()
	server, err := sink.OpenCRMServer(t.Context(), databaseFile(t).Dir)
	require.NoError(t, err)
	listening := httptest.NewServer(server)
	t.Cleanup(func() {
		listening.Close()
		require.NoError(t, server.Close())
	})
	return listening.URL
}

// answer is what a server says.
type answer struct {
	status int
	header http.Header
	body   string
}

// ask makes a request and gives the answer.
func ask(t *testing.T, method, address, body string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	require.NoError(t, err)
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return answer{response.StatusCode, response.Header, string(text)}
}

func TestCRMServer(t *testing.T) {
	t.Parallel()
	at := standIn(t)
	const change = `{"event_source":"shop/order","event_id":"1","orders_placed":1,"spent":-5}`
	first := ask(t, http.MethodPut, at+"/customers/a", change)
	assert.Equal(t, http.StatusNoContent, first.status)
	assert.Empty(t, first.header.Get("Idempotency-Replayed"))
	again := ask(t, http.MethodPut, at+"/customers/a", change)
	assert.Equal(t, http.StatusNoContent, again.status)
	assert.Equal(t, "true", again.header.Get("Idempotency-Replayed"))
	assert.Equal(t, http.StatusConflict, ask(t, http.MethodPut, at+"/customers/b", change).status)
	assert.JSONEq(t, `{"user_id":"a","orders_placed":1,"orders_shipped":0,"orders_cancelled":0,"spent":-5,"points":0}`,
		ask(t, http.MethodGet, at+"/customers/a", "").body)
	assert.JSONEq(t, `[]`, ask(t, http.MethodGet, at+"/customers?after=a", "").body)
	for name, test := range map[string]struct {
		method, path, body string
		want               int
	}{
		"no such customer": {http.MethodGet, "/customers/none", "", 404},
		"no such path":     {http.MethodGet, "/other", "", 404},
		"deeper":           {http.MethodGet, "/customers/a/b", "", 404},
		"delete":           {http.MethodDelete, "/customers/a", "", 405},
		"post":             {http.MethodPost, "/customers", "{}", 405},
		"no json":          {http.MethodPut, "/customers/a", "x", 400},
		"no event":         {http.MethodPut, "/customers/a", `{"orders_placed":1}`, 400},
		"beyond":           {http.MethodPut, "/customers/a", `{"event_source":"s","event_id":"2","spent":-9223372036854775808}`, 400},
		"negative":         {http.MethodPut, "/customers/a", `{"event_source":"s","event_id":"2","points":-1}`, 400},
		"no customer":      {http.MethodPut, "/customers/", change, 400},
		"control":          {http.MethodPut, "/customers/a%00", change, 400},
		"too large":        {http.MethodPut, "/customers/a", `{"event_id":"` + strings.Repeat("x", 70_000) + `"}`, 413},
	} {
		got := ask(t, test.method, at+test.path, test.body)
		assert.Equal(t, test.want, got.status, name)
		assert.Equal(t, "application/problem+json", got.header.Get("Content-Type"), name)
		assert.Contains(t, got.body, `"title"`, name)
	}
}

// A customer may be called what a path would take for something else.
func TestCRMOddNames(t *testing.T) {
	t.Parallel()
	at := standIn(t)
	crm, err := sink.OpenCRM(t.Context(), sink.CRMConfig{URL: at + "/"})
	require.NoError(t, err)
	defer func() { require.NoError(t, crm.Close(t.Context())) }()
	for i, user := range []string{"..", ".", "a/b", "a?b#c", "%2e", "ä ö", "a%00", "//"} {
		e := history(1)[0]
		o := orderOf(i)
		o.UserID = user
		e.ID, e.Data = user, []byte(text(o))
		require.NoError(t, crm.Handle(t.Context(), delivery([]event.Event{e}, 0)), user)
		require.ErrorIs(t, crm.Handle(t.Context(), delivery([]event.Event{e}, 0)), worker.ErrDuplicate)
		body := ask(t, http.MethodGet, at+"/customers/"+url.PathEscape(user), "").body
		var c sink.Customer
		require.NoError(t, json.Unmarshal([]byte(body), &c), body)
		assert.Equal(t, sink.Customer{UserID: user, Placed: 1}, c)
	}
}

// The answer decides.
func TestCRMAnswers(t *testing.T) {
	t.Parallel()
	policy := worker.Policy{Retry: []time.Duration{time.Millisecond}, MaxAttempts: 2}
	for code, want := range map[int]struct {
		wait   time.Duration
		reason worker.Reason
	}{
		500: {}, 302: {}, 400: {reason: worker.ReasonPermanent}, 409: {reason: worker.ReasonPermanent},
		429: {wait: time.Hour}, 503: {wait: time.Hour},
	} {
		at, _ := answers(t, status(code))
		crm, err := sink.OpenCRM(t.Context(), sink.CRMConfig{URL: at})
		require.NoError(t, err)
		err = crm.Handle(t.Context(), delivery(history(1), 0))
		require.ErrorContains(t, err, http.StatusText(code))
		wait, reason := policy.Decide(1, err)
		assert.Equal(t, want.reason, reason, code)
		assert.InDelta(t, want.wait, wait, float64(time.Millisecond), code)
		require.NoError(t, crm.Close(t.Context()))
	}
	hanging, _ := answers(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // until that is read, nobody notices that the client has gone
		<-r.Context().Done()
	})
	crm, err := sink.OpenCRM(t.Context(), sink.CRMConfig{URL: hanging, Timeout: 10 * time.Millisecond})
	require.NoError(t, err)
	require.ErrorIs(t, crm.Handle(t.Context(), delivery(history(1), 0)), worker.ErrTimeout)
	e := history(1)[0]
	e.Type = shop.EmailBounced
	require.ErrorIs(t, crm.Handle(t.Context(), delivery([]event.Event{e}, 0)), worker.ErrSkip)
	require.NoError(t, crm.Close(t.Context()))
}

func TestCRMMistakes(t *testing.T) {
	t.Parallel()
	_, err := sink.OpenCRM(t.Context(), sink.CRMConfig{URL: "http://user:topsecret@h", Timeout: -1})
	require.ErrorContains(t, err, "want http://")
	require.ErrorContains(t, err, "negative")
	assert.NotContains(t, err.Error(), "topsecret")
	_, err = sink.OpenCRMServer(t.Context(), "")
	require.ErrorContains(t, err, "no database")
}
