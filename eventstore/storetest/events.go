package storetest

import (
	"encoding/base64"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
)

func eventChecks() []Check {
	return []Check{
		{"an event comes back as it was", true, roundTrip},
	}
}

// in is the check within a property.
func (c *C) in(t *rapid.T) *C {
	inner := *c
	inner.TB = propertyTB{c.TB, t}
	return &inner
}

// propertyTB fails one attempt of a property, not the whole test.
type propertyTB struct {
	testing.TB
	t *rapid.T
}

func (p propertyTB) Helper()                           { p.t.Helper() }
func (p propertyTB) Fatalf(format string, args ...any) { p.t.Fatalf(format, args...) }
func (p propertyTB) Errorf(format string, args ...any) { p.t.Errorf(format, args...) }

func roundTrip(c *C) {
	rapid.Check(c.TB, func(t *rapid.T) {
		c := c.in(t)
		before := c.head()
		all := rapid.SliceOfN(anEvent(), 1, 5).Draw(t, "events")
		stream := rapid.OneOf(text(), rapid.Just("one")).Draw(t, "stream")
		for i := range all {
			all[i].ID = event.NewID() // drawn ones may come twice
		}
		c.append(to(stream, all...))
		read := c.read(eventstore.Query{After: before})
		c.equal("events", len(read), len(all))
		for i, r := range read {
			c.equal("stream", r.Stream, stream)
			c.equal("event", r.Event, stored(all[i]))
		}
		again, err := c.B.Append(c.Ctx, to(stream, all...))
		c.no(err)
		c.equal("added by the same once more", again.Added, 0)
	})
}

// stored is an event as it must come out of a store: as it comes out of its JSON, in which an extension that is a time
// or bytes is text; but with the content type and the data that it had.
func stored(e event.Event) event.Event {
	e.Time = e.Time.UTC()
	if len(e.Data) == 0 {
		e.Data = nil
	}
	extensions := map[string]any{}
	for name, value := range e.Extensions {
		switch v := value.(type) {
		case time.Time:
			value = v.UTC().Format(time.RFC3339Nano)
		case []byte:
			value = base64.StdEncoding.EncodeToString(v)
		}
		extensions[name] = value
	}
	if e.Extensions = extensions; len(extensions) == 0 {
		e.Extensions = nil
	}
	return e
}

func text() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringMatching(`[!-~]([ -~]{0,40}[!-~])?`),
		rapid.StringMatching(`[\x{a1}-\x{d7ff}\x{e000}-\x{fdcf}\x{10000}-\x{1fffd}]{1,10}`),
	)
}

// instant draws a time of any year, in any zone, to the nanosecond.
func instant() *rapid.Generator[time.Time] {
	return rapid.Custom(func(t *rapid.T) time.Time {
		seconds := rapid.OneOf(rapid.Int64Range(-62135596799, 253402214400), rapid.Int64Range(-100, 100)).Draw(t, "seconds")
		nanos := rapid.Int64Range(0, 999_999_999).Draw(t, "nanos")
		zone := time.FixedZone("", rapid.IntRange(-50000, 50000).Draw(t, "zone"))
		return time.Unix(seconds, nanos).In(zone)
	})
}

func extensions() *rapid.Generator[map[string]any] {
	value := rapid.OneOf(rapid.Bool().AsAny(), rapid.Int32().AsAny(), text().AsAny(), rapid.Just("").AsAny(),
		rapid.SliceOf(rapid.Byte()).AsAny(), instant().AsAny())
	name := rapid.OneOf(
		rapid.SampledFrom([]string{event.ExtCorrelationID, event.ExtCausationID, event.ExtSchemaVersion, event.ExtTraceParent}),
		rapid.StringMatching(`x[a-z0-9]{0,19}`),
	)
	return rapid.MapOfN(name, value, 0, 8)
}

// anEvent draws a valid event with anything in each of its attributes.
func anEvent() *rapid.Generator[event.Event] {
	return rapid.Custom(func(t *rapid.T) event.Event {
		e := event.Event{
			ID: text().Draw(t, "id"), Source: rapid.StringMatching(`[a-z0-9/._~-]{1,30}`).Draw(t, "source"), Type: text().Draw(t, "type"),
			DataContentType: rapid.SampledFrom([]string{"", "application/json", "text/csv; charset=latin1", "application/octet-stream"}).Draw(t, "content type"),
			Data: rapid.OneOf(
				rapid.SliceOf(rapid.Byte()), rapid.Just([]byte{}), rapid.Just([]byte(nil)), rapid.Just([]byte{0}), rapid.Just([]byte("null")),
				rapid.Map(rapid.String(), func(s string) []byte { return []byte(s) }),
			).Draw(t, "data"),
			Extensions: extensions().Draw(t, "extensions"),
		}
		if rapid.Bool().Draw(t, "more") {
			e.Subject = text().Draw(t, "subject")
			e.Time = instant().Draw(t, "time")
			e.DataSchema = "https://example.com/" + rapid.StringMatching(`[a-z]{1,9}`).Draw(t, "schema")
		}
		if err := e.Validate(); err != nil {
			t.Skip(err)
		}
		return e
	})
}
