package brokertest

import (
	"context"
	"testing"
	"time"

	"github.com/evdemo/evdemo/internal/localbroker"
)

// AwaitDurable is [localbroker.Node.AwaitDurable], for half a minute at most.
func AwaitDurable(tb testing.TB, node *localbroker.Node, queue string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 30*time.Second)
	defer cancel()
	if err := node.AwaitDurable(ctx, queue); err != nil {
		tb.Fatal(err)
	}
}
