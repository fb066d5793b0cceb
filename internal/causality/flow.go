package causality

import (
	"slices"
	"strings"
	"time"

	"github.com/evdemo/evdemo/event"
)

// Flow gathers the events of one flow. It is shown all events of all logs, in any order and as often as
// it asks for, and keeps those that belong: the event that was asked for, what shares its correlation id,
// and what is linked to one of them by its cause or its parent, in either direction.
type Flow struct {
	asked        string
	correlations map[string]bool
	members      map[key]*Node
	ids          map[string]bool // of members
	wanted       map[string]bool // ids of causes and parents
	grown        bool            // in this pass
}

// key identifies an event.
type key struct{ source, id string }

// Node is one event of a flow.
type Node struct {
	ID      string    `json:"id"`
	Source  string    `json:"source"`
	Type    string    `json:"type"`
	Subject string    `json:"subject,omitempty"`
	Time    time.Time `json:"time,omitzero"`
	// SinceRoot is how much later than the root of its tree it happened, in nanoseconds; by clocks that
	// differ it may be negative.
	SinceRoot time.Duration `json:"since_root_ns"`
	// Topics are those in whose logs it is. Copies counts how often it is there in all.
	Topics []string `json:"topics"`
	Copies int      `json:"copies"`
	// Asked marks the event that was asked for.
	Asked bool `json:"asked,omitempty"`
	// Cause is the id of the event that brought it about, or that it comes after; empty for one that
	// began by itself. CauseMissing says that this is in none of the logs.
	Cause        string  `json:"cause,omitempty"`
	CauseMissing bool    `json:"cause_missing,omitempty"`
	Children     []*Node `json:"children,omitempty"`

	seen map[place]bool
}

// place is where an event is in the logs.
type place struct {
	topic  string
	offset int64
}

// NewFlow is the flow of the event with this id, or with this correlation id.
func NewFlow(id string) *Flow {
	return &Flow{
		asked: id, correlations: map[string]bool{id: true},
		members: map[key]*Node{}, ids: map[string]bool{}, wanted: map[string]bool{id: true},
	}
}

// Add shows the flow an event at its place in the log of a topic.
func (f *Flow) Add(topic string, offset int64, e event.Event) {
	correlation, cause, parent := e.CorrelationID(), e.CausationID(), e.ParentID()
	if e.ID == f.asked && correlation != "" && !f.correlations[correlation] {
		f.correlations[correlation] = true
		f.grown = true
	}
	belongs := f.correlations[e.ID] || f.wanted[e.ID] ||
		correlation != "" && f.correlations[correlation] ||
		cause != "" && f.ids[cause] || parent != "" && f.ids[parent]
	if !belongs {
		return
	}
	n := f.members[key{e.Source, e.ID}]
	if n == nil {
		n = f.node(e, cause, parent)
	}
	if at := (place{topic, offset}); !n.seen[at] {
		n.seen[at] = true
		n.Copies++
		if !slices.Contains(n.Topics, topic) {
			n.Topics = append(n.Topics, topic)
			slices.Sort(n.Topics)
		}
	}
}

func (f *Flow) node(e event.Event, cause, parent string) *Node {
	n := &Node{
		ID: e.ID, Source: e.Source, Type: e.Type, Subject: e.Subject, Time: e.Time,
		Asked: e.ID == f.asked, Cause: cause, seen: map[place]bool{},
	}
	if cause == "" {
		n.Cause = parent
	}
	f.members[key{e.Source, e.ID}] = n
	f.ids[e.ID] = true
	for _, id := range []string{cause, parent} {
		if id != "" {
			f.wanted[id] = true
		}
	}
	f.grown = true
	return n
}

// Again tells whether the events must be shown once more, since what was found last may belong together
// with what was passed over before.
func (f *Flow) Again() bool {
	grown := f.grown
	f.grown = false
	return grown
}

// Len is how many events have been found.
func (f *Flow) Len() int { return len(f.members) }

// Trees gives the flow's trees: one, where the cause of every event but the first is in the logs. Events
// with one cause are in the order of their times, and then of their ids. What goes round in a circle
// hangs under the earliest of the circle.
func (f *Flow) Trees() []*Node {
	nodes := make([]*Node, 0, len(f.members))
	byID := map[string]*Node{}
	for _, n := range f.members {
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, before)
	for _, n := range nodes {
		n.Children = nil
		if byID[n.ID] == nil {
			byID[n.ID] = n
		}
	}
	var roots []*Node
	children := map[*Node][]*Node{}
	for _, n := range nodes {
		cause := byID[n.Cause]
		n.CauseMissing = n.Cause != "" && cause == nil
		if cause == nil || cause == n {
			roots = append(roots, n)
			continue
		}
		children[cause] = append(children[cause], n)
	}
	placed := map[*Node]bool{}
	for _, root := range roots {
		root.grow(root, children, placed)
	}
	for _, n := range nodes {
		if !placed[n] { // a circle
			n.grow(n, children, placed)
			roots = append(roots, n)
		}
	}
	slices.SortStableFunc(roots, before)
	return roots
}

// grow hangs a node's children under it.
func (n *Node) grow(root *Node, children map[*Node][]*Node, placed map[*Node]bool) {
	for todo := []*Node{n}; len(todo) > 0; {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		placed[n] = true
		if !n.Time.IsZero() && !root.Time.IsZero() {
			n.SinceRoot = n.Time.Sub(root.Time)
		}
		for _, child := range children[n] {
			if !placed[child] {
				placed[child] = true
				n.Children = append(n.Children, child)
				todo = append(todo, child)
			}
		}
	}
}

func before(a, b *Node) int {
	if c := a.Time.Compare(b.Time); c != 0 {
		return c
	}
	if a.ID != b.ID {
		return strings.Compare(a.ID, b.ID)
	}
	return strings.Compare(a.Source, b.Source)
}
