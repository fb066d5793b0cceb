package schema_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/event/schema"
	"github.com/evdemo/evdemo/examples"
)

// exampleOrders are the sample orders.
func exampleOrders(tb testing.TB) (orders []event.Event) {
	tb.Helper()
	for line := range bytes.Lines(examples.Orders) {
		e, err := event.Parse(line, event.Defaults{})
		require.NoError(tb, err)
		orders = append(orders, e)
	}
	return orders
}

func exampleRegistry(tb testing.TB) *schema.Registry {
	tb.Helper()
	registry, err := schema.Load(examples.Schemas())
	require.NoError(tb, err)
	return registry
}

func BenchmarkCheck(b *testing.B) {
	orders, registry := exampleOrders(b), exampleRegistry(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := registry.Check(orders[i%len(orders)]); err != nil {
			b.Fatal(err)
		}
	}
}
