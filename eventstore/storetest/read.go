package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
)

func readChecks() []Check {
	return []Check{
		{"a query gives what it says", false, queries},
		{"a flow is its events and the one that began it", true, flows},
		{"a query may have many types", false, manyTypes},
		{"an iteration begins anew each time", false, iterateTwice},
		{"pages do not show", false, pages},
		{"an iteration ends where the log ended when it began", true, fixedEnd},
		{"the body of an iteration may append and read", false, busyBodies},
		{"an iteration ends with its error", false, readErrors},
		{"a query's mistakes are errors", false, queryMistakes},
		{"streams are listed by prefix and page", true, streams},
		{"a time gives its position", true, times},
	}
}

// model is a log of which a query's answer is known.
type model []eventstore.Recorded

// meets tells whether an event meets a query's conditions.
func meets(q eventstore.Query, r eventstore.Recorded) bool {
	return (q.Stream == "" || r.Stream == q.Stream) &&
		(q.FromVersion == 0 || r.Version >= q.FromVersion) && (q.ToVersion == 0 || r.Version <= q.ToVersion) &&
		r.Position > q.After && (q.Through == 0 || r.Position <= q.Through) &&
		(q.AsOf.IsZero() || !r.RecordedAt.After(q.AsOf)) &&
		(q.Correlation == "" || r.CorrelationID() == q.Correlation || r.ID == q.Correlation) &&
		(len(q.Types) == 0 || slices.Contains(q.Types, r.Type)) && (q.Subject == "" || r.Subject == q.Subject)
}

func (m model) answer(q eventstore.Query) (answer []eventstore.Recorded) {
	for _, r := range m {
		if meets(q, r) {
			answer = append(answer, r)
		}
	}
	if q.Backwards {
		slices.Reverse(answer)
	}
	if q.Limit > 0 && len(answer) > q.Limit {
		answer = answer[:q.Limit]
	}
	return answer
}

// mixed fills the log with events of several streams, types, subjects and flows.
func (c *C) mixed(n int) model {
	c.Helper()
	var root event.Event
	for i := range n {
		e := newEvent([]string{"a.b", "a.c", "d"}[i%7%3], i)
		switch {
		case i%10 == 0:
			root = e
		case i%3 == 0:
			var err error
			e, err = event.Caused(root, e.Type, e.Source, i)
			c.no(err)
		}
		e.Subject = []string{"", "x", "y"}[i%5%3]
		c.append(to([]string{"one", "two", "one two", "three"}[i%11%4], e))
	}
	return c.log()
}

// aQuery draws one about a log.
func aQuery(log model) *rapid.Generator[eventstore.Query] {
	return rapid.Custom(func(t *rapid.T) eventstore.Query {
		some := func(what string) bool { return rapid.IntRange(0, 3).Draw(t, what+"?") == 0 }
		around := rapid.Int64Range(0, int64(len(log))+2)
		q := eventstore.Query{Backwards: rapid.Bool().Draw(t, "backwards")}
		if some("stream") {
			q.Stream = rapid.SampledFrom([]string{"one", "two", "one two", "three", "none"}).Draw(t, "stream")
			version := rapid.Int64Range(0, int64(len(log))/3)
			q.FromVersion, q.ToVersion = version.Draw(t, "from version"), version.Draw(t, "to version")
		}
		if some("after") {
			q.After = around.Draw(t, "after")
		}
		if some("through") {
			q.Through = around.Draw(t, "through")
		}
		if some("as of") {
			r := rapid.SampledFrom(log).Draw(t, "as of")
			q.AsOf = r.RecordedAt.Add(time.Duration(rapid.IntRange(-1, 1).Draw(t, "earlier")) * time.Microsecond)
		}
		if some("correlation") {
			r := rapid.SampledFrom(log).Draw(t, "of the flow")
			if q.Correlation = r.CorrelationID(); q.Correlation == "" {
				q.Correlation = r.ID
			}
		}
		if some("types") {
			q.Types = rapid.SliceOfN(rapid.SampledFrom([]string{"a.b", "a.c", "d", "a"}), 1, 3).Draw(t, "types")
		}
		if some("subject") {
			q.Subject = rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "subject")
		}
		if some("limit") {
			q.Limit = rapid.IntRange(1, len(log)+1).Draw(t, "limit")
		}
		return q
	})
}

