package topology

import (
	"fmt"
	"slices"
	"strings"
)

// graph is resources as nodes and edges, the retry tiers of a queue drawn as one node.
type graph struct {
	nodes []node
	edges []edge
}

type node struct {
	id    string
	role  Role
	lines []string // of the label
}

type edge struct {
	from, to string
	label    string // of an edge that is a dead-lettering or a retry; empty for a binding
}

func (r Resources) graph() graph {
	var g graph
	exchanges, queues := map[string]string{}, map[string]string{}
	for i, exchange := range r.Exchanges {
		id := fmt.Sprintf("x%d", i+1)
		exchanges[exchange.Name] = id
		g.nodes = append(g.nodes, node{id: id, role: exchange.Role, lines: []string{exchange.Name, exchangeNote(exchange)}})
	}
	for i, queue := range r.Queues {
		id := fmt.Sprintf("q%d", i+1)
		queues[queue.Name] = id
		if queue.Role == RoleRetry && queue.Of != "" {
			queues[queue.Name] = g.addTier(id, queue)
			continue
		}
		g.nodes = append(g.nodes, node{id: id, role: queue.Role, lines: []string{queue.Name, queueNote(queue)}})
	}
	for _, binding := range r.Bindings {
		to := queues
		if binding.To == KindExchange {
			to = exchanges
		}
		if exchanges[binding.Source] != "" && to[binding.Destination] != "" {
			g.edges = append(g.edges, edge{from: exchanges[binding.Source], to: to[binding.Destination]})
		}
	}
	for _, queue := range r.Queues {
		g.link(queues, queue)
	}
	return g
}

// addTier puts a retry tier into the node that stands for all tiers of its queue.
func (g *graph) addTier(id string, tier QueueDef) string {
	prefix := tier.Of + retryInfix
	delay := strings.TrimPrefix(tier.Name, prefix)
	for i, n := range g.nodes {
		if n.role == RoleRetry && n.lines[0] == prefix+"*" {
			g.nodes[i].lines[1] += ", " + delay
			return n.id
		}
	}
	g.nodes = append(g.nodes, node{id: id, role: RoleRetry, lines: []string{prefix + "*", delay}})
	return id
}

// link adds the edges between a queue and what belongs to it.
func (g *graph) link(ids map[string]string, queue QueueDef) {
	of := ids[queue.Of]
	if of == "" {
		return
	}
	var edges []edge
	switch queue.Role {
	case RoleDeadLetter:
		edges = []edge{{from: of, to: ids[queue.Name], label: "given up"}}
	case RoleRetry:
		edges = []edge{{from: of, to: ids[queue.Name], label: "failed"}, {from: ids[queue.Name], to: of, label: "after the delay"}}
	case RoleWork, RoleLog, RoleTopic, RoleEvents:
	}
	for _, e := range edges {
		if !slices.Contains(g.edges, e) {
			g.edges = append(g.edges, e)
		}
	}
}

func exchangeNote(exchange Exchange) string {
	if exchange.Role == RoleEvents {
		return exchange.Type + ", sees every topic"
	}
	return exchange.Type
}

// queueNote is what there is to know about a queue besides its name.
func queueNote(queue QueueDef) string {
	note := []string{queue.Type()}
	switch queue.Role {
	case RoleWork:
		if queue.Arguments[argSingleActive] == true {
			note = append(note, "single active consumer")
		}
	case RoleDeadLetter:
		note = append(note, "dead letters")
	case RoleRetry:
		note = append(note, "retry tier")
	case RoleLog:
		if age, ok := queue.Arguments[argMaxAge].(string); ok {
			note = append(note, "at most "+age)
		}
		if size, ok := queue.Arguments[argMaxLengthBytes].(int64); ok {
			note = append(note, FormatSize(size))
		}
	case RoleTopic, RoleEvents:
	}
	return strings.Join(note, ", ")
}
