package topology

import "slices"

// Kind says what an object on the broker is.
type Kind string

// The kinds of objects.
const (
	KindExchange Kind = "exchange"
	KindQueue    Kind = "queue"
	KindBinding  Kind = "binding"
)

// Role says what an exchange or a queue is for.
type Role string

// The roles of exchanges and queues.
const (
	RoleEvents     Role = "events"      // the exchange that sees every topic
	RoleTopic      Role = "topic"       // the exchange of a topic
	RoleWork       Role = "work"        // a queue that workers consume, a group's included
	RoleDeadLetter Role = "dead-letter" // the dead letters of a work queue
	RoleRetry      Role = "retry"       // where events wait to go back to a work queue
	RoleLog        Role = "log"         // the stream that keeps a topic's events
)

// Exchange is an exchange to be. Every exchange is durable.
type Exchange struct {
	Name string `json:"name"`
	// Type of the exchange: fanout.
	Type string `json:"type"`
	Role Role   `json:"role"`
}

// QueueDef is a queue to be. Every queue is durable.
type QueueDef struct {
	Name string `json:"name"`
	Role Role   `json:"role"`
	// Of is the work queue that a retry tier or a dead-letter queue belongs to, and the topic
	// that a log does. It is empty for a work queue.
	Of string `json:"of,omitempty"`
	// Arguments as they are declared; the values are string, int64 and bool.
	Arguments map[string]any `json:"arguments"`
}

// Type of the queue: quorum or stream.
func (q QueueDef) Type() string {
	name, _ := q.Arguments[argQueueType].(string)
	return name
}

// SingleActive tells whether the queue lets one consumer at a time have events.
func (q QueueDef) SingleActive() bool {
	single, _ := q.Arguments[argSingleActive].(bool)
	return single
}

// Binding sends what reaches the exchange Source on to Destination. The routing key is empty.
type Binding struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	// To is the kind of the destination: [KindQueue] or [KindExchange].
	To Kind `json:"to"`
}

// String is "orders -> payments".
func (b Binding) String() string { return b.Source + " -> " + b.Destination }

// Resources are objects on a broker, in the order in which they are declared: what is
// dead-lettered to comes before what dead-letters, so that there is no moment at which an event
// has nowhere to go. The same Spec gives the same Resources every time.
type Resources struct {
	Exchanges []Exchange `json:"exchanges"`
	Queues    []QueueDef `json:"queues"`
	Bindings  []Binding  `json:"bindings"`
}

// Resources is everything the topology holds.
func (s Spec) Resources() Resources {
	var parts []Resources
	for _, topic := range s.topicNames() {
		parts = append(parts, s.exchangePart(topic))
	}
	for _, queue := range s.workQueues() {
		parts = append(parts, s.queuePart(queue))
	}
	for _, topic := range s.topicNames() {
		parts = append(parts, s.logPart(topic))
		for _, queue := range s.fedBy(topic) {
			parts = append(parts, bindingPart(topic, queue))
		}
	}
	return merge(parts...)
}

// TopicResources is what publishing to a topic needs: its exchange, the events exchange and the
// binding between them, the queues it feeds with their retry tiers and dead-letter queues, and
// its log, but not its groups, which are declared by who joins them. Of a topic that the
// topology does not know it is the two exchanges and the binding; of [Spec.Events] that exchange
// alone.
func (s Spec) TopicResources(topic string) Resources {
	parts := []Resources{s.exchangePart(topic)}
	for _, queue := range slices.Sorted(slices.Values(s.Topics[topic].Queues)) {
		parts = append(parts, s.queuePart(queue), bindingPart(topic, queue))
	}
	return merge(append(parts, s.logPart(topic))...)
}

// QueueResources is what working a queue needs: the queue, its dead-letter queue and its retry
// tiers and, where topics of the topology feed it, their exchanges and the bindings. It takes
// the queue of a group too. A queue that the topology does not know has the defaults.
func (s Spec) QueueResources(queue string) Resources {
	var parts []Resources
	for _, topic := range s.feeders(queue) {
		parts = append(parts, s.exchangePart(topic))
	}
	parts = append(parts, s.queuePart(queue))
	for _, topic := range s.feeders(queue) {
		parts = append(parts, bindingPart(topic, queue))
	}
	return merge(parts...)
}

// GroupResources is what joining a group needs: the exchange of the topic, the events exchange
// and the binding between them, and the group's queue with its dead-letter queue, its retry
// tiers and its binding. Neither topic nor group need be known to the topology; the topic may be
// [Spec.Events], for a group that gets the events of every topic.
func (s Spec) GroupResources(topic, group string) Resources {
	queue := GroupQueue(topic, group)
	return merge(s.exchangePart(topic), s.queuePart(queue), bindingPart(topic, queue))
}

func (s Spec) exchangePart(topic string) Resources {
	events := Exchange{Name: s.Events(), Type: fanout, Role: RoleEvents}
	if topic == events.Name {
		return Resources{Exchanges: []Exchange{events}}
	}
	return Resources{
		Exchanges: []Exchange{events, {Name: topic, Type: fanout, Role: RoleTopic}},
		Bindings:  []Binding{{Source: topic, Destination: events.Name, To: KindExchange}},
	}
}

func (s Spec) queuePart(name string) Resources {
	queue := s.Queue(name)
	defs := []QueueDef{
		{Name: DeadLetterQueue(name), Role: RoleDeadLetter, Of: name, Arguments: deadLetterArguments()},
		{Name: name, Role: RoleWork, Arguments: workArguments(name, queue.SingleActive)},
	}
	for _, delay := range queue.Retry {
		tier := RetryTier(name, delay)
		if slices.ContainsFunc(defs, func(d QueueDef) bool { return d.Name == tier }) {
			continue
		}
		defs = append(defs, QueueDef{Name: tier, Role: RoleRetry, Of: name, Arguments: retryArguments(name, delay)})
	}
	return Resources{Queues: defs}
}

func (s Spec) logPart(topic string) Resources {
	log := s.Topics[topic].Log
	if log == nil {
		return Resources{}
	}
	name := LogStream(topic)
	part := bindingPart(topic, name)
	part.Queues = []QueueDef{{Name: name, Role: RoleLog, Of: topic, Arguments: logArguments(log.withDefaults())}}
	return part
}

func bindingPart(topic, queue string) Resources {
	return Resources{Bindings: []Binding{{Source: topic, Destination: queue, To: KindQueue}}}
}

// merge keeps the first of what is there more than once, and the order otherwise.
func merge(parts ...Resources) Resources {
	merged := Resources{Exchanges: []Exchange{}, Queues: []QueueDef{}, Bindings: []Binding{}}
	exchanges, queues, bindings := map[string]bool{}, map[string]bool{}, map[Binding]bool{}
	for _, part := range parts {
		for _, exchange := range part.Exchanges {
			if !exchanges[exchange.Name] {
				exchanges[exchange.Name] = true
				merged.Exchanges = append(merged.Exchanges, exchange)
			}
		}
		for _, queue := range part.Queues {
			if !queues[queue.Name] {
				queues[queue.Name] = true
				merged.Queues = append(merged.Queues, queue)
			}
		}
		for _, binding := range part.Bindings {
			if !bindings[binding] {
				bindings[binding] = true
				merged.Bindings = append(merged.Bindings, binding)
			}
		}
	}
	return merged
}
