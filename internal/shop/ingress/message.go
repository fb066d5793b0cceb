package ingress

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/problem"
)

// message is what a body says.
type message struct {
	kind   string      // the provider's type
	event  event.Event // nothing where it is of a type that nobody here needs
	stream string
}

func (m *message) ignored() bool { return m.event.ID == "" }

// newMessage makes the message of an event that a provider tells of. ID and stream follow from the provider and the id that
// it has given the message, so that the store knows it again.
func newMessage(provider, id, kind string, e event.Event, ref reference) *message {
	e.ID, e.Source, e.DataContentType = provider+"-"+id, "shop/webhooks/"+provider, event.ContentTypeJSON
	if isName(ref.OrderID) {
		e.Subject = ref.OrderID
		e = e.WithExtension(event.ExtPartitionKey, ref.OrderID)
	}
	if isName(ref.CorrelationID) {
		e = e.WithExtension(event.ExtCorrelationID, ref.CorrelationID)
	}
	return &message{kind: kind, event: e, stream: "webhook-" + provider + "-" + id}
}

// reference is what the shop has given a provider, and gets back.
type reference struct {
	OrderID       string `json:"order_id"`
	UserID        string `json:"user_id"`
	CorrelationID string `json:"correlation_id"`
}

// fault is something wrong with a message, and where.
type fault struct {
	Pointer string `json:"pointer"`
	Detail  string `json:"detail"`
}

// notTheMessage is the problem of JSON that is not what its provider sends.
func notTheMessage(faults ...fault) *problem.Problem {
	return &problem.Problem{
		Status: http.StatusUnprocessableEntity, Title: "Not the message expected",
		Detail: "The signature is right, and the message is not what this provider's are like. It was not recorded.",
		Extra:  map[string]any{"errors": faults},
	}
}

// decode reads a document, which is JSON, into a struct.
func decode(doc []byte, into any) *problem.Problem {
	err := json.Unmarshal(doc, into)
	if err == nil {
		return nil
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		detail := fmt.Sprintf("must be of type %s, and is of type %s", kindOf(wrong.Type), wrong.Value)
		return notTheMessage(fault{"/" + strings.ReplaceAll(wrong.Field, ".", "/"), detail})
	}
	return notTheMessage(fault{"", "cannot be read"})
}

// kindOf is what JSON calls a type.
func kindOf(t reflect.Type) string {
	if t.Kind() == reflect.String {
		return "string"
	}
	return "object"
}

// nameFault is the fault of what is no id or type of a message.
func nameFault(pointer, value string) []fault {
	switch {
	case value == "":
		return []fault{{pointer, "is missing"}}
	case !isName(value):
		return []fault{{pointer, fmt.Sprintf("must be up to %d ASCII characters without spaces", maxName)}}
	default:
		return nil
	}
}

// stripeMessage is what is needed of one of Stripe's events.
type stripeMessage struct {
	ID      string          `json:"id"`
	Type    string          `json:"type"`
	Created json.RawMessage `json:"created"`
}

// readStripe makes an event of one of Stripe's, whatever its type.
func readStripe(body []byte, _ claim) (*message, *problem.Problem) {
	var in stripeMessage
	if p := decode(body, &in); p != nil {
		return nil, p
	}
	faults := append(nameFault("/id", in.ID), nameFault("/type", in.Type)...)
	at, ok := stripeTime(in.Created)
	if !ok {
		faults = append(faults, fault{"/created", "is not a time: neither Unix seconds nor RFC 3339"})
	}
	if faults != nil {
		return nil, notTheMessage(faults...)
	}
	// Objects are of many shapes. Where this one has no metadata, or other, the payment is not one of an order.
	var object struct {
		Data struct {
			Object struct {
				Metadata reference `json:"metadata"`
			} `json:"object"`
		} `json:"data"`
	}
	_ = json.Unmarshal(body, &object)
	e := event.Event{Type: shop.PaymentProviderWebhook, Time: at, Data: stripeData(in, body)}
	return newMessage(Stripe, in.ID, in.Type, e, object.Data.Object.Metadata), nil
}

// stripeTime reads when an event came about: Unix seconds, in the newer kind of events RFC 3339. Not told is the zero time.
func stripeTime(created json.RawMessage) (at time.Time, ok bool) {
	const end = 253402300800 // of the year 9999, the last that RFC 3339 writes
	if len(created) == 0 || string(created) == "null" {
		return time.Time{}, true
	}
	var seconds int64
	if json.Unmarshal(created, &seconds) == nil {
		return time.Unix(seconds, 0).UTC(), seconds > 0 && seconds < end
	}
	return parseTime(created)
}

// parseTime reads a time of RFC 3339. PostgreSQL's have microseconds, as all times of events do.
func parseTime(text json.RawMessage) (at time.Time, ok bool) {
	if json.Unmarshal(text, &at) != nil || at.IsZero() || at.UTC().Year() < 1 {
		return time.Time{}, false
	}
	return at.UTC().Truncate(time.Microsecond), true
}

// stripeData writes the data of payment_provider.webhook. White space between tokens goes, since Stripe indents what it
// sends: an event in JSON is one line, and would have to hold the data as base64.
func stripeData(in stripeMessage, body []byte) []byte {
	quoted := func(name string) []byte {
		text, _ := json.Marshal(name) // a string always can be written
		return text
	}
	var data bytes.Buffer
	data.Grow(len(body) + 512)
	data.WriteString(`{"provider":"` + Stripe + `","type":`)
	data.Write(quoted(in.Type))
	data.WriteString(`,"id":`)
	data.Write(quoted(in.ID))
	data.WriteString(`,"payload":`)
	_ = json.Compact(&data, body) // it was decoded: it is JSON
	data.WriteByte('}')
	return data.Bytes()
}
