package webhook_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/webhook"
)

// patience bounds every wait for an answer.
const patience = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts a service that ends with the test.
func serve(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

// newPoster makes a poster that is closed with the test.
func newPoster(t *testing.T, config webhook.Config) *webhook.Poster {
	t.Helper()
	p, err := webhook.New(config)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

// delivery is an event as it arrives.
func delivery(t *testing.T) *worker.Delivery {
	t.Helper()
	e, err := event.New("order.created", "orders", json.RawMessage(`{ "order": 4711 }`))
	require.NoError(t, err)
	return &worker.Delivery{Event: e, Queue: "payments", Attempt: 1}
}

// handle posts an event, with patience.
func handle(t *testing.T, p *webhook.Poster) error {
	t.Helper()
	d := delivery(t)
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, fmt.Errorf("no answer within %v", patience))
	defer cancel()
	err := p.Handle(ctx, d)
	require.NoError(t, context.Cause(ctx))
	return err
}

// answer posts one event to a service that answers like this.
func answer(t *testing.T, handler http.HandlerFunc) error {
	t.Helper()
	return handle(t, newPoster(t, webhook.Config{URL: serve(t, handler).URL}))
}

// received is a request as the service has read it.
type received struct {
	*http.Request
	body []byte
}

// record posts one event and gives what the service got.
func record(ctx context.Context, t *testing.T, config webhook.Config, d *worker.Delivery) received {
	t.Helper()
	requests := make(chan received, 1)
	server := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		requests <- received{r, body}
	})
	config.URL = server.URL + config.URL
	require.NoError(t, newPoster(t, config).Handle(ctx, d))
	return <-requests
}
