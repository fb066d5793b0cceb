package storetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/eventstore"
)

func projectionChecks() []Check {
	return []Check{
		{"a read model has every event once whatever fails", true, projectOnce},
		{"of several instances one is active and another takes over", true, projectTogether},
		{"another version builds the read model anew", true, projectAnew},
		{"a projection follows and ends with its context", true, projectFollows},
		{"a projection that is slower than its lease gets on", true, projectSlowly},
		{"a projection has caught up when another instance has", true, projectBeside},
		{"an older version leaves a read model alone", true, projectOlder},
		{"events of other types move the checkpoint", false, projectTypes},
		{"a projection may append what it decides", false, projectAppends},
		{"a projection's mistakes are errors", false, projectMistakes},
	}
}

// readModel is a projection into a table that shows which events were applied, and how often.
func readModel() eventstore.Projection {
	return eventstore.Projection{
		Name: "m", CatchUp: true, Lease: time.Second,
		Reset: func(ctx context.Context, tx *sql.Tx) error {
			for _, statement := range []string{`CREATE TABLE IF NOT EXISTS model (n bigint, position bigint)`, `DELETE FROM model`} {
				if _, err := tx.ExecContext(ctx, statement); err != nil {
					return err
				}
			}
			return nil
		},
		Apply: func(ctx context.Context, tx *sql.Tx, r eventstore.Recorded) error {
			// n counts in the order in which events are applied.
			_, err := tx.ExecContext(ctx, `INSERT INTO model SELECT count(*) + 1, $1 FROM model`, r.Position)
			return err
		},
	}
}

// modelIs fails the check unless the read model has these positions, each once and in order.
func (c *C) modelIs(want []int64) {
	c.Helper()
	rows, err := c.raw().QueryContext(c.Ctx, `SELECT n, position FROM model ORDER BY n`)
	c.no(err)
	defer rows.Close()
	got := []int64{}
	for rows.Next() {
		var n, position int64
		c.no(rows.Scan(&n, &position))
		got = append(got, position)
		c.equal("the order of applying", n, int64(len(got)))
	}
	c.no(rows.Err())
	c.equal("the read model", got, want)
}

// upTo gives the positions from 1 up.
func upTo(n int64) []int64 {
	all := make([]int64, n)
	for i := range all {
		all[i] = int64(i + 1)
	}
	return all
}

// projectOnce has the projection fail in every way at random events until it has them all, while more come.
func projectOnce(c *C) {
	c.fill("a", 100)
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // no secret
	failures := map[string]int{}
	for runs := 0; ; runs++ {
		c.holds(runs < 500, "the projection does not come to an end: %v", failures)
		p := readModel()
		p.Batch, p.Lease = 1+random.IntN(9), 100*time.Millisecond
		calm := runs >= 25
		how, err := c.failSometimes(p, random, calm)
		failures[how]++
		saved, saveErr := c.B.Checkpoint(c.Ctx, "projection/m")
		c.no(saveErr)
		c.modelIs(upTo(saved.Position))
		if runs < 25 && runs%3 == 0 {
			c.fill("a", 5)
		}
		if calm {
			c.no(err)
			c.equal("checkpoint", saved.Position, c.head())
			break
		}
	}
	c.holds(len(failures) > 3, "hardly anything failed: %v", failures)
	verification, err := c.A.Verify(c.Ctx, func(f eventstore.Finding) { c.Errorf("%s", f) })
	c.no(err)
	c.equal("checkpoints", verification.Checkpoints, int64(1))
}

// failSometimes runs a projection, one of whose events is applied and then fails, and tells how.
func (c *C) failSometimes(p eventstore.Projection, random *rand.Rand, calm bool) (how string, err error) {
	ctx, cancel := context.WithCancel(c.Ctx)
	defer cancel()
	at := 1 + random.IntN(20)
	how = []string{"error", "panic", "cancel", "cancel and error"}[random.IntN(4)]
	apply, n := p.Apply, 0
	p.Apply = func(ctx context.Context, tx *sql.Tx, r eventstore.Recorded) error {
		err := apply(ctx, tx, r)
		if n++; calm || n != at {
			return err
		}
		switch how {
		case "panic":
			panic(errOnPurpose)
		case "cancel":
			cancel()
			return err
		case "cancel and error":
			cancel()
			return errOnPurpose
		default:
			return errOnPurpose
		}
	}
	defer func() {
		switch failed := recover(); {
		case failed != nil && failed != errOnPurpose: //nolint:errorlint // the very same
			panic(failed)
		case failed == nil && err == nil:
			how = "nothing"
		case failed == nil && how == "cancel":
			c.is("a projection whose ctx has ended", err, context.Canceled)
		case failed == nil:
			c.is("a projection that has failed", err, errOnPurpose)
		}
	}()
	return how, c.store(random.IntN(2)).Project(ctx, p)
}

