package feed_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/examples"
	"github.com/evdemo/evdemo/internal/feed"
	"github.com/evdemo/evdemo/publisher"
)

// recordsOf gives the lines of events as records.
func recordsOf(tb testing.TB, content []byte) []byte {
	tb.Helper()
	var records []byte
	for line := range bytes.Lines(content) {
		e, err := event.Parse(line, event.Defaults{})
		require.NoError(tb, err)
		records, err = feed.AppendRecord(records, feed.Record{Message: publisher.Message{
			Event: e, Headers: map[string]any{"tenant": "acme"}, To: publisher.ToQueue("payments"),
		}})
		require.NoError(tb, err)
		records = append(records, '\n')
	}
	return records
}

// BenchmarkLines reads 2,000 lines at a time.
func BenchmarkLines(b *testing.B) {
	for name, content := range map[string][]byte{"Events": examples.Orders, "Records": recordsOf(b, examples.Orders)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				lines := feed.NewLines("in", bytes.NewReader(content), event.Defaults{})
				for {
					_, err := lines.Next()
					if errors.Is(err, io.EOF) {
						break
					}
					if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func BenchmarkAppendRecord(b *testing.B) {
	b.ReportAllocs()
	record := feed.Record{
		Message: publisher.Message{Event: someEvent(), Headers: map[string]any{"tenant": "acme"}, To: publisher.ToQueue("payments")},
		Failure: map[string]any{"reason": "attempts"},
	}
	var line []byte
	for b.Loop() {
		var err error
		if line, err = feed.AppendRecord(line[:0], record); err != nil {
			b.Fatal(err)
		}
	}
}
