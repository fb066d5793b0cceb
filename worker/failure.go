package worker

import (
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/evdemo/evdemo/topology"
)

// Reason says why an event was dead-lettered.
type Reason string

// The reasons.
const (
	ReasonPermanent     Reason = "permanent"      // the handler said that trying again does not help
	ReasonAttempts      Reason = "attempts"       // it failed as often as the policy allows
	ReasonTimeout       Reason = "timeout"        // likewise, and the last attempt took too long
	ReasonPanic         Reason = "panic"          // likewise, and the last attempt panicked
	ReasonInvalid       Reason = "invalid"        // it cannot be read as an event, or breaks its schema
	ReasonVersion       Reason = "version"        // its data has a version that the consumer does not understand
	ReasonOrphan        Reason = "orphan"         // the event that it has to come after did not come in time
	ReasonDeliveryLimit Reason = "delivery-limit" // the broker gave up: no worker ever answered
)

// The headers in which a failed event carries its history. They go out with the event when it is
// retried and when it is dead-lettered; those from headerReason on only with a dead letter.
const (
	headerAttempts     = "evdemo-attempts"      // how often it has failed
	headerFirstFailure = "evdemo-first-failure" // when, RFC 3339
	headerLastFailure  = "evdemo-last-failure"
	headerNotBefore    = "evdemo-not-before" // it is not to be handled earlier
	headerExchange     = "evdemo-exchange"   // where it was published to at first
	headerRoutingKey   = "evdemo-routing-key"
	headerRedrives     = "evdemo-redrives" // how often it came back from the dead-letter queue

	headerReason   = "evdemo-reason"
	headerError    = "evdemo-error"
	headerQueue    = "evdemo-queue"  // the queue that it was consumed from
	headerWorker   = "evdemo-worker" // the worker that gave it up
	headerExitCode = "evdemo-exit-code"
	headerStderr   = "evdemo-stderr"

	headerSequence = "evdemo-seq" // the publisher's own; means nothing once the event has arrived
)

// Failure is the history of an event that has failed, as its headers tell it.
type Failure struct {
	// Reason says why it was dead-lettered; empty for an event that was not.
	Reason Reason `json:"reason,omitempty"`
	// Error is the last attempt's error.
	Error string `json:"error,omitempty"`
	// Attempts counts the attempts that failed. The broker's own delivery limit counts apart.
	Attempts int `json:"attempts"`
	// First and Last are when it failed; of an event that the broker gave up, Last is when that
	// was.
	First time.Time `json:"first_failure,omitzero"`
	Last  time.Time `json:"last_failure,omitzero"`
	// Queue is the queue that it was consumed from, Exchange and RoutingKey are where it was
	// published to.
	Queue      string `json:"queue,omitempty"`
	Exchange   string `json:"exchange"`
	RoutingKey string `json:"routing_key"`
	// Worker is the name of the worker that gave it up.
	Worker string `json:"worker,omitempty"`
	// ExitCode is that of the command which handled it, nil where no command did or it had none.
	ExitCode *int `json:"exit_code,omitempty"`
	// Stderr is the end of what that command wrote to standard error.
	Stderr string `json:"stderr,omitempty"`
	// Redrives counts how often it was sent back from the dead-letter queue.
	Redrives int `json:"redrives,omitempty"`
}

// ReadFailure reads the history from the headers of a message in a dead-letter queue. What the
// broker has dead-lettered by itself carries no headers of ours for that; then it is the broker's
// x-death that tells.
func ReadFailure(headers map[string]any) Failure {
	f := Failure{
		Reason: Reason(text(headers, headerReason)), Error: text(headers, headerError),
		Attempts: number(headers, headerAttempts), Redrives: number(headers, headerRedrives),
		First: moment(headers, headerFirstFailure), Last: moment(headers, headerLastFailure),
		Queue:    text(headers, headerQueue),
		Exchange: text(headers, headerExchange), RoutingKey: text(headers, headerRoutingKey),
		Worker: text(headers, headerWorker), Stderr: text(headers, headerStderr),
	}
	if _, ok := headers[headerExitCode]; ok {
		code := number(headers, headerExitCode)
		f.ExitCode = &code
	}
	if f.Reason == "" {
		f.readDeath(headers)
	}
	return f
}

