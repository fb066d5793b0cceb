package journal_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/eventstore/relay"
	"github.com/evdemo/evdemo/internal/feed"
	"github.com/evdemo/evdemo/internal/journal"
	"github.com/evdemo/evdemo/publisher"
)

// readAll gives what feed makes of text, and what the Reader sees wrong with it.
func readAll(t require.TestingT, text string, defaults event.Defaults, stream bool) (all []publisher.Message, faults []error, more error) {
	r := journal.NewReader("in", iotest.OneByteReader(strings.NewReader(text)), defaults, stream)
	lines := feed.NewLines("in", r, defaults)
	for {
		m, err := lines.Next()
		var line *feed.LineError
		switch {
		case errors.Is(err, io.EOF):
			return all, faults, r.Faults()
		case errors.As(err, &line):
			faults = append(faults, err)
		default:
			require.NoError(t, err)
			all = append(all, m)
		}
	}
}

func recorded() *rapid.Generator[eventstore.Recorded] {
	return rapid.Custom(func(t *rapid.T) eventstore.Recorded {
		text := rapid.StringMatching(`[a-zé<&"\\/]{1,8}`)
		r := eventstore.Recorded{
			Event: event.Event{
				ID: text.Draw(t, "id"), Source: "s", Type: text.Draw(t, "type"),
				DataContentType: rapid.SampledFrom([]string{"", "application/json", "text/plain", "application/x"}).Draw(t, "content type"),
			},
			Position: rapid.Int64Min(1).Draw(t, "position"), Stream: text.Draw(t, "stream"), Version: rapid.Int64Min(1).Draw(t, "version"),
			RecordedAt: time.UnixMicro(rapid.Int64Range(0, 1<<51).Draw(t, "at")).UTC(),
		}
		if data := rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "data"); len(data) > 0 {
			r.Data = data
		}
		if rapid.Bool().Draw(t, "json") {
			r.Data = []byte(rapid.SampledFrom([]string{`{"a": 1.0}`, "[1,\n2]", ` 5`, `null`, `"x"`}).Draw(t, "document"))
		}
		if rapid.Bool().Draw(t, "timed") {
			r.Time = time.UnixMicro(rapid.Int64Range(1, 1<<51).Draw(t, "time")).UTC()
		}
		if rapid.Bool().Draw(t, "extended") {
			r.Extensions = map[string]any{"n": int32(7), "stream": "x", "text": text.Draw(t, "extension")}
		}
		return r
	})
}

// What is written is read back: the stream, and the event with everything that it has.
func TestLinesAreExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(recorded(), 1, 5).Draw(t, "events")
		var text []byte
		for _, r := range all {
			var err error
			text, err = journal.AppendLine(text, r)
			require.NoError(t, err)
			text = append(text, rapid.SampledFrom([]string{"\n", "\r\n", "\n\n", " \n"}).Draw(t, "end")...)
		}
		read, faults, more := readAll(t, string(text), event.Defaults{Type: "other", Subject: "other"}, true)
		require.Empty(t, faults)
		require.NoError(t, more)
		require.Len(t, read, len(all))
		for i, r := range all {
			want := r.Event
			want.Subject = "other" // it has none
			require.Equal(t, want, read[i].Event)
			require.Equal(t, r.Stream, journal.Stream(read[i]))
		}
	})
}

// An event that has an id is the same one whenever it is read. One that has none gets it, and the time.
func TestEventsWithAnIDGetNoTime(t *testing.T) {
	t.Parallel()
	const lines = `{"specversion":"1.0","id":"1","source":"s","type":"t","data":{"a":  1}}
{"event_id":"2","type":"t","data":1}
{"id":"3","type":"t","data":1}
{"event_id":"4","type":"t","order":7}
{"event_id":"5","type":"t","timestamp":"2026-01-02T15:04:05Z","order":7}
{"specversion":"1.0","id":"6","source":"s","type":"t","time":"2026-01-02T15:04:05Z"}
{"type":"t","data":1}
{"id":"8","type":"t"}
{"specversion":"1.0","source":"s","type":"t"}
{"event":{"specversion":"1.0","id":"10","source":"s","type":"t"},"headers":{"a":1}}
`
	read, faults, more := readAll(t, "\ufeff"+lines, event.Defaults{}, false)
	require.Empty(t, faults)
	require.NoError(t, more)
	var ids, times []string
	for _, m := range read {
		id, at := m.Event.ID, "none"
		if len(id) > 2 {
			id = "made up"
		}
		if !m.Event.Time.IsZero() {
			at = "given"
		}
		if time.Since(m.Event.Time) < time.Minute {
			at = "now"
		}
		ids, times = append(ids, id), append(times, at)
	}
	assert.Equal(t, []string{"1", "2", "3", "4", "5", "6", "made up", "made up", "made up", "10"}, ids)
	assert.Equal(t, []string{"none", "none", "none", "none", "given", "given", "now", "now", "now", "none"}, times)
	assert.Equal(t, `{"a":  1}`, string(read[0].Event.Data))
}

