// Package ingress takes webhooks in: what a payment provider, an SMS gateway and a mail service have to tell, verified and
// recorded in the event store before it is answered.
//
//	POST /webhooks/stripe   Stripe's signatures; every type is recorded, as payment_provider.webhook
//	POST /webhooks/sms      Standard Webhooks; sms.delivered is recorded, as sms_delivery.confirmed
//	POST /webhooks/mail     Standard Webhooks; email.bounced is recorded, as email.bounced
//
// # What is guaranteed
//
// A webhook is taken if one of the provider's secrets has signed its body as it was sent, at a time within the tolerance.
// Once the answer is 2xx its event is durable, or, for the types that nobody here needs, it was ignored and the answer
// says so. A message is recorded once, however often, at whatever intervals and to however many processes it is sent:
// providers repeat a message until they are answered, with a new signature and a new time each, and whoever has listened
// can repeat it within the tolerance. An event's id is made of the provider's name and of the provider's id for the
// message, and the event says nothing but what the message does, so the store knows it again. Another message under the id
// of one that was recorded is refused with 409.
//
// # What the messages are
//
// Stripe's are events as its documentation has them (https://docs.stripe.com/api/events/object). id and type are needed.
// The event's data is {"provider":"stripe","type":...,"id":...,"payload":...} with the whole message as payload: each
// member, number and escape of it as it came, white space between them taken out. data.object.metadata is what the shop has
// given Stripe with the payment: order_id there becomes the event's subject and partitionkey, correlation_id its
// correlationid. Without it the event is recorded as well, and has none.
//
// The SMS gateway's and the mail service's follow what Standard Webhooks recommends for payloads. The message's id is the
// header webhook-id; metadata is what the shop has given with the SMS or the mail, and gets back:
//
//	{
//	  "type": "email.bounced",                    needed; sms.delivered from the gateway
//	  "timestamp": "2026-11-28T10:15:00Z",        needed: when it happened
//	  "data": {
//	    "to": "ada@example.com",                  the address or number, where it is told
//	    "reason": "550 5.1.1 no such user",       why, where it is told
//	    "metadata": {
//	      "order_id": "order-0197...",            needed
//	      "user_id": "user-123",                  needed
//	      "correlation_id": "0197..."             of the order's events
//	    }
//	  }
//	}
//
// Other members are not looked at. The data of these events is a shop.Delivery.
//
// # Answers
//
// 200 {"status":"recorded"} or {"status":"duplicate"}, with event_id and type; 202 {"status":"ignored"} with type. All else
// is application/problem+json: 400 for what is not JSON, 401 for a signature that is missing, wrong, or out of the
// tolerance, 404, 405, 408 for a body that comes too slowly, 409, 413, 415, 422 for JSON that is not the message described
// above, and 503 with Retry-After while the event store is away. After a 503 the provider sends the message again, and
// nothing is recorded twice.
package ingress
