package event_test

import (
	"errors"
	"fmt"

	"github.com/evdemo/evdemo/event"
)

func ExampleNew() {
	type order struct {
		ID    string `json:"order_id"`
		Total string `json:"total"`
	}
	e, err := event.New("order.created", "orders", order{ID: "order-1", Total: "129.90"})
	if err != nil {
		fmt.Println(err)
		return
	}
	e.Subject = "order-1"
	fmt.Println(e.Type, e.Source, e.Subject, len(e.ID))
	fmt.Printf("%s\n", e.Data)
	// Output:
	// order.created orders order-1 36
	// {"order_id":"order-1","total":"129.90"}
}

func ExampleParse() {
	for _, doc := range []string{
		`{"specversion":"1.0","id":"1","source":"orders","type":"order.created","data":{"total":"129.90"}}`,
		`{"event_id":"evt-2","type":"payment.processed","cause":"evt-1","data":{"amount":100},"timestamp":"2025-11-11T16:54:00Z"}`,
		`{"type":"user.created","user_id":123,"email":"alice@example.com"}`,
		`{"total":"129.90"}`,
	} {
		e, err := event.Parse([]byte(doc), event.Defaults{})
		if errors.Is(err, event.ErrNoType) {
			fmt.Println(err)
			e, err = event.Parse([]byte(doc), event.Defaults{Type: "order.created"})
		}
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Printf("%s from %s caused by %q: %s\n", e.Type, e.Source, e.CausationID(), e.Data)
	}
	// Output:
	// order.created from orders caused by "": {"total":"129.90"}
	// payment.processed from evdemo caused by "evt-1": {"amount":100}
	// user.created from evdemo caused by "": {"user_id":123,"email":"alice@example.com"}
	// no "type" and no default type
	// order.created from evdemo caused by "": {"total":"129.90"}
}

func ExampleCaused() {
	order, err := event.New("order.created", "orders", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	order.Subject = "order-1"
	payment, err := event.Caused(order, "payment.processed", "payments", map[string]int{"amount": 100})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(payment.Subject)
	fmt.Println(payment.CausationID() == order.ID, payment.CorrelationID() == order.ID)
	// Output:
	// order-1
	// true true
}

func ExampleDecode() {
	order, err := event.New("order.created", "orders", map[string]int{"order": 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	native, err := event.Decode(order.Encode())
	fmt.Println(native.Type, native.ID == order.ID, err)

	foreign, err := event.Decode(event.Message{MessageID: "17", ContentType: "text/plain", Body: []byte("hello")})
	fmt.Println(foreign.Type, foreign.ID, errors.Is(err, event.ErrNotCloudEvent))
	// Output:
	// order.created true <nil>
	// amqp.message 17 true
}

func ExampleEvent_Validate() {
	e := event.Event{ID: "1", Source: "order service", DataContentType: "json"}
	fmt.Println(e.Validate())
	// Output:
	// invalid event: source: has " ", which a URI must percent-encode; type: is missing; datacontenttype: is no media type such as application/json
}

func ExampleEvent_AppendJSON() {
	e := event.Event{
		ID: "1", Source: "orders", Type: "order.created",
		DataContentType: event.ContentTypeJSON, Data: []byte(`{"total": 129.90, "note": "<fragile>"}`),
	}
	line, err := e.AppendJSON(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s\n", line)
	// Output:
	// {"specversion":"1.0","id":"1","source":"orders","type":"order.created","datacontenttype":"application/json","data":{"total": 129.90, "note": "<fragile>"}}
}
