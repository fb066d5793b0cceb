package topology_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/evdemo/evdemo/topology"
)

const defaultFile = `topics:
  orders:
    log: true
    groups: [email, analytics]
    queues: [payments]
queues:
  payments:
    retry: [1s, 5s, 30s]
    max-attempts: 5
`

func TestParseDefault(t *testing.T) {
	t.Parallel()
	spec, err := topology.Parse("topology.yaml", []byte(defaultFile))
	require.NoError(t, err)
	assert.Equal(t, topology.Default(), spec)
	assert.Equal(t, defaultFile, string(topology.Default().YAML()))
}

func TestParse(t *testing.T) {
	t.Parallel()
	week := topology.Log{MaxAge: topology.DefaultLogMaxAge, MaxSize: topology.DefaultLogMaxSize}
	tests := map[string]struct {
		yaml string
		want topology.Spec
	}{
		"nothing said": {
			"topics: {orders: }\nqueues: {payments: }",
			topology.Spec{Topics: map[string]topology.Topic{"orders": {}}, Queues: map[string]topology.Queue{"payments": {}}},
		},
		"log off": {
			"topics: {orders: {log: false}}",
			topology.Spec{Topics: map[string]topology.Topic{"orders": {}}},
		},
		"log with half of its limits": {
			"topics: {a: {log: {max-age: 12h}}, b: {log: {max-size: 2GiB}}, c: {log: {}}}",
			topology.Spec{Topics: map[string]topology.Topic{
				"a": {Log: &topology.Log{MaxAge: 12 * time.Hour, MaxSize: week.MaxSize}},
				"b": {Log: &topology.Log{MaxAge: week.MaxAge, MaxSize: 2 << 30}},
				"c": {Log: &week},
			}},
		},
		"sizes in bytes": {
			"topics: {a: {log: {max-size: 5000000}}}",
			topology.Spec{Topics: map[string]topology.Topic{"a": {Log: &topology.Log{MaxAge: week.MaxAge, MaxSize: 5_000_000}}}},
		},
		"block style, quotes, comments, CRLF": {
			"# ours\r\nqueues:\r\n  \"payments\":   # to be paid\r\n    retry:\r\n      - 500ms\r\n      - '1m30s'\r\n    single-active: true\r\n",
			topology.Spec{Queues: map[string]topology.Queue{"payments": {
				Retry: []time.Duration{500 * time.Millisecond, 90 * time.Second}, SingleActive: true,
			}}},
		},
		"no retry": {
			"queues: {payments: {retry: [], max-attempts: 1}}",
			topology.Spec{Queues: map[string]topology.Queue{"payments": {Retry: []time.Duration{}, MaxAttempts: 1}}},
		},
		"one tier twice": {
			"queues: {payments: {retry: [1s, 1s, 60s, 1m]}}",
			topology.Spec{Queues: map[string]topology.Queue{"payments": {
				Retry: []time.Duration{time.Second, time.Second, time.Minute, time.Minute},
			}}},
		},
		"prefix": {
			"queues: {q: {max-attempts: 2}}\nprefix: demo-\ntopics: {orders: {groups: [g], queues: [q]}}",
			topology.Spec{
				Topics: map[string]topology.Topic{"orders": {Groups: []string{"g"}, Queues: []string{"q"}}},
				Queues: map[string]topology.Queue{"q": {MaxAttempts: 2}},
			}.WithPrefix("demo-"),
		},
		"anchors": {
			"queues: {a: &usual {retry: &r [1s]}, b: *usual, c: {retry: *r}}",
			topology.Spec{Queues: map[string]topology.Queue{
				"a": {Retry: []time.Duration{time.Second}},
				"b": {Retry: []time.Duration{time.Second}},
				"c": {Retry: []time.Duration{time.Second}},
			}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec, err := topology.Parse("topology.yaml", []byte(tt.yaml))
			require.NoError(t, err)
			assert.Equal(t, tt.want, spec)
		})
	}
}

