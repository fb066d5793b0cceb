package storetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
)

var errOnPurpose = errors.New("on purpose")

// step is how often a condition is looked at.
const step = 2 * time.Millisecond

// no fails the check at an error.
func (c *C) no(err error) {
	c.Helper()
	if err != nil {
		c.Fatalf("unexpected error: %v", err)
	}
}

// is fails the check unless err wraps target.
func (c *C) is(what string, err, target error) {
	c.Helper()
	if !errors.Is(err, target) {
		c.Fatalf("%s: the error is %v, and should wrap: %v", what, err, target)
	}
}

// equal fails the check unless both are deeply equal.
func (c *C) equal(what string, got, want any) {
	c.Helper()
	if !reflect.DeepEqual(got, want) {
		c.Fatalf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

// holds fails the check unless a condition holds.
func (c *C) holds(condition bool, format string, args ...any) {
	c.Helper()
	if !condition {
		c.Fatalf(format, args...)
	}
}

// as gives the error of a type in err, or fails the check.
func as[E error](c *C, what string, err error) E {
	c.Helper()
	e, ok := errors.AsType[E](err)
	if !ok {
		c.Fatalf("%s: the error is %v, and should be a %T", what, err, e)
	}
	return e
}

// has fails the check unless there is an error of a type in err.
func has[E error](c *C, what string, err error) {
	c.Helper()
	_ = as[E](c, what, err)
}

// await waits for a condition, and fails the check where it does not come about.
func (c *C) await(what string, condition func() bool) {
	c.Helper()
	tick := time.NewTicker(step)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-c.Ctx.Done():
			c.Fatalf("%s: %v", what, c.Ctx.Err())
		}
	}
}

// rest waits for a while, or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// events makes n new ones, the k-th with the data k.
func events(n int) []event.Event {
	made := make([]event.Event, n)
	for i := range made {
		made[i] = newEvent("step", i)
	}
	return made
}

func newEvent(kind string, data any) event.Event {
	e, err := event.New(kind, "storetest", data)
	if err != nil {
		panic(err) // the arguments are this package's
	}
	return e
}

// to is a write to a stream whatever its version, and at one that expects a version.
func to(stream string, events ...event.Event) eventstore.StreamWrite {
	return eventstore.StreamWrite{Stream: stream, Events: events}
}

func at(stream string, version int64, events ...event.Event) eventstore.StreamWrite {
	return eventstore.StreamWrite{Stream: stream, Expect: eventstore.Exactly(version), Events: events}
}

// append appends to A, and fails the check where that fails.
func (c *C) append(writes ...eventstore.StreamWrite) eventstore.Appended {
	c.Helper()
	appended, err := c.A.Append(c.Ctx, writes...)
	c.no(err)
	return appended
}

// fill puts n events into a stream, and gives them.
func (c *C) fill(stream string, n int) []event.Event {
	c.Helper()
	all := events(n)
	c.append(to(stream, all...))
	return all
}

// collect reads an iteration to its end.
func collect[T any](all iter.Seq2[T, error]) (got []T, err error) {
	for one, err := range all {
		if err != nil {
			return got, err
		}
		got = append(got, one)
	}
	return got, nil
}

// read reads from B, and fails the check where that fails.
func (c *C) read(q eventstore.Query) []eventstore.Recorded {
	c.Helper()
	got, err := collect(c.B.Read(c.Ctx, q))
	c.no(err)
	return got
}

// log reads everything, and fails the check unless positions are dense and versions too.
func (c *C) log() []eventstore.Recorded {
	c.Helper()
	all := c.read(eventstore.Query{})
	c.no(wellFormed(all))
	return all
}

// wellFormed tells whether a log is one: positions and versions are dense, and times do not go back.
func wellFormed(all []eventstore.Recorded) error {
	versions := map[string]int64{}
	var last eventstore.Recorded
	for _, r := range all {
		versions[r.Stream]++
		switch {
		case r.Position != last.Position+1:
			return fmt.Errorf("position %d follows %d", r.Position, last.Position)
		case r.Version != versions[r.Stream]:
			return fmt.Errorf("position %d: stream %s has version %d, want %d", r.Position, r.Stream, r.Version, versions[r.Stream])
		case r.RecordedAt.Before(last.RecordedAt):
			return fmt.Errorf("position %d: recorded at %s, before %s", r.Position, r.RecordedAt, last.RecordedAt)
		}
		last = r
	}
	return nil
}

// head is the end of the log, by B.
func (c *C) head() int64 {
	c.Helper()
	position, err := c.B.Head(c.Ctx)
	c.no(err)
	return position
}

// version is a stream's, by B.
func (c *C) version(stream string) int64 {
	c.Helper()
	version, err := c.B.Version(c.Ctx, stream)
	c.no(err)
	return version
}

func ids(all []eventstore.Recorded) []string {
	ids := make([]string, len(all))
	for i, r := range all {
		ids[i] = r.ID
	}
	return ids
}

func positions(all []eventstore.Recorded) []int64 {
	positions := make([]int64, len(all))
	for i, r := range all {
		positions[i] = r.Position
	}
	return positions
}
