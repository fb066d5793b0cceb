package topology

import (
	"maps"
	"slices"
	"time"
)

// What a topology file need not say.
const (
	DefaultMaxAttempts = 5
	DefaultLogMaxAge   = 7 * day
	DefaultLogMaxSize  = 1_000_000_000
)

// DefaultRetry is the retry schedule of a queue that has none of its own: 1s, 5s, 30s.
func DefaultRetry() []time.Duration {
	return []time.Duration{time.Second, 5 * time.Second, 30 * time.Second}
}

// Spec is what a topology file says. The zero value is a topology with nothing in it; it still
// answers for topics and queues it does not know, with the defaults. A Spec is not changed by
// its methods and may be used from several goroutines.
type Spec struct {
	// Topics by name.
	Topics map[string]Topic
	// Queues by name. A queue that a topic feeds need not be listed here, and a group may be,
	// under the name of its queue ("orders.email"), to have settings of its own.
	Queues map[string]Queue

	// prefix is in front of every name above, and of the events exchange.
	prefix string
}

// Topic says what hangs on one topic.
type Topic struct {
	// Log keeps the topic's events for replay. Nil means no log.
	Log *Log
	// Groups are the durable consumer groups of the topic, by group name: each gets every event.
	Groups []string
	// Queues are fed by the topic: each gets every event. Several topics may feed one queue.
	Queues []string
}

// Log says how much of a topic its log keeps. The broker drops whole segments, the oldest first,
// and keeps one segment at least; it looks at the limits when a segment is full.
type Log struct {
	// MaxAge of the events kept, in whole seconds. 0 means [DefaultLogMaxAge].
	MaxAge time.Duration
	// MaxSize of the log in bytes. 0 means [DefaultLogMaxSize].
	MaxSize int64
}

// Queue says how a queue treats its events.
type Queue struct {
	// Retry is the schedule of delays between attempts, in milliseconds at the least; the last
	// is used for all further attempts. Nil means [DefaultRetry], empty means no retry.
	Retry []time.Duration
	// MaxAttempts at one event before it is dead-lettered. 0 means [DefaultMaxAttempts].
	MaxAttempts int
	// SingleActive lets one consumer at a time have events; the others stand by.
	SingleActive bool
}

// Default is the built-in topology: the topic orders with a log, the groups email and analytics,
// and the queue payments, retried after 1s, 5s and 30s, five attempts in all.
func Default() Spec {
	return Spec{
		Topics: map[string]Topic{"orders": {
			Log:    &Log{MaxAge: DefaultLogMaxAge, MaxSize: DefaultLogMaxSize},
			Groups: []string{"email", "analytics"},
			Queues: []string{"payments"},
		}},
		Queues: map[string]Queue{"payments": {
			Retry:       DefaultRetry(),
			MaxAttempts: DefaultMaxAttempts,
		}},
	}
}

// WithPrefix is the same topology with prefix in front of the name of every topic and queue, and
// of the events exchange, so that it can stand beside another on one broker. The methods of the
// new Spec take and return the new names. In a file it is the key prefix.
func (s Spec) WithPrefix(prefix string) Spec {
	renamed := Spec{prefix: prefix + s.prefix}
	if s.Topics != nil {
		renamed.Topics = make(map[string]Topic, len(s.Topics))
	}
	if s.Queues != nil {
		renamed.Queues = make(map[string]Queue, len(s.Queues))
	}
	for name, topic := range s.Topics {
		queues := slices.Clone(topic.Queues)
		for i := range queues {
			queues[i] = prefix + queues[i]
		}
		topic.Queues = queues
		renamed.Topics[prefix+name] = topic
	}
	for name, queue := range s.Queues {
		renamed.Queues[prefix+name] = queue
	}
	return renamed
}

// Events is the name of the exchange that sees the events of every topic: [EventsExchange],
// behind the prefix if there is one.
func (s Spec) Events() string { return s.prefix + EventsExchange }

// Queue is what the topology says about a queue, with the defaults filled in. A queue it does
// not know has the defaults; so has a group, which goes by the name of its queue, unless it is
// listed among the queues.
func (s Spec) Queue(name string) Queue {
	queue := s.Queues[name]
	if queue.Retry == nil {
		queue.Retry = DefaultRetry()
	}
	if queue.MaxAttempts == 0 {
		queue.MaxAttempts = DefaultMaxAttempts
	}
	queue.Retry = slices.Clone(queue.Retry)
	return queue
}

func (l Log) withDefaults() Log {
	if l.MaxAge == 0 {
		l.MaxAge = DefaultLogMaxAge
	}
	if l.MaxSize == 0 {
		l.MaxSize = DefaultLogMaxSize
	}
	return l
}

func (s Spec) topicNames() []string { return slices.Sorted(maps.Keys(s.Topics)) }

// feeders are the topics whose events go to queue, as one of their queues or of their groups.
func (s Spec) feeders(queue string) []string {
	var topics []string
	for _, name := range s.topicNames() {
		if slices.Contains(s.fedBy(name), queue) {
			topics = append(topics, name)
		}
	}
	return topics
}

// fedBy are the names of all queues the topic feeds, its groups' among them, sorted.
func (s Spec) fedBy(topic string) []string {
	queues := slices.Clone(s.Topics[topic].Queues)
	for _, group := range s.Topics[topic].Groups {
		queues = append(queues, GroupQueue(topic, group))
	}
	slices.Sort(queues)
	return slices.Compact(queues)
}

// workQueues are the names of all queues that are worked, sorted.
func (s Spec) workQueues() []string {
	queues := slices.Collect(maps.Keys(s.Queues))
	for topic := range s.Topics {
		queues = append(queues, s.fedBy(topic)...)
	}
	slices.Sort(queues)
	return slices.Compact(queues)
}
