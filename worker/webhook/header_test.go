package webhook_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/worker/webhook"
)

func TestParseHeader(t *testing.T) {
	t.Parallel()
	for given, want := range map[string][2]string{
		"X-Api-Key: abc":          {"X-Api-Key", "abc"},
		"x-api-key:abc":           {"X-Api-Key", "abc"},
		" Authorization :  a:b c": {"Authorization", "a:b c"},
		"X-Empty:":                {"X-Empty", ""},
		"host: service.example":   {"Host", "service.example"},
		"User-Agent: mine":        {"User-Agent", "mine"},
		"X-É-free_1: é":           {"", ""},
		"X: é\tb":                 {"X", "é\tb"},
	} {
		name, value, err := webhook.ParseHeader(given)
		assert.Equal(t, want, [2]string{name, value}, given)
		assert.Equal(t, want[0] == "", err != nil, given)
	}
}

func TestHeadersThatAreRefused(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"Authorization Bearer secret": `header without a colon: want "Name: value"`,
		"":                            "header without a colon",
		": secret":                    "header without a name",
		"X Y: secret":                 `header "X Y"`,
		"X\r\nY: secret":              "a name has letters, digits and hyphens",
		"X: secret\r\nY: z":           "header X: its value has a control character",
		"X: secret\x00":               "header X: its value has a control character",
		"ce-id: secret":               "header Ce-Id: ce-* are the event's own",
		"CE-Whatever: secret":         "are the event's own",
		"evdemo-attempt: secret":      "header Evdemo-Attempt: evdemo-* are the event's own",
		"webhook-signature: secret":   "header Webhook-Signature: webhook-* are the event's own",
		"content-type: secret":        "header Content-Type: is the event's own",
		"traceparent: secret":         "header Traceparent: is the event's own",
		"tracestate: secret":          "header Tracestate: is the event's own",
		"connection: secret":          "header Connection: is the connection's own",
		"content-length: secret":      "header Content-Length: is the connection's own",
		"keep-alive: secret":          "is the connection's own",
		"proxy-authorization: secret": "is the connection's own",
		"proxy-authenticate: secret":  "is the connection's own",
		"proxy-connection: secret":    "is the connection's own",
		"te: secret":                  "is the connection's own",
		"trailer: secret":             "is the connection's own",
		"transfer-encoding: secret":   "is the connection's own",
		"upgrade: secret":             "is the connection's own",
	} {
		_, _, err := webhook.ParseHeader(given)
		require.ErrorContains(t, err, want, given)
		assert.NotContains(t, err.Error(), "secret")
	}
}

func TestNewNamesAllThatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := webhook.New(webhook.Config{
		URL: "ftp://host", Headers: http.Header{"ce-id": {"1"}, "X": {"a\nb"}}, Secret: "whsec_?", Concurrency: -1, Timeout: -time.Second,
	})
	for _, want := range []string{"http://", "header Ce-Id", "header X", "secret: is not base64", "concurrency -1", "timeout -1s"} {
		require.ErrorContains(t, err, want)
	}
	_, err = webhook.New(webhook.Config{URL: "http://host", Secret: "whsec_"})
	require.ErrorContains(t, err, "secret: is empty")
}

func TestURLs(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"": "URL is empty", "localhost:8080": "must begin with http:// or https://", "/path": "must begin with http",
		"http://": "URL has no host", "http:host": "URL has no host", "http://:80": "URL has no host", "https:///path": "URL has no host",
		"http://host:port": `invalid port ":port" after host`, "http://ho st": "cannot be read", "amqp://host": "must begin with http",
		"http://user:hunter2/x@host": "percent-encode", "http://user:hunter2%@host": "percent-encode", "://hunter2@": "percent-encode",
		"ftp://user:hunter2@host": "must begin with http",
	} {
		_, err := webhook.New(webhook.Config{URL: address})
		require.ErrorContains(t, err, want, address)
		assert.NotContains(t, err.Error(), "hunter2")
	}
	for _, address := range []string{"http://localhost", "HTTPS://host:1/a?b=c#d", "http://[::1]:8080/", "http://user:hunter2@host"} {
		p, err := webhook.New(webhook.Config{URL: address})
		require.NoError(t, err, address)
		p.Close()
	}
}
