package causality

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/evdemo/evdemo/internal/diagram"
)

// widest bounds every text of an event in a drawing.
const widest = 100

// WriteTree draws trees for a terminal, a line for each event.
func WriteTree(w io.Writer, trees []*Node) error {
	b := bufio.NewWriter(w)
	walk(trees, func(n *Node, lead string) {
		fmt.Fprintf(b, "%s%s\n", lead, strings.Join(n.words(), "  "))
	})
	return b.Flush()
}

// walk visits every node, parents before their children, without going deep into the stack.
func walk(trees []*Node, visit func(n *Node, lead string)) {
	type step struct {
		n            *Node
		lead, indent string
	}
	var todo []step
	push := func(nodes []*Node, indent string, root bool) {
		for i, node := range slices.Backward(nodes) {
			s := step{node, indent + "├─ ", indent + "│  "}
			if i == len(nodes)-1 {
				s.lead, s.indent = indent+"└─ ", indent+"   "
			}
			if root {
				s.lead, s.indent = "", ""
			}
			todo = append(todo, s)
		}
	}
	for push(trees, "", true); len(todo) > 0; {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		visit(s.n, s.lead)
		push(s.n.Children, s.indent, false)
	}
}

// words say what an event is.
func (n *Node) words() []string {
	words := []string{clean(n.Type)}
	if n.Subject != "" {
		words = append(words, clean(n.Subject))
	}
	words = append(words, "from "+clean(n.Source), "on "+clean(strings.Join(n.Topics, ", ")), clean(n.ID), since(n.SinceRoot))
	if n.Copies > len(n.Topics) {
		words = append(words, fmt.Sprintf("(%d copies)", n.Copies))
	}
	if n.CauseMissing {
		words = append(words, "(its cause "+clean(n.Cause)+" is in no log)")
	}
	if n.Asked {
		words = append(words, "<- asked for")
	}
	return words
}

// since writes a distance in time with its sign, to the microsecond.
func since(d time.Duration) string {
	if d < 0 {
		return d.Round(time.Microsecond).String()
	}
	return "+" + d.Round(time.Microsecond).String()
}

// WriteMermaid draws trees as a Mermaid flowchart.
func WriteMermaid(w io.Writer, trees []*Node) error {
	b := bufio.NewWriter(w)
	fmt.Fprintln(b, "flowchart LR")
	graph(trees, func(id string, n *Node) {
		fmt.Fprintf(b, "    %s[\"%s\"]\n", id, strings.Join(labels(n, diagram.EscapeMermaid), "<br/>"))
	}, func(from, to string) { fmt.Fprintf(b, "    %s --> %s\n", from, to) })
	return b.Flush()
}

// WriteDOT draws trees in the language of Graphviz.
func WriteDOT(w io.Writer, trees []*Node) error {
	b := bufio.NewWriter(w)
	fmt.Fprintln(b, "digraph trace {\n    rankdir=LR;\n    node [fontname=\"sans-serif\", shape=box];")
	graph(trees, func(id string, n *Node) {
		style := ""
		if n.Asked {
			style = ", style=bold"
		}
		fmt.Fprintf(b, "    %s [label=\"%s\"%s];\n", id, strings.Join(labels(n, diagram.EscapeDOT), `\n`), style)
	}, func(from, to string) { fmt.Fprintf(b, "    %s -> %s;\n", from, to) })
	fmt.Fprintln(b, "}")
	return b.Flush()
}

func labels(n *Node, escape func(string) string) []string {
	lines := []string{escape(clean(n.Type))}
	if n.Subject != "" {
		lines = append(lines, escape(clean(n.Subject)))
	}
	return append(lines, escape(clean(n.Source)), since(n.SinceRoot))
}

// graph gives every node a name, and visits it and the arrows that lead away from it.
func graph(trees []*Node, node func(id string, n *Node), arrow func(from, to string)) {
	ids := map[*Node]string{}
	var all []*Node
	walk(trees, func(n *Node, _ string) {
		ids[n] = fmt.Sprintf("n%d", len(all)+1)
		all = append(all, n)
		node(ids[n], n)
	})
	for _, n := range all {
		for _, child := range n.Children {
			arrow(ids[n], ids[child])
		}
	}
}

// clean makes text fit for one line: what cannot be printed is left out, and so is what is too long.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if utf8.RuneCountInString(s) > widest {
		s = string([]rune(s)[:widest]) + "…"
	}
	return s
}