func queries(c *C) {
	log := c.mixed(300)
	c.equal("whole log", len(log), 300)
	rapid.Check(c.TB, func(t *rapid.T) {
		q := aQuery(log).Draw(t, "query")
		got, err := collect(c.B.Read(c.Ctx, q))
		if err != nil {
			t.Fatalf("%+v: %v", q, err)
		}
		if want := log.answer(q); !slices.Equal(positions(got), positions(want)) {
			t.Fatalf("%+v gives %v, want %v", q, positions(got), positions(want))
		}
	})
}

func flows(c *C) {
	root := newEvent("began", nil)
	other := newEvent("began", nil)
	var want []string
	c.append(to("a", root, other))
	want = append(want, root.ID)
	for i := range 5 {
		caused, err := event.Caused(root, "step", "storetest", i)
		c.no(err)
		foreign, err := event.Caused(other, "step", "storetest", i)
		c.no(err)
		c.append(to(fmt.Sprint("s", i), caused, foreign), to("b", events(1)...))
		want = append(want, caused.ID)
	}
	c.equal("the flow", ids(c.read(eventstore.Query{Correlation: root.ID})), want)
	slices.Reverse(want)
	c.equal("the flow backwards", ids(c.read(eventstore.Query{Correlation: root.ID, Backwards: true})), want)
	c.equal("the flow in one stream", ids(c.read(eventstore.Query{Correlation: root.ID, Stream: "s4"})), want[:1])
	c.equal("no flow", len(c.read(eventstore.Query{Correlation: "none"})), 0)
}

func manyTypes(c *C) {
	log := c.mixed(120)
	for _, n := range []int{14, 15, 16, 17, 600} { // beside the two that there are
		var q eventstore.Query
		for i := range n {
			q.Types = append(q.Types, fmt.Sprint("none-", i))
		}
		q.Types = append(q.Types, "a.c", "d")
		flow := log[slices.IndexFunc(log, func(r eventstore.Recorded) bool { return r.CorrelationID() != "" })].CorrelationID()
		for _, q := range []eventstore.Query{
			q, {Types: q.Types, Backwards: true, Limit: 50}, {Types: q.Types, Stream: "one"}, {Types: q.Types, Correlation: flow},
		} {
			want := log.answer(q)
			c.holds(len(want) > 0, "%+v has no answer", q)
			c.equal(fmt.Sprint("what there is of ", len(q.Types), " types"), positions(c.read(q)), positions(want))
		}
	}
}

func iterateTwice(c *C) {
	c.fill("a", 3)
	later := time.Now().Add(time.Hour)
	for _, q := range []eventstore.Query{{}, {AsOf: later}, {AsOf: later, Backwards: true}, {Stream: "a"}, {AsOf: later, Through: 1000}} {
		all := c.B.Read(c.Ctx, q)
		for range 2 {
			got, err := collect(all)
			c.no(err)
			c.equal(fmt.Sprintf("%+v", q), int64(len(got)), c.head())
			c.fill("a", 20)
		}
	}
}

