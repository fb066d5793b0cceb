package shop

import (
	"strconv"
	"strings"
)

// Currency is that of all prices.
const Currency = "EUR"

const (
	catalogueSize  = 40        // item-1 to item-40
	firstPrice     = 50        // of item-1, in cents
	priceStep      = 25        // from one item to the next, in cents
	defaultInStock = 1_000_000 // pieces of each item before the first order
)

// Price is what one piece of an item costs, in cents. ok is false for what is not for sale.
func Price(sku string) (cents int, ok bool) {
	n, ok := itemNumber(sku)
	if !ok {
		return 0, false
	}
	return firstPrice + (n-1)*priceStep, true
}

// InStock is how many pieces of an item there are before the first order: a million of each that is for sale, 0 of
// everything else.
func InStock(sku string) int {
	if _, ok := itemNumber(sku); !ok {
		return 0
	}
	return defaultInStock
}

// SKUs are all items that are for sale, in the order of their numbers.
func SKUs() []string {
	all := make([]string, catalogueSize)
	for i := range all {
		all[i] = "item-" + strconv.Itoa(i+1)
	}
	return all
}

// itemNumber reads item-N. Only one spelling of a number names an item: item-01 and item-+1 do not.
func itemNumber(sku string) (n int, ok bool) {
	digits, ok := strings.CutPrefix(sku, "item-")
	if !ok || digits == "" || digits[0] < '1' || digits[0] > '9' {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	return n, err == nil && n <= catalogueSize
}
