package cmd

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
)

func TestWorkDefaults(t *testing.T) {
	t.Parallel()
	o, code := parseWork(t, newCommandLine(nil), "--queue", "q")
	require.Equal(t, exitOK, code)
	assert.Equal(t, "q", o.queue)
	assert.Equal(t, 1, o.concurrency)
	assert.Zero(t, o.latency)
	assert.Zero(t, o.failRate)
	assert.Nil(t, o.schedule, "the topology says")
	assert.Zero(t, o.maxAttempts)
	assert.Zero(t, o.count)
	assert.Zero(t, o.prefetch)
	assert.Zero(t, o.idleTimeout)
	assert.Equal(t, 30*time.Second, o.drainTimeout)
	assert.Regexp(t, `^\d+$`, o.name)
	assert.Equal(t, "table", o.output.value)
	assert.False(t, o.noDeclare)
}

func TestWorkOptions(t *testing.T) {
	t.Parallel()
	c := newCommandLine(map[string]string{"AMQP_URL": "amqp://a/, amqp://b/"})
	o, code := parseWork(t, c, strings.Fields("--queue q --concurrency 4 --latency 50ms --fail-rate 1 --seed 0 --count 7 --idle-timeout 2s "+
		"--drain-timeout 0 --prefetch 65535 --name alice --no-declare -o json --connect-timeout 3s")...)
	require.Equal(t, exitOK, code, &c.err)
	assert.True(t, o.given("seed"), "a seed of 0 is a seed")
	config, err := o.config(c.app, "work")
	require.NoError(t, err)
	assert.Equal(t, []string{"amqp://a/", "amqp://b/"}, config.URLs)
	assert.Equal(t, "evdemo work alice", config.ConnectionName)
	assert.Equal(t, 3*time.Second, config.ConnectTimeout)
	assert.Equal(t, 7, config.Limit)
	assert.Equal(t, 2*time.Second, config.IdleTimeout)
	assert.Equal(t, 65535, config.Prefetch)
	assert.Less(t, config.DrainTimeout, time.Millisecond, "none at all, and not the default")
	assert.Positive(t, config.DrainTimeout)
}

func TestWorkMistakes(t *testing.T) {
	t.Parallel()
	tests := []struct{ args, text string }{
		{"", "say which queue: --queue payments"},
		{"--queue=", "say which queue: --queue payments"},
		{"payments", `unexpected argument "payments"; did you mean --queue payments?`},
		{"--queue " + strings.Repeat("q", 256), "want at most 255 bytes of UTF-8"},
		{"--queue q\xff", `--queue "q\xff": want at most 255 bytes of UTF-8`},
		{"--queue q --concurrency 0", "--concurrency 0: want at least 1"},
		{"--queue q --latency -1s", "--latency -1s: want 0 or more"},
		{"--queue q --fail-rate 1.01", "--fail-rate 1.01: want 0 to 1"},
		{"--queue q --fail-rate -0.1", "--fail-rate -0.1: want 0 to 1"},
		{"--queue q --fail-rate NaN", "--fail-rate NaN: want 0 to 1"},
		{"--queue q --count -1", "--count -1: want 0 or more"},
		{"--queue q --prefetch -1", "--prefetch -1: want 0 to 65535"},
		{"--queue q --prefetch 65536", "--prefetch 65536: want 0 to 65535"},
		{"--queue q --idle-timeout -1s", "a timeout is negative"},
		{"--queue q --drain-timeout -1s", "a timeout is negative"},
		{"--queue q --name " + strings.Repeat("n", 201), "want at most 200 bytes of text without control characters"},
		{"--queue q --name a\x1b[31m", `--name "a\x1b[31m": want`},
		{"--queue q --name a\xff", `--name "a\xff": want`},
		{"--queue q -o jsonl", "want table or json"},
		{"--queue q --retry soon", "--retry: "},
		{"--queue q --retry 1s,0s", "--retry 1s,0s: a delay is 1ms at the least"},
		{"--queue q --dedup-lease 1s", "add --dedup FILE"},
		{"--queue q --dedup memory --dedup-lease 1s", "add --dedup FILE"},
		{"--queue q --dedup postgres://there/x --dedup-lease 1s", "add --dedup FILE"},
		{"--queue q --dedup f.db --dedup-lease 10ms", "--dedup-lease 10ms: want at least 100ms"},
		{"--queue q --max-attempts 0", "--max-attempts 0: want at least 1"},
		{"--queue q --timeout -1s", "--timeout -1s: want 0 or more"},
		{"--queue q --exec=", "--exec is empty: want a command"},
		{"--queue q --http=", "--http is empty: want a URL"},
		{"--queue q --exec true --http http://localhost/", "give --exec or --http, not both"},
		{"--queue q --shell", "--shell goes with --exec"},
		{"--queue q --exec-input data", "--exec-input goes with --exec"},
		{"--queue q --exec true --exec-input json", `--exec-input "json": want data or cloudevent`},
		{"--queue q --exec true --latency 1s", "--latency goes with the built-in handler"},
		{"--queue q --http http://localhost/ --fail-rate 1", "--fail-rate goes with the built-in handler"},
		{"--queue q --sign-secret-file x", "--sign-secret-file goes with --http"},
		{"--queue q --http http://localhost/ --http-header nonsense", "--http-header: "},
	}
	for _, test := range tests {
		t.Run(test.args, func(t *testing.T) {
			t.Parallel()
			c := newCommandLine(nil)
			o, code := parseWork(t, c, strings.Fields(test.args)...)
			requireMistake(t, c, code, test.text)
			assert.Nil(t, o, "the command was run")
		})
	}
}

