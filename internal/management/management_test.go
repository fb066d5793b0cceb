package management_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/management"
	"github.com/evdemo/evdemo/internal/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestQueuesOfARealBroker(t *testing.T) {
	t.Parallel()
	node := brokertest.Node(t)
	s, err := session.DialWithin(t.Context(), session.Config{URLs: []string{node.URL()}}, time.Minute)
	require.NoError(t, err)
	defer s.Close()
	ch, err := s.Channel()
	require.NoError(t, err)
	for _, name := range []string{"payments", "payments.dlq", "orders.email.dlq", "xdlq", "payments.dlq.old"} {
		_, err := ch.QueueDeclare(name, true, false, false, false, nil)
		require.NoError(t, err)
	}
	api := strings.Replace(node.ManagementURL(), "://", "://guest:guest@", 1)
	names, err := management.Queues(t.Context(), api, "/", ".dlq")
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{"payments.dlq", "orders.email.dlq"}, names)

	_, err = management.Queues(t.Context(), strings.Replace(api, "guest:guest@", "guest:wrong-word@", 1), "/", ".dlq")
	require.ErrorContains(t, err, "401")
	assert.NotContains(t, err.Error(), "wrong-word")
	_, err = management.Queues(t.Context(), api, "no such vhost", ".dlq")
	require.ErrorContains(t, err, "404")
}

func TestQueuesOfWhatIsNoBroker(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }))
	defer server.Close()
	_, err := management.Queues(t.Context(), server.URL, "/", ".dlq")
	require.Error(t, err)
	for _, api := range []string{"", "localhost:15672", "amqp://localhost", "http://user:pass word@host:port"} {
		_, err := management.Queues(t.Context(), api, "/", ".dlq")
		require.EqualError(t, err, "management URL is not http://user:password@host:15672")
	}
}

func TestURLOf(t *testing.T) {
	t.Parallel()
	for amqpURL, want := range map[string]string{
		"amqp://alice:s%2Fx@rabbit:5673/shop": "http://alice:s%2Fx@rabbit:15672", "amqp://rabbit": "http://guest:guest@rabbit:15672",
		"amqp://[::1]:5672/": "http://guest:guest@[::1]:15672", "amqps://rabbit/": "", "nonsense\x00": "",
	} {
		assert.Equal(t, want, management.URLOf(amqpURL), amqpURL)
	}
}
