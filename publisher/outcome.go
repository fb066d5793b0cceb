package publisher

import "fmt"

// Outcome is what became of an event that was accepted for publishing.
type Outcome int

const (
	// Confirmed means that the broker has taken responsibility for the event in every queue it was
	// routed to.
	Confirmed Outcome = iota + 1
	// Returned means that no queue wanted the event (nothing is bound, or the queue or the exchange does
	// not exist). It is nowhere on the broker.
	Returned
	// Nacked means that the broker refused the event, by a nack (for instance a full queue with
	// overflow=reject-publish) or by an error that names the reason (no permission, too large).
	// Of several queues that it was routed to, some may still have it.
	Nacked
	// Unknown means that the event may or may not be on the broker. Only Close with a time limit and the
	// end of Publish's context produce it: until then what is unconfirmed is sent again.
	Unknown
)

// String gives the outcome's name as it stands in reports.
func (o Outcome) String() string {
	switch o {
	case Confirmed:
		return "confirmed"
	case Returned:
		return "returned"
	case Nacked:
		return "nacked"
	case Unknown:
		return "unknown"
	default:
		return fmt.Sprintf("outcome(%d)", int(o))
	}
}

// Result is the outcome of one event.
type Result struct {
	// Message is what was given to Send.
	Message Message
	// Outcome is what became of it. Returned and Nacked speak of the last attempt.
	Outcome Outcome
	// Err is the reason for every outcome but Confirmed. It may be nil for Nacked.
	Err error
	// Attempts counts how often the event was put on the wire: more than 1 means that it may be
	// on the broker more than once, 0 that it never left this process.
	Attempts int
}
