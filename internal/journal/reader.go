package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore/relay"
	"github.com/evdemo/evdemo/internal/feed"
	"github.com/evdemo/evdemo/publisher"
)

// headerStream is the header of a message that names the stream of its event: a relay's, so that what was relayed and
// recorded finds its way back.
const headerStream = relay.HeaderStream

// maxLine is the longest line that is looked at. Package feed refuses those that are longer.
const maxLine = 128 << 20

// maxFaults is how many lines with faults are named before the rest are only counted.
const maxFaults = 10

// Reader is between a file and package feed, which reads the lines: it makes records of feed's of those lines that
// feed would not read as an event store must.
//
//   - A recorded event, as [AppendLine] writes it, becomes a record whose header [relay.HeaderStream] names the stream.
//   - An event that has an id gets no time that it does not have: it must be the same event when it is read again.
//   - A raw message that holds an event becomes that event.
//
// Everything else, and what has a fault, stays as it is, and every line stays the line that it was.
type Reader struct {
	name     string
	in       *bufio.Reader
	defaults event.Defaults
	stream   bool

	line   int
	out    []byte // of the line that is being given
	given  int
	err    error
	faults []error
	more   int
}

// NewReader reads from r. The name stands in faults. With stream every line must name its stream.
func NewReader(name string, r io.Reader, defaults event.Defaults, stream bool) *Reader {
	return &Reader{name: name, in: bufio.NewReaderSize(r, 64<<10), defaults: defaults, stream: stream}
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	for r.given == len(r.out) {
		if r.err != nil {
			return 0, r.err
		}
		r.next()
	}
	n := copy(p, r.out[r.given:])
	r.given += n
	return n, nil
}

// Faults gives what is wrong with the lines read so far that feed sees nothing wrong with.
func (r *Reader) Faults() error {
	faults := r.faults
	if r.more > 0 {
		faults = append(slices.Clip(faults), fmt.Errorf("and %d more bad lines", r.more))
	}
	return errors.Join(faults...)
}

func (r *Reader) fault(err error) {
	if len(r.faults) == maxFaults {
		r.more++
		return
	}
	r.faults = append(r.faults, &feed.LineError{Name: r.name, Line: r.line, Err: err})
}

// next reads a line. One that is too long for memory is feed's to refuse.
func (r *Reader) next() {
	r.line++
	r.given, r.out = 0, r.out[:0]
	var part []byte
	for {
		part, r.err = r.in.ReadSlice('\n')
		r.out = append(r.out, part...)
		if !errors.Is(r.err, bufio.ErrBufferFull) {
			break
		}
		if len(r.out) > maxLine {
			r.err = nil
			return
		}
	}
	if line := bytes.TrimSpace(bytes.TrimPrefix(r.out, []byte("\ufeff"))); len(line) > 0 {
		if record := r.record(line); record != nil {
			r.out = append(record, '\n')
		}
	}
}

// record makes a record of a line, or gives nil where feed reads the line as it is.
func (r *Reader) record(line []byte) []byte {
	o := split(line)
	if o == nil {
		r.needStream("")
		return nil
	}
	switch {
	case o.has("raw"):
		return r.raw(line)
	case o.has("event"):
		return r.recorded(o)
	case o.has("specversion") && o.has("id"):
		r.needStream("")
		return append(append([]byte(`{"event":`), line...), '}')
	case !o.has("specversion") && (o.has("id") || o.has("event_id")):
		r.needStream("")
		return r.timeless(line)
	default:
		r.needStream("")
		return nil
	}
}

// needStream notes a line that does not name its stream.
func (r *Reader) needStream(stream string) {
	if r.stream && stream == "" {
		r.fault(errors.New("it does not say which stream the event is for: name one, evdemo store append STREAM"))
	}
}

