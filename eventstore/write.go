package eventstore

import (
	"fmt"
	"strconv"
	"time"

	"github.com/evdemo/evdemo/event"
)

// Expectation is what an append takes the stream's version to be. Its zero value is [Any].
type Expectation int64

const (
	// Any appends whatever version the stream has. Nothing protects a decision that was made from
	// the stream's state: two callers may decide on the same.
	Any Expectation = 0
	// NoStream appends only where the stream has no events.
	NoStream Expectation = -1

	impossible Expectation = -2
)

// Exactly appends only where the stream has this version: that of its last event, 0 for no events. A negative one is
// refused by the append.
func Exactly(version int64) Expectation {
	switch {
	case version == 0:
		return NoStream
	case version < 0:
		return impossible
	default:
		return Expectation(version)
	}
}

// version is the version that the stream must have, -1 where any will do.
func (e Expectation) version() int64 {
	switch e {
	case Any:
		return -1
	case NoStream:
		return 0
	default:
		return int64(e)
	}
}

func (e Expectation) String() string {
	switch e {
	case Any:
		return "any version"
	case NoStream:
		return "no events"
	default:
		return "version " + strconv.FormatInt(int64(e), 10)
	}
}

// StreamWrite is what one append does to one stream.
type StreamWrite struct {
	// Stream names the stream: up to 1,000 bytes of UTF-8 without control characters.
	Stream string
	// Expect is what the stream must be like.
	Expect Expectation
	// Events are appended in their order. None is allowed: then the expectation is all that is checked.
	Events []event.Event
}

// Appended is what became of an append.
type Appended struct {
	// Positions are the places of all events in the log, in the order of the writes and their events.
	Positions []int64
	// Versions are the versions of the streams behind the last event of each write, in the order of the writes.
	Versions []int64
	// Added counts the events that were not there before. The others had been appended earlier, with the same content, to
	// the same stream: perhaps by this very append, where a connection was lost and it was made a second time.
	Added int
	// RecordedAt is when the events that were added were appended; zero where none was.
	RecordedAt time.Time
}

// Recorded is an event in the log. Extensions come back as the event's JSON has them: a time or bytes as text.
type Recorded struct {
	event.Event

	// Position is the event's place in the log: 1 for the first. Positions are dense, and in the order in
	// which the appends were committed.
	Position int64
	// Stream and Version are the event's place in its stream: version 1 is the first.
	Stream  string
	Version int64
	// RecordedAt is when the event was appended, to the microsecond, by the clock of the machine that appended
	// it (PostgreSQL: of the server). It is never earlier than that of the event before.
	RecordedAt time.Time
}

// maxName is the most that an attribute with an index may have, in bytes. PostgreSQL's indexes hold no more
// than a third of a page.
const maxName = 1000

// row is an event as the tables have it. Empty texts stand for absent ones.
type row struct {
	id, source, kind, subject, time, contentType, dataSchema, correlation, extensions string

	data []byte
}

// newRow checks an event and writes out what the tables have as text.
func newRow(e event.Event) (row, error) {
	if err := e.Validate(); err != nil {
		return row{}, err
	}
	r := row{
		id: e.ID, source: e.Source, kind: e.Type, subject: e.Subject, contentType: e.DataContentType,
		dataSchema: e.DataSchema, correlation: e.CorrelationID(), data: e.Data,
	}
	for _, a := range []struct{ name, value string }{
		{"id", r.id}, {"source", r.source}, {"type", r.kind}, {"subject", r.subject}, {event.ExtCorrelationID, r.correlation},
	} {
		if len(a.value) > maxName {
			return row{}, fmt.Errorf("%s has %d bytes: an event store holds %d", a.name, len(a.value), maxName)
		}
	}
	if !e.Time.IsZero() {
		r.time = e.Time.UTC().Format(time.RFC3339Nano)
	}
	var err error
	r.extensions, err = writeExtensions(e.Extensions)
	return r, err
}

// extensionsStart is what an event with nothing but extensions begins with in JSON.
const extensionsStart = `{"specversion":"` + event.SpecVersion + `"`

// writeExtensions writes extensions as a JSON object, as the event's JSON has them.
func writeExtensions(extensions map[string]any) (string, error) {
	if len(extensions) == 0 {
		return "", nil
	}
	b, err := event.Event{Extensions: extensions}.AppendJSON(nil)
	if err != nil {
		return "", err
	}
	return "{" + string(b[len(extensionsStart)+1:]), nil
}

// readExtensions reads what writeExtensions has written.
func readExtensions(object string) (map[string]any, error) {
	if object == "" {
		return nil, nil
	}
	var e event.Event
	doc := make([]byte, 0, len(extensionsStart)+len(object))
	doc = append(append(append(doc, extensionsStart...), ','), object[1:]...)
	if err := e.UnmarshalJSON(doc); err != nil {
		return nil, fmt.Errorf("extensions: %w", err)
	}
	return e.Extensions, nil
}

// event makes the event again.
func (r *row) event() (e event.Event, err error) {
	e = event.Event{
		ID: r.id, Source: r.source, Type: r.kind, Subject: r.subject,
		DataContentType: r.contentType, DataSchema: r.dataSchema, Data: r.bytes(),
	}
	if r.time != "" {
		if e.Time, err = time.Parse(time.RFC3339Nano, r.time); err != nil {
			return event.Event{}, err
		}
	}
	e.Extensions, err = readExtensions(r.extensions)
	return e, err
}

// same tells whether the rows are the same event. Equal extensions are written alike.
func (r *row) same(other *row) bool {
	return r.id == other.id && r.source == other.source && r.kind == other.kind && r.subject == other.subject &&
		r.time == other.time && r.contentType == other.contentType && r.dataSchema == other.dataSchema &&
		r.extensions == other.extensions && string(r.data) == string(other.data)
}

// checkStream checks a stream's name.
func checkStream(stream string) error {
	switch {
	case stream == "":
		return fmt.Errorf("%w: it is empty", ErrStreamName)
	case len(stream) > maxName:
		return fmt.Errorf("%w: it has %d bytes, more than %d", ErrStreamName, len(stream), maxName)
	case !printable(stream):
		return fmt.Errorf("%w: %q has control characters, or is not UTF-8", ErrStreamName, stream)
	default:
		return nil
	}
}
