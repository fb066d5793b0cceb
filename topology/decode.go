package topology

import (
	"cmp"
	"fmt"
	"strconv"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// decoder turns the syntax tree of a topology file into a Spec and goes on after a mistake, so
// that one run shows them all.
type decoder struct {
	file     string
	prefix   string // of all names in the file
	lines    []string
	anchors  map[string]ast.Node
	at       map[string]*token.Token // where the part of the topology with this path is
	mistakes []Mistake
}

// entry is one key of a mapping with its value.
type entry struct {
	key, path string
	value     ast.Node
	token     *token.Token // of the key
}

func (d *decoder) spec(node ast.Node) Spec {
	var spec Spec
	if node == nil {
		return spec
	}
	entries := d.entries("", node)
	for _, e := range entries { // wherever it stands, it is in front of all names
		if e.key == "prefix" {
			d.prefix = d.prefixOf(e)
			spec.prefix = d.prefix
		}
	}
	for _, e := range entries {
		switch e.key {
		case "prefix":
		case "topics":
			spec.Topics = map[string]Topic{}
			for _, topic := range d.prefixed(d.entries(e.path, e.value), e.path) {
				spec.Topics[topic.key] = d.topic(topic)
			}
		case "queues":
			spec.Queues = map[string]Queue{}
			for _, queue := range d.prefixed(d.entries(e.path, e.value), e.path) {
				spec.Queues[queue.key] = d.queue(queue)
			}
		default:
			d.unknown(e, "topics, queues, prefix")
		}
	}
	if len(d.mistakes) == 0 && len(spec.Topics) == 0 && len(spec.Queues) == 0 {
		d.reportAt(node, "", "there are neither topics nor queues in it")
	}
	return spec
}

func (d *decoder) prefixOf(e entry) string {
	prefix, ok := d.text(e.value)
	if !ok {
		d.reportAt(e.value, e.path, "prefix is text, as in demo-")
	}
	return prefix
}

// prefixed makes the keys the names that they stand for.
func (d *decoder) prefixed(entries []entry, path string) []entry {
	for i, e := range entries {
		entries[i].key = d.prefix + e.key
		entries[i].path = memberPath(path, entries[i].key)
		d.at[entries[i].path] = e.token
	}
	return entries
}

func (d *decoder) topic(of entry) Topic {
	var topic Topic
	for _, e := range d.entries(of.path, of.value) {
		switch e.key {
		case "log":
			topic.Log = d.log(e)
		case "groups":
			topic.Groups = d.names(e, "[email, analytics]")
		case "queues":
			topic.Queues = d.names(e, "[payments]")
			for i := range topic.Queues {
				topic.Queues[i] = d.prefix + topic.Queues[i]
			}
		default:
			d.unknown(e, "log, groups, queues")
		}
	}
	return topic
}

func (d *decoder) log(of entry) *Log {
	switch node := d.resolve(of.value).(type) {
	case nil, *ast.NullNode:
		return nil
	case *ast.BoolNode:
		if !node.Value {
			return nil
		}
		log := Log{}.withDefaults()
		return &log
	case *ast.MappingNode, *ast.MappingValueNode:
	default:
		d.reportAt(of.value, of.path, "log is true, false or {max-age: 7d, max-size: 1GB}")
		return nil
	}
	log := Log{}.withDefaults()
	for _, e := range d.entries(of.path, of.value) {
		switch e.key {
		case "max-age":
			log.MaxAge = d.duration(e.path, e.value)
		case "max-size":
			size, err := ParseSize(d.scalar(e.value))
			if err == nil && size == 0 {
				err = fmt.Errorf("a log has %s at the least", FormatSize(minLogSize))
			}
			if err != nil {
				d.reportAt(e.value, e.path, "%v", err)
				continue
			}
			log.MaxSize = size
		default:
			d.unknown(e, "max-age, max-size")
		}
	}
	return &log
}

func (d *decoder) queue(of entry) Queue {
	var queue Queue
	for _, e := range d.entries(of.path, of.value) {
		switch e.key {
		case "retry":
			queue.Retry = d.delays(e)
		case "max-attempts":
			queue.MaxAttempts = d.attempts(e)
		case "single-active":
			node, ok := d.resolve(e.value).(*ast.BoolNode)
			if !ok {
				d.reportAt(e.value, e.path, "single-active is true or false")
				continue
			}
			queue.SingleActive = node.Value
		default:
			d.unknown(e, "retry, max-attempts, single-active")
		}
	}
	return queue
}

// delays keeps apart a list that is there and empty, which means no retry.
func (d *decoder) delays(of entry) []time.Duration {
	items, ok := d.list(of, "[1s, 5s, 30s]")
	if !ok {
		return nil
	}
	delays := make([]time.Duration, 0, len(items))
	for _, item := range items {
		delays = append(delays, d.duration(item.path, item.value))
	}
	return delays
}

func (d *decoder) attempts(of entry) int {
	n, err := strconv.ParseInt(d.scalar(of.value), 10, 32)
	if err != nil || n < 1 {
		d.reportAt(of.value, of.path, "max-attempts is a whole number, 1 or more")
		return 0
	}
	return int(n)
}

func (d *decoder) duration(path string, node ast.Node) time.Duration {
	duration, err := ParseDuration(d.scalar(node))
	if err == nil && duration == 0 {
		err = fmt.Errorf("%s is no time at all", d.scalar(node))
	}
	if err != nil {
		d.reportAt(node, path, "%v", err)
	}
	return duration
}

func (d *decoder) names(of entry, example string) []string {
	items, _ := d.list(of, example)
	var names []string
	for _, item := range items {
		name, ok := d.text(item.value)
		if !ok {
			d.report(item.token, item.path, "a name is text; put it in quotes")
		}
		names = append(names, name)
	}
	return names
}

// list is the items of a list; false where there is none.
func (d *decoder) list(of entry, example string) ([]entry, bool) {
	switch node := d.resolve(of.value).(type) {
	case nil, *ast.NullNode:
		return nil, false
	case *ast.SequenceNode:
		items := make([]entry, 0, len(node.Values))
		for i, value := range node.Values {
			item := entry{path: fmt.Sprintf("%s[%d]", of.path, i), value: value, token: value.GetToken()}
			d.at[item.path] = item.token
			items = append(items, item)
		}
		return items, true
	}
	d.reportAt(of.value, of.path, "%s is a list, as in %s", of.key, example)
	return nil, false
}

// entries are the keys of a mapping, each once; none of what is not a mapping, which is a mistake
// unless it is null.
func (d *decoder) entries(path string, node ast.Node) []entry {
	var values []*ast.MappingValueNode
	switch node := d.resolve(node).(type) {
	case nil, *ast.NullNode:
		return nil
	case *ast.MappingNode:
		values = node.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{node}
	default:
		d.reportAt(node, path, "%s must be a mapping: keys with values", cmp.Or(path, "a topology"))
		return nil
	}
	var entries []entry
	seen := map[string]bool{}
	for _, value := range values {
		key, ok := d.text(value.Key)
		e := entry{key: key, path: memberPath(path, key), value: value.Value, token: value.Key.GetToken()}
		switch {
		case value.Key.IsMergeKey():
			d.report(e.token, e.path, "merge keys are not supported; write the values out")
		case !ok:
			d.report(e.token, e.path, "a name is text; put it in quotes")
		case seen[key]:
			d.report(e.token, e.path, "%q is there twice", key)
		default:
			seen[key] = true
			d.at[e.path] = e.token
			entries = append(entries, e)
		}
	}
	return entries
}

func (d *decoder) unknown(e entry, known string) {
	d.report(e.token, e.path, "unknown key %q; there are %s", e.key, known)
}

// text is the value of a node that is text.
func (d *decoder) text(node ast.Node) (string, bool) {
	switch node := d.resolve(node).(type) {
	case *ast.StringNode:
		return node.Value, true
	case *ast.LiteralNode:
		return node.Value.Value, true
	}
	return "", false
}

// scalar is what was written for a text or a number, and "" for anything else.
func (d *decoder) scalar(node ast.Node) string {
	switch node := d.resolve(node).(type) {
	case *ast.StringNode:
		return node.Value
	case *ast.IntegerNode:
		return node.Token.Value
	case *ast.FloatNode:
		return node.Token.Value
	}
	return ""
}

// resolve goes through anchors and aliases to what they stand for. An alias that leads to itself
// or nowhere is a mistake, and null.
func (d *decoder) resolve(node ast.Node) ast.Node {
	at := node
	for range 100 {
		switch n := node.(type) {
		case *ast.AnchorNode:
			node = n.Value
		case *ast.MappingKeyNode:
			node = n.Value
		case *ast.AliasNode:
			node = d.anchors[n.Value.GetToken().Value]
			if node == nil {
				d.reportAt(at, "", "there is no anchor %q", n.Value.GetToken().Value)
				return nil
			}
		default:
			return node
		}
	}
	d.reportAt(at, "", "the alias leads to itself")
	return nil
}