// readDeath reads what the broker notes when it dead-letters. Its newest note stands first.
func (f *Failure) readDeath(headers map[string]any) {
	deaths, _ := headers["x-death"].([]any)
	if len(deaths) == 0 {
		return
	}
	death := table(deaths[0])
	reason := text(death, "reason")
	if f.Reason = Reason(reason); reason == "delivery_limit" {
		f.Reason = ReasonDeliveryLimit
	}
	f.Queue = text(death, "queue")
	if at, ok := death["time"].(time.Time); ok {
		f.Last = at.UTC()
		if f.First.IsZero() {
			f.First = f.Last
		}
	}
	if f.Error == "" && f.Reason == ReasonDeliveryLimit {
		f.Error = "delivered too often without an answer: its workers ended, or gave it back"
	}
	if _, ours := headers[headerRoutingKey]; !ours {
		f.Exchange = text(death, "exchange")
		if keys, _ := death["routing-keys"].([]any); len(keys) > 0 {
			f.RoutingKey, _ = keys[0].(string)
		}
	}
}

// Cleared gives headers without the history of failures and without what the broker has noted, for
// an event that starts afresh: attempts at zero. Where it was published to at first stays, and so
// does the count of redrives.
func Cleared(headers map[string]any) map[string]any {
	kept := make(map[string]any, len(headers))
	for name, value := range headers {
		switch name {
		case headerAttempts, headerFirstFailure, headerLastFailure, headerNotBefore,
			headerReason, headerError, headerQueue, headerWorker, headerExitCode, headerStderr:
		default:
			if !passing(name) {
				kept[name] = value
			}
		}
	}
	return kept
}

// Redriven gives the headers of an event that is sent back from a dead-letter queue: [Cleared], with
// one more redrive and with the origin that f tells.
func Redriven(headers map[string]any, f Failure) map[string]any {
	kept := Cleared(headers)
	kept[headerRedrives] = int64(f.Redrives + 1)
	kept[headerExchange], kept[headerRoutingKey] = f.Exchange, f.RoutingKey
	return kept
}

// passing tells whether a header speaks of one journey through the broker, and means nothing on the
// next.
func passing(name string) bool {
	switch name {
	case headerSequence, "x-death", "x-delivery-count", "x-acquired-count":
		return true
	case "CC", "BCC": // the broker routes by these as well, wherever a message is published to
		return true
	default:
		return strings.HasPrefix(name, "x-first-death-") || strings.HasPrefix(name, "x-last-death-")
	}
}

// OriginQueue is the queue that a dead letter goes back to: the one that it failed in, or the one
// that the dead-letter queue belongs to where the letter does not say.
func (f Failure) OriginQueue(deadLetterQueue string) string {
	if f.Queue != "" {
		return f.Queue
	}
	return topology.WorkQueue(deadLetterQueue)
}

func text(headers map[string]any, name string) string {
	switch value := headers[name].(type) {
	case string:
		return value
	case []byte:
		return string(value)
	default:
		return ""
	}
}

func number(headers map[string]any, name string) int {
	switch n := headers[name].(type) {
	case int64:
		return int(n)
	case int32:
		return int(n)
	case int16:
		return int(n)
	case int8:
		return int(n)
	case byte:
		return int(n)
	case float64:
		return int(n)
	default:
		return 0
	}
}

func moment(headers map[string]any, name string) time.Time {
	at, err := time.Parse(time.RFC3339Nano, text(headers, name))
	if err != nil {
		return time.Time{}
	}
	return at.UTC()
}

func table(value any) map[string]any {
	switch t := value.(type) {
	case amqp.Table:
		return t
	case map[string]any:
		return t
	default:
		return nil
	}
}
