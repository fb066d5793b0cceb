package session

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestSplitURLs(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []string{"amqp://a", "amqp://b"}, SplitURLs(" amqp://a , ,amqp://b,"))
	assert.Empty(t, SplitURLs(" , "))
}

func TestParseTarget(t *testing.T) {
	t.Parallel()
	target, err := parseTarget("amqp://user:p%40ss@broker:5673/shop?heartbeat=3")
	require.NoError(t, err)
	assert.Equal(t, "broker:5673", target.hostPort())
	assert.Equal(t, "shop", target.uri.Vhost)
	assert.Equal(t, "p@ss", target.uri.Password)
	assert.Equal(t, 3*time.Second, target.heartbeat)
	assert.Equal(t, "amqp://user@broker:5673/shop", target.addr)
}

func TestParseTargetRefuses(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"", "http://user:hunter2@broker/", "amqp://user:hunter2@broker:notaport/", "broker:5672",
		"amqp://user:hunter2@broker/?heartbeat=often", "amqp://user:hunter2@broker/?auth_mechanism=MAGIC",
		"amqp://user:hun%zzter2@broker/", "amqp://user:p@hunter2/word@broker:5672/", "amqp://user:hunter2@bro ker/", "://hunter2",
	} {
		_, err := parseTarget(raw)
		require.ErrorIs(t, err, ErrURL, raw)
		assert.NotContains(t, err.Error(), "hunter2")
	}
}

// Whatever stands in a URL, no error and no redacted form ever holds the password.
func TestPasswordsAreNeverShown(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		password := rapid.StringMatching(`[0-9/]{0,3}`).Draw(t, "first") + "S3CR3T" + rapid.StringMatching(`[a-zA-Z0-9:/@?#%\[\] ]{0,8}`).Draw(t, "rest")
		raw := rapid.SampledFrom([]string{"amqp", "amqps", "http", ""}).Draw(t, "scheme") + "://user:" + password + "@broker:5672/"
		texts := []string{Redact(raw)}
		if _, err := parseTarget(raw); err != nil {
			texts = append(texts, err.Error())
		}
		for _, text := range texts {
			if strings.Contains(text, "S3CR3T") {
				t.Fatalf("%q shows the password of %q", text, raw)
			}
		}
	})
}
