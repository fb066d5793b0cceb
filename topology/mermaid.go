package topology

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/evdemo/evdemo/internal/diagram"
)

// WriteMermaid draws the resources as a Mermaid flowchart, which GitHub and many editors show as
// a picture. Solid arrows are bindings; dotted ones are what happens to an event that failed.
func (r Resources) WriteMermaid(w io.Writer) error {
	b := bufio.NewWriter(w)
	g := r.graph()
	fmt.Fprintln(b, "flowchart LR")
	for _, n := range g.nodes {
		lines := make([]string, 0, len(n.lines))
		for _, line := range n.lines {
			lines = append(lines, diagram.EscapeMermaid(line))
		}
		before, after := mermaidShape(n.role)
		fmt.Fprintf(b, "    %s%s\"%s\"%s\n", n.id, before, strings.Join(lines, "<br/>"), after)
	}
	for _, e := range g.edges {
		if e.label == "" {
			fmt.Fprintf(b, "    %s --> %s\n", e.from, e.to)
			continue
		}
		fmt.Fprintf(b, "    %s -. \"%s\" .-> %s\n", e.from, diagram.EscapeMermaid(e.label), e.to)
	}
	return b.Flush()
}

// mermaidShape is what goes around a label: exchanges are hexagons, queues boxes, streams drums.
func mermaidShape(role Role) (before, after string) {
	switch role {
	case RoleEvents, RoleTopic:
		return "{{", "}}"
	case RoleLog:
		return "[(", ")]"
	case RoleDeadLetter, RoleRetry:
		return "(", ")"
	case RoleWork:
	}
	return "[", "]"
}