func TestRawMessagesThatHoldEvents(t *testing.T) {
	t.Parallel()
	e := event.Event{ID: "1", Source: "s", Type: "t", Data: []byte(`{"a":1}`)} // JSON has no place for data without a content type
	line, err := feed.AppendRecord(nil, feed.Record{Message: publisher.Message{Event: e, Headers: map[string]any{relay.HeaderStream: "order-1"}}})
	require.NoError(t, err)
	require.Contains(t, string(line), `{"raw":`)
	read, faults, more := readAll(t, string(line)+"\n"+`{"raw":{"body":"hello","message_id":"7"}}`, event.Defaults{}, true)
	require.Empty(t, faults)
	require.EqualError(t, more, "in:2: the message holds no event: "+event.ErrNotCloudEvent.Error())
	require.Len(t, read, 2)
	assert.Equal(t, e, read[0].Event)
	assert.Equal(t, "order-1", journal.Stream(read[0]))
}

func TestFaults(t *testing.T) {
	t.Parallel()
	const e = `{"specversion":"1.0","id":"1","source":"s","type":"t"}`
	tests := []struct{ line, fault, more string }{
		{`{"stream":"s","event":` + e + `}`, "", ""},
		{`{"event":` + e + `,"headers":{"eventstore-stream":"s"}}`, "", ""},
		{`{"position":1,"event":` + e + `,"headers":{"eventstore-stream":"s"}}`, "", ""},
		{e, "", "in:1: it does not say which stream"},
		{`{"event":` + e + `}`, "", "it does not say which stream"},
		{`{"event":` + e + `,"headers":{"eventstore-stream":7}}`, "", "it does not say which stream"},
		{`{"position":1,"event":` + e + `}`, "", "it does not say which stream"},
		{`{"stream":"","event":` + e + `}`, `no "type" and no default type`, `"stream" is no name`},
		{`{"stream":7,"event":` + e + `}`, `no "type" and no default type`, `"stream" is no name`},
		{`{"stream":"a","stream":"b","event":` + e + `}`, `no "type" and no default type`, `"stream" is there twice`},
		{`{"stream":"a","event":` + e + `,"headers":{"eventstore-stream":"b"}}`, `no "type" and no default type`, `"headers" are there as well`},
		{`{"stream":"a","event":` + e + `,"colour":1}`, `in:1: no "type" and no default type`, "it does not say"},
		{`{"stream":"a","version":1,"version":2,"event":` + e + `}`, `no "type" and no default type`, `"version" is there twice`},
		{`{"stream":"a","event":` + e + `,"event":` + e + `}`, `no "type" and no default type`, `"event" is there twice`},
		{`{"stream":"a","event":{"specversion":"1.0","id":"1","source":"s"}}`, `no "type"`, ""},
		{`{"stream":"a","event":{"specversion":"2.0"}}`, `specversion`, ""},
		{`{"stream":"a"`, "in:1: ", "it does not say"},
		{"{\"a\":\"\xff\"}", "not UTF-8", "it does not say"},
	}
	for _, test := range tests {
		_, faults, more := readAll(t, test.line, event.Defaults{}, true)
		if test.fault == "" {
			require.Empty(t, faults, test.line)
		} else {
			require.Len(t, faults, 1, test.line)
			require.ErrorContains(t, faults[0], test.fault, test.line)
		}
		if test.more == "" {
			require.NoError(t, more, test.line)
		} else {
			require.ErrorContains(t, more, test.more, test.line)
		}
	}
}

// The lines stay the lines that they were, whatever is made of them, and of many faults the rest are counted.
func TestLinesAreCounted(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("\n"+`{"id":"1","type":"t","data":1}`+"\n", 12) + `{"type":7}`
	_, faults, more := readAll(t, text, event.Defaults{}, true)
	require.Len(t, faults, 1)
	require.ErrorContains(t, faults[0], "in:25: ")
	for i := range 10 {
		require.ErrorContains(t, more, fmt.Sprintf("in:%d: ", 2*i+2))
	}
	require.ErrorContains(t, more, "and 3 more bad lines")
}

func TestReadErrorsArePassedOn(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	r := journal.NewReader("in", io.MultiReader(strings.NewReader("{\"type\":\"t\",\"data\":1}\n{\"ty"), iotest.ErrReader(broken)), event.Defaults{}, false)
	lines := feed.NewLines("in", r, event.Defaults{})
	_, err := lines.Next()
	require.NoError(t, err)
	_, err = lines.Next()
	require.ErrorIs(t, err, broken)
}

// What feed takes is taken, and is the same event, but for records of events.
func FuzzReader(f *testing.F) {
	f.Add(`{"position":1,"stream":"s","version":1,"recorded_at":"2026-01-02T15:04:05Z","event":{"specversion":"1.0","id":"1","source":"s","type":"t"}}`)
	f.Add(`{"id":"1","type":"t","data":1}`)
	f.Add("{\"raw\":{\"body\":\"x\"}}\n\n[1]")
	f.Fuzz(func(t *testing.T, text string) {
		defaults := event.Defaults{Type: "t"}
		plain := feed.NewLines("in", strings.NewReader(text), defaults)
		through := feed.NewLines("in", journal.NewReader("in", strings.NewReader(text), defaults, false), defaults)
		for {
			m, err := through.Next()
			before, plainErr := plain.Next()
			if errors.Is(err, io.EOF) || errors.Is(plainErr, io.EOF) {
				require.Equal(t, plainErr, err, "the same number of lines")
				return
			}
			if plainErr == nil && before.Raw == nil && !strings.Contains(text, "event") && !strings.Contains(text, `\`) { // else it may be a record
				require.NoError(t, err)
				require.Equal(t, before.Event.Type, m.Event.Type)
				require.Equal(t, before.Event.Data, m.Event.Data)
				require.Equal(t, before.Event.Subject, m.Event.Subject)
			}
		}
	})
}
