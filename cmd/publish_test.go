package cmd

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/feed"
	"github.com/evdemo/evdemo/publisher"
)

func TestPublishDefaults(t *testing.T) {
	t.Parallel()
	o, code := parsePublish(t, newCommandLine(nil))
	require.Equal(t, exitOK, code)
	assert.Equal(t, "orders", o.topic)
	assert.Equal(t, publisher.ToTopic("orders"), o.to())
	assert.Equal(t, 1, o.count)
	assert.Zero(t, o.rate)
	assert.Equal(t, 1000, o.window)
	assert.Equal(t, 10*time.Second, o.drainTimeout)
	assert.Equal(t, "table", o.output.value)
	assert.Empty(t, o.header)
	assert.False(t, o.stream || o.noDeclare || o.dryRun)
	assert.Empty(t, o.queue+o.rawExchange+o.routingKey+o.eventType+o.source+o.subject+o.data+o.contentType+o.file+o.outcomes+o.topology)
}

func TestPublishOptions(t *testing.T) {
	t.Parallel()
	tests := []struct {
		args  string
		check func(assert.TestingT, *publishOptions)
	}{
		{"--topic t", func(t assert.TestingT, o *publishOptions) { assert.Equal(t, publisher.ToTopic("t"), o.to()) }},
		{"--queue q", func(t assert.TestingT, o *publishOptions) { assert.Equal(t, publisher.ToQueue("q"), o.to()) }},
		{"--raw-exchange x --routing-key k", func(t assert.TestingT, o *publishOptions) {
			assert.Equal(t, publisher.Destination{Exchange: "x", RoutingKey: "k"}, o.to())
		}},
		{"--raw-exchange= --routing-key q", func(t assert.TestingT, o *publishOptions) { assert.Equal(t, publisher.ToQueue("q"), o.to()) }},
		{"--header a=1 --header b=x=y --header c= --header a=2", func(t assert.TestingT, o *publishOptions) {
			assert.Equal(t, map[string]any{"a": "2", "b": "x=y", "c": ""}, o.header)
		}},
		{"--type order.created --count 5", func(t assert.TestingT, o *publishOptions) { assert.Equal(t, 5, o.count) }},
		{"--type t --data {} --count 5", func(t assert.TestingT, o *publishOptions) { assert.Equal(t, "{}", o.data) }},
		{"--file f.jsonl --stream --type t", func(t assert.TestingT, o *publishOptions) { assert.True(t, o.stream) }},
		{"--rate 0.5", func(t assert.TestingT, o *publishOptions) { assert.InDelta(t, 0.5, o.rate, 0) }},
		{"--rate 1e9 --window 1048576 --drain-timeout 0", func(t assert.TestingT, o *publishOptions) { assert.Equal(t, 1<<20, o.window) }},
		{"-o json", func(t assert.TestingT, o *publishOptions) { assert.True(t, o.output.json()) }},
	}
	for _, test := range tests {
		t.Run(test.args, func(t *testing.T) {
			t.Parallel()
			c := newCommandLine(nil)
			o, code := parsePublish(t, c, strings.Fields(test.args)...)
			require.Equal(t, exitOK, code, &c.err)
			test.check(t, o)
		})
	}
}

func TestPublishMistakes(t *testing.T) {
	t.Parallel()
	tests := []struct{ args, text string }{
		{"--topic a --queue b", "give one of --topic, --queue and --raw-exchange"},
		{"--topic a --raw-exchange b", "give one of --topic, --queue and --raw-exchange"},
		{"--queue a --raw-exchange b --routing-key c", "give one of --topic, --queue and --raw-exchange"},
		{"--routing-key k", "--routing-key goes with --raw-exchange"},
		{"--topic t --routing-key k", "--routing-key goes with --raw-exchange"},
		{"--topic=", "the name of the topic or queue is empty"},
		{"--queue=", "the name of the topic or queue is empty"},
		{"--topic " + strings.Repeat("ä", 128), "--topic \"" + strings.Repeat("ä", 40) + "\": want at most 255 bytes of UTF-8"},
		{"--type t --data {} --file f", "give --data or --file, not both"},
		{"--data {}", "an event needs a type: give --type with --data"},
		{"--content-type text/plain", "--content-type goes with --data"},
		{"--file f --content-type text/plain", "--content-type goes with --data"},
		{"--file f --count 2", "--count makes events or repeats --data; a --file has as many as it has lines"},
		{"--file=", "--file is empty"},
		{"--file - --topology -", "--topology and the events cannot both be standard input"},
		{"--type t --data - --topology -", "--topology and the events cannot both be standard input"},
		{"--stream", "--stream goes with --file"},
		{"--type t --data {} --stream", "--stream goes with --file"},
		{"--type t", "only order.created can be made up: give --data or --file with --type t"},
		{"--count 0", "--count 0: want at least 1"},
		{"--count -3", "--count -3: want at least 1"},
		{"--count 1.5", `invalid argument "1.5" for "--count" flag`},
		{"--rate -1", "--rate -1: want 0 or more"},
		{"--rate NaN", "--rate NaN: want 0 or more"},
		{"--rate +Inf", "--rate +Inf: want 0 or more"},
		{"--window 0", "--window 0: want 1 to 1048576"},
		{"--window 1048577", "--window 1048577: want 1 to 1048576"},
		{"--drain-timeout -1s", "--drain-timeout -1s: want 0 or more"},
		{"--header a", `--header "a": want NAME=VALUE`},
		{"--header =a", `--header "=a": want NAME=VALUE`},
		{"--header ce-type=a", `header name "ce-type": the prefixes ce-, evdemo- and x- are taken`},
		{"--header evdemo-seq=a", "are taken"},
		{"--header x-match=a", "are taken"},
		{"-o yaml", `invalid argument "yaml" for "-o, --output" flag: want table or json`},
		{"--cuont 3", "unknown flag: --cuont"},
		{"--count", "flag needs an argument: --count"},
		{"orders", `unknown command "orders" for "evdemo publish"`},
		{"-q -v", "--quiet and --verbose exclude each other"},
		{"--log-format xml", `--log-format "xml": want text or json`},
		{"--connect-timeout 0s", "--connect-timeout 0s: want more than 0"},
	}
	for _, test := range tests {
		t.Run(test.args, func(t *testing.T) {
			t.Parallel()
			c := newCommandLine(nil)
			o, code := parsePublish(t, c, strings.Fields(test.args)...)
			requireMistake(t, c, code, test.text)
			assert.Nil(t, o, "the command was run")
		})
	}
}

