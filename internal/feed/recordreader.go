package feed

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/publisher"
)

// RecordError names the faults of a line that is a record, but for those of its event.
type RecordError struct {
	// Faults has at least one element, such as "raw.priority: is no uint8", and at most ten.
	Faults []string
	// More counts the others.
	More int
}

// Error gives all faults on one line.
func (e *RecordError) Error() string {
	text := "invalid record: " + strings.Join(e.Faults, "; ")
	if e.More > 0 {
		text += fmt.Sprintf("; and %d more", e.More)
	}
	return text
}

// parse reads a line, which is not empty: a record, or an event in one of the forms of event.Parse.
func parse(line []byte, defaults event.Defaults) (r Record, record bool, err error) {
	var almost error
	if mayBeRecord(line) {
		var parts *recordParts
		if parts, almost = split(line); parts != nil {
			r, err = parts.record(defaults)
			return r, true, err
		}
	}
	r.Message.Event, err = event.Parse(line, defaults)
	if almost != nil && errors.Is(err, event.ErrNoType) {
		err = fmt.Errorf("%w, and no record: %w", err, almost)
	}
	return r, false, err
}

// mayBeRecord tells lines apart by the name of their first member, so that an event costs no more for
// the records that there might have been.
func mayBeRecord(line []byte) bool {
	line = bytes.TrimLeft(bytes.TrimPrefix(line, []byte("\ufeff")), " \t\r\n")
	if len(line) == 0 || line[0] != '{' {
		return false
	}
	line = bytes.TrimLeft(line[1:], " \t\r\n")
	if len(line) == 0 || line[0] != '"' {
		return false
	}
	end := bytes.IndexByte(line[1:], '"')
	if end < 0 {
		return false
	}
	name := line[1 : end+1]
	return recordMember(string(name)) || bytes.IndexByte(name, '\\') >= 0
}

func recordMember(name string) bool {
	switch name {
	case "event", "raw", "headers", "exchange", "routing_key", "at", "failure":
		return true
	default:
		return false
	}
}

// recordParts are the members of a record; nil where there is none or it is null.
type recordParts struct {
	event, raw                    document
	headers, exchange, routingKey document
	at                            document

	seen  []string
	twice []string
	other string // a member that a record does not have
}

// split takes a record apart. It gives nil for what is none, and says why where that is not plain. What
// is not JSON is no record.
func split(line []byte) (*recordParts, error) {
	line = bytes.TrimPrefix(line, []byte("\ufeff"))
	doc := newDocument(line)
	if !doc.isObject() || !utf8.Valid(line) {
		return nil, nil //nolint:nilnil // no record, and nothing to be said of it
	}
	var p recordParts
	for name, value := range doc.members() {
		p.put(name, value)
	}
	switch {
	case !p.event.isObject() && !p.raw.isObject(), !p.raw.isObject() && !hasMember(p.event, "specversion"):
		return nil, nil //nolint:nilnil // no record, and nothing to be said of it
	case p.other != "":
		return nil, fmt.Errorf("a record has no member %.40q", p.other)
	case p.event != nil && p.raw != nil:
		return nil, errors.New(`a record has "event" or "raw", not both`)
	default:
		return &p, nil
	}
}

func (p *recordParts) put(name string, value document) {
	if slices.Contains(p.seen, name) {
		p.twice = append(p.twice, name)
		return
	}
	if !recordMember(name) {
		if p.other == "" {
			p.other = name
		}
		return
	}
	p.seen = append(p.seen, name)
	if value.isNull() {
		return
	}
	switch name {
	case "event":
		p.event = value
	case "raw":
		p.raw = value
	case "headers":
		p.headers = value
	case "exchange":
		p.exchange = value
	case "routing_key":
		p.routingKey = value
	case "at":
		p.at = value
	}
}

func hasMember(object document, want string) bool {
	for name := range object.members() {
		if name == want {
			return true
		}
	}
	return false
}

// record gives the record, but for its failure.
func (p *recordParts) record(defaults event.Defaults) (Record, error) {
	var r recordReader
	for _, name := range p.twice {
		r.fault(within("record", name), "is there twice")
	}
	var at time.Time
	if p.at != nil {
		at = r.time("at", r.tree("at", p.at))
	}
	m, err := p.message(&r, defaults)
	if err == nil {
		err = r.err()
	}
	return Record{Message: m, At: at}, err
}

func (p *recordParts) message(r *recordReader, defaults event.Defaults) (m publisher.Message, err error) {
	headers := r.headers(p.headers)
	m.To = publisher.Destination{
		Exchange:   r.short("exchange", r.tree("exchange", p.exchange)),
		RoutingKey: r.short("routing_key", r.tree("routing_key", p.routingKey)),
	}
	if p.raw != nil {
		m.Raw = r.raw(p.raw)
		m.Raw.Headers = headers
		return m, nil
	}
	for name := range headers {
		if err := publisher.CheckHeaderName(name); err != nil {
			r.fault("headers", "%v", err)
		}
	}
	m.Headers = headers
	if m.Event, err = parseEvent(p.event, defaults); err != nil {
		return publisher.Message{}, err
	}
	return m, nil
}

