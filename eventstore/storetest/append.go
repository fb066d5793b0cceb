package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
)

func appendChecks() []Check {
	return []Check{
		{"an append tells where its events are", true, appendTells},
		{"a stream must be as expected", true, expectations},
		{"a conflict anywhere leaves nothing", true, conflictLeavesNothing},
		{"several writes to one stream follow each other", true, severalWrites},
		{"a write without events is a check", true, emptyWrite},
		{"an append made again adds nothing", true, madeAgain},
		{"an append made again is not held to its checks", true, checksMadeAgain},
		{"what is there in part is completed", true, completed},
		{"an id and source belong to one event", true, duplicates},
		{"what is no event or no stream is refused", false, invalid},
		{"an append whose context has ended does not happen", false, appendCancelled},
		{"a closed store says so", false, closed},
		{"times never go back", true, clockGoesBack},
	}
}

func appendTells(c *C) {
	before := time.Now().Add(-time.Second)
	all := events(6)
	first := c.append(to("a", all[0], all[1]), at("b", 0, all[2]))
	c.equal("positions", first.Positions, []int64{1, 2, 3})
	c.equal("versions", first.Versions, []int64{2, 1})
	c.equal("added", first.Added, 3)
	second, err := c.B.Append(c.Ctx, at("b", 1, all[3:]...), to("a"))
	c.no(err)
	c.equal("positions", second.Positions, []int64{4, 5, 6})
	c.equal("versions", second.Versions, []int64{4, 2})
	c.holds(first.RecordedAt.After(before) && !second.RecordedAt.Before(first.RecordedAt) && second.RecordedAt.Before(time.Now().Add(time.Second)),
		"recorded at %s, then at %s", first.RecordedAt, second.RecordedAt)
	for i, r := range c.log() {
		want := eventstore.Recorded{Event: all[i], Position: int64(i + 1), Stream: "a", Version: int64(i + 1), RecordedAt: first.RecordedAt}
		if i >= 2 {
			want.Stream, want.Version = "b", int64(i-1)
		}
		if i >= 3 {
			want.RecordedAt = second.RecordedAt
		}
		c.equal(fmt.Sprint("event ", i), r, want)
	}
	c.equal("head", c.head(), int64(6))
	c.equal("version", []int64{c.version("a"), c.version("b"), c.version("c")}, []int64{2, 4, 0})

	none := c.append()
	c.equal("an append of nothing", []int{len(none.Positions), len(none.Versions), none.Added}, []int{0, 0, 0})
}

func expectations(c *C) {
	c.equal("Exactly(0)", eventstore.Exactly(0), eventstore.NoStream)
	for _, test := range []struct {
		expect eventstore.Expectation
		fits   []int64 // the versions that it accepts, of 0 to 3
	}{
		{eventstore.Any, []int64{0, 1, 2, 3}},
		{eventstore.NoStream, []int64{0}},
		{eventstore.Exactly(1), []int64{1}},
		{eventstore.Exactly(2), []int64{2}},
		{eventstore.Exactly(3), []int64{3}},
		{eventstore.Exactly(4), nil},
	} {
		for actual := range int64(4) {
			stream := fmt.Sprintf("%s at %d", test.expect, actual)
			c.append(to(stream, events(int(actual))...))
			_, err := c.B.Append(c.Ctx, eventstore.StreamWrite{Stream: stream, Expect: test.expect, Events: events(1)})
			fits := false
			for _, v := range test.fits {
				fits = fits || v == actual
			}
			if fits {
				c.no(err)
				c.equal(stream, c.version(stream), actual+1)
				continue
			}
			conflict := as[*eventstore.ConflictError](c, stream, err)
			c.equal(stream, *conflict, eventstore.ConflictError{Stream: stream, Expected: test.expect, Actual: actual})
			c.equal(stream, c.version(stream), actual)
		}
	}
	_, err := c.A.Append(c.Ctx, eventstore.StreamWrite{Stream: "x", Expect: -2, Events: events(1)})
	c.holds(err != nil && c.version("x") == 0, "an expectation that is none is accepted")
}