func TestPublishReportText(t *testing.T) {
	t.Parallel()
	r := feed.Report{Sent: 12345, Confirmed: 12000, Returned: 300, Nacked: 40, Unknown: 5, Seconds: 2.5, PerSecond: 4800.9}
	assert.Equal(t, "sent 12,345  confirmed 12,000  returned 300  nacked 40  unknown 5  in 2.50 s (4,800 per second)", reportText(r))
	r.Resent, r.Invalid = 1000, 2
	assert.Contains(t, reportText(r), "\nsent again after a lost connection: 1,000 (each may have arrived twice)\nlines that are no events, not sent: 2")
}

// Without end events would be named without end: after a thousand it is said how to have them all.
func TestPublishNamesAThousandEvents(t *testing.T) {
	t.Parallel()
	c := newCommandLine(nil)
	a := &account{app: c.app, opts: &publishOptions{}}
	for range 1500 {
		a.outcome()(publisher.Result{Outcome: publisher.Nacked})
	}
	assert.Equal(t, 1000, strings.Count(c.err.String(), "nacked: event"))
	assert.Equal(t, 1, strings.Count(c.err.String(), "more events did not get through; --outcomes FILE writes the outcome of every one\n"))
}

// A message that is no event is named by what it has, whatever is in it.
func TestPublishDescribesMessages(t *testing.T) {
	t.Parallel()
	raw := func(id, kind string) publisher.Message {
		return publisher.Message{Raw: &publisher.Raw{Message: event.Message{MessageID: id, Type: kind}}}
	}
	for want, m := range map[string]publisher.Message{
		"event 1 (a)":               {Event: event.Event{ID: "1", Type: "a"}},
		"message 7 (note)":          raw("7", "note"),
		"message without an id ()":  raw("", ""),
		"message without an id (a)": raw("", "a"),
		"message  [2J\ufffd (a b)":  raw("\x1b[2J\xff", "a\nb"),
	} {
		assert.Equal(t, want, describe(m))
	}
}

// A destination that was asked for goes before those that records name; the default topic does not.
func TestPublishTargets(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]int{"": 0, "--topic orders": 1, "--queue q": 1, "--raw-exchange= --routing-key q": 1, "--file f": 0} {
		o, code := parsePublish(t, newCommandLine(nil), strings.Fields(args)...)
		require.Equal(t, exitOK, code)
		assert.Equal(t, want, o.targets(), args)
	}
}

// Progress is for a person at a terminal who has more than one event to wait for.
func TestPublishProgress(t *testing.T) {
	t.Parallel()
	tests := []struct {
		terminal, quiet bool
		total           int
		want            bool
	}{{true, false, 100, true}, {true, false, -1, true}, {true, false, 1, false}, {true, true, 100, false}, {false, false, 100, false}}
	for _, test := range tests {
		c := newCommandLine(nil)
		c.app.ErrTerminal, c.app.global.quiet = test.terminal, test.quiet
		a, err := newAccount(c.app, &publishOptions{output: &output{}}, test.total)
		require.NoError(t, err)
		for range 3 {
			a.outcome()(publisher.Result{Outcome: publisher.Confirmed})
		}
		a.outcome()(publisher.Result{Outcome: publisher.Returned})
		require.NoError(t, a.close(feed.Report{Sent: 4, Confirmed: 4}, nil))
		assert.Equal(t, test.want, strings.Contains(c.err.String(), "confirmed"), "%+v: %q", test, &c.err)
		assert.Regexp(t, `(^|\r|K)returned: event  \(\)\n`, c.err.String(), "the bar is out of the way")
		assert.NotContains(t, c.out.String(), "\r")
		assert.Contains(t, c.out.String(), "sent 4  confirmed 4 ")
	}
}