// projectTogether has instances take turns while somebody appends, each ended after a while.
func projectTogether(c *C) {
	const n = 400
	ctx, cancel := context.WithCancel(c.Ctx)
	defer cancel()
	var active atomic.Int64
	var crowd errgroup.Group
	instance := func(i int) error {
		p := readModel()
		p.CatchUp, p.Batch = false, 7
		apply := p.Apply
		p.Apply = func(ctx context.Context, tx *sql.Tx, r eventstore.Recorded) error {
			if active.Add(1) != 1 {
				return errors.New("two instances are active at a time")
			}
			defer active.Add(-1)
			return apply(ctx, tx, r)
		}
		for ctx.Err() == nil {
			turn, end := context.WithTimeout(ctx, time.Duration(100+50*i)*time.Millisecond)
			err := c.store(i).Project(turn, p)
			end()
			if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
				return err
			}
		}
		return nil
	}
	for i := range 4 {
		crowd.Go(func() error { return instance(i) })
	}
	for range n / 4 {
		c.append(to("a", events(4)...))
	}
	c.await("the read model", func() bool {
		saved, err := c.B.Checkpoint(c.Ctx, "projection/m")
		c.no(err)
		return saved.Position == n
	})
	cancel()
	c.no(crowd.Wait())
	c.modelIs(upTo(n))
}

func projectAnew(c *C) {
	c.fill("a", 20)
	for version, want := range []int64{0: 20, 1: 25, 2: 30} {
		p := readModel()
		p.Version = version
		resets := 0
		reset := p.Reset
		p.Reset = func(ctx context.Context, tx *sql.Tx) error {
			resets++
			return reset(ctx, tx)
		}
		for range 2 {
			c.no(c.store(version).Project(c.Ctx, p))
			c.modelIs(upTo(want))
		}
		c.equal("resets", resets, 1)
		saved, err := c.B.Checkpoint(c.Ctx, "projection/m")
		c.no(err)
		c.equal("checkpoint", saved, eventstore.Checkpoint{Version: version, Position: want})
		c.fill("a", 5)
	}
	p := readModel()
	p.Version = 9
	p.Reset = func(context.Context, *sql.Tx) error { return errOnPurpose }
	c.is("a reset that fails", c.A.Project(c.Ctx, p), errOnPurpose)
	c.modelIs(upTo(30))
}

func projectFollows(c *C) {
	ctx, cancel := context.WithCancel(c.Ctx)
	p := readModel()
	p.CatchUp = false
	ended := make(chan error, 1)
	go func() { ended <- c.B.Project(ctx, p) }()
	for i := range 10 {
		c.fill("a", 3)
		c.await("the read model", func() bool {
			saved, err := c.A.Checkpoint(c.Ctx, "projection/m")
			c.no(err)
			return saved.Position == int64(3*i+3)
		})
	}
	cancel()
	c.is("a projection whose ctx has ended", <-ended, context.Canceled)
	c.modelIs(upTo(30))
}

// projectSlowly has a batch that takes several times as long as the lease.
func projectSlowly(c *C) {
	const n = 40
	c.fill("a", n)
	p := readModel()
	p.Lease = 200 * time.Millisecond
	apply := p.Apply
	var applied atomic.Int64
	p.Apply = func(ctx context.Context, tx *sql.Tx, r eventstore.Recorded) error {
		if applied.Add(1) > 5*n {
			return errors.New("the same events are applied over and over")
		}
		rest(ctx, 20*time.Millisecond)
		return apply(ctx, tx, r)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.A.Project(c.Ctx, p) }()
	var between eventstore.Checkpoint // before the batch is over
	c.await("some of the batch", func() bool {
		var err error
		between, err = c.B.Checkpoint(c.Ctx, "projection/m")
		c.no(err)
		return between.Position > 0 || len(ended) > 0
	})
	c.no(<-ended)
	c.holds(between.Position > 0 && between.Position < n, "the first transaction went up to position %d", between.Position)
	c.modelIs(upTo(n))
}

