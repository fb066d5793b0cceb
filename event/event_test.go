package event_test

import (
	"encoding/json"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
)

// faultsOf returns the attributes that err finds fault with.
func faultsOf(t *testing.T, err error) []string {
	t.Helper()
	var invalid *event.ValidationError
	require.ErrorAs(t, err, &invalid)
	require.NotEmpty(t, invalid.Faults)
	attributes := make([]string, 0, len(invalid.Faults))
	for _, f := range invalid.Faults {
		assert.NotEmpty(t, f.Problem)
		attributes = append(attributes, f.Attribute)
	}
	return attributes
}

func TestNew(t *testing.T) {
	t.Parallel()
	before := time.Now()
	e, err := event.New("order.created", "orders", map[string]int{"order": 4711})
	require.NoError(t, err)
	require.NoError(t, e.Validate())

	id, err := uuid.Parse(e.ID)
	require.NoError(t, err)
	assert.Equal(t, uuid.Version(7), id.Version())
	assert.Equal(t, "order.created", e.Type)
	assert.Equal(t, "orders", e.Source)
	assert.Equal(t, event.ContentTypeJSON, e.DataContentType)
	assert.Equal(t, `{"order":4711}`, string(e.Data))
	assert.WithinRange(t, e.Time, before.Add(-time.Microsecond), time.Now())
	assert.Equal(t, time.UTC, e.Time.Location())
	assert.Equal(t, e.Time.Truncate(time.Microsecond), e.Time)
	assert.Nil(t, e.Extensions)
}

func TestNewData(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		data        any
		want        []byte
		contentType string
	}{
		"none":        {nil, nil, ""},
		"bytes":       {[]byte(` { "a" : 1 } `), []byte(` { "a" : 1 } `), event.ContentTypeJSON},
		"raw message": {json.RawMessage(`1.0`), []byte(`1.0`), event.ContentTypeJSON},
		"string":      {"text", []byte(`"text"`), event.ContentTypeJSON},
		"nil pointer": {(*int)(nil), []byte(`null`), event.ContentTypeJSON},
		"struct": {struct {
			ID int `json:"id"`
		}{1}, []byte(`{"id":1}`), event.ContentTypeJSON},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := event.New("t", "s", tc.data)
			require.NoError(t, err)
			assert.Equal(t, tc.want, e.Data)
			assert.Equal(t, tc.contentType, e.DataContentType)
		})
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	_, err := event.New("", "a b", nil)
	assert.Equal(t, []string{"source", "type"}, faultsOf(t, err))

	_, err = event.New("t", "s", math.Inf(1))
	var unsupported *json.UnsupportedValueError
	require.ErrorAs(t, err, &unsupported)
	assert.ErrorContains(t, err, `marshal the data of "t"`)
}

func TestNewIDIsOrdered(t *testing.T) {
	t.Parallel()
	ids := make([]string, 10_000)
	for i := range ids {
		ids[i] = event.NewID()
	}
	assert.True(t, slices.IsSorted(ids), "ids are not in the order they were made")
	assert.Len(t, slices.Compact(slices.Clone(ids)), len(ids), "an id was made twice")
}

func TestCaused(t *testing.T) {
	t.Parallel()
	order, err := event.New("order.created", "orders", nil)
	require.NoError(t, err)
	order.Subject = "order-1"
	order = order.WithExtension(event.ExtTraceParent, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").
		WithExtension(event.ExtPartitionKey, "order-1")

	payment, err := event.Caused(order, "payment.processed", "payments", map[string]int{"amount": 100})
	require.NoError(t, err)
	assert.NotEqual(t, order.ID, payment.ID)
	assert.Equal(t, "order-1", payment.Subject)
	assert.Equal(t, map[string]any{
		event.ExtCausationID:   order.ID,
		event.ExtParentID:      order.ID,
		event.ExtParentType:    "order.created",
		event.ExtCorrelationID: order.ID,
	}, payment.Extensions)
	assert.JSONEq(t, `{"amount":100}`, string(payment.Data))

	shipment, err := event.Caused(payment, "order.shipped", "shipping", nil)
	require.NoError(t, err)
	assert.Equal(t, payment.ID, shipment.CausationID())
	assert.Equal(t, payment.ID, shipment.ParentID())
	assert.Equal(t, order.ID, shipment.CorrelationID(), "the correlation is the flow's, not the cause's")
}

func TestCausedRefuses(t *testing.T) {
	t.Parallel()
	_, err := event.Caused(event.Event{}, "t", "s", nil)
	assert.Equal(t, []string{event.ExtCausationID}, faultsOf(t, err))

	_, err = event.Caused(event.Event{ID: "1"}, "", "s", nil)
	assert.Equal(t, []string{"type"}, faultsOf(t, err))

	_, err = event.Caused(event.Event{ID: "a\nb"}, "t", "s", nil)
	assert.Equal(t, []string{event.ExtCausationID, event.ExtCorrelationID, event.ExtParentID}, faultsOf(t, err))
}
