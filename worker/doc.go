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
// An event whose handler returns an error or panics goes back to its queue and is delivered
// again. A queue declared by package topology counts that: after its delivery limit the broker
// moves the event to the dead-letter queue.
//
// With Concurrency 1 a worker handles the events of a queue in queue order, except that an event
// which is delivered again may come behind later ones. With more there is no order.
package worker
