package brokertest

import (
	"testing"

	"github.com/evdemo/evdemo/internal/link"
)

// Proxy makes a link to the broker at target, an AMQP URL. It is closed with the test.
func Proxy(tb testing.TB, target string) *link.Link {
	tb.Helper()
	l, err := link.New(tb.Context(), target, nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(l.Close)
	return l
}
