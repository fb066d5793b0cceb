package shop_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/shop"
)

func TestCatalogue(t *testing.T) {
	t.Parallel()
	skus := shop.SKUs()
	require.Len(t, skus, 40)
	require.Equal(t, "item-1", skus[0])
	require.Equal(t, "item-40", skus[39])
	for _, sku := range skus {
		price, ok := shop.Price(sku)
		require.True(t, ok, sku)
		require.Positive(t, price, sku)
		require.Equal(t, 1_000_000, shop.InStock(sku), sku)
	}
	price, _ := shop.Price("item-1")
	require.Equal(t, 50, price)
	for _, sku := range []string{"", "item-", "item-0", "item-41", "item-01", "item-+1", "item--1", "item-1 ", "Item-1", "item-1.0", "item-99999999999999999999"} {
		_, ok := shop.Price(sku)
		require.False(t, ok, sku)
		require.Zero(t, shop.InStock(sku), sku)
	}
}
