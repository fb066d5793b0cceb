package storetest

import (
	"context"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
)

func groupChecks() []Check {
	return []Check{
		{"what is appended is what was given", true, appendGiven},
		{"an append that the database refuses fails alone", true, refusedAlone},
	}
}

// appendGiven has a caller use its buffer for something else once Append has returned, while nothing was written yet.
func appendGiven(c *C) {
	tx := c.begin()
	_, err := c.A.AppendTx(c.Ctx, tx, to("slow", events(1)...))
	c.no(err)
	var given event.Event
	for taken := false; !taken; { // by the store, which is when the outcome is not known
		given = newEvent("step", "before")
		buffer := slices.Clone(given.Data)
		ctx, cancel := context.WithTimeout(c.Ctx, 10*step)
		_, err := c.B.Append(ctx, to("a", withData(given, buffer)))
		cancel()
		c.is("an append that must wait", err, context.DeadlineExceeded)
		taken = errors.Is(err, eventstore.ErrOutcomeUnknown)
		copy(buffer, `"behind"`)
	}
	c.no(tx.Rollback())
	_, err = c.B.Append(c.Ctx, to("b", events(1)...)) // behind the other
	c.no(err)
	log := c.log()
	c.equal("events", len(log), 2)
	c.equal("the event", log[0].Event, given)
}

func withData(e event.Event, data []byte) event.Event {
	e.Data = data
	return e
}

// refusedAlone has something of the application's refuse one event: appends of the same transaction are not to suffer.
func refusedAlone(c *C) {
	if c.onPostgres() {
		c.tamper(
			`CREATE FUNCTION no_poison() RETURNS trigger LANGUAGE plpgsql AS $$
				BEGIN IF new.type = 'poison' THEN RAISE EXCEPTION 'no poison here'; END IF; RETURN new; END $$`,
			`CREATE TRIGGER no_poison BEFORE INSERT ON evdemo_store_events FOR EACH ROW EXECUTE FUNCTION no_poison()`,
		)
	} else {
		c.tamper(`CREATE TRIGGER no_poison BEFORE INSERT ON evdemo_store_events WHEN new.type = 'poison'
			BEGIN SELECT RAISE(ABORT, 'no poison here'); END`)
	}
	want := []string{}
	for range 3 {
		want = append(want, c.poisonedGroup()...)
	}
	got := ids(c.log())
	slices.Sort(got)
	slices.Sort(want)
	c.equal("the events that are there", got, want)
}

// poisonedGroup appends much at once, some of it with what is refused, and tells what must be there.
func (c *C) poisonedGroup() (there []string) {
	c.Helper()
	tx := c.begin() // has them all wait for each other
	_, err := c.A.AppendTx(c.Ctx, tx, to("slow", events(1)...))
	c.no(err)
	outcomes := make([]error, 12)
	var crowd errgroup.Group
	for i := range outcomes {
		some := events(2)
		if i%4 == 3 {
			some[1].Type = "poison"
		} else {
			there = append(there, some[0].ID, some[1].ID)
		}
		crowd.Go(func() error {
			_, outcomes[i] = c.B.Append(c.Ctx, to("a", some[0]), to("b", some[1]))
			return nil
		})
	}
	rest(c.Ctx, 10*step)
	c.no(tx.Rollback())
	c.no(crowd.Wait())
	for i, err := range outcomes {
		if i%4 != 3 {
			c.no(err)
			continue
		}
		c.holds(err != nil && strings.Contains(err.Error(), "no poison here"), "what is refused has the outcome %v", err)
		c.holds(!errors.Is(err, eventstore.ErrOutcomeUnknown) && !errors.Is(err, eventstore.ErrUnavailable),
			"the error of what is refused says that it is not known, or that the database is away: %v", err)
	}
	return there
}
