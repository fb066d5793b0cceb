package storetest

import (
	"context"
	"time"

	"github.com/evdemo/evdemo/eventstore"
)

func followChecks() []Check {
	return []Check{
		{"a follower is woken by an append", true, followWakes},
		{"a follower is woken by its own store at once", false, followAtOnce},
		{"a follower looks by itself", true, followPolls},
		{"a follower sees what its query says", true, followQueries},
		{"a follower ends with its context or its limit", false, followEnds},
	}
}

// following runs a follower and gives what it sees.
func (c *C) following(ctx context.Context, s *eventstore.Store, q eventstore.Query) (seen <-chan eventstore.Recorded, ended <-chan error) {
	events, end := make(chan eventstore.Recorded, 1000), make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for r, err := range s.Follow(ctx, q) {
			if err != nil {
				end <- err
				return
			}
			events <- r
		}
		end <- nil
	}()
	c.Cleanup(func() { <-done })
	return events, end
}

// next gives what a follower sees next.
func (c *C) next(seen <-chan eventstore.Recorded) (r eventstore.Recorded) {
	c.Helper()
	select {
	case r = <-seen:
	case <-c.Ctx.Done():
		c.Fatalf("a follower sees nothing: %v", c.Ctx.Err())
	}
	return r
}

func followWakes(c *C) {
	ctx, cancel := context.WithCancel(c.Ctx)
	defer cancel()
	there := c.fill("a", 3)
	seen, _ := c.following(ctx, c.B, eventstore.Query{})
	for i := range there {
		c.equal("what was there", c.next(seen).ID, there[i].ID)
	}
	for range 20 {
		e := events(1)[0]
		c.append(to("a", e))
		r := c.next(seen)
		c.equal("what was appended", r.Event, e)
	}
}

// followAtOnce has a follower that would look by itself in an hour. On PostgreSQL that is true of every store.
func followAtOnce(c *C) {
	ctx, cancel := context.WithCancel(c.Ctx)
	defer cancel()
	s := c.Open(eventstore.Config{Poll: time.Hour})
	by := []*eventstore.Store{s}
	if c.onPostgres() {
		by = append(by, c.A)
	}
	seen, _ := c.following(ctx, s, eventstore.Query{})
	for i := range 20 {
		e := events(1)[0]
		_, err := by[i%len(by)].Append(c.Ctx, to("a", e))
		c.no(err)
		c.equal("what was appended", c.next(seen).ID, e.ID)
	}
	if c.onPostgres() {
		tx := c.begin()
		_, err := c.A.AppendTx(c.Ctx, tx, to("b", events(1)...))
		c.no(err)
		c.no(tx.Commit())
		c.equal("what a transaction has appended", c.next(seen).Stream, "b")
	}
}

// followPolls has an append that tells nobody: it is in a transaction, which on SQLite is not seen by the store.
func followPolls(c *C) {
	ctx, cancel := context.WithCancel(c.Ctx)
	defer cancel()
	seen, _ := c.following(ctx, c.B, eventstore.Query{})
	for range 3 {
		tx := c.begin()
		_, err := c.A.AppendTx(c.Ctx, tx, to("a", events(1)...))
		c.no(err)
		c.no(tx.Commit())
		c.equal("stream", c.next(seen).Stream, "a")
	}
}

func followQueries(c *C) {
	ctx, cancel := context.WithCancel(c.Ctx)
	defer cancel()
	c.mixed(50)
	queries := []eventstore.Query{
		{},
		{After: 20},
		{Stream: "one"},
		{Stream: "one", FromVersion: 5},
		{Types: []string{"d"}},
		{Subject: "x"},
		{Types: []string{"a.b", "a.c"}, Subject: "y", After: 30},
	}
	seen := make([]<-chan eventstore.Recorded, len(queries))
	for i, q := range queries {
		seen[i], _ = c.following(ctx, c.B, q)
	}
	c.mixed(100)
	log := model(c.log())
	c.equal("events", len(log), 150)
	for i, q := range queries {
		for _, want := range log.answer(q) {
			c.equal("a followed event", c.next(seen[i]), want)
		}
	}
	rest(c.Ctx, 20*step)
	for i := range queries {
		c.equal("what else is followed", len(seen[i]), 0)
	}
}

func followEnds(c *C) {
	c.fill("a", 5)
	ctx, cancel := context.WithCancel(c.Ctx)
	defer cancel()
	seen, ended := c.following(ctx, c.A, eventstore.Query{})
	for range 5 {
		c.next(seen)
	}
	cancel()
	c.is("a follower whose ctx ends", <-ended, context.Canceled)
	seen, ended = c.following(c.Ctx, c.A, eventstore.Query{Limit: 5})
	c.no(<-ended)
	c.equal("events", len(seen), 5)
	seen, ended = c.following(c.Ctx, c.A, eventstore.Query{Limit: 100})
	for range 20 {
		c.append(to("b", events(5)...))
	}
	c.no(<-ended)
	c.equal("events", len(seen), 100)
	for r, err := range c.A.Follow(c.Ctx, eventstore.Query{After: 3}) {
		c.no(err)
		c.equal("position", r.Position, int64(4))
		break
	}
}
