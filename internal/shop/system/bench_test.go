package system

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/service"
)

// Orders to their end, in memory, with the five services of the saga.
func BenchmarkOrders(b *testing.B) {
	for _, flow := range flows() {
		b.Run(string(flow), func(b *testing.B) {
			store := openStore(b)
			place(b, store, b.N)
			ctx, stop := context.WithCancel(b.Context())
			defer stop()
			b.ResetTimer()
			go func() {
				defer stop()
				ended := 0
				for _, err := range store.Follow(ctx, eventstore.Query{Types: []string{shop.LoyaltyAwarded}}) {
					if ended++; err != nil || ended == b.N {
						return
					}
				}
			}()
			names := []string{service.Fraud, service.Payment, service.Inventory, service.Shipping, service.Loyalty}
			if flow == service.Orchestration {
				names = append(names, service.Coordinator)
			}
			_, err := Run(ctx, Config{Store: store, Flow: flow, Names: names, Concurrency: 64})
			require.NoError(b, err)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "orders/s")
		})
	}
}
