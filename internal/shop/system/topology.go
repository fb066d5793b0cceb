package system

import (
	"slices"
	"time"

	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/service"
	"github.com/evdemo/evdemo/internal/shop/sink"
	"github.com/evdemo/evdemo/topology"
)

// attempts at an event before it is dead-lettered, with short delays: most of what fails in a shop is over soon.
const attempts = 20

// attemptsAtOthers is how often third parties are told before they are given up: for some days. That they ask to be told later
// counts too.
const attemptsAtOthers = 1_000_000

func retry() []time.Duration { return []time.Duration{200 * time.Millisecond, 2 * time.Second} }

// Queue is the queue of a service or a sink.
func Queue(name string) string { return "shop." + name }

// Resources are all that a shop has on RabbitMQ, but for the queue of webhooks.
func Resources(flow service.Flow, prefix string) topology.Resources {
	var parts []part
	for _, name := range service.Names(flow) {
		parts = append(parts, part{name: name, topics: service.Topics(name)})
	}
	for _, name := range SinkNames() {
		parts = append(parts, part{name: name, topics: sink.Topics(name)})
	}
	return spec(parts).WithPrefix(prefix).Resources()
}

// spec is the topology in which every part has a queue, fed by the topics whose events it wants. It is the same for both flows,
// so that a queue is never left behind bound and without anybody who works on it.
func spec(parts []part) topology.Spec {
	s := topology.Spec{Topics: map[string]topology.Topic{}, Queues: map[string]topology.Queue{}}
	for _, topic := range shop.Topics() {
		var queues []string
		for _, p := range parts {
			if slices.Contains(p.topics, topic) {
				queues = append(queues, Queue(p.name))
			}
		}
		s.Topics[topic] = topology.Topic{Queues: queues}
	}
	for _, p := range parts {
		settings := topology.Queue{Retry: retry(), MaxAttempts: attempts}
		if p.name == sink.WebhooksName {
			settings.MaxAttempts = attemptsAtOthers
		}
		s.Queues[Queue(p.name)] = settings
	}
	return s
}
