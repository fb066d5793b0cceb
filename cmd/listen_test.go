package cmd

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/topology"
)

func TestListenDefaults(t *testing.T) {
	t.Parallel()
	o, code := parseListen(t, newCommandLine(nil), "--topic", "t")
	require.Equal(t, exitOK, code)
	assert.Equal(t, "t", o.topic)
	assert.Empty(t, o.group+o.filter)
	assert.Zero(t, o.count)
	assert.Equal(t, 30*time.Second, o.drainTimeout)
	assert.Equal(t, topology.Default().TopicResources("t"), o.resources(topology.Default()))
}

func TestListenOptions(t *testing.T) {
	t.Parallel()
	c := newCommandLine(nil)
	o, code := parseListen(t, c, "--topic", "t", "--group", "g", "--filter", "type == 'a b'", "--count", "3", "-o", "json")
	require.Equal(t, exitOK, code, &c.err)
	assert.Equal(t, "g", o.group)
	assert.Equal(t, "type == 'a b'", o.filter)
	assert.Equal(t, 3, o.count)
	assert.True(t, o.output.json())
	assert.Equal(t, topology.Default().GroupResources("t", "g"), o.resources(topology.Default()))
}

func TestListenMistakes(t *testing.T) {
	t.Parallel()
	tests := []struct{ args, text string }{
		{"--count 1", "say which topic: --topic orders"},
		{"--topic= --group g", "say which topic: --topic orders"},
		{"orders", `unexpected argument "orders"; did you mean --topic orders?`},
		{"--topic " + strings.Repeat("t", 256), "--topic"},
		{"--topic t --group " + strings.Repeat("g", 254), "--group"},
		{"--topic t --group g\xff", `--group "t.g\xff": want`},
		{"--topic t --count -1", "--count -1: want 0 or more"},
		{"--topic t --name a\u0085b", "want at most 200 bytes"},
	}
	for _, test := range tests {
		t.Run(test.args, func(t *testing.T) {
			t.Parallel()
			c := newCommandLine(nil)
			o, code := parseListen(t, c, strings.Split(test.args, " ")...)
			requireMistake(t, c, code, test.text)
			assert.Nil(t, o, "the command was run")
		})
	}
}