// pages reads logs and streams that are as long as a page, or nearly, or several, and with large events.
func pages(c *C) {
	total := 0
	for _, size := range []int{1, 62, 63, 64, 65, 127, 128, 129, 192, 193, 448, 1100} {
		for ; total < size; total = min(size, total+100) {
			c.append(to("all", events(min(size-total, 100))...))
		}
		log := model(c.log())
		c.equal("events", len(log), size)
		for _, q := range []eventstore.Query{
			{},
			{Backwards: true},
			{Stream: "all"},
			{Stream: "all", Backwards: true},
			{Limit: size},
			{Limit: size, Backwards: true},
			{Limit: max(size-1, 1), Backwards: true},
			{After: 1, Backwards: true},
			{Through: int64(size), Backwards: true},
			{Stream: "all", FromVersion: 1, Backwards: true},
			{Stream: "all", Limit: 64, Backwards: true},
			{Types: []string{"step"}, Backwards: true},
		} {
			got := c.readAtMost(q, size)
			c.equal(fmt.Sprintf("%+v of %d events", q, size), positions(got), positions(log.answer(q)))
		}
	}
	for range 10 { // of which a page has few
		c.append(to("large", newEvent("large", strings.Repeat("x", 1<<20))))
	}
	log := model(c.log())
	for _, q := range []eventstore.Query{{}, {Backwards: true}, {Stream: "large"}, {Stream: "large", Backwards: true}} {
		c.equal(fmt.Sprintf("%+v with large events", q), positions(c.readAtMost(q, len(log))), positions(log.answer(q)))
	}
}

// readAtMost reads, and fails the check where there is more than there can be.
func (c *C) readAtMost(q eventstore.Query, most int) (got []eventstore.Recorded) {
	c.Helper()
	for r, err := range c.B.Read(c.Ctx, q) {
		c.no(err)
		got = append(got, r)
		c.holds(len(got) <= most, "%+v does not end: position %d comes after %d events", q, r.Position, most)
	}
	return got
}

func fixedEnd(c *C) {
	for i, n := range []int{0, 10, 64, 130} {
		c.append(to("a", events(n)...))
		want := c.head()
		last := int64(0)
		for r, err := range c.B.Read(c.Ctx, eventstore.Query{}) {
			c.no(err)
			last = r.Position
			c.append(to("b", events(1)...))
		}
		c.equal(fmt.Sprint("the last position of iteration ", i), last, want)
	}
	want := c.head()
	first := int64(0)
	for r, err := range c.B.Read(c.Ctx, eventstore.Query{Backwards: true}) {
		c.no(err)
		first = max(first, r.Position)
		c.append(to("b", events(1)...))
	}
	c.equal("the first position backwards", first, want)
}

// busyBodies has more iterations at a time than there are connections, each of whose bodies reads and appends.
func busyBodies(c *C) {
	s := c.Open(eventstore.Config{MaxConns: 2})
	c.fill("a", 200)
	var crowd errgroup.Group
	for i := range 8 {
		crowd.Go(func() error {
			n := 0
			for r, err := range s.Read(c.Ctx, eventstore.Query{Stream: "a"}) {
				if err != nil {
					return err
				}
				if n++; n%20 > 0 {
					continue
				}
				own := fmt.Sprint("own-", i)
				if _, err := s.Append(c.Ctx, to(own, newEvent("seen", r.Position))); err != nil {
					return err
				}
				if got, err := collect(s.Read(c.Ctx, eventstore.Query{Stream: own})); err != nil || len(got) != n/20 {
					return fmt.Errorf("%d events, want %d: %w", len(got), n/20, err)
				}
			}
			if n != 200 {
				return fmt.Errorf("%d events, want 200", n)
			}
			return nil
		})
	}
	c.no(crowd.Wait())
	c.equal("events", len(c.log()), 280)
}

// failing reads an iteration, which must end with an error, and with nothing behind it.
func (c *C) failing(what string, all func(func(eventstore.Recorded, error) bool)) (n int, failed error) {
	c.Helper()
	for r, err := range all {
		c.holds(failed == nil, "%s: something comes behind the error %v: %+v, %v", what, failed, r, err)
		if err != nil {
			c.equal(what+": the event beside the error", r, eventstore.Recorded{})
			failed = err
			continue
		}
		n++
	}
	c.holds(failed != nil, "%s: no error after %d events", what, n)
	return n, failed
}

