package examples_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/examples"
	"github.com/evdemo/evdemo/internal/orders"
)

// The sample data are 2,000 valid events with ids of their own, in the order of their making, and say
// everything themselves: nothing is filled in on reading.
func TestOrders(t *testing.T) {
	t.Parallel()
	ids := map[string]bool{}
	numbers := map[string]bool{}
	var before event.Event
	for line := range bytes.Lines(examples.Orders) {
		e, err := event.Parse(line, event.Defaults{})
		require.NoError(t, err)
		require.NoError(t, e.Validate())
		again, err := event.Parse(line, event.Defaults{Source: "other", Subject: "other", Type: "other"})
		require.NoError(t, err)
		e.Subject, again.Subject = "", ""
		require.Equal(t, e, again, "the line says it all")
		assert.Equal(t, orders.Type, e.Type)
		assert.Equal(t, event.ContentTypeJSON, e.DataContentType)
		assert.False(t, ids[e.ID], "id %s is there twice", e.ID)
		ids[e.ID] = true
		assert.False(t, e.Time.Before(before.Time))
		before = e

		var order orders.Order
		require.NoError(t, json.Unmarshal(e.Data, &order))
		numbers[order.OrderID] = true
		sum := 0
		for _, item := range order.Items {
			sum += item.Quantity * item.Price
		}
		assert.Equal(t, sum, order.Amount)
	}
	assert.Len(t, ids, 2000)
	assert.Len(t, numbers, 2000)
}