// recorded makes a record of a recorded event. What has other members stays as it is, and so does a record of feed's.
func (r *Reader) recorded(o object) []byte {
	if !o.hasPlace() || !split(o.get("event")).has("specversion") {
		r.needStream(o.header())
		return nil
	}
	stream, b := o.header(), append([]byte(`{"event":`), o.get("event")...)
	for _, m := range o {
		switch m.name {
		case "event", "position", "version", "recorded_at":
		case "stream":
			if json.Unmarshal(m.value, &stream) != nil || stream == "" || o.has("headers") {
				r.fault(errors.New(`"stream" is no name, or "headers" are there as well`))
				return nil
			}
			b = append(append(append(b, `,"headers":{"`+headerStream+`":`...), m.value...), '}')
		case "headers":
			b = append(append(b, `,"headers":`...), m.value...)
		default:
			r.needStream("")
			return nil
		}
		if o.count(m.name) > 1 {
			r.fault(fmt.Errorf("%q is there twice", m.name))
			return nil
		}
	}
	r.needStream(stream)
	return append(b, '}')
}

// raw makes a record of a raw message that holds an event.
func (r *Reader) raw(line []byte) []byte {
	m, err := feed.NewLines(r.name, bytes.NewReader(line), r.defaults).Next()
	if err != nil || m.Raw == nil {
		return nil // feed says what is wrong with it
	}
	e, err := event.Decode(m.Raw.Message)
	if err != nil {
		r.fault(fmt.Errorf("the message holds no event: %w", err))
		return nil
	}
	b, err := appendEvent([]byte(`{"event":`), e)
	if err != nil {
		r.fault(err)
		return nil
	}
	stream, _ := m.Raw.Headers[headerStream].(string)
	r.needStream(stream)
	if stream != "" {
		b = append(append(append(b, `,"headers":{"`+headerStream+`":`...), quote(stream)...), '}')
	}
	return append(b, '}')
}

// timeless makes a record of an event that has an id, if reading it would make up a time.
func (r *Reader) timeless(line []byte) []byte {
	before := time.Now().Truncate(time.Microsecond)
	e, err := event.Parse(line, r.defaults)
	if err != nil || e.Time.Before(before) || e.Time.After(time.Now()) {
		return nil // it has a time of its own, or feed says what is wrong with it
	}
	if again, err := event.Parse(line, r.defaults); err != nil || again.ID != e.ID {
		return nil // its id is made up as well: "id" is among the data
	}
	e.Time = time.Time{}
	b, err := e.AppendJSON([]byte(`{"event":`))
	if err != nil {
		return nil
	}
	return append(b, '}')
}

// object is a JSON object with its members in their order.
type object []member

type member struct {
	name  string
	value json.RawMessage
}

// split gives nil for what is no JSON object.
func split(line []byte) object {
	if len(line) == 0 || line[0] != '{' || !json.Valid(line) {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(line))
	if _, err := decoder.Token(); err != nil {
		return nil
	}
	o := object{}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil
		}
		var m member
		m.name, _ = name.(string)
		if err := decoder.Decode(&m.value); err != nil {
			return nil
		}
		o = append(o, m)
	}
	return o
}

func (o object) count(name string) (n int) {
	for _, m := range o {
		if m.name == name {
			n++
		}
	}
	return n
}

func (o object) has(name string) bool { return o.count(name) > 0 }

// place tells whether a member says where in a store an event was.
func place(name string) bool {
	return name == "position" || name == "stream" || name == "version" || name == "recorded_at"
}

func (o object) hasPlace() bool {
	for _, m := range o {
		if place(m.name) {
			return true
		}
	}
	return false
}

// header is the stream that a record's headers name, "" for none.
func (o object) header() (stream string) {
	var headers map[string]json.RawMessage
	if json.Unmarshal(o.get("headers"), &headers) == nil {
		_ = json.Unmarshal(headers[headerStream], &stream) // anything else is no name
	}
	return stream
}

// get gives the value of the first member of that name.
func (o object) get(name string) json.RawMessage {
	for _, m := range o {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

func quote(s string) []byte {
	b, _ := json.Marshal(s) //nolint:errchkjson // a string
	return b
}

// Stream is the stream that a message from a [Reader] names, "" for none.
func Stream(m publisher.Message) string {
	stream, _ := m.Headers[headerStream].(string)
	return stream
}
