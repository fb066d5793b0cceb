// Package diagram has what the languages of diagrams need.
package diagram

import "strings"

// EscapeMermaid writes what Mermaid or the browser would take for markup as entities.
func EscapeMermaid(s string) string {
	return strings.NewReplacer(
		"#", "#35;", "&", "#38;", `"`, "#34;", "<", "#60;", ">", "#62;", "`", "#96;", `\`, "#92;",
	).Replace(s)
}

// EscapeDOT writes what would end a string of Graphviz, or be taken for an entity, in its other form.
func EscapeDOT(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, `&`, `&amp;`).Replace(s)
}
