package topology

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Parse reads a topology file in YAML. name is the file's, for messages. It is strict: an
// unknown key, a value of another type, a second document and a name that clashes with another
// are mistakes, and the error is an [*InvalidError] with all that were found. A mistake in the
// YAML itself hides those behind it.
func Parse(name string, b []byte) (Spec, error) {
	d := &decoder{
		file:    name,
		lines:   strings.Split(strings.ReplaceAll(string(b), "\r\n", "\n"), "\n"),
		anchors: map[string]ast.Node{},
		at:      map[string]*token.Token{},
	}
	spec := d.spec(d.document(b))
	for _, mistake := range spec.mistakes() {
		if !d.hasMistake(mistake.Path) {
			d.report(d.at[mistake.Path], mistake.Path, "%s", mistake.Message)
		}
	}
	slices.SortStableFunc(d.mistakes, func(a, b Mistake) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if err := invalid(d.mistakes); err != nil {
		return Spec{}, err
	}
	return spec, nil
}

// document is the one document of the file, nil where there is none to read.
func (d *decoder) document(b []byte) ast.Node {
	file, err := parseYAML(b)
	if err != nil {
		if syntax, ok := errors.AsType[*yaml.SyntaxError](err); ok {
			d.report(syntax.Token, "", "%s", syntax.Message)
		} else {
			d.report(nil, "", "%v", err)
		}
		return nil
	}
	var body ast.Node
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil:
		case body == nil:
			body = doc.Body
		default:
			d.reportAt(doc.Body, "", "a second document; a topology is one")
		}
	}
	if body == nil {
		d.report(nil, "", "the file is empty; a topology has topics or queues")
		return nil
	}
	for _, node := range ast.Filter(ast.AnchorType, body) {
		if anchor, ok := node.(*ast.AnchorNode); ok {
			d.anchors[anchor.Name.GetToken().Value] = anchor.Value
		}
	}
	return body
}

// parseYAML turns a panic of the parser into an error: what reads files written by hand must
// answer in all cases.
func parseYAML(b []byte) (file *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			file, err = nil, fmt.Errorf("not YAML: %v", p)
		}
	}()
	// Duplicate keys are reported by the decoder, along with all other mistakes.
	return parser.ParseBytes(b, 0, parser.AllowDuplicateMapKey())
}

// hasMistake is whether there is a mistake in the part with this path already.
func (d *decoder) hasMistake(path string) bool {
	return slices.ContainsFunc(d.mistakes, func(m Mistake) bool { return m.Path == path })
}

// reportAt notes a mistake at the beginning of a node.
func (d *decoder) reportAt(node ast.Node, path, format string, args ...any) {
	at := node.GetToken()
	switch node := node.(type) {
	case *ast.MappingNode: // its own token is the first colon
		if !node.IsFlowStyle && len(node.Values) > 0 {
			at = node.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		at = node.Key.GetToken()
	}
	d.report(at, path, format, args...)
}

// report notes a mistake at a token, or at the beginning of the file if there is none.
func (d *decoder) report(at *token.Token, path, format string, args ...any) {
	line, column := 1, 1
	if at != nil && at.Position != nil {
		line, column = max(at.Position.Line, 1), max(at.Position.Column, 1)
	}
	d.mistakes = append(d.mistakes, Mistake{
		File: d.file, Line: line, Column: column,
		Path: path, Message: fmt.Sprintf(format, args...),
		Excerpt: d.excerpt(line, column),
	})
}

// excerpt is the line, up to two before and one after it, and a mark under the column.
func (d *decoder) excerpt(line, column int) string {
	if line > len(d.lines) || d.lines[line-1] == "" {
		return ""
	}
	var b strings.Builder
	for n := max(line-2, 1); n <= min(line+1, len(d.lines)); n++ {
		text := d.lines[n-1]
		if n != line {
			if n > line && text == "" {
				break
			}
			fmt.Fprintf(&b, "  %4d | %s\n", n, text)
			continue
		}
		fmt.Fprintf(&b, "> %4d | %s\n       | %s^\n", n, text, indentLike(text, column-1))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// indentLike is n columns of space that end where n characters of text do, tabs and all.
func indentLike(text string, n int) string {
	var b strings.Builder
	for _, r := range text {
		if n <= 0 {
			break
		}
		n--
		if r != '\t' {
			r = ' '
		}
		b.WriteRune(r)
	}
	return b.String()
}
