package journal_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/feed"
	"github.com/evdemo/evdemo/internal/journal"
)

// What the Reader costs beside package feed.
func BenchmarkReader(b *testing.B) {
	text, err := os.ReadFile("../../examples/orders.jsonl")
	require.NoError(b, err)
	for name, through := range map[string]bool{"feed alone": false, "journal and feed": true} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				var in io.Reader = bytes.NewReader(text)
				if through {
					in = journal.NewReader("in", in, event.Defaults{}, false)
				}
				lines := feed.NewLines("in", in, event.Defaults{})
				for {
					if _, err := lines.Next(); errors.Is(err, io.EOF) {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