func conflictLeavesNothing(c *C) {
	c.fill("b", 2)
	for _, writes := range [][]eventstore.StreamWrite{
		{to("a", events(3)...), at("b", 1, events(1)...)},
		{at("b", 1, events(1)...), to("a", events(3)...)},
		{to("a", events(1)...), at("b", 2, events(2)...), at("c", 7, events(1)...)},
		{to("a", events(1)...), at("b", 3)},
	} {
		_, err := c.B.Append(c.Ctx, writes...)
		has[*eventstore.ConflictError](c, "conflict", err)
		c.equal("head", c.head(), int64(2))
		c.equal("versions", []int64{c.version("a"), c.version("b"), c.version("c")}, []int64{0, 2, 0})
	}
	c.equal("the next position", c.append(to("a", events(1)...)).Positions, []int64{3})
	c.equal("events", len(c.log()), 3)
}

func severalWrites(c *C) {
	all := events(5)
	got := c.append(at("a", 0, all[0]), to("b", all[1]), at("a", 1, all[2], all[3]), at("a", 3, all[4]), at("a", 4))
	c.equal("positions", got.Positions, []int64{1, 2, 3, 4, 5})
	c.equal("versions", got.Versions, []int64{1, 1, 3, 4, 4})
	_, err := c.B.Append(c.Ctx, at("a", 4, events(1)...), at("a", 4, events(1)...))
	has[*eventstore.ConflictError](c, "the second write expects what the first has changed", err)
	c.equal("events", len(c.log()), 5)
}

func emptyWrite(c *C) {
	c.fill("a", 2)
	got, err := c.B.Append(c.Ctx, at("a", 2), at("b", 0), to("c"))
	c.no(err)
	c.equal("versions", got.Versions, []int64{2, 0, 0})
	c.holds(got.Added == 0 && got.RecordedAt.IsZero(), "nothing was added, and %+v says otherwise", got)
	for _, writes := range [][]eventstore.StreamWrite{
		{at("a", 1)},
		{at("a", 0)},
		{at("b", 1)},
		{at("a", 2), at("b", 1)},
		{at("b", 1), to("a", events(1)...)},
	} {
		_, err := c.B.Append(c.Ctx, writes...)
		has[*eventstore.ConflictError](c, "a check", err)
	}
	c.equal("head", c.head(), int64(2))
}

// madeAgain makes an append again while the streams go on: it is there, whatever it expected.
func madeAgain(c *C) {
	c.fill("a", 3)
	all := events(5)
	writes := []eventstore.StreamWrite{at("a", 3, all[0], all[1]), at("b", 0, all[2]), to("c", all[3]), at("b", 1, all[4])}
	first := c.append(writes...)
	for i := range 3 {
		again, err := c.B.Append(c.Ctx, writes...)
		c.no(err)
		c.equal("positions", again.Positions, first.Positions)
		c.equal("versions", again.Versions, first.Versions)
		c.holds(again.Added == 0 && again.RecordedAt.IsZero(), "nothing was added, and %+v says otherwise", again)
		for _, stream := range []string{"a", "b", "c"}[:i+1] {
			c.fill(stream, 2)
		}
	}
	twice := events(1)[0]
	got := c.append(to("d", twice, twice), to("d", twice))
	c.equal("added", got.Added, 1)
	c.equal("positions", got.Positions, []int64{got.Positions[0], got.Positions[0], got.Positions[0]})
	_, err := c.B.Append(c.Ctx, to("d", c.read(eventstore.Query{Stream: "d"})[0].Event))
	c.no(err)
	c.equal("version", c.version("d"), int64(1))
	c.log()
}

// checksMadeAgain makes an append again whose check does not hold any longer: what it decided is done.
func checksMadeAgain(c *C) {
	writes := []eventstore.StreamWrite{at("a", 0, events(1)...), at("b", 0)}
	first := c.append(writes...)
	c.fill("b", 1)
	again, err := c.B.Append(c.Ctx, writes...)
	c.no(err)
	c.equal("positions", again.Positions, first.Positions)
	c.equal("added", again.Added, 0)
	writes[0].Events = append(writes[0].Events, events(1)...)
	_, err = c.B.Append(c.Ctx, writes...)
	has[*eventstore.ConflictError](c, "something new in it", err)
	c.equal("head", c.head(), int64(2))
}

