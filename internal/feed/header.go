package feed

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go" //nolint:depguard // for Table and Decimal: values of headers that have no other name
)

// merge gives headers with more added, which goes before what is there. Neither is changed.
func merge(headers, more map[string]any) map[string]any {
	switch {
	case len(more) == 0:
		return headers
	case len(headers) == 0:
		return more
	}
	merged := make(map[string]any, len(headers)+len(more))
	maps.Copy(merged, headers)
	maps.Copy(merged, more)
	return merged
}

// value writes a header's value; Record says how.
func (w *recordWriter) value(path string, v any, depth int) {
	switch v := v.(type) {
	case nil, bool, int64:
		w.json(path, v)
	case string:
		w.string(v)
	case float64:
		w.float(path, v, 64)
	case float32:
		w.b = append(w.b, `{"@float32":`...)
		w.float(path, float64(v), 32)
		w.b = append(w.b, '}')
	case int:
		if v >= math.MinInt32 && v <= math.MaxInt32 { // which is what the client makes of it
			w.value(path, int32(v), depth)
		} else {
			w.json(path, v)
		}
	case int8, int16, int32, uint8, uint16, uint32:
		w.b = fmt.Appendf(w.b, `{"@%T":%d}`, v, v)
	case amqp.Decimal:
		w.b = fmt.Appendf(w.b, `{"@decimal":{"scale":%d,"value":%d}}`, v.Scale, v.Value)
	case time.Time:
		w.b = append(w.b, `{"@time":`...)
		w.time(v)
		w.b = append(w.b, '}')
	case []byte:
		w.b = append(w.b, `{"@bytes":`...)
		w.base64(v)
		w.b = append(w.b, '}')
	case []any:
		w.list(path, v, depth+1)
	case map[string]any:
		w.table(path, v, depth+1)
	case amqp.Table:
		w.table(path, v, depth+1)
	default:
		w.fail(path, "is a %T, for which AMQP has no type", v)
	}
}

// float writes a number that cannot be taken for an integer. RabbitMQ closes the connection over one
// that is infinite or no number: no message has it.
func (w *recordWriter) float(path string, f float64, bits int) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		w.fail(path, "is %v, which RabbitMQ does not take", f)
		return
	}
	from := len(w.b)
	w.b = strconv.AppendFloat(w.b, f, 'g', -1, bits)
	if !bytes.ContainsAny(w.b[from:], ".e") {
		w.b = append(w.b, ".0"...)
	}
}

func (w *recordWriter) list(path string, list []any, depth int) {
	if w.tooDeep(path, depth) {
		return
	}
	w.b = append(w.b, '[')
	for i, v := range list {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.value(fmt.Sprintf("%s[%d]", path, i), v, depth)
	}
	w.b = append(w.b, ']')
}

// table writes a table, its names in order.
func (w *recordWriter) table(path string, table map[string]any, depth int) {
	if w.tooDeep(path, depth) {
		return
	}
	names := slices.Sorted(maps.Keys(table))
	for _, name := range names {
		if len(name) > maxShortString {
			w.fail(within(path, name), "the name has %d bytes; AMQP holds %d", len(name), maxShortString)
		}
	}
	switch {
	case !slices.ContainsFunc(names, func(name string) bool { return !utf8.ValidString(name) }):
		escaped := len(names) == 1 && strings.HasPrefix(names[0], "@")
		if escaped {
			w.b = append(w.b, `{"@table":`...)
		}
		w.members(path, names, table, depth)
		if escaped {
			w.b = append(w.b, '}')
		}
	default:
		w.pairs(path, names, table, depth)
	}
}

func (w *recordWriter) members(path string, names []string, table map[string]any, depth int) {
	w.b = append(w.b, '{')
	for _, name := range names {
		w.name(name)
		w.value(within(path, name), table[name], depth)
	}
	w.b = append(w.b, '}')
}

// pairs writes a table with names that JSON has no place for.
func (w *recordWriter) pairs(path string, names []string, table map[string]any, depth int) {
	w.b = append(w.b, `{"@table":[`...)
	for i, name := range names {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.b = append(w.b, '[')
		w.base64([]byte(name))
		w.b = append(w.b, ',')
		w.value(within(path, name), table[name], depth)
		w.b = append(w.b, ']')
	}
	w.b = append(w.b, `]}`...)
}

func (w *recordWriter) tooDeep(path string, depth int) bool {
	if depth > maxDepth {
		w.fail(path, "lies more than %d tables and arrays deep", maxDepth)
	}
	return depth > maxDepth
}

// within is the path to a member, fit for one line of a terminal.
func within(path, name string) string {
	const widest = 60
	if quoted := fmt.Sprintf("%.*q", widest, name); quoted != `"`+name+`"` {
		name = quoted
	}
	return path + "." + name
}

// object is an object in JSON. No name is there twice.
type object []member

type member struct {
	name  string
	value any // nil, bool, string, json.Number, []any or object
}

// get gives a member's value; ok is false where there is none or it is null.
func (o object) get(name string) (value any, ok bool) {
	i := slices.IndexFunc(o, func(m member) bool { return m.name == name })
	if i < 0 {
		return nil, false
	}
	return o[i].value, o[i].value != nil
}

// header gives the header's value that was written as v.
func (r *recordReader) header(path string, v any, depth int) any {
	switch v := v.(type) {
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return r.number(path, "@float64", v)
		}
		return r.number(path, "@int64", v)
	case []any:
		if r.tooDeep(path, depth+1) {
			return nil
		}
		list := make([]any, len(v))
		for i, element := range v {
			list[i] = r.header(fmt.Sprintf("%s[%d]", path, i), element, depth+1)
		}
		return list
	case object:
		if len(v) == 1 && strings.HasPrefix(v[0].name, "@") {
			return r.tagged(path, v[0].name, v[0].value, depth)
		}
		return r.table(path, v, depth+1)
	default:
		return v
	}
}

