package feed_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/feed"
	"github.com/evdemo/evdemo/publisher"
)

// readMessages reads a source to its end and gives the messages and the faults on the way.
func readMessages(t require.TestingT, source feed.Source) (messages []publisher.Message, faults []error) {
	for {
		m, err := source.Next()
		var line *feed.LineError
		switch {
		case errors.Is(err, io.EOF):
			return messages, faults
		case errors.As(err, &line):
			faults = append(faults, err)
		default:
			require.NoError(t, err)
			messages = append(messages, m)
		}
	}
}

// readAll does so for a source that has only events.
func readAll(t require.TestingT, source feed.Source) (events []event.Event, faults []error) {
	messages, faults := readMessages(t, source)
	for _, m := range messages {
		require.Equal(t, publisher.Message{Event: m.Event}, m)
		events = append(events, m.Event)
	}
	return events, faults
}

func lines(content string, defaults event.Defaults) *feed.Lines {
	return feed.NewLines("in", strings.NewReader(content), defaults)
}

func TestLinesInEveryForm(t *testing.T) {
	t.Parallel()
	events, faults := readAll(t, lines(strings.Join([]string{
		`{"specversion":"1.0","id":"1","source":"shop","type":"a","time":"2024-05-01T10:00:00Z","data":{"n": 1}}`,
		`{"event_id":"2","type":"b","timestamp":"2024-05-01T10:00:00","data":[2]}`,
		`{"event_id":"3","type":"c","n":3}`,
		`{"type":"d","source":"other","data":"four"}`,
	}, "\n"), event.Defaults{Source: "here", Subject: "s"}))
	require.Empty(t, faults)
	require.Len(t, events, 4)
	for i, want := range []string{`a shop {"n": 1}`, `b here [2]`, `c here {"n":3}`, `d other "four"`} {
		e := events[i]
		assert.Equal(t, want, fmt.Sprintf("%s %s %s", e.Type, e.Source, e.Data))
		assert.Equal(t, "s", e.Subject)
		require.NoError(t, e.Validate())
	}
	assert.Equal(t, "1", events[0].ID)
	assert.Equal(t, "2024-05-01T10:00:00Z", events[1].Time.Format("2006-01-02T15:04:05Z07:00"))

	events, faults = readAll(t, lines("{\"n\":1}\n[1]\nnull\n\"x\"\n7\n{\"type\":\"own\",\"data\":1}\n", event.Defaults{Type: "bare"}))
	require.Empty(t, faults)
	types := make([]string, 0, len(events))
	for _, e := range events {
		types = append(types, e.Type)
	}
	assert.Equal(t, []string{"bare", "bare", "bare", "bare", "bare", "own"}, types)
}

func TestLinesEndAsTheyLike(t *testing.T) {
	t.Parallel()
	const one = `{"id":"x","type":"a","data":1}`
	for _, content := range []string{
		one, one + "\n", one + "\r\n", one + "\r\n\r\n", "\n\n" + one, " \t\r\n" + one + "  \t", "\r\n\r\n  " + one + "\n\n\n   ", "\ufeff" + one + "\n",
	} {
		events, faults := readAll(t, lines(content, event.Defaults{}))
		require.Empty(t, faults, "%q", content)
		require.Len(t, events, 1, "%q", content)
		assert.Equal(t, "1", string(events[0].Data), "%q", content)
	}
	for _, content := range []string{"", "\n", "\r\n\r\n", "   ", "\t\n \n"} {
		events, faults := readAll(t, lines(content, event.Defaults{}))
		assert.Empty(t, events)
		assert.Empty(t, faults, "%q", content)
	}
}

// Lines that do not fit the reader's buffer of 64 KiB, and those that just do.
func TestLongLines(t *testing.T) {
	t.Parallel()
	var content strings.Builder
	var sizes []int
	for _, size := range []int{10, 65400, 65480, 65536, 65600, 20, 131072, 1 << 20, 3<<20 + 7, 5} {
		sizes = append(sizes, size)
		fmt.Fprintf(&content, "{\"type\":\"long\",\"data\":%q}\n", strings.Repeat("x", size))
	}
	content.WriteString(strings.Repeat(" ", 70000) + "\n{\"type\":\"last\",\"data\":\"\"}") // a long blank one, too
	events, faults := readAll(t, feed.NewLines("in", iotest.HalfReader(strings.NewReader(content.String())), event.Defaults{}))
	require.Empty(t, faults)
	require.Len(t, events, len(sizes)+1)
	for i, size := range sizes {
		assert.Len(t, events[i].Data, size+2)
		assert.Equal(t, size, strings.Count(string(events[i].Data), "x"), "the data is the event's own, not the reader's")
	}
	assert.Equal(t, "last", events[len(sizes)].Type)
}