func completed(c *C) {
	all := events(6)
	c.append(to("a", all[0], all[2]))
	got, err := c.B.Append(c.Ctx, to("a", all[0], all[1], all[2], all[3]), at("b", 0, all[4]))
	c.no(err)
	c.equal("positions", got.Positions, []int64{1, 3, 2, 4, 5})
	c.equal("versions", got.Versions, []int64{4, 1})
	c.equal("added", got.Added, 3)
	got, err = c.B.Append(c.Ctx, at("b", 0, all[4]), at("a", 4, all[3], all[5]))
	c.no(err)
	c.equal("positions", got.Positions, []int64{5, 4, 6})
	c.equal("added", got.Added, 1)
	_, err = c.B.Append(c.Ctx, at("a", 4, all[5], events(1)[0]))
	has[*eventstore.ConflictError](c, "something new for a stream that has gone on", err)
	c.equal("events", len(c.log()), 6)
}

func duplicates(c *C) {
	there := newEvent("step", map[string]int{"n": 1})
	there.Subject = "s"
	there = there.WithExtension("xa", "v").WithExtension("xb", 7)
	c.fill("a", 2)
	c.append(to("a", there))
	change := func(f func(e *event.Event)) event.Event {
		e := there
		f(&e)
		return e
	}
	for what, e := range map[string]event.Event{
		"data":         change(func(e *event.Event) { e.Data = []byte(`{"n":2}`) }),
		"no data":      change(func(e *event.Event) { e.Data = nil }),
		"type":         change(func(e *event.Event) { e.Type = "other" }),
		"subject":      change(func(e *event.Event) { e.Subject = "" }),
		"time":         change(func(e *event.Event) { e.Time = e.Time.Add(1) }),
		"content type": change(func(e *event.Event) { e.DataContentType = "text/plain" }),
		"data schema":  change(func(e *event.Event) { e.DataSchema = "https://example.com/s" }),
		"extension":    there.WithExtension("xb", 8),
		"its type":     there.WithExtension("xb", "7"),
		"one less":     there.WithExtension("xa", nil),
		"correlation":  there.WithExtension(event.ExtCorrelationID, "c"),
	} {
		for _, version := range []int64{3, 1} { // as expected, and not
			_, err := c.B.Append(c.Ctx, to("b", events(1)...), at("a", version, e))
			duplicate := as[*eventstore.DuplicateError](c, what, err)
			c.equal(what, *duplicate, eventstore.DuplicateError{ID: there.ID, Source: there.Source, Stream: "a", Position: 3})
		}
	}
	_, err := c.B.Append(c.Ctx, to("other", there))
	has[*eventstore.DuplicateError](c, "another stream", err)
	_, err = c.B.Append(c.Ctx, to("other", events(1)[0], there), to("a", there))
	has[*eventstore.DuplicateError](c, "another stream", err)
	c.equal("head", c.head(), int64(3))
	c.append(to("a", change(func(e *event.Event) { e.Source = "elsewhere" })), to("a", change(func(e *event.Event) { e.ID = "other" })))
	c.equal("events", len(c.log()), 5)
}