func readErrors(c *C) {
	c.fill("a", 300)
	// What is gone on with after a break, a return or a panic is nobody's concern; what ends at any moment is.
	for i := range 60 {
		ctx, cancel := context.WithTimeout(c.Ctx, time.Duration(i*50)*time.Microsecond)
		for r, err := range c.A.Read(ctx, eventstore.Query{}) {
			if err != nil {
				c.is("an iteration whose ctx ends", err, context.DeadlineExceeded)
			} else if r.Position == 300 {
				break
			}
		}
		cancel()
	}
	ctx, cancel := context.WithCancel(c.Ctx)
	seen := 0
	for _, err := range c.A.Read(ctx, eventstore.Query{}) {
		if err != nil {
			c.is("an iteration whose body ends its ctx", err, context.Canceled)
			break
		}
		if seen++; seen == 70 {
			cancel()
		}
	}
	cancel()
	c.equal("events until then", seen, 70)

	picky := c.Open(eventstore.Config{Upcast: func(e event.Event) (event.Event, error) {
		if string(e.Data) == "100" {
			return event.Event{}, errOnPurpose
		}
		e.Type = "upcast"
		return e, nil
	}})
	for _, all := range []func(func(eventstore.Recorded, error) bool){
		picky.Read(c.Ctx, eventstore.Query{}), picky.Follow(c.Ctx, eventstore.Query{}), picky.Read(c.Ctx, eventstore.Query{Stream: "a"}),
	} {
		n, err := c.failing("an upcaster that fails", all)
		c.is("an upcaster that fails", err, errOnPurpose)
		c.equal("events before it", n, 100)
	}
	for r, err := range picky.Read(c.Ctx, eventstore.Query{Limit: 1}) {
		c.no(err)
		c.equal("type", r.Type, "upcast")
	}
	c.equal("the log stays as it is", c.read(eventstore.Query{Limit: 1})[0].Type, "step")
	c.damagedRows()
}

// damagedRows looks at what comes of a row that is no event any longer.
func (c *C) damagedRows() {
	c.tamper(`UPDATE evdemo_store_events SET extensions = '{"a' WHERE position = 200`, `UPDATE evdemo_store_events SET time = 'noon' WHERE position = 250`)
	for _, test := range []struct {
		q        eventstore.Query
		before   int
		position int64
	}{
		{eventstore.Query{}, 199, 200},
		{eventstore.Query{Backwards: true}, 50, 250},
		{eventstore.Query{Stream: "a", FromVersion: 190}, 10, 200},
		{eventstore.Query{After: 200}, 49, 250},
	} {
		n, err := c.failing("a damaged row", c.A.Read(c.Ctx, test.q))
		damaged := as[*eventstore.DamagedError](c, "a damaged row", err)
		c.equal("stream", damaged.Stream, "a")
		c.equal("position", damaged.Position, test.position)
		c.equal("events before it", n, test.before)
	}
	n, err := c.failing("a damaged row", c.A.Follow(c.Ctx, eventstore.Query{}))
	has[*eventstore.DamagedError](c, "a follower at a damaged row", err)
	c.equal("events before it", n, 199)
	_, err = eventstore.Load(c.Ctx, c.A, "a", tally())
	has[*eventstore.DamagedError](c, "a state with a damaged row", err)
}

func queryMistakes(c *C) {
	c.fill("a", 3)
	for _, q := range []eventstore.Query{
		{FromVersion: 1}, {ToVersion: 1}, {Stream: "a", FromVersion: -1}, {Stream: "a", ToVersion: -1}, {After: -1}, {Through: -1}, {Limit: -1},
	} {
		n, err := c.failing(fmt.Sprintf("%+v", q), c.A.Read(c.Ctx, q))
		c.holds(n == 0 && err != nil, "%+v gives %d events", q, n)
		n, err = c.failing(fmt.Sprintf("%+v", q), c.A.Follow(c.Ctx, q))
		c.holds(n == 0 && err != nil, "%+v gives %d events", q, n)
	}
	for _, q := range []eventstore.Query{{Backwards: true}, {Through: 1}, {Stream: "a", ToVersion: 1}, {AsOf: time.Now()}} {
		_, err := c.failing(fmt.Sprintf("follow %+v", q), c.A.Follow(c.Ctx, q))
		c.holds(!errors.Is(err, context.DeadlineExceeded), "%+v is followed", q)
	}
}

