package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/eventstore"
)

func verifyChecks() []Check {
	return []Check{
		{"a sound store is found sound while others write", true, verifySound},
		{"every kind of damage is found", false, verifyDamage},
		{"whoever is told of damage may use the store", false, verifyBusy},
		{"a verification ends with its context", false, verifyCancelled},
	}
}

// verify gives what is found, as text.
func (c *C) verify(s *eventstore.Store) (eventstore.Verification, []string) {
	c.Helper()
	var found []string
	v, err := s.Verify(c.Ctx, func(f eventstore.Finding) { found = append(found, f.String()) }, eventstore.CheckSnapshots(tally()), eventstore.CheckSnapshots(counter()))
	c.no(err)
	c.equal("findings", v.Findings, int64(len(found)))
	return v, found
}

func verifySound(c *C) {
	v, found := c.verify(c.A)
	c.holds(len(found) == 0 && v == eventstore.Verification{}, "an empty store: %+v, %v", v, found)
	c.mixed(100)
	c.load("one", eventstore.SnapshotEvery(1))
	c.load("two", eventstore.SnapshotEvery(1))
	c.no(c.A.Project(c.Ctx, readModel()))
	v, found = c.verify(c.B)
	c.equal("found", found, []string(nil))
	c.equal("looked at", v, eventstore.Verification{Events: 100, Streams: 4, Snapshots: 2, Compared: 2, Checkpoints: 1})

	var crowd errgroup.Group
	for w := range 8 {
		crowd.Go(func() error {
			for range 8 {
				stream := fmt.Sprint("s-", w%3)
				if _, err := c.store(w).Append(c.Ctx, to(stream, events(3)...), to("x", events(1)...)); err != nil {
					return err
				}
				if _, err := eventstore.Load(c.Ctx, c.store(w), stream, tally(), eventstore.SnapshotEvery(5)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for range 3 {
		before := c.head()
		v, found := c.verify(c.A)
		c.equal("found while others write", found, []string(nil))
		c.holds(v.Events >= before, "%d events were looked at, and there were %d", v.Events, before)
	}
	c.no(crowd.Wait())
	v, found = c.verify(c.A)
	c.equal("found", found, []string(nil))
	c.equal("events", v.Events, int64(100+8*8*4))
}

// damage is something that SQL does to a sound store, and a part of what must be found.
type damage struct {
	name string
	do   []string
	want []string
}

func damages() []damage {
	event := func(change string) []string {
		return []string{`UPDATE evdemo_store_events SET ` + change + ` WHERE position = 10`}
	}
	return []damage{
		{"an event is gone", []string{`DELETE FROM evdemo_store_events WHERE position = 10`}, []string{"position 11", "events between are missing", "stream a: has 19 events with versions from 1 to 20"}},
		{"the first is gone", []string{`DELETE FROM evdemo_store_events WHERE position = 1`}, []string{"position 2", "versions from 2 to 20"}},
		{"the last is gone", []string{`DELETE FROM evdemo_store_events WHERE position = 40`}, []string{"checkpoint projection/m is at position 40", "position 40, stream b: a snapshot"}},
		{"all are gone", []string{`DELETE FROM evdemo_store_events`}, []string{"checkpoint projection/m is at position 40"}},
		{"an event was moved", event(`position = 60`), []string{"position 60", "position 11"}},
		{"a time goes back", event(`recorded_at = recorded_at - 1000000000`), []string{"position 10, stream a: was appended before the event before it"}},
		{"a time is in the future", event(`recorded_at = recorded_at + 1000000000`), []string{"position 11", "was appended before the event before it"}},
		{"an event has another stream", event(`stream = 'c'`), []string{"stream a: has 19 events", "stream c: has 1 events with versions from 10 to 10"}},
		{"a stream has no name", event(`stream = ''`), []string{"position 10", "not a name for a stream"}},
		{"a version is missing", event(`version = 99`), []string{"stream a: has 20 events with versions from 1 to 99"}},
		{"two versions were exchanged", []string{
			`UPDATE evdemo_store_events SET version = 1000 WHERE position = 10`,
			`UPDATE evdemo_store_events SET version = 10 WHERE position = 11`,
			`UPDATE evdemo_store_events SET version = 11 WHERE position = 10`,
		}, []string{"stream a", "is before version 10"}},
		{"an event has no type", event(`type = ''`), []string{"position 10, stream a: is not valid"}},
		{"an event has no id", event(`id = ''`), []string{"position 10, stream a: is not valid"}},
		{"a time cannot be read", event(`time = 'noon'`), []string{"position 10, stream a: cannot be read"}},
		{"a time is written otherwise", event(`time = '2026-01-02T03:04:05+01:00'`), []string{"position 10, stream a: has columns that contradict each other"}},
		{"extensions cannot be read", event(`extensions = '{"a"'`), []string{"position 10, stream a: cannot be read"}},
		{"extensions are none", event(`extensions = '7'`), []string{"position 10, stream a: "}},
		{"a correlation that is not the event's", event(`correlation = 'x'`), []string{"position 10, stream a: has columns that contradict each other"}},
		{"a snapshot's state", []string{`UPDATE evdemo_store_snapshots SET state = (SELECT state FROM evdemo_store_snapshots WHERE stream = 'b') WHERE stream = 'a'`}, []string{"stream a: snapshot of fold tally (version 1) at version 20: its checksum is wrong"}},
		{"a snapshot's checksum", []string{`UPDATE evdemo_store_snapshots SET checksum = 1 WHERE stream = 'a'`}, []string{"its checksum is wrong"}},
		{"a snapshot's version", []string{`UPDATE evdemo_store_snapshots SET version = 7 WHERE stream = 'a'`}, []string{"its checksum is wrong"}},
		{"a snapshot's event is gone", []string{`DELETE FROM evdemo_store_events WHERE position = 20`}, []string{"snapshot of fold tally (version 1) at version 20: there is no such event"}},
		{"a snapshot that the events do not give", event(`id = 'another'`), []string{"snapshot of fold tally (version 1) at version 20: does not equal the state that the events give"}},
		{"a snapshot that cannot be compared", event(`time = 'noon'`), []string{"snapshot of fold tally (version 1) at version 20: cannot be compared"}},
		{"a checkpoint is beyond the log", []string{`UPDATE evdemo_store_checkpoints SET position = 41`}, []string{"checkpoint projection/m is at position 41, beyond the last, 40"}},
	}
}

func verifyDamage(c *C) {
	for _, d := range damages() {
		inner := New(c.TB, c.Fresh)
		inner.fill("a", 20)
		inner.fill("b", 20)
		inner.load("a", eventstore.SnapshotEvery(1))
		inner.load("b", eventstore.SnapshotEvery(1))
		c.no(inner.A.Project(c.Ctx, readModel()))
		_, found := inner.verify(inner.A)
		c.equal(d.name+": found before it", found, []string(nil))
		inner.tamper(d.do...)
		_, found = inner.verify(inner.A)
		for _, want := range d.want {
			c.holds(slices.ContainsFunc(found, func(f string) bool { return strings.Contains(f, want) }),
				"%s: %q is not among what is found: %q", d.name, want, found)
		}
	}
}

// verifyBusy has every finding looked into with the only connection that reads.
func verifyBusy(c *C) {
	c.fill("a", 20)
	c.load("a", eventstore.SnapshotEvery(1))
	c.no(c.A.Project(c.Ctx, readModel()))
	c.tamper(
		`UPDATE evdemo_store_events SET time = 'noon' WHERE position = 10`, `UPDATE evdemo_store_events SET version = 99 WHERE position = 11`,
		`UPDATE evdemo_store_snapshots SET checksum = 1`, `UPDATE evdemo_store_checkpoints SET position = 1000`,
	)
	s := c.Open(eventstore.Config{MaxConns: 1})
	ctx, cancel := context.WithTimeout(c.Ctx, patience/4)
	defer cancel()
	var found []string
	_, err := s.Verify(ctx, func(f eventstore.Finding) {
		found = append(found, f.String())
		_, err := s.Append(ctx, to("findings", newEvent("found", f.String())))
		c.no(err)
		told, err := collect(s.Read(ctx, eventstore.Query{Stream: "findings"}))
		c.no(err)
		c.equal("what was noted", len(told), len(found))
	})
	c.no(err)
	for _, want := range []string{"position 10", "versions from 1 to 99", "its checksum is wrong", "checkpoint projection/m"} {
		c.holds(slices.ContainsFunc(found, func(f string) bool { return strings.Contains(f, want) }), "%q is not among what is found: %q", want, found)
	}
}

func verifyCancelled(c *C) {
	c.fill("a", 100)
	ctx, cancel := context.WithCancel(c.Ctx)
	cancel()
	_, err := c.A.Verify(ctx, func(f eventstore.Finding) { c.Errorf("found %s", f) })
	c.is("a verification whose ctx has ended", err, context.Canceled)
}
