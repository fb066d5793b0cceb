package topology

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestReadAnswer has the words of RabbitMQ 3.10.8 and 4.0.5, which are the same.
func TestReadAnswer(t *testing.T) {
	t.Parallel()
	const about = "PRECONDITION_FAILED - inequivalent arg '%' for queue 'q' in vhost '/': received "
	tests := map[string]struct {
		argument, values string
		sent             any
		want             answer
	}{
		"both set":         {"x-queue-type", "'classic' but current is 'quorum'", "classic", answer{have: "quorum"}},
		"both integers":    {"x-delivery-limit", "'19' but current is '20'", int64(19), answer{have: int64(20)}},
		"both flags":       {"durable", "'true' but current is 'false'", true, answer{have: false}},
		"other type":       {"x-delivery-limit", "'20' but current is '20'", int64(20), answer{have: int64(20)}},
		"empty":            {"x-dead-letter-exchange", "'foo' but current is ''", "foo", answer{have: ""}},
		"quotes in it":     {"x-dead-letter-routing-key", "'' but current is '' but current is 'x'", "", answer{have: "' but current is 'x"}},
		"sent quotes":      {"x-overflow", "'' but current is '' but current is 'x'", "' but current is '", answer{have: "x"}},
		"not wanted":       {"x-expires", "none but current is the value '1000' of type 'signedint'", nil, answer{have: int64(1000)}},
		"not wanted text":  {"x-overflow", "none but current is the value 'a' of type 'b' of type 'longstr'", nil, answer{have: "a' of type 'b"}},
		"not wanted flag":  {"x-single-active-consumer", "none but current is the value 'true' of type 'bool'", nil, answer{have: true}},
		"not wanted float": {"x-foo", "none but current is the value '1.5' of type 'double'", nil, answer{have: 1.5}},
		"not wanted table": {"x-foo", "none but current is the value 'x' of type 'table'", nil, answer{unknown: true}},
		"not a number":     {"x-foo", "none but current is the value 'x' of type 'long'", nil, answer{unknown: true}},
		"not there":        {"x-message-ttl", "the value '5' of type 'signedint' but current is none", int64(5), answer{}},
		"other words":      {"x-message-ttl", "something else", int64(5), answer{unknown: true}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.want.argument = tt.argument
			reason := strings.Replace(about, "%", tt.argument, 1) + tt.values
			got, ok := readAnswer(reason, KindQueue, "q", func(string) any { return tt.sent })
			assert.True(t, ok)
			assert.Equal(t, tt.want, got)
		})
	}
}

func TestReadAnswerThatIsNone(t *testing.T) {
	t.Parallel()
	for _, reason := range []string{
		"PRECONDITION_FAILED - invalid arg 'x-max-priority' for queue 'q' in vhost '/' of queue type rabbit_quorum_queue",
		"PRECONDITION_FAILED - queue limit in vhost '/' (10) is reached",
		"PRECONDITION_FAILED - inequivalent arg 'x",
		"",
	} {
		_, ok := readAnswer(reason, KindQueue, "q", func(string) any { return nil })
		assert.False(t, ok, "%s", reason)
	}
}

func TestReadAnswerCutShort(t *testing.T) {
	t.Parallel()
	reason := "PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-routing-key' for queue '" + strings.Repeat("q", 255)
	reason = reason[:252] + "..."
	got, ok := readAnswer(reason, KindQueue, strings.Repeat("q", 255), func(string) any { return "x" })
	assert.True(t, ok)
	assert.Equal(t, answer{argument: "x-dead-letter-routing-key", unknown: true}, got)
}

func FuzzReadAnswer(f *testing.F) {
	f.Add("PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'", "q", "true")
	f.Add("PRECONDITION_FAILED - inequivalent arg 'x-overflow' for queue 'it's' in vhost '/': received none but current is the value 'a' of type 'longstr'", "it's", "")
	f.Add("PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'q' in vhost 'v': received the value '5' of type 'signedint' but current is none", "q", "5")
	f.Fuzz(func(t *testing.T, reason, name, sent string) {
		a, ok := readAnswer(reason, KindQueue, name, func(string) any { return sent })
		if ok && a.unknown && a.have != nil {
			t.Fatalf("unknown, and yet %v", a.have)
		}
	})
}
