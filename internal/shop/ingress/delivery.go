package ingress

import (
	"encoding/json"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/problem"
)

// Types of messages that are recorded. The others of the SMS gateway and the mail service are ignored.
const (
	typeSMSDelivered = "sms.delivered"
	typeEmailBounced = "email.bounced"
)

// deliveryMessage is what the SMS gateway and the mail service send.
type deliveryMessage struct {
	Type      string          `json:"type"`
	Timestamp json.RawMessage `json:"timestamp"`
	Data      struct {
		To       string    `json:"to"`
		Reason   string    `json:"reason"`
		Metadata reference `json:"metadata"`
	} `json:"data"`
}

// readDelivery makes events of a provider's messages of one type, and ignores the others.
func readDelivery(provider, wanted, eventType string) func([]byte, claim) (*message, *problem.Problem) {
	return func(body []byte, c claim) (*message, *problem.Problem) {
		var kind struct {
			Type string `json:"type"`
		}
		if p := decode(body, &kind); p != nil {
			return nil, p
		}
		if faults := nameFault("/type", kind.Type); faults != nil {
			return nil, notTheMessage(faults...)
		}
		if kind.Type != wanted {
			return &message{kind: kind.Type}, nil
		}
		e, ref, p := newDelivery(body)
		if p != nil {
			return nil, p
		}
		e.Type = eventType
		return newMessage(provider, c.id, kind.Type, e, ref), nil
	}
}

// newDelivery makes time and data of the event.
func newDelivery(body []byte) (e event.Event, ref reference, p *problem.Problem) {
	var in deliveryMessage
	if p := decode(body, &in); p != nil {
		return e, ref, p
	}
	ref = in.Data.Metadata
	faults := append(nameFault("/data/metadata/order_id", ref.OrderID), nameFault("/data/metadata/user_id", ref.UserID)...)
	at, ok := parseTime(in.Timestamp)
	if !ok {
		faults = append(faults, fault{"/timestamp", "must be a time of RFC 3339: when it happened"})
	}
	if faults != nil {
		return e, ref, notTheMessage(faults...)
	}
	data, err := json.Marshal(shop.Delivery{OrderID: ref.OrderID, UserID: ref.UserID, To: in.Data.To, Reason: in.Data.Reason})
	if err != nil {
		return e, ref, notTheMessage(fault{"/data", "cannot be written as the event's data"})
	}
	return event.Event{Time: at, Data: data}, ref, nil
}
