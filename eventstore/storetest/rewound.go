package storetest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
)

func rewoundChecks() []Check {
	return []Check{
		{"a follower of a log that was put back says so", true, followRewound},
		{"a projection goes back with its checkpoint", true, projectRewound},
		{"a projection applies nothing that is not there any more", true, projectRewoundWhileItReads},
		{"a projection that ends notes nothing of another log", true, projectRewoundAtItsEnd},
		{"a checkpoint that the log has not come to is an error", false, projectBeyond},
	}
}

// putBack makes everything what it was when the log ended at a position, as a server does that has lost its last commits,
// and appends in the same transaction.
func (c *C) putBack(position int64, writes ...eventstore.StreamWrite) {
	c.Helper()
	c.tamper(`CREATE TABLE IF NOT EXISTS model (n bigint, position bigint)`)
	tx, err := c.raw().BeginTx(c.Ctx, nil)
	c.no(err)
	defer func() { _ = tx.Rollback() }() // nothing, once committed
	for _, statement := range []string{
		`DELETE FROM evdemo_store_events WHERE position > %d`,
		`DELETE FROM model WHERE position > %d`,
		`UPDATE evdemo_store_checkpoints SET position = %d`,
	} {
		c.execute(tx, fmt.Sprintf(statement, position))
	}
	if len(writes) > 0 {
		_, err := c.A.AppendTx(c.Ctx, tx, writes...)
		c.no(err)
	}
	c.no(tx.Commit())
}

func followRewound(c *C) {
	for i, test := range []struct {
		q      eventstore.Query
		writes []eventstore.StreamWrite
	}{
		{eventstore.Query{}, nil},
		{eventstore.Query{Types: []string{"step"}}, nil},
		// What has filled the places would be passed over.
		{eventstore.Query{}, []eventstore.StreamWrite{to("a", events(3)...)}},
		{eventstore.Query{}, []eventstore.StreamWrite{to("a", events(9)...)}},
		{eventstore.Query{Types: []string{"step"}}, []eventstore.StreamWrite{to("a", events(9)...)}},
		{eventstore.Query{Stream: "a"}, []eventstore.StreamWrite{to("a", events(9)...)}},
	} {
		c.putBack(0, to("a", events(10)...))
		seen, ended := c.following(c.Ctx, c.B, test.q)
		for range 10 {
			c.next(seen)
		}
		c.putBack(7, test.writes...)
		select {
		case err := <-ended:
			c.is(fmt.Sprint("follower ", i), err, eventstore.ErrRewound)
		case r := <-seen:
			c.Fatalf("follower %d is given position %d after 10 events of another log", i, r.Position)
		case <-c.Ctx.Done():
			c.Fatalf("follower %d goes on: %v", i, c.Ctx.Err())
		}
		c.equal("what else it was given", len(seen), 0)
	}
	_, err := collect(c.B.Follow(c.Ctx, eventstore.Query{After: c.head() + 1}))
	c.is("a follower from beyond the log", err, eventstore.ErrRewound)
}

func projectRewound(c *C) {
	c.fill("a", 10)
	ctx, cancel := context.WithCancel(c.Ctx)
	defer cancel()
	p := readModel()
	p.CatchUp = false
	ended := make(chan error, 1)
	go func() { ended <- c.B.Project(ctx, p) }()
	for i, writes := range [][]eventstore.StreamWrite{nil, {to("a", events(2)...)}, {to("a", events(9)...)}} {
		c.projected(c.head())
		c.putBack(6, writes...)
		c.fill("b", 1+i)
		c.projected(c.head())
		c.modelIs(upTo(c.head()))
	}
	cancel()
	c.is("a projection whose ctx has ended", <-ended, context.Canceled)
}

// projectRewoundWhileItReads has the log put back when a batch is half read, behind what was applied.
func projectRewoundWhileItReads(c *C) {
	c.fill("a", 10)
	var once sync.Once
	s := c.Open(eventstore.Config{Upcast: func(e event.Event) (event.Event, error) {
		if string(e.Data) == "4" { // the fifth event
			once.Do(func() { c.putBack(2, to("a", events(9)...)) })
		}
		return e, nil
	}})
	p := readModel()
	p.Batch = 3
	c.no(s.Project(c.Ctx, p))
	c.modelIs(upTo(11))
	saved, err := c.B.Checkpoint(c.Ctx, "projection/m")
	c.no(err)
	c.equal("checkpoint", saved.Position, int64(11))
}

// projectRewoundAtItsEnd has a projection that does not look for what is new pass events that are not its own, which then
// are gone.
func projectRewoundAtItsEnd(c *C) {
	s := c.Open(eventstore.Config{Poll: time.Hour})
	ctx, cancel := context.WithCancel(c.Ctx)
	defer cancel()
	p := readModel()
	p.CatchUp, p.Types = false, []string{"rare"}
	ended := make(chan error, 1)
	_, err := s.Append(c.Ctx, to("a", newEvent("rare", nil)))
	c.no(err)
	go func() { ended <- s.Project(ctx, p) }()
	c.projected(1)
	_, err = s.Append(c.Ctx, to("a", events(20)...))
	c.no(err)
	rest(c.Ctx, 50*step) // it passes them, and leaves that to be noted later
	c.putBack(0, to("a", events(2)...))
	cancel()
	c.is("a projection whose ctx has ended", <-ended, context.Canceled)
	saved, err := c.B.Checkpoint(c.Ctx, "projection/m")
	c.no(err)
	c.holds(saved.Position <= 2, "it has noted position %d of a log of 2", saved.Position)
}

// projected waits until the projection's checkpoint is at a position.
func (c *C) projected(position int64) {
	c.Helper()
	c.await("the projection's checkpoint", func() bool {
		saved, err := c.A.Checkpoint(c.Ctx, "projection/m")
		c.no(err)
		return saved.Position == position
	})
}

// projectBeyond has a checkpoint of a log that was longer.
func projectBeyond(c *C) {
	c.fill("a", 10)
	c.no(c.A.Project(c.Ctx, readModel()))
	c.tamper(`UPDATE evdemo_store_checkpoints SET position = 15`)
	p := readModel()
	for _, catchUp := range []bool{true, false} {
		p.CatchUp = catchUp
		c.is("a projection from beyond the log", c.A.Project(c.Ctx, p), eventstore.ErrRewound)
	}
	c.modelIs(upTo(10))
	p.Version, p.CatchUp = 1, true // the way out that the error names
	c.no(c.A.Project(c.Ctx, p))
	c.modelIs(upTo(10))
}