// TestParseMistakes: all the mistakes of a file, each with the place where it is.
func TestParseMistakes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		yaml string
		want []string
	}{
		"unknown keys": {
			"topics:\n  orders:\n    lgo: true\nqueus: {}\nqueues: {q: {rety: [1s]}}\n",
			[]string{
				`f:3:5: unknown key "lgo"; there are log, groups, queues`,
				`f:4:1: unknown key "queus"; there are topics, queues, prefix`,
				`f:5:14: unknown key "rety"; there are retry, max-attempts, single-active`,
			},
		},
		"wrong types": {
			"topics:\n  orders: yes\n  a: {log: on, groups: email, queues: [1, b, [c]]}\nqueues: [payments]\n",
			[]string{
				"f:2:11: topics.orders must be a mapping: keys with values",
				"f:3:12: log is true, false or {max-age: 7d, max-size: 1GB}",
				"f:3:24: groups is a list, as in [email, analytics]",
				"f:3:40: a name is text; put it in quotes",
				"f:3:46: a name is text; put it in quotes",
				"f:4:9: queues must be a mapping: keys with values",
			},
		},
		"bad values": {
			"topics: {a: {log: {max-age: 5, max-size: 1XB, days: 3}}}\nqueues:\n  q:\n    retry: [5, 0s, 50d, 1.5s]\n    max-attempts: 0\n    single-active: 1\n",
			[]string{
				`f:1:29: "5" is not a duration: write a whole number and a unit, as in 500ms, 5s, 1m, 2h or 7d`,
				`f:1:42: "1XB" is not a size: write a whole number of bytes or a number and a unit, as in 500MB or 1GB`,
				`f:1:47: unknown key "days"; there are max-age, max-size`,
				`f:4:13: "5" is not a duration: write a whole number and a unit, as in 500ms, 5s, 1m, 2h or 7d`,
				`f:4:16: 0s is no time at all`,
				`f:4:20: the delay is 50d; the broker keeps an event 49 days at the most`,
				`f:4:25: "1.5s" is not a duration: write a whole number and a unit, as in 500ms, 5s, 1m, 2h or 7d`,
				`f:5:19: max-attempts is a whole number, 1 or more`,
				`f:6:20: single-active is true or false`,
			},
		},
		"said twice": {
			"queues:\n  q: {}\n  q: {}\ntopics: {a: {groups: [g, g], queues: [q, q]}}\n",
			[]string{
				`f:3:3: "q" is there twice`,
				`f:4:26: group "g" is listed twice`,
				`f:4:42: queue "q" is listed twice`,
			},
		},
		"names that cannot be": {
			"topics:\n  events: {}\n  amq.x: {}\n  '': {}\n  a: {groups: ['', ' '], queues: ['a b ', \"a\\tb\"]}\n",
			[]string{
				`f:2:3: no topic may be called "events": it is the exchange that sees the events of all topics`,
				`f:3:3: topic "amq.x": names that begin with "amq." are the broker's own`,
				`f:4:3: topic has no name`,
				`f:5:16: group has no name`,
				`f:5:20: queue "a. ": the name begins or ends with a space`,
				`f:5:35: queue "a b ": the name begins or ends with a space`,
				`f:5:43: queue "a\tb": the name has a control character in it`,
			},
		},
		"names of others": {
			"topics:\n  a: {groups: [log, b.c, dlq, retry.5s], queues: [a.log]}\n  a.b: {groups: [c], queues: [a.b.c]}\nqueues: {x.dlq: , x.retry.1m: , x.retry.60s: }\n",
			[]string{
				`f:2:16: group log of topic a would be the queue "a.log", and so would the log of topic a`,
				`f:2:26: queue "a.dlq": names that end in ".dlq" are those of dead-letter queues`,
				`f:2:31: queue "a.retry.5s": that is the name of a retry tier of queue "a"`,
				`f:2:51: queue a.log would be the queue "a.log", and so would the log of topic a`,
				`f:3:18: group c of topic a.b would be the queue "a.b.c", and so would group b.c of topic a`,
				`f:3:31: queue a.b.c would be the queue "a.b.c", and so would group b.c of topic a`,
				`f:4:10: queue "x.dlq": names that end in ".dlq" are those of dead-letter queues`,
				`f:4:19: queue "x.retry.1m": that is the name of a retry tier of queue "x"`,
			},
		},
		"too long": {
			"topics: {a: {queues: [" + strings.Repeat("q", 250) + "]}}\nqueues: {" + strings.Repeat("r", 251) + ": {retry: []}, s: {}}\n",
			[]string{
				`f:1:23: queue "` + strings.Repeat("q", 250) + `": the name has 250 bytes and may have 245, for the names made from it to fit in 255`,
			},
		},
		"broken YAML":   {"topics:\n\torders: x\n", []string{"f:2:1: found character '\t' that cannot start any token"}},
		"empty":         {"# nothing\n", []string{"f:1:1: the file is empty; a topology has topics or queues"}},
		"nothing in it": {"topics: {}\n", []string{"f:1:1: there are neither topics nor queues in it"}},
		"not a mapping": {"- orders\n", []string{"f:1:1: a topology must be a mapping: keys with values"}},
		"two documents": {"topics: {a: }\n---\nqueues: {}\n", []string{"f:3:1: a second document; a topology is one"}},
		"mistakes behind a prefix": {
			"prefix: x-\ntopics: {events: , a: {queues: [b.dlq], grps: [g]}}\n",
			[]string{
				`f:2:10: no topic may be called "x-events": it is the exchange that sees the events of all topics`,
				`f:2:33: queue "x-b.dlq": names that end in ".dlq" are those of dead-letter queues`,
				`f:2:41: unknown key "grps"; there are log, groups, queues`,
			},
		},
		"prefix of another type": {"prefix: 5\nqueues: {a: }\n", []string{"f:1:9: prefix is text, as in demo-"}},
		"merge keys":             {"queues:\n  q:\n    <<: {retry: [1s]}\n", []string{"f:3:5: merge keys are not supported; write the values out"}},
		"alias to nothing":       {"topics: *x\nqueues: {a: }\n", []string{`f:1:9: there is no anchor "x"`}},
		"a number as a key":      {"queues: {7: }\n", []string{"f:1:10: a name is text; put it in quotes"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := topology.Parse("f", []byte(tt.yaml))
			var invalid *topology.InvalidError
			require.ErrorAs(t, err, &invalid)
			var got []string
			for _, mistake := range invalid.Mistakes {
				got = append(got, mistake.String())
			}
			assert.Equal(t, tt.want, got)
		})
	}
}

