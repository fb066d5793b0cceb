package topology

import (
	"bufio"
	"fmt"
	"io"
)

// WriteTree draws the resources as a tree for a terminal: the topics with what they feed, each
// queue with its retry tiers and its dead-letter queue. A queue that several topics feed is under
// each of them, and has what belongs to it under the first.
func (r Resources) WriteTree(w io.Writer) error {
	b := bufio.NewWriter(w)
	t := treeWriter{r: r, w: b, seen: map[string]bool{}}
	for _, exchange := range r.Exchanges {
		bound := t.bound(exchange.Name)
		if exchange.Role == RoleEvents && len(bound) == 0 && r.isFed(exchange.Name, KindExchange) {
			continue // it is under the topics
		}
		t.exchange(exchange, "")
		t.children(bound, "")
	}
	for _, queue := range r.Queues {
		if !r.isFed(queue.Name, KindQueue) && !r.hasQueue(queue.Of) {
			t.queue(queue, "", "")
		}
	}
	return b.Flush()
}

type treeWriter struct {
	r    Resources
	w    io.Writer
	seen map[string]bool // the queues whose children are drawn
}

// branch draws itself after lead, and its children after indent.
type branch func(lead, indent string)

func (t treeWriter) children(branches []branch, indent string) {
	for i, draw := range branches {
		if i == len(branches)-1 {
			draw(indent+"└─ ", indent+"   ")
		} else {
			draw(indent+"├─ ", indent+"│  ")
		}
	}
}

// bound is everything bound to an exchange.
func (t treeWriter) bound(exchange string) []branch {
	var branches []branch
	for _, binding := range t.r.Bindings {
		if binding.Source != exchange {
			continue
		}
		for _, exchange := range t.r.Exchanges {
			if binding.To == KindExchange && exchange.Name == binding.Destination {
				branches = append(branches, func(lead, _ string) { t.exchange(exchange, lead) })
			}
		}
		for _, queue := range t.r.Queues {
			if binding.To == KindQueue && queue.Name == binding.Destination {
				branches = append(branches, func(lead, indent string) { t.queue(queue, lead, indent) })
			}
		}
	}
	return branches
}

func (t treeWriter) exchange(exchange Exchange, lead string) {
	fmt.Fprintf(t.w, "%sexchange %s (%s)\n", lead, exchange.Name, exchangeNote(exchange))
}

func (t treeWriter) queue(queue QueueDef, lead, indent string) {
	noun, note := "queue", queueNote(queue)
	if queue.Role == RoleLog {
		noun = "log"
	}
	if t.seen[queue.Name] {
		fmt.Fprintf(t.w, "%s%s %s (see above)\n", lead, noun, queue.Name)
		return
	}
	t.seen[queue.Name] = true
	fmt.Fprintf(t.w, "%s%s %s (%s)\n", lead, noun, queue.Name, note)
	var branches []branch
	for _, part := range t.r.Queues {
		if part.Of == queue.Name && part.Role != RoleLog {
			branches = append(branches, func(lead, indent string) { t.queue(part, lead, indent) })
		}
	}
	t.children(branches, indent)
}

func (r Resources) isFed(name string, kind Kind) bool {
	for _, binding := range r.Bindings {
		if binding.To == kind && binding.Destination == name {
			return true
		}
	}
	return false
}

func (r Resources) hasQueue(name string) bool {
	for _, queue := range r.Queues {
		if queue.Name == name {
			return true
		}
	}
	return false
}
