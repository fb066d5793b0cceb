package topology

import (
	"math"
	"strconv"
	"time"
)

// DeliveryLimit is how often the broker delivers one event of a work queue before it
// dead-letters the event itself. It is the second net, for the event that kills its worker
// before anyone can count the attempt. 20 is what RabbitMQ 4 has as its default; 3.x has none,
// so it is declared.
const DeliveryLimit = 20

// DeadLetterDeliveryLimit is the delivery limit of dead-letter queues: as good as none. Without
// one, RabbitMQ 4 drops a dead letter that was looked at and given back 20 times. Unlimited (-1,
// or none on 3.x) would not do either: a quorum queue with no limit puts what is given back at
// its end, and so looking would change the order.
const DeadLetterDeliveryLimit = math.MaxInt32

const fanout = "fanout"

// Arguments of queues, by the names RabbitMQ gives them. Integers are declared as int64; the
// broker compares integers by value, whatever their width.
const (
	argQueueType            = "x-queue-type"
	argDeadLetterExchange   = "x-dead-letter-exchange"
	argDeadLetterRoutingKey = "x-dead-letter-routing-key"
	argDeadLetterStrategy   = "x-dead-letter-strategy"
	argOverflow             = "x-overflow"
	argDeliveryLimit        = "x-delivery-limit"
	argSingleActive         = "x-single-active-consumer"
	argMessageTTL           = "x-message-ttl"
	argMaxAge               = "x-max-age"
	argMaxLengthBytes       = "x-max-length-bytes"
	argMaxSegmentBytes      = "x-stream-max-segment-size-bytes"
)

func workArguments(queue string, singleActive bool) map[string]any {
	args := deadLetteringTo(DeadLetterQueue(queue))
	args[argDeliveryLimit] = int64(DeliveryLimit)
	if singleActive {
		args[argSingleActive] = true
	}
	return args
}

func retryArguments(queue string, delay time.Duration) map[string]any {
	args := deadLetteringTo(queue)
	args[argMessageTTL] = delay.Milliseconds()
	return args
}

func deadLetterArguments() map[string]any {
	return map[string]any{
		argQueueType:     "quorum",
		argDeliveryLimit: int64(DeadLetterDeliveryLimit),
	}
}

// deadLetteringTo are the arguments of a quorum queue that passes its dead letters to queue at
// least once. That needs the overflow behaviour reject-publish, although there is no limit here
// to overflow.
func deadLetteringTo(queue string) map[string]any {
	return map[string]any{
		argQueueType:            "quorum",
		argDeadLetterExchange:   "",
		argDeadLetterRoutingKey: queue,
		argDeadLetterStrategy:   "at-least-once",
		argOverflow:             "reject-publish",
	}
}

// brokerSegmentBytes is the size of a stream's segments where nothing else is said.
const brokerSegmentBytes = 500_000_000

// logArguments makes a small log have small segments: the broker never drops the last one, so a
// log of 50 MB would grow to 500 MB with segments of the usual size.
func logArguments(log Log) map[string]any {
	args := map[string]any{
		argQueueType:      "stream",
		argMaxAge:         streamAge(log.MaxAge),
		argMaxLengthBytes: log.MaxSize,
	}
	if half := log.MaxSize / 2; half < brokerSegmentBytes {
		args[argMaxSegmentBytes] = max(half, 1)
	}
	return args
}

// streamAge writes an age as RabbitMQ reads it. The broker compares the text, not the age: one
// age must always be written the same way.
func streamAge(age time.Duration) string {
	if age%day == 0 {
		return strconv.FormatInt(int64(age/day), 10) + "D"
	}
	if age%time.Hour == 0 {
		return strconv.FormatInt(int64(age/time.Hour), 10) + "h"
	}
	if age%time.Minute == 0 {
		return strconv.FormatInt(int64(age/time.Minute), 10) + "m"
	}
	return strconv.FormatInt(int64(age/time.Second), 10) + "s"
}