func streams(c *C) {
	names := []string{"A", "a", "a-1", "a-10", "a-2", "a.", "aa", "b%", "b_", "bx", "z", "Ä", "日本", "\U0001F600"}
	versions := map[string]int64{}
	for i, name := range names {
		got := c.append(to(name, events(1+i%3)...))
		versions[name] = got.Versions[0]
	}
	c.fill("a", 1)
	versions["a"]++
	all, err := collect(c.B.Streams(c.Ctx, "", ""))
	c.no(err)
	for i, info := range all {
		c.equal("name", info.Stream, names[i])
		c.equal("version of "+info.Stream, info.Version, versions[info.Stream])
		events := c.read(eventstore.Query{Stream: info.Stream})
		c.equal("first of "+info.Stream, info.First, events[0].RecordedAt)
		c.equal("last of "+info.Stream, info.Last, events[len(events)-1].RecordedAt)
	}
	c.equal("streams", len(all), len(names))
	rapid.Check(c.TB, func(t *rapid.T) {
		text := rapid.OneOf(rapid.Just(""), rapid.SampledFrom(names), rapid.StringMatching(`[ab][-%_.0-9]?`))
		prefix, after, limit := text.Draw(t, "prefix"), text.Draw(t, "after"), rapid.IntRange(1, 20).Draw(t, "limit")
		var got, want []string
		for info, err := range c.B.Streams(c.Ctx, prefix, after) {
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, info.Stream); len(got) == limit {
				break
			}
		}
		for _, name := range names {
			if strings.HasPrefix(name, prefix) && name > after && len(want) < limit {
				want = append(want, name)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("Streams(%q, %q) gives %q, want %q", prefix, after, got, want)
		}
	})
	ctx, cancel := context.WithCancel(c.Ctx)
	cancel()
	_, err = collect(c.B.Streams(ctx, "", ""))
	c.is("Streams whose ctx has ended", err, context.Canceled)
}

func times(c *C) {
	position, err := c.B.PositionAt(c.Ctx, time.Now())
	c.no(err)
	c.equal("the position in an empty log", position, int64(0))
	for i := range 30 {
		c.append(to("a", events(1+i%4)...))
		rest(c.Ctx, time.Duration(i%3)*time.Millisecond)
	}
	log := model(c.log())
	for _, r := range log {
		for _, moment := range []time.Time{r.RecordedAt.Add(-1), r.RecordedAt, r.RecordedAt.Add(999), r.RecordedAt.Add(time.Microsecond)} {
			want := int64(len(log.answer(eventstore.Query{AsOf: moment})))
			position, err := c.B.PositionAt(c.Ctx, moment.In(time.FixedZone("", 3600)))
			c.no(err)
			c.equal(fmt.Sprint("the position at ", moment), position, want)
		}
	}
	for moment, want := range map[time.Time]int64{
		time.Now().Add(time.Hour): int64(len(log)), time.Unix(0, 0): 0, time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC): 0,
	} {
		position, err := c.B.PositionAt(c.Ctx, moment)
		c.no(err)
		c.equal(fmt.Sprint("the position at ", moment), position, want)
		c.equal(fmt.Sprint("events as of ", moment), int64(len(c.read(eventstore.Query{AsOf: moment}))), want)
		c.equal("backwards", int64(len(c.read(eventstore.Query{AsOf: moment, Backwards: true}))), want)
	}
}
