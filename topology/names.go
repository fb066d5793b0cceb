package topology

import (
	"strings"
	"time"
)

// EventsExchange is the fanout exchange every topic is bound to. Whoever binds a queue to it
// sees the events of all topics. [Spec.WithPrefix] renames it along with everything else.
const EventsExchange = "events"

// maxNameBytes is the length AMQP 0-9-1 gives a name (a short string).
const maxNameBytes = 255

const (
	deadLetterSuffix = ".dlq"
	retryInfix       = ".retry."
	logSuffix        = ".log"
)

// GroupQueue is the name of the queue of a consumer group on a topic: "orders.email".
func GroupQueue(topic, group string) string { return topic + "." + group }

// DeadLetterQueue is the name of the queue that holds the dead letters of queue: "payments.dlq".
func DeadLetterQueue(queue string) string { return queue + deadLetterSuffix }

// WorkQueue is the queue whose dead letters deadLetterQueue holds: "payments" of "payments.dlq". It is
// empty where the name is not that of a dead-letter queue.
func WorkQueue(deadLetterQueue string) string {
	queue, ok := strings.CutSuffix(deadLetterQueue, deadLetterSuffix)
	if !ok {
		return ""
	}
	return queue
}

// LogStream is the name of the stream that keeps the events of a topic: "orders.log".
func LogStream(topic string) string { return topic + logSuffix }

// RetryTier is the name of the queue in which an event waits for d before it goes back to queue:
// "payments.retry.5s". The delay is written as [FormatDuration] does, so that equal delays have
// one tier however they were written.
func RetryTier(queue string, d time.Duration) string {
	return queue + retryInfix + FormatDuration(d)
}