func invalid(c *C) {
	long := strings.Repeat("é", 500)
	good := events(1)[0]
	for what, change := range map[string]func(e *event.Event){
		"no id":               func(e *event.Event) { e.ID = "" },
		"no source":           func(e *event.Event) { e.Source = "" },
		"no type":             func(e *event.Event) { e.Type = "" },
		"a control character": func(e *event.Event) { e.Subject = "a\x00b" },
		"a long id":           func(e *event.Event) { e.ID = long + "x" },
		"a long source":       func(e *event.Event) { e.Source = strings.Repeat("s", 1001) },
		"a long type":         func(e *event.Event) { e.Type = long + "x" },
		"a long subject":      func(e *event.Event) { e.Subject = long + "x" },
		"a long correlation":  func(e *event.Event) { e.Extensions = map[string]any{event.ExtCorrelationID: long + "x"} },
		"a year 10000":        func(e *event.Event) { e.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"a strange extension": func(e *event.Event) { e.Extensions = map[string]any{"x": 1.5} },
	} {
		bad := good
		change(&bad)
		_, err := c.A.Append(c.Ctx, to("a", events(2)...), to("b", events(1)[0], bad))
		refused := as[*eventstore.InvalidError](c, what, err)
		c.holds(refused.Stream == "b" && refused.Index == 1 && refused.Err != nil, "%s: %+v", what, refused)
	}
	for _, name := range []string{"", long + "x", "a\nb", "a\x00", "\xff"} {
		_, err := c.A.Append(c.Ctx, to("a", events(1)...), to(name, events(1)...))
		c.is(fmt.Sprintf("stream %q", name), err, eventstore.ErrStreamName)
	}
	c.equal("head", c.head(), int64(0))
	most := good
	most.ID, most.Type, most.Subject, most.Source = long, long, long, strings.Repeat("s", 1000)
	most = most.WithExtension(event.ExtCorrelationID, long).WithExtension("x", strings.Repeat("v", 100_000))
	c.append(to(long, most))
	c.equal("the longest of everything", c.read(eventstore.Query{Stream: long, Correlation: long, Subject: long})[0].Event, most)
}

func appendCancelled(c *C) {
	ctx, cancel := context.WithCancelCause(c.Ctx)
	cancel(errOnPurpose)
	_, err := c.A.Append(ctx, to("a", events(1)...))
	c.is("append", err, context.Canceled)
	c.holds(!errors.Is(err, eventstore.ErrOutcomeUnknown), "the outcome of what has not begun is known: %v", err)
	c.equal("the position of the next", c.append(to("b", events(1)...)).Positions, []int64{1})

	// What ends at any moment has an outcome: the event is there, or it is not, or that is not known.
	for i := range 100 {
		ctx, cancel := context.WithTimeout(c.Ctx, time.Duration(i)*20*time.Microsecond)
		e := events(1)[0]
		_, err := c.A.Append(ctx, to("a", e))
		cancel()
		again := c.append(to("a", e))
		switch there := again.Added == 0; {
		case err == nil && !there:
			c.Fatalf("the append succeeded, and its event is not there")
		case err != nil && !errors.Is(err, context.DeadlineExceeded):
			c.Fatalf("the error does not wrap that of ctx: %v", err)
		case err != nil && there && !errors.Is(err, eventstore.ErrOutcomeUnknown):
			c.Fatalf("the append was made, and the error says that it was not: %v", err)
		}
	}
	c.equal("events", len(c.log()), 101)
}

func closed(c *C) {
	c.fill("a", 3)
	s := c.Open(eventstore.Config{})
	following := make(chan error, 1)
	reached := make(chan struct{})
	go func() {
		for r, err := range s.Follow(c.Ctx, eventstore.Query{}) {
			if r.Position == 3 {
				close(reached)
			}
			if err != nil {
				following <- err
			}
		}
		close(following)
	}()
	<-reached
	c.no(s.Close())
	c.is("a follower", <-following, eventstore.ErrClosed)
	_, err := s.Append(c.Ctx, to("a", events(1)...))
	c.is("Append", err, eventstore.ErrClosed)
	_, err = collect(s.Read(c.Ctx, eventstore.Query{}))
	c.is("Read", err, eventstore.ErrClosed)
	_, err = collect(s.Follow(c.Ctx, eventstore.Query{}))
	c.is("Follow", err, eventstore.ErrClosed)
	_, err = collect(s.Streams(c.Ctx, "", ""))
	c.is("Streams", err, eventstore.ErrClosed)
	_, err = s.Head(c.Ctx)
	c.is("Head", err, eventstore.ErrClosed)
	_, err = eventstore.Load(c.Ctx, s, "a", tally())
	c.is("Load", err, eventstore.ErrClosed)
	c.is("Lead", s.Lead(c.Ctx, "x", 0, func(context.Context, *eventstore.Lease) error { return nil }), eventstore.ErrClosed)
	_, err = s.Verify(c.Ctx, func(eventstore.Finding) {})
	c.is("Verify", err, eventstore.ErrClosed)
	c.no(s.Close())
	c.equal("head", c.head(), int64(3))
}

// clockGoesBack puts the last event into the future, which is where the next ones are then, too.
func clockGoesBack(c *C) {
	c.fill("a", 1)
	future := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	c.tamper(fmt.Sprintf(`UPDATE evdemo_store_events SET recorded_at = %d`, future.UnixMicro()))
	c.equal("recorded at", c.append(to("a", events(1)...)).RecordedAt, future)
	got, err := c.B.Append(c.Ctx, to("a", events(2)...))
	c.no(err)
	c.equal("recorded at", got.RecordedAt, future)
	c.log()
}