func TestBadLinesAreNamedAndPassed(t *testing.T) {
	t.Parallel()
	source := lines("{\"type\":\"a\",\"data\":1}\nnonsense\n\n{\"data\":2}\n{\"type\":\"b\",\"data\":3}", event.Defaults{})
	events, faults := readAll(t, source)
	require.Len(t, events, 2)
	require.Len(t, faults, 2)
	require.EqualError(t, faults[0], "in:2: not an event in JSON, at byte 1: invalid character 'o' in literal null (expecting 'u')")
	require.EqualError(t, faults[1], `in:4: no "type" and no default type`)
	require.ErrorIs(t, faults[1], event.ErrNoType)
	var line *feed.LineError
	require.ErrorAs(t, faults[1], &line)
	assert.Equal(t, feed.LineError{Name: "in", Line: 4, Err: event.ErrNoType}, *line)
	_, err := source.Next()
	require.ErrorIs(t, err, io.EOF, "and again")
}

func TestReadErrorsAreNotTheLine(t *testing.T) {
	t.Parallel()
	broken := io.MultiReader(strings.NewReader("{\"type\":\"a\",\"data\":1}\n{\"type\":\"b\""), iotest.ErrReader(errors.New("disk on fire")))
	source := feed.NewLines("events.jsonl", broken, event.Defaults{})
	_, err := source.Next()
	require.NoError(t, err)
	_, err = source.Next()
	require.EqualError(t, err, "read events.jsonl: disk on fire", "and not a fault of half a line")
	var line *feed.LineError
	require.NotErrorAs(t, err, &line)
}

// Whatever lines there are, each that is not blank is an event or a fault, in their order and with
// their number.
func TestLinesProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		kinds := rapid.SliceOf(rapid.SampledFrom([]string{"good", "bad", "blank", "space", "long"})).Draw(t, "kinds")
		end := rapid.SampledFrom([]string{"\n", "\r\n"}).Draw(t, "end")
		var content strings.Builder
		var wantEvents, wantFaults []string
		for i, kind := range kinds {
			switch kind {
			case "good":
				fmt.Fprintf(&content, `{"type":"t","data":%d}`, i)
				wantEvents = append(wantEvents, fmt.Sprint(i))
			case "long":
				data := fmt.Sprintf(`"%d%s"`, i, strings.Repeat("x", 66000))
				content.WriteString(`{"type":"t","data":` + data + `}`)
				wantEvents = append(wantEvents, data)
			case "bad":
				content.WriteString(`{"type":"t"`)
				wantFaults = append(wantFaults, fmt.Sprintf("in:%d:", i+1))
			case "space":
				content.WriteString(" \t ")
			}
			content.WriteString(end)
		}
		events, faults := readAll(t, lines(content.String(), event.Defaults{}))
		require.Len(t, events, len(wantEvents))
		for i, e := range events {
			require.Equal(t, wantEvents[i], string(e.Data))
		}
		require.Len(t, faults, len(wantFaults))
		for i, fault := range faults {
			require.True(t, strings.HasPrefix(fault.Error(), wantFaults[i]), "%v, want %s", fault, wantFaults[i])
		}
	})
}

func TestFunc(t *testing.T) {
	t.Parallel()
	made := 0
	source := feed.Func(3, func() (event.Event, error) { made++; return event.New("t", "s", made) })
	events, _ := readAll(t, source)
	require.Len(t, events, 3)
	assert.Equal(t, 3, made)
	_, err := source.Next()
	require.ErrorIs(t, err, io.EOF)

	endless := feed.Func(-1, func() (event.Event, error) { return event.Event{}, nil })
	for range 1000 {
		_, err := endless.Next()
		require.NoError(t, err)
	}
	failing := feed.Func(2, func() (event.Event, error) { return event.Event{}, assert.AnError })
	_, err = failing.Next()
	require.ErrorIs(t, err, assert.AnError)
}

// FuzzLines: no input breaks the reader, every event that comes out is valid, and there are as many
// results as lines that are not blank.
func FuzzLines(f *testing.F) {
	f.Add([]byte("{\"type\":\"a\",\"data\":1}\n\n{\"data\":2}\r\nnonsense"), "")
	f.Add([]byte("\xff\n\x00\n[1]\nnull\n"), "bare")
	f.Fuzz(func(t *testing.T, content []byte, eventType string) {
		messages, faults := readMessages(t, feed.NewLines("in", strings.NewReader(string(content)), event.Defaults{Type: eventType}))
		want := 0
		for line := range strings.SplitSeq(string(content), "\n") {
			if strings.TrimSpace(line) != "" {
				want++
			}
		}
		require.Equal(t, want, len(messages)+len(faults))
		for _, m := range messages {
			if m.Raw == nil {
				require.NoError(t, m.Event.Validate())
			}
		}
	})
}
