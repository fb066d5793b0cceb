package cmd

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/topology"
)

// endpoint answers a POST by what stands in its event's data.
type endpoint struct {
	mu       sync.Mutex
	verifier *standardwebhooks.Webhook
	attempts map[string][]string
}

func (s *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	e, err := event.DecodeHTTP(r.Header, body)
	if err == nil {
		err = s.verifier.Verify(body, r.Header)
	}
	var data struct {
		Answers []int `json:"answers"`
	}
	if err == nil {
		err = json.Unmarshal(e.Data, &data)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusTeapot)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	attempt := len(s.attempts[e.Type])
	s.attempts[e.Type] = append(s.attempts[e.Type], r.Header.Get("Evdemo-Attempt")+" "+r.Header.Get("X-Tenant"))
	http.Error(w, "because", data.Answers[min(attempt, len(data.Answers)-1)])
}

// An HTTP service's answers decide what becomes of events, as the help says.
func TestWorkHTTP(t *testing.T) {
	t.Parallel()
	const secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	secretFile := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secretFile, []byte(secret+"\n"), 0o600))
	verifier, err := standardwebhooks.NewWebhook(secret)
	require.NoError(t, err)
	s := &endpoint{verifier: verifier, attempts: map[string][]string{}}
	server := httptest.NewServer(s)
	defer server.Close()

	url, queue := brokertest.URL(t), brokertest.Name(t, "http")
	broker, err := session.DialWithin(t.Context(), session.Config{URLs: session.SplitURLs(url)}, patience)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "topology.yaml")
	content := []byte("queues: {" + queue + ": {retry: [20ms], max-attempts: 3}}\n")
	require.NoError(t, os.WriteFile(file, content, 0o600))
	spec, err := topology.Parse(file, content)
	require.NoError(t, err)
	defer removeAll(t, broker, spec.Resources())
	env := map[string]string{"AMQP_URL": url, "EVDEMO_TOPOLOGY": file}

	for name, answers := range map[string]string{"fine": "[200]", "busy": "[503,429,202]", "bad": "[422]", "down": "[500]"} {
		c := newCommandLine(env)
		require.Equal(t, exitOK, c.run(t, "publish", "--queue", queue, "--type", name, "--data", `{"answers":`+answers+`}`), &c.err)
	}
	c := newCommandLine(env)
	require.Equal(t, exitOK, c.run(t, "work", "--queue", queue, "--http", server.URL, "--http-header", "X-Tenant: acme",
		"--sign-secret-file", secretFile, "--idle-timeout", "1s", "-q", "-o", "json"), &c.err)
	assert.Contains(t, c.out.String(), `"handled":2,"failed":6,"retried":4,"dead_lettered":2`)
	assert.Equal(t, map[string][]string{
		"fine": {"1 acme"}, "busy": {"1 acme", "2 acme", "3 acme"}, "bad": {"1 acme"}, "down": {"1 acme", "2 acme", "3 acme"},
	}, s.attempts)

	c = newCommandLine(env)
	require.Equal(t, exitOK, c.run(t, "dlq", "show", queue), &c.err)
	assert.Regexp(t, `permanent  attempts 1  bad  .*422 Unprocessable Entity.*because`, c.out.String())
	assert.Regexp(t, `attempts  attempts 3  down  .*500 Internal Server Error.*because`, c.out.String())

	for _, wrong := range []string{"ftp://host/", "localhost:8080", "http://"} {
		c := newCommandLine(env)
		assert.Equal(t, exitUsage, c.run(t, "work", "--queue", queue, "--http", wrong), wrong)
		assert.Contains(t, c.err.String(), "--http: ")
	}
}