// projectBeside catches up beside an instance that is active for good, and in the middle of a batch.
func projectBeside(c *C) {
	c.fill("a", 30)
	ctx, cancel := context.WithCancel(c.Ctx)
	defer cancel()
	p := readModel()
	p.CatchUp, p.Batch, p.Lease = false, 10, patientLease
	apply := p.Apply
	begun, goOn := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	defer release()
	p.Apply = func(ctx context.Context, tx *sql.Tx, r eventstore.Recorded) error {
		if r.Position == 15 {
			close(begun)
			<-goOn
		}
		return apply(ctx, tx, r)
	}
	active := make(chan error, 1)
	go func() { active <- c.A.Project(ctx, p) }()
	<-begun
	beside := readModel()
	beside.Lease = patientLease
	beside.Apply = func(context.Context, *sql.Tx, eventstore.Recorded) error { return errOnPurpose }
	caughtUp := make(chan error, 1)
	go func() { caughtUp <- c.B.Project(c.Ctx, beside) }()
	rest(c.Ctx, 20*step)
	c.equal("catching up has ended before the other instance has come so far", len(caughtUp), 0)
	release()
	select {
	case err := <-caughtUp:
		c.no(err)
	case err := <-active:
		c.Fatalf("the active instance has ended: %v", err)
	case <-c.Ctx.Done():
		c.Fatalf("catching up beside an active instance does not end")
	}
	c.modelIs(upTo(30))
	cancel()
	c.is("a projection whose ctx has ended", <-active, context.Canceled)
}

// projectOlder is what happens while a newer version is brought out.
func projectOlder(c *C) {
	c.fill("a", 10)
	newer, older := readModel(), readModel()
	newer.Version, older.Version = 2, 1
	c.no(c.A.Project(c.Ctx, newer))
	older.Reset = func(context.Context, *sql.Tx) error { return errOnPurpose }
	for _, older.CatchUp = range []bool{true, false} {
		err := c.B.Project(c.Ctx, older)
		c.holds(err != nil && !errors.Is(err, errOnPurpose) && c.Ctx.Err() == nil, "an older version: %v", err)
	}
	c.fill("a", 5)
	c.no(c.A.Project(c.Ctx, newer))
	c.modelIs(upTo(15))
}

func projectTypes(c *C) {
	c.fill("a", 2500)
	rare := c.append(to("b", newEvent("rare", nil))).Positions[0]
	c.fill("a", 1500)
	rarer := c.append(to("b", newEvent("rarer", nil))).Positions[0]
	c.fill("a", 30)
	p := readModel()
	p.Types = []string{"rare", "rarer"}
	c.no(c.A.Project(c.Ctx, p))
	c.modelIs([]int64{rare, rarer})
	saved, err := c.A.Checkpoint(c.Ctx, "projection/m")
	c.no(err)
	c.equal("checkpoint", saved.Position, c.head())

	ctx, cancel := context.WithCancel(c.Ctx)
	defer cancel()
	p.CatchUp = false
	ended := make(chan error, 1)
	go func() { ended <- c.A.Project(ctx, p) }()
	c.fill("a", 1100)
	c.await("the checkpoint", func() bool {
		saved, err := c.A.Checkpoint(c.Ctx, "projection/m")
		c.no(err)
		return saved.Position == c.head()
	})
	c.fill("a", 10) // few enough to be noted at the end only
	cancel()
	c.is("a projection whose ctx has ended", <-ended, context.Canceled)
	c.modelIs([]int64{rare, rarer})
}

// projectAppends has a projection answer each event with another, in the same transaction.
func projectAppends(c *C) {
	c.fill("a", 20)
	p := readModel()
	p.Types, p.Batch = []string{"step"}, 3
	apply, n := p.Apply, 0
	p.Apply = func(ctx context.Context, tx *sql.Tx, r eventstore.Recorded) error {
		if n++; n == 10 {
			return errOnPurpose
		}
		if _, err := c.A.AppendTx(ctx, tx, to("answers", newEvent("answer", r.Position))); err != nil {
			return err
		}
		return apply(ctx, tx, r)
	}
	c.is("a projection that fails", c.A.Project(c.Ctx, p), errOnPurpose)
	c.no(c.A.Project(c.Ctx, p))
	c.modelIs(upTo(20))
	for i, r := range c.read(eventstore.Query{Stream: "answers"}) {
		c.equal("answer", string(r.Data), fmt.Sprint(i+1))
	}
	c.equal("answers", c.version("answers"), int64(20))
}

func projectMistakes(c *C) {
	for _, change := range []func(p *eventstore.Projection){
		func(p *eventstore.Projection) { p.Name = "" },
		func(p *eventstore.Projection) { p.Apply = nil },
		func(p *eventstore.Projection) { p.Reset = nil },
		func(p *eventstore.Projection) { p.Batch = -1 },
		func(p *eventstore.Projection) { p.Lease = -1 },
	} {
		p := readModel()
		change(&p)
		c.holds(c.A.Project(c.Ctx, p) != nil, "%+v is accepted", p)
	}
}
