package sink

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/worker"
)

// Bounds of what is counted. A sum of a million events at the bound still is a 64-bit integer.
const (
	maxAmount   = 1_000_000_000_000 // cents
	maxPrice    = 1_000_000_000     // cents
	maxQuantity = 1_000_000
	maxItems    = 10_000
	maxName     = 512 // bytes
)

// decisionOf reads the data of an event about an order. Anything in it that cannot be right makes the error permanent: it
// will not be right the next time.
func decisionOf(e event.Event) (d shop.Decision, err error) {
	if e.Type == shop.OrderCreated {
		err = json.Unmarshal(e.Data, &d.Order)
	} else {
		err = json.Unmarshal(e.Data, &d)
	}
	if err == nil {
		err = checkDecision(d)
	}
	if err != nil {
		return d, worker.Permanent(fmt.Errorf("event %s of type %s: %w: %w", e.ID, e.Type, ErrData, err))
	}
	return d, nil
}

func checkDecision(d shop.Decision) error {
	errs := []error{
		checkName("order_id", d.Order.OrderID), checkName("user_id", d.Order.UserID),
		within("amount", d.Order.Amount, maxAmount), within("amount", d.Amount, maxAmount), within("points", d.Points, maxAmount),
	}
	if len(d.Reference) > maxName || control(d.Reference) {
		errs = append(errs, fmt.Errorf("reference %.40q: want %d bytes at most, without control characters", d.Reference, maxName))
	}
	if len(d.Order.Items) > maxItems {
		return errors.Join(append(errs, fmt.Errorf("%d items: want %d at most", len(d.Order.Items), maxItems))...)
	}
	for _, item := range d.Order.Items {
		errs = append(errs, checkName("sku", item.SKU), within("quantity", item.Quantity, maxQuantity), within("price", item.Price, maxPrice))
	}
	return errors.Join(errs...)
}

// checkName checks what is a key in databases, some of which cannot hold every character.
func checkName(what, name string) error { return checkText(what, name, maxName) }

func checkText(what, text string, longest int) error {
	if text == "" || len(text) > longest || control(text) {
		return fmt.Errorf("%s %.40q: want 1 to %d bytes, without control characters", what, text, longest)
	}
	return nil
}

func control(s string) bool { return strings.ContainsFunc(s, unicode.IsControl) }

func within(what string, n, bound int) error {
	if n < 0 || n > bound {
		return fmt.Errorf("%s %d: want 0 to %d", what, n, bound)
	}
	return nil
}
