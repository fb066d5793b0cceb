package shop

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
)

func TestEveryTypeHasASchemaWithAnExampleThatAdheres(t *testing.T) {
	t.Parallel()
	registry, err := Schemas()
	require.NoError(t, err)
	all := []string{
		OrderCreated, OrderCancelled, OrderShipped, FraudCleared, FraudSuspected, PaymentProcessed, PaymentFailed, PaymentRefunded,
		PaymentVoided, InventoryReserved, InventoryRejected, InventoryReleased, StockTaken, StockReturned, ShippingFailed,
		LoyaltyAwarded, NotificationSent, NotificationFailed, PaymentProviderWebhook, SMSConfirmed, EmailBounced, CheckFraud,
		ChargePayment, RefundPayment, ReserveInventory, ReleaseInventory, ShipOrder, AwardLoyalty, CancelOrder,
	}
	require.ElementsMatch(t, all, registry.Types())
	for _, eventType := range all {
		document, err := registry.Document(eventType, 1)
		require.NoError(t, err)
		var s struct{ Examples []json.RawMessage }
		require.NoError(t, json.Unmarshal(document, &s))
		require.NotEmpty(t, s.Examples, eventType)
		for _, example := range s.Examples {
			e, err := event.New(eventType, "shop/test", example)
			require.NoError(t, err)
			require.NoError(t, registry.Check(e), eventType)
		}
		nothing, err := event.New(eventType, "shop/test", json.RawMessage(`{}`))
		require.NoError(t, err)
		require.Error(t, registry.Check(nothing), eventType)
	}
}