func TestParseErrorShowsTheSource(t *testing.T) {
	t.Parallel()
	_, err := topology.Parse("topology.yaml", []byte("topics:\n  orders:\n    log: true\n    grups: [email]\n    queues: [payments]\n"))
	assert.EqualError(t, err, `topology.yaml:4:5: unknown key "grups"; there are log, groups, queues
     2 |   orders:
     3 |     log: true
>    4 |     grups: [email]
       |     ^
     5 |     queues: [payments]`)
}

func TestValidateWithoutAFile(t *testing.T) {
	t.Parallel()
	spec := topology.Spec{
		Topics: map[string]topology.Topic{"a.b": {Groups: []string{"log"}, Log: &topology.Log{MaxAge: time.Millisecond, MaxSize: 5}}},
		Queues: map[string]topology.Queue{"q": {Retry: []time.Duration{-time.Second, time.Microsecond}, MaxAttempts: -1}},
	}
	err := spec.Validate()
	assert.EqualError(t, err, `topics["a.b"].log.max-age: the age is 1ms; a log counts it in whole seconds, one at the least
topics["a.b"].log.max-size: the size is 5; a log has 1MB at the least
topics["a.b"].groups[0]: group log of topic a.b would be the queue "a.b.log", and so would the log of topic a.b
queues.q.retry[0]: the delay is -1s; delays are whole milliseconds, one at the least
queues.q.retry[1]: the delay is 1µs; delays are whole milliseconds, one at the least
queues.q.max-attempts: there are -1 attempts; there must be one at the least`)
}

func TestYAMLIsReadBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		spec := drawSpec(t)
		if prefix := rapid.SampledFrom([]string{"", "demo-", "x: #", "7", "true"}).Draw(t, "prefix"); prefix != "" {
			spec = spec.WithPrefix(prefix)
		}
		text := spec.YAML()
		again, err := topology.Parse("spec.yaml", text)
		require.NoError(t, err, "%s", text)
		require.Equal(t, spec, again, "%s", text)
	})
}

// TestNoTwoUsesOfOneName: a topology is refused exactly if one queue name would be used for two
// things, or a name is not allowed by itself.
func TestNoTwoUsesOfOneName(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		spec := rapid.Custom(drawAnySpec).Draw(t, "spec")
		if spec.Validate() != nil {
			return
		}
		uses := map[string]string{}
		use := func(name, what string) {
			if other, ok := uses[name]; ok {
				require.Equal(t, other, what, "two uses of %q", name)
			}
			uses[name] = what
		}
		work := func(name string) {
			use(topology.DeadLetterQueue(name), "dead letters of "+name)
			for _, delay := range spec.Queue(name).Retry {
				use(topology.RetryTier(name, delay), "tier of "+name)
			}
		}
		for topic, t := range spec.Topics {
			use(topology.LogStream(topic), "log of "+topic)
			for _, group := range t.Groups {
				use(topology.GroupQueue(topic, group), "group "+group+" of "+topic)
				work(topology.GroupQueue(topic, group))
			}
			for _, queue := range t.Queues {
				use(queue, "queue "+queue)
				work(queue)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(defaultFile))
	files, err := filepath.Glob(filepath.Join("testdata", "parse", "*.yaml"))
	require.NoError(f, err)
	for _, file := range files {
		b, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		spec, err := topology.Parse("f.yaml", b)
		if err != nil {
			var invalid *topology.InvalidError
			if !errors.As(err, &invalid) || len(invalid.Mistakes) == 0 {
				t.Fatalf("an error without mistakes: %v", err)
			}
			for _, mistake := range invalid.Mistakes {
				if mistake.Line < 1 || mistake.Column < 1 || mistake.Message == "" {
					t.Fatalf("a mistake without a place: %+v", mistake)
				}
			}
			return
		}
		again, err := topology.Parse("again.yaml", spec.YAML())
		require.NoError(t, err, "%s", spec.YAML())
		require.Equal(t, spec.YAML(), again.YAML())
		require.Equal(t, spec.Resources(), again.Resources())
		require.NoError(t, spec.Resources().Validate())
	})
}
