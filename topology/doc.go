// Package topology says what exists on a RabbitMQ broker: topics, the queues they feed, retry
// tiers, dead-letter queues and logs. It turns a [Spec], written by hand or read from YAML, into
// [Resources], shows what applying them would change, applies them, deletes them, and draws them.
//
// A topic is a durable fanout exchange, bound to the fanout exchange [EventsExchange], which
// sees the events of every topic. A queue is a durable quorum queue with a dead-letter queue and
// one retry tier per delay; a group is such a queue bound to a topic; a log is a stream bound to
// a topic. Dead letters are passed on at least once: the broker keeps an event in the queue it
// came from until the dead-letter queue has confirmed it.
//
// What the package declares is the same on RabbitMQ 3.10 and on 4.x: every argument whose
// default differs between them is given explicitly. It needs AMQP 0-9-1 only, never the
// management plugin.
//
// Nothing here changes or deletes what it did not make: an object that exists with other
// arguments is a [ConflictError] that names every one of them, and [Resources.Apply] creates
// nothing when there is one.
package topology
