package orders_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/evdemo/evdemo/internal/orders"
)

func TestOrders(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		one, other := orders.NewGenerator(seed), orders.NewGenerator(seed)
		for i := range 20 {
			order := one.Next()
			require.Equal(t, order, other.Next(), "the same seed makes the same orders")
			require.Equal(t, fmt.Sprintf("order-%06d", i+1), order.OrderID)
			require.NotEmpty(t, order.UserID)
			require.Equal(t, "EUR", order.Currency)
			require.NotEmpty(t, order.Items)
			sum := 0
			for _, item := range order.Items {
				require.Positive(t, item.Quantity)
				require.Positive(t, item.Price)
				require.NotEmpty(t, item.SKU)
				sum += item.Quantity * item.Price
			}
			require.Equal(t, sum, order.Amount, "the amount is the sum")
			var back orders.Order
			require.NoError(t, json.Unmarshal(order.JSON(), &back))
			require.Equal(t, order, back)
		}
	})
}

func TestOtherSeedsMakeOtherOrders(t *testing.T) {
	t.Parallel()
	first := map[string]bool{}
	for seed := range uint64(50) {
		g := orders.NewGenerator(seed)
		first[string(g.Next().JSON())+string(g.Next().JSON())] = true
	}
	assert.Len(t, first, 50)
}

func TestNames(t *testing.T) {
	t.Parallel()
	var order map[string]any
	require.NoError(t, json.Unmarshal(orders.NewGenerator(1).Next().JSON(), &order))
	for _, name := range []string{"order_id", "user_id", "items", "amount", "currency"} {
		assert.Contains(t, order, name)
	}
	assert.Len(t, order, 5)
}