func TestSummaryText(t *testing.T) {
	t.Parallel()
	s := summary{Name: "w", Handled: 1200, Failed: 3, Redelivered: 4, Seconds: 2, PerSecond: 600}
	assert.Equal(t, "w: handled 1,200  failed 3  redelivered 4  in 2.00 s (600 per second)", s.text())
	s.Filtered, s.Late, s.Retried, s.Dead, s.Duplicates = 5, 6, 2, 1, 7
	assert.Contains(t, s.text(), "redelivered 4  retried 2  dead-lettered 1  duplicates 7  filtered out 5  in 2.00 s")
	assert.Contains(t, s.text(), "connection was lost before the acknowledgement: 6")
}

// A line is what a person sees of an event that anybody may have sent.
func TestEventLineIsOneLineOfText(t *testing.T) {
	t.Parallel()
	var d worker.Delivery
	d.Event.Type, d.Event.ID = "a\nb\x1b[2J", strings.Repeat("i", 300)
	d.Event.Data = []byte("\xff\x00\u0085\r\nrest" + strings.Repeat("x", 1<<20))
	d.Redelivered, d.Attempt = true, 3
	d.Foreign = assert.AnError
	line := string(appendLine(nil, "w", &d))
	assert.Regexp(t, `^w  a b \[2J  i{100}…  \(attempt 3\)  \(no CloudEvent\)  �    +restx+…$`, line)
}

// The policy is the topology's, unless flags say otherwise; the tiers that are declared are those that
// are used.
func TestWorkPolicy(t *testing.T) {
	t.Parallel()
	tests := []struct {
		args     string
		retry    []time.Duration
		attempts int
	}{
		{"--queue payments", topology.DefaultRetry(), topology.DefaultMaxAttempts},
		{"--queue other", topology.DefaultRetry(), topology.DefaultMaxAttempts},
		{"--queue payments --retry 100ms,2m --max-attempts 9", []time.Duration{100 * time.Millisecond, 2 * time.Minute}, 9},
		{"--queue payments --retry none", []time.Duration{}, topology.DefaultMaxAttempts},
	}
	for _, test := range tests {
		t.Run(test.args, func(t *testing.T) {
			t.Parallel()
			c := newCommandLine(nil)
			o, code := parseWork(t, c, strings.Fields(test.args)...)
			require.Equal(t, exitOK, code, &c.err)
			config, err := o.workerConfig(c.app)
			require.NoError(t, err)
			assert.Equal(t, test.retry, config.Retry)
			assert.Equal(t, test.attempts, config.MaxAttempts)
			tiers := 0
			for _, q := range config.Declare.Queues {
				if q.Role == topology.RoleRetry {
					tiers++
				}
			}
			assert.Equal(t, len(test.retry), tiers)
		})
	}
	assert.NotContains(t, topology.Default().Queues, "other", "the built-in topology is as it was")
}

// An evdemo that is run by a handler does not take the event's attributes for its flags.
func TestAttributesInTheEnvironmentAreNoFlags(t *testing.T) {
	t.Parallel()
	env := map[string]string{"EVDEMO_QUEUE": "payments", "EVDEMO_TYPE": "order.created", "EVDEMO_RATE": "5"}
	c := newCommandLine(env)
	assert.Equal(t, exitUsage, c.run(t, "publish", "--topic", "orders", "--dry-run"), "flags, as ever")
	env["EVDEMO_ATTEMPT"] = "1"
	c = newCommandLine(env)
	require.Equal(t, exitOK, c.run(t, "publish", "--topic", "orders", "--dry-run"), &c.err)
}
