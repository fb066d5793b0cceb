// Package worker consumes events from RabbitMQ and hands them to a [Handler].
//
// A worker on Config.Queue competes with every other worker on that queue: each event goes to
// one of them. A worker on Config.Topic is a broadcast listener: it sees every event published
// to the topic while it is connected, through an exclusive queue that is gone when it leaves.
//
// Delivery is at least once. An event is acknowledged after its handler returned nil, and is
// delivered again, to this or another worker, if the process dies or the connection is lost
// before the acknowledgement has reached the broker. Handlers must therefore be idempotent.
// Acknowledgements are gathered for a few milliseconds; see Config.AckInterval.
//
// An event whose handler fails goes to one of the queue's retry tiers, and after Config.MaxAttempts to
// its dead-letter queue with the reason in its headers; see [Handler] for what a result means and
// [Failure] for the headers. [DeadLetters] is the way back. An event that kills its worker every time
// gets to the dead-letter queue through the broker's delivery limit.
//
// What goes around a handler is a [Middleware]: [Timeout], [Recover], [Retry], [Dedup], [Tracing],
// [Metrics].
//
// With Concurrency 1 a worker handles the events of a queue in queue order, except that an event
// which is delivered again, or retried, comes behind later ones. With more there is no order.
package worker
