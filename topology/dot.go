package topology

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/evdemo/evdemo/internal/diagram"
)

// WriteDOT draws the resources in the language of Graphviz. Solid arrows are bindings; dashed
// ones are what happens to an event that failed.
func (r Resources) WriteDOT(w io.Writer) error {
	b := bufio.NewWriter(w)
	g := r.graph()
	fmt.Fprintln(b, "digraph topology {")
	fmt.Fprintln(b, "    rankdir=LR;")
	fmt.Fprintln(b, `    node [fontname="sans-serif"];`)
	fmt.Fprintln(b, `    edge [fontname="sans-serif", fontsize=10];`)
	for _, n := range g.nodes {
		lines := make([]string, 0, len(n.lines))
		for _, line := range n.lines {
			lines = append(lines, diagram.EscapeDOT(line))
		}
		fmt.Fprintf(b, "    %s [label=\"%s\", %s];\n", n.id, strings.Join(lines, `\n`), dotShape(n.role))
	}
	for _, e := range g.edges {
		if e.label == "" {
			fmt.Fprintf(b, "    %s -> %s;\n", e.from, e.to)
			continue
		}
		fmt.Fprintf(b, "    %s -> %s [label=\"%s\", style=dashed];\n", e.from, e.to, diagram.EscapeDOT(e.label))
	}
	fmt.Fprintln(b, "}")
	return b.Flush()
}

func dotShape(role Role) string {
	switch role {
	case RoleEvents, RoleTopic:
		return "shape=hexagon"
	case RoleLog:
		return "shape=cylinder"
	case RoleDeadLetter, RoleRetry:
		return `shape=box, style="rounded"`
	case RoleWork:
	}
	return "shape=box"
}