// parseEvent reads the event of a record. It gets what it cannot be without, and nothing else: an event
// without a time has none when it is sent again.
func parseEvent(doc document, defaults event.Defaults) (event.Event, error) {
	var e event.Event
	if err := e.UnmarshalJSON(doc); err != nil {
		return event.Event{}, err
	}
	if e.ID == "" {
		e.ID = event.NewID()
	}
	if e.Type == "" {
		e.Type = defaults.Type
	}
	if e.Source == "" {
		e.Source = defaults.Source
	}
	if e.Source == "" {
		e.Source = event.DefaultSource
	}
	if e.Subject == "" {
		e.Subject = defaults.Subject
	}
	if e.Type == "" {
		return event.Event{}, event.ErrNoType
	}
	return e, e.Validate()
}

// recordReader gathers what is wrong with a record.
type recordReader struct{ faults RecordError }

func (r *recordReader) fault(path, format string, args ...any) {
	if len(r.faults.Faults) == maxFaults {
		r.faults.More++
		return
	}
	r.faults.Faults = append(r.faults.Faults, path+": "+fmt.Sprintf(format, args...))
}

func (r *recordReader) err() error {
	if len(r.faults.Faults) == 0 {
		return nil
	}
	return &r.faults
}

// headers gives nil where there are none.
func (r *recordReader) headers(doc document) map[string]any {
	tree := r.tree("headers", doc)
	if tree == nil {
		return nil
	}
	var headers map[string]any
	if o, ok := tree.(object); !ok {
		r.fault("headers", "is %s; want an object", kind(tree))
	} else if len(o) != 1 || o[0].name != "@table" {
		headers = r.table("headers", o, 0)
	} else {
		headers = r.literal("headers", o[0].value, 0)
	}
	if len(headers) == 0 {
		return nil
	}
	return headers
}

func (r *recordReader) raw(doc document) *publisher.Raw {
	raw := &publisher.Raw{}
	texts := map[string]*string{}
	for _, p := range properties(raw) {
		texts[p.name] = p.text
	}
	tree, _ := r.tree("raw", doc).(object)
	for _, m := range tree {
		path := within("raw", m.name)
		switch text := texts[m.name]; {
		case m.value == nil:
		case text != nil:
			*text = r.short(path, m.value)
		case m.name == "priority":
			raw.Priority, _ = r.number(path, "@uint8", m.value).(uint8)
		case m.name == "expiration":
			raw.Expiration = r.duration(path, m.value)
		case m.name == "timestamp":
			raw.Timestamp = r.time(path, m.value)
		case m.name != "body" && m.name != "body_base64":
			r.fault(path, "is no member of a raw message")
		}
	}
	raw.Body = r.body(tree)
	return raw
}

// body gives nil where there is none.
func (r *recordReader) body(raw object) []byte {
	text, isText := raw.get("body")
	encoded, isBytes := raw.get("body_base64")
	var body []byte
	switch {
	case isText && isBytes:
		r.fault("raw.body", `and "body_base64" are both there; only one can be`)
	case isText:
		text, ok := text.(string)
		if !ok {
			r.fault("raw.body", "is no string")
		}
		body = []byte(text)
	case isBytes:
		body = r.base64("raw.body_base64", encoded)
	}
	if len(body) == 0 {
		return nil
	}
	return body
}

func (r *recordReader) duration(path string, v any) time.Duration {
	text, _ := v.(string)
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		r.fault(path, `is no duration, such as "1m30s"`)
	}
	return d
}

// short gives what AMQP calls a short string.
func (r *recordReader) short(path string, v any) string {
	var text string
	switch v := v.(type) {
	case nil:
	case string:
		text = v
	case object:
		if len(v) != 1 || v[0].name != "@string" {
			r.fault(path, "is an object; want a string")
			break
		}
		text = string(r.base64(path, v[0].value))
	default:
		r.fault(path, "is %s; want a string", kind(v))
	}
	if len(text) > maxShortString {
		r.fault(path, "has %d bytes; AMQP holds %d", len(text), maxShortString)
	}
	return text
}

// maxNesting bounds the recursion. A table takes at most three levels of JSON, and a decimal two: see
// Record.
const maxNesting = 3*(maxDepth+1) + 2

// tree reads JSON; nil where there is none. It keeps what encoding/json would lose: which of the numbers
// are integers, and that a name is there twice.
func (r *recordReader) tree(path string, doc document) any {
	if doc == nil {
		return nil
	}
	return r.node(path, doc, maxNesting)
}

// node reads one value with so many levels of arrays and objects.
func (r *recordReader) node(path string, doc document, levels int) any {
	switch doc[0] {
	case '{', '[':
		if levels == 0 {
			r.fault(path, "is nested too deeply")
			return nil
		}
		if doc[0] == '{' {
			return r.object(path, doc, levels-1)
		}
		list := []any{}
		for element := range doc.elements() {
			list = append(list, r.node(path, element, levels-1))
		}
		return list
	case '"':
		return doc.text()
	case 't', 'f':
		return doc[0] == 't'
	case 'n':
		return nil
	default:
		return json.Number(doc)
	}
}

func (r *recordReader) object(path string, doc document, levels int) object {
	o := object{}
	seen := map[string]bool{}
	for name, value := range doc.members() {
		if seen[name] {
			r.fault(within(path, name), "is there twice")
			continue
		}
		seen[name] = true
		inner := path
		if value[0] == '{' || value[0] == '[' { // else nobody asks
			inner = within(path, name)
		}
		o = append(o, member{name, r.node(inner, value, levels)})
	}
	return o
}
