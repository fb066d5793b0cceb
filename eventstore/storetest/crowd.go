package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
)

func crowdChecks() []Check {
	return []Check{
		{"followers of 64 writers see every event once and in order", true, followTheCrowd},
		{"each of many appends has its own outcome", true, ledger},
	}
}

const (
	writers   = 64
	perWriter = 12
	entries   = 5
)

// store gives A to one half of a crowd and B to the other.
func (c *C) store(i int) *eventstore.Store {
	if i%2 == 0 {
		return c.A
	}
	return c.B
}

// acknowledged collects what appends have promised.
type acknowledged struct {
	mu     sync.Mutex
	events map[string]int64 // id to position
}

func (a *acknowledged) add(events []event.Event, positions []int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.events == nil {
		a.events = map[string]int64{}
	}
	for i, e := range events {
		position := int64(0)
		if positions != nil {
			position = positions[i]
		}
		a.events[e.ID] = position
	}
}

// check compares what was promised with what somebody saw.
func (a *acknowledged) check(who string, seen []eventstore.Recorded) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := wellFormed(seen); err != nil {
		return fmt.Errorf("%s: %w", who, err)
	}
	for _, r := range seen {
		position, ok := a.events[r.ID]
		if !ok {
			return fmt.Errorf("%s: event %s at %d was never acknowledged, or was rolled back", who, r.ID, r.Position)
		}
		if position != 0 && position != r.Position {
			return fmt.Errorf("%s: event %s is at %d, and was said to be at %d", who, r.ID, r.Position, position)
		}
	}
	if len(seen) != len(a.events) {
		return fmt.Errorf("%s: %d events, and %d were acknowledged", who, len(seen), len(a.events))
	}
	return nil
}

// followTheCrowd has followers read what 64 writers append, some of them in transactions that stay open for a while, and
// some of those rolled back.
func followTheCrowd(c *C) {
	var said acknowledged
	ctx, cancel := context.WithCancel(c.Ctx)
	defer cancel()
	// Each sees the log until it has come to the last event, which is told apart by its type.
	var followers errgroup.Group
	seen := make([][]eventstore.Recorded, 4)
	for i := range seen {
		followers.Go(func() (err error) {
			seen[i], err = until(c.store(i).Follow(ctx, eventstore.Query{}), "last")
			return err
		})
	}
	var crowd errgroup.Group
	for w := range writers {
		crowd.Go(func() error { return c.write(ctx, w, &said) })
	}
	c.no(crowd.Wait())
	last := newEvent("last", nil)
	said.add([]event.Event{last}, c.append(to("last", last)).Positions)
	c.no(followers.Wait())
	for i := range seen {
		c.no(said.check(fmt.Sprint("follower ", i), seen[i]))
	}
	c.no(said.check("a reader", c.log()))
}

// until reads an iteration up to an event of a type.
func until(all func(func(eventstore.Recorded, error) bool), kind string) (seen []eventstore.Recorded, err error) {
	for r, err := range all {
		if err != nil {
			return seen, err
		}
		if seen = append(seen, r); r.Type == kind {
			break
		}
	}
	return seen, nil
}

// write appends as one of a crowd.
func (c *C) write(ctx context.Context, w int, said *acknowledged) error {
	random := rand.New(rand.NewPCG(uint64(w), 1)) //nolint:gosec // no secret
	for i := range perWriter {
		all := events(1 + random.IntN(3))
		write := to(fmt.Sprintf("stream-%d", random.IntN(20)), all...)
		if w%16 != 0 {
			got, err := c.store(w).Append(ctx, write)
			if err != nil {
				return fmt.Errorf("append: %w", err)
			}
			said.add(all, got.Positions)
			continue
		}
		if i%3 > 0 { // a few of them are enough to hold everybody up
			continue
		}
		commit := random.IntN(3) > 0
		if commit {
			said.add(all, nil)
		}
		open := time.Duration(random.IntN(5)) * time.Millisecond
		if err := inTransaction(ctx, c.store(w/16), func() { rest(ctx, open) }, commit, write); err != nil {
			return fmt.Errorf("append in a transaction: %w", err)
		}
	}
	return nil
}

// ledger has many append at the same time, some of whose appends must fail: none may take others with it.
func ledger(c *C) {
	there := c.fill("there", 5)
	var said acknowledged
	said.add(there, []int64{1, 2, 3, 4, 5})
	var crowd errgroup.Group
	for w := range writers {
		crowd.Go(func() error { return c.entry(w, there, &said) })
	}
	c.no(crowd.Wait())
	all := c.log()
	c.no(said.check("the log", all))
	c.equal("the contended stream's version", c.version("contended"), int64(entries))
	kept := slices.DeleteFunc(all, func(r eventstore.Recorded) bool { return r.Type != "pair" })
	for i := 0; i < len(kept); i += 2 {
		c.holds(i+1 < len(kept) && kept[i+1].Position == kept[i].Position+1, "an append was taken apart at position %d", kept[i].Position)
	}
}

// entry makes appends of every outcome, and fails where one has another.
func (c *C) entry(w int, there []event.Event, said *acknowledged) error {
	s, own := c.store(w), fmt.Sprintf("own-%d", w)
	version := int64(0)
	for i := range entries {
		pair := []event.Event{newEvent("pair", 1), newEvent("pair", 2)}
		got, err := s.Append(c.Ctx, at(own, version, pair...))
		if err != nil {
			return fmt.Errorf("append: %w", err)
		}
		said.add(pair, got.Positions)
		version += 2
		if got, err = s.Append(c.Ctx, at(own, version-2, pair...)); err != nil || got.Added != 0 {
			return fmt.Errorf("made again: %+v: %w", got, err)
		}
		_, err = s.Append(c.Ctx, to("nobody", events(2)...), at(own, version+1, events(1)...))
		if conflict, ok := errors.AsType[*eventstore.ConflictError](err); !ok || conflict.Actual != version {
			return fmt.Errorf("want a conflict with version %d: %w", version, err)
		}
		_, err = s.Append(c.Ctx, to("nobody", events(1)[0], there[i%len(there)]))
		if _, ok := errors.AsType[*eventstore.DuplicateError](err); !ok {
			return fmt.Errorf("want a duplicate: %w", err)
		}
		// All of them want this version, and one can have it.
		wanted := events(1)
		switch got, err = s.Append(c.Ctx, at("contended", int64(i), wanted...)); {
		case err == nil:
			said.add(wanted, got.Positions)
		case !conflictAbove(err, int64(i)):
			return fmt.Errorf("want a conflict above version %d: %w", i, err)
		}
	}
	return nil
}

// conflictAbove tells whether an error is a conflict with a later version.
func conflictAbove(err error, version int64) bool {
	conflict, ok := errors.AsType[*eventstore.ConflictError](err)
	return ok && conflict.Actual > version
}
