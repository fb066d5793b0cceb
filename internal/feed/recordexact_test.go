package feed_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go" //nolint:depguard // for Table and Decimal: values of headers that have no other name
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/feed"
	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/publisher"
)

// What was read of a line stays as it was when the next one is read into the same buffer.
func TestRecordsShareNothing(t *testing.T) {
	t.Parallel()
	var content []byte
	var want []publisher.Message
	for i := range 2000 {
		e := someEvent()
		e.ID, e.Data = fmt.Sprint(i), fmt.Appendf(nil, `{"n":%d}`, i)
		m := publisher.Message{Event: e, Headers: map[string]any{"n": fmt.Sprint(i), "b": fmt.Append(nil, i)}, To: publisher.ToQueue(e.ID)}
		if i%2 == 1 {
			raw := &publisher.Raw{Message: event.Message{MessageID: e.ID, Headers: m.Headers, Body: e.Data}}
			m = publisher.Message{Raw: raw, To: m.To}
		}
		var err error
		content, err = feed.AppendRecord(content, feed.Record{Message: m})
		require.NoError(t, err)
		want, content = append(want, m), append(content, '\n')
	}
	messages, faults := readMessages(t, lines(string(content), event.Defaults{}))
	require.Empty(t, faults)
	assert.Equal(t, want, messages)
}

func eventOf() *rapid.Generator[event.Event] {
	return rapid.Custom(func(t *rapid.T) event.Event {
		e := someEvent()
		e.ID = rapid.StringMatching(`[!-~]{1,40}`).Draw(t, "id")
		e.Subject = rapid.StringMatching(`([a-zé<&"\\]{1,20})?`).Draw(t, "subject")
		e.Time = time.Time{}
		if rapid.Bool().Draw(t, "timed") {
			e.Time = time.Unix(rapid.Int64Range(-62135596799, 253402300799).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanos")).UTC()
		}
		e.DataContentType = rapid.SampledFrom([]string{"application/json", "text/plain", "application/octet-stream", "application/x+json"}).Draw(t, "type")
		e.Data = []byte(rapid.SampledFrom([]string{"", "null", "{ \"a\" : 1.50 }", "{\n}", " 1", "text\u2028\"", "\xff\x00", "{\"a\":1,\"a\":2}"}).Draw(t, "data"))
		if len(e.Data) == 0 {
			e.Data = nil
		}
		if rapid.Bool().Draw(t, "extended") {
			e.Extensions = map[string]any{"n": rapid.Int32().Draw(t, "n"), "b": rapid.Bool().Draw(t, "b"), "s": "5"}
		}
		return e
	})
}

func messageOf() *rapid.Generator[publisher.Message] {
	return rapid.Custom(func(t *rapid.T) publisher.Message {
		var m publisher.Message
		if rapid.Bool().Draw(t, "directed") {
			m.To = publisher.Destination{Exchange: nameOf().Draw(t, "exchange"), RoutingKey: nameOf().Draw(t, "key")}
		}
		headers := rapid.MapOfN(nameOf(), headerOf(3), 0, 5).Draw(t, "headers")
		if len(headers) == 0 {
			headers = nil
		}
		if rapid.Bool().Draw(t, "event") {
			maps.DeleteFunc(headers, func(name string, _ any) bool { return publisher.CheckHeaderName(name) != nil })
			if m.Event = eventOf().Draw(t, "event"); len(headers) > 0 {
				m.Headers = headers
			}
			return m
		}
		m.Raw = &publisher.Raw{Message: event.Message{Headers: headers}}
		for _, text := range []*string{
			&m.Raw.ContentType, &m.Raw.ContentEncoding, &m.Raw.MessageID, &m.Raw.Type, &m.Raw.CorrelationID, &m.Raw.AppID, &m.Raw.ReplyTo,
		} {
			*text = nameOf().Draw(t, "property")
		}
		m.Raw.Priority = rapid.Uint8().Draw(t, "priority")
		m.Raw.Expiration = time.Duration(rapid.Int64Min(0).Draw(t, "expiration"))
		m.Raw.Timestamp = timeOf().Draw(t, "timestamp")
		if body := rapid.OneOf(rapid.SliceOf(rapid.Byte()), rapid.Map(rapid.String(), func(s string) []byte { return []byte(s) })).Draw(t, "body"); len(body) > 0 {
			m.Raw.Body = body
		}
		return m
	})
}

// What is written is read, exactly: the whole message, whatever is in it.
func TestRecordProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := messageOf().Draw(t, "message")
		line := writeRecord(t, feed.Record{Message: m, Failure: map[string]string{"error": "x\n"}})
		require.Equal(t, m, readRecord(t, line+"\n"), "%s", line)
		require.Equal(t, line, writeRecord(t, feed.Record{Message: m, Failure: map[string]string{"error": "x\n"}}), "equal records give equal bytes")
	})
}

