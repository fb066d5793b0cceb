// Package bus is the contract over publishing, working and listening, and an event bus in memory that keeps
// it: [Memory]. Package bus/rabbitmq keeps it on RabbitMQ, and package bus/bustest is the suite that both
// pass, and that other buses can be put through.
//
// What a handler may rely on, whichever bus calls it:
//
//   - A topic gives every event to each of its queues, of its groups and of the listeners that are there.
//   - The workers on a queue, and the members of a group, compete: each event goes to one of them. It is
//     delivered again where that one fails, or ends without an answer. What was published is not lost while
//     nobody is there.
//   - One worker with one handler at a time has the events of a queue in the order of their publishing,
//     but for those that have failed.
//   - The result decides, and nothing else does: see [worker.Handler]. Events that have failed come again
//     after the queue's delays, with Attempt counting up, and are given up after its last attempt: then
//     they are in the queue's dead-letter queue, topology.DeadLetterQueue, with the reason in History. A
//     panic is a failure.
//   - A listener without a group has one attempt at an event, and sees what is published while it is there.
//   - A subscriber that is slow, fails or panics holds up no other.
//   - At the end of its context a worker takes no more, and what it has in hand is finished and settled.
//
// A handler must not rely on the order of events across a retry or across queues, nor on having each event
// once only.
package bus

import (
	"context"
	"time"

	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/worker"
)

// Publisher publishes.
type Publisher interface {
	// Publish sends one event to a topic or a queue and waits for its outcome: nil once everybody who is to
	// have it will. Otherwise the error is a *publisher.OutcomeError, as where nobody wants the event, or
	// wraps publisher.ErrInvalid or publisher.ErrClosed: then nothing was sent.
	Publish(ctx context.Context, m publisher.Message) error
}

// Worker works on queues.
type Worker interface {
	// Work competes for the events of a queue until ctx ends. It returns nil then, or worker.ErrDrainTimeout
	// where a handler did not finish in time: its event is delivered again. The delivery is the handler's
	// until it returns, and not longer.
	Work(ctx context.Context, queue string, options Options, handle worker.Handler) error
}

// Listener listens to topics.
type Listener interface {
	// Listen hands the events of a topic to handle until ctx ends: as a member of Options.Group, or alone.
	// It returns as Work does.
	Listen(ctx context.Context, topic string, options Options, handle worker.Handler) error
}

// Bus is all of it. Its methods may be called from several goroutines.
type Bus interface {
	Publisher
	Worker
	Listener
}

// Options are those of a subscriber. The zero value is one handler at a time.
type Options struct {
	// Group makes a listener a member of this group, which is durable: it misses nothing from when it
	// first was there, or was in the topology. Only for Listen.
	Group string
	// From, if not nil, begins at a place in the topic's log, which the topology must give it, and goes on
	// with what is published. Only for a listener without a group.
	From *worker.LogPosition
	// Concurrency is how many handlers run at a time. Default 1; a listener with From has one.
	Concurrency int
	// DrainTimeout is how long running handlers may take once the context has ended. Default 30 s.
	DrainTimeout time.Duration
	// Ready, if set, is called once the subscriber gets what is published from now on.
	Ready func()
}
