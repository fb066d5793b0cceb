package event_test

import (
	"encoding/json"
	"testing"
	"time"

	sdk "github.com/cloudevents/sdk-go/v2/event"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
)

// orderCreated is an event as a service would publish it: every attribute that the suite sets, and
// some 150 bytes of data.
func orderCreated(tb testing.TB) event.Event {
	tb.Helper()
	e := event.Event{
		ID:              "019a7b5e-6f00-7000-8000-0123456789ab",
		Source:          "orders",
		Type:            "order.created",
		Subject:         "order-4711",
		Time:            time.Date(2025, 11, 11, 16, 54, 0, 123456000, time.UTC),
		DataContentType: event.ContentTypeJSON,
		Extensions: map[string]any{
			event.ExtCorrelationID: "019a7b5e-6e00-7000-8000-0123456789ab",
			event.ExtCausationID:   "019a7b5e-6e00-7000-8000-0123456789ab",
		},
		Data: []byte(`{"order_id":"order-4711","customer":"alice@example.com","items":[{"sku":"sku-1","quantity":2},{"sku":"sku-2","quantity":1}],"total":"129.90","currency":"EUR"}`),
	}
	require.NoError(tb, e.Validate())
	return e
}

func BenchmarkNew(b *testing.B) {
	b.ReportAllocs()
	data := json.RawMessage(orderCreated(b).Data)
	for b.Loop() {
		if _, err := event.New("order.created", "orders", data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNewID(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		event.NewID()
	}
}

func BenchmarkValidate(b *testing.B) {
	b.ReportAllocs()
	e := orderCreated(b)
	for b.Loop() {
		if err := e.Validate(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	b.ReportAllocs()
	e := orderCreated(b)
	for b.Loop() {
		if m := e.Encode(); m.MessageID == "" {
			b.Fatal("no message id")
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	b.ReportAllocs()
	m := orderCreated(b).Encode()
	m.Headers["x-attempts"] = int32(1)
	for b.Loop() {
		if _, err := event.Decode(m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeForeign(b *testing.B) {
	b.ReportAllocs()
	m := event.Message{MessageID: "1", Type: "order", ContentType: "text/plain", Body: []byte("order 4711")}
	for b.Loop() {
		if e, _ := event.Decode(m); e.ID != "1" {
			b.Fatal("no id")
		}
	}
}

func BenchmarkParse(b *testing.B) {
	line, err := orderCreated(b).MarshalJSON()
	require.NoError(b, err)
	for name, doc := range map[string][]byte{
		"CloudEvents": line,
		"Envelope": []byte(`{"event_id":"evt-xyz789","type":"user.created","data":{"user_id":123,` +
			`"email":"alice@example.com","name":"Alice"},"timestamp":"2025-11-11T16:54:00Z","source":"user-service"}`),
		"Data": orderCreated(b).Data,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(doc)))
			for b.Loop() {
				if _, err := event.Parse(doc, event.Defaults{Type: "order.created"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	b.ReportAllocs()
	e := orderCreated(b)
	var line []byte
	for b.Loop() {
		var err error
		if line, err = e.AppendJSON(line[:0]); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(line)))
}

func BenchmarkMarshalJSON(b *testing.B) {
	b.ReportAllocs()
	e := orderCreated(b)
	for b.Loop() {
		if _, err := e.MarshalJSON(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnmarshalJSON(b *testing.B) {
	line, err := orderCreated(b).MarshalJSON()
	require.NoError(b, err)
	b.Run("Ours", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(line)))
		for b.Loop() {
			var e event.Event
			if err := e.UnmarshalJSON(line); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("SDK", func(b *testing.B) { // for comparison
		b.ReportAllocs()
		b.SetBytes(int64(len(line)))
		for b.Loop() {
			var e sdk.Event
			if err := e.UnmarshalJSON(line); err != nil {
				b.Fatal(err)
			}
		}
	})
}