// A message in a queue, written down and sent again, is the same message.
func TestRecordThroughTheBroker(t *testing.T) {
	t.Parallel()
	pump := pumpTo(t, brokertest.URL(t))
	raw := &publisher.Raw{
		Message: event.Message{
			ContentType: "text/plain", ContentEncoding: "gzip", MessageID: "7", Type: "note", CorrelationID: "c", AppID: "app",
			Timestamp: time.Unix(1731344040, 0).UTC(), Body: []byte("\x00\xff\n"),
		},
		ReplyTo: "back", Priority: 5, Expiration: time.Hour,
	}
	raw.Headers = map[string]any{"x-any": "thing", "ce-id": "1"}
	for _, value := range headerForms() {
		raw.Headers[fmt.Sprintf("%T %v", value, value)] = value
	}
	line := writeRecord(t, feed.Record{Message: publisher.Message{Raw: raw, To: pump.To}})
	get := getter(t, pump.To.RoutingKey)
	report, err := pump.Run(t.Context(), lines(line, event.Defaults{}))
	require.NoError(t, err)
	require.Equal(t, int64(1), report.Confirmed)
	d := get()
	delete(d.Headers, "evdemo-seq")
	delete(d.Headers, "x-delivery-count") // which a quorum queue adds
	expiration, err := time.ParseDuration(d.Expiration + "ms")
	require.NoError(t, err)
	again := writeRecord(t, feed.Record{Message: publisher.Message{
		To: publisher.Destination{Exchange: d.Exchange, RoutingKey: d.RoutingKey},
		Raw: &publisher.Raw{
			Message: event.Message{
				Headers: d.Headers, Body: d.Body, MessageID: d.MessageId, Type: d.Type, CorrelationID: d.CorrelationId,
				ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, AppID: d.AppId, Timestamp: d.Timestamp,
			},
			ReplyTo: d.ReplyTo, Priority: d.Priority, Expiration: expiration,
		},
	}})
	// AMQP keeps whole seconds of a time, which one of the headers has not.
	assert.Equal(t, strings.Replace(line, "16:54:00.5Z", "16:54:00Z", 1), again)
}

// getter takes a message out of a queue.
func getter(t *testing.T, queue string) func() amqp.Delivery {
	t.Helper()
	s, err := session.DialWithin(t.Context(), session.Config{URLs: session.SplitURLs(brokertest.URL(t)), Name: "evdemo test"}, patience)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	ch, err := s.Channel()
	require.NoError(t, err)
	return func() amqp.Delivery {
		d, ok, err := ch.Get(queue, true)
		require.NoError(t, err)
		require.True(t, ok, "queue %s is empty", queue)
		return d
	}
}

// wire is all that a message has on its way.
func wire(m publisher.Message) publisher.Message {
	raw := publisher.Raw{Message: m.Event.Encode()}
	if m.Raw != nil {
		raw = *m.Raw
	}
	headers := map[string]any{}
	maps.Copy(headers, raw.Headers)
	maps.Copy(headers, m.Headers)
	raw.Headers = headers
	return publisher.Message{Raw: &raw, To: m.To}
}

// FuzzRecord: a line that is read as a record is JSON, can be written, and that is read as the same message.
func FuzzRecord(f *testing.F) {
	for form := range headerForms() {
		f.Add([]byte(`{"raw":{"body":"x"},"headers":{"h":` + form + `},"routing_key":"q"}`))
	}
	content, err := os.ReadFile("../../examples/records.jsonl")
	require.NoError(f, err)
	for line := range bytes.Lines(content) {
		f.Add(line)
	}
	f.Add([]byte(`{"event":` + someEventJSON + `,"headers":{"a":[{"b":2.0}]},"exchange":{"@string":"/w=="},"failure":[{}]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		source := feed.NewLines("in", bytes.NewReader(line), event.Defaults{Type: "t"})
		m, err := source.Next()
		if err != nil || !source.IsRecord() {
			return
		}
		line, _, _ = bytes.Cut(bytes.TrimLeft(line, " \t\r\n\v\f\u0085\u00a0"), []byte{'\n'})
		require.True(t, json.Valid(bytes.TrimPrefix(line, []byte("\ufeff"))), "%q", line)
		again := readRecord(t, writeRecord(t, feed.Record{Message: m}))
		require.Equal(t, wire(m), wire(again))
	})
}