func (r *recordReader) table(path string, o object, depth int) map[string]any {
	if r.tooDeep(path, depth) {
		return nil
	}
	table := make(map[string]any, len(o))
	for _, m := range o {
		r.set(table, path, m.name, m.value, depth)
	}
	return table
}

func (r *recordReader) set(table map[string]any, path, name string, v any, depth int) {
	path = within(path, name)
	if len(name) > maxShortString {
		r.fault(path, "the name has %d bytes; AMQP holds %d", len(name), maxShortString)
	}
	if _, twice := table[name]; twice {
		r.fault(path, "is there twice")
	}
	table[name] = r.header(path, v, depth)
}

func (r *recordReader) tooDeep(path string, depth int) bool {
	if depth > maxDepth {
		r.fault(path, "lies more than %d tables and arrays deep", maxDepth)
	}
	return depth > maxDepth
}

// tagged gives the value that stands in an object of its own.
func (r *recordReader) tagged(path, tag string, v any, depth int) any {
	switch tag {
	case "@time":
		return r.time(path, v)
	case "@bytes":
		return r.base64(path, v)
	case "@string":
		return string(r.base64(path, v))
	case "@decimal":
		return r.decimal(path, v)
	case "@table":
		return r.literal(path, v, depth+1)
	case "@int8", "@int16", "@int32", "@int64", "@uint8", "@uint16", "@uint32", "@float32", "@float64":
		return r.number(path, tag, v)
	default:
		r.fault(path, `%.40q is no type; an object with this name alone is written as {"@table":{...}}`, tag)
		return nil
	}
}

// literal gives a table whose names mean nothing, or may not be UTF-8.
func (r *recordReader) literal(path string, v any, depth int) map[string]any {
	if o, ok := v.(object); ok {
		return r.table(path, o, depth)
	}
	pairs, ok := v.([]any)
	if !ok {
		r.fault(path, "@table is %s; want an object, or an array of names and values", kind(v))
		return nil
	}
	if r.tooDeep(path, depth) {
		return nil
	}
	table := make(map[string]any, len(pairs))
	for i, v := range pairs {
		pair, _ := v.([]any)
		if len(pair) != 2 {
			r.fault(path, "@table[%d] is no array of a name and a value", i)
			continue
		}
		r.set(table, path, string(r.base64(path, pair[0])), pair[1], depth)
	}
	return table
}

// number gives a number of the type that a tag names.
func (r *recordReader) number(path, tag string, v any) any {
	text, _ := v.(json.Number)
	n, err := parseNumber(tag, text.String())
	if err != nil {
		r.fault(path, "is no %s", tag[1:])
		return nil
	}
	return n
}

func parseNumber(tag, text string) (any, error) {
	kind := strings.TrimRight(tag, "0123456789")
	bits, err := strconv.Atoi(tag[len(kind):])
	if err != nil {
		return nil, err
	}
	var signed int64
	var unsigned uint64
	var float float64
	switch kind {
	case "@int":
		signed, err = strconv.ParseInt(text, 10, bits)
	case "@uint":
		unsigned, err = strconv.ParseUint(text, 10, bits)
	default:
		float, err = strconv.ParseFloat(text, bits)
	}
	switch tag {
	case "@int8":
		return int8(signed), err //nolint:gosec // of so many bits
	case "@int16":
		return int16(signed), err //nolint:gosec // of so many bits
	case "@int32":
		return int32(signed), err //nolint:gosec // of so many bits
	case "@int64":
		return signed, err
	case "@uint8":
		return uint8(unsigned), err //nolint:gosec // of so many bits
	case "@uint16":
		return uint16(unsigned), err //nolint:gosec // of so many bits
	case "@uint32":
		return uint32(unsigned), err //nolint:gosec // of so many bits
	case "@float32":
		return float32(float), err
	default:
		return float, err
	}
}

func (r *recordReader) decimal(path string, v any) any {
	o, _ := v.(object)
	scale, _ := o.get("scale")
	value, _ := o.get("value")
	s, isScale := r.number(path+".scale", "@uint8", scale).(uint8)
	n, isValue := r.number(path+".value", "@int32", value).(int32)
	if len(o) != 2 || !isScale || !isValue {
		r.fault(path, `is no decimal, such as {"scale":2,"value":314} for 3.14`)
		return nil
	}
	return amqp.Decimal{Scale: s, Value: n}
}

// time gives a time in UTC. AMQP keeps whole seconds of it.
func (r *recordReader) time(path string, v any) time.Time {
	switch v := v.(type) {
	case string:
		if t, err := time.Parse(time.RFC3339Nano, v); err == nil {
			return t.UTC()
		}
	case json.Number:
		if seconds, err := v.Int64(); err == nil {
			return time.Unix(seconds, 0).UTC()
		}
	}
	r.fault(path, `is no time in RFC 3339, such as "2025-11-11T16:54:00Z", nor whole seconds since 1970`)
	return time.Time{}
}

func (r *recordReader) base64(path string, v any) []byte {
	text, ok := v.(string)
	if !ok {
		r.fault(path, "is %s; want a string of base64", kind(v))
		return nil
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		r.fault(path, "%v", err)
		return nil
	}
	return b
}

// kind names what a value is in JSON.
func kind(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case string:
		return "a string"
	case json.Number:
		return "a number"
	case []any:
		return "an array"
	default:
		return "an object"
	}
}
