package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
)

func stateChecks() []Check {
	return []Check{
		{"a state can be had at each version and time", true, statesOfThePast},
		{"with snapshots a state is what it is without", true, snapshotsDoNotShow},
		{"a load begins with the newest snapshot that can be used", true, snapshotsUsed},
		{"a snapshot that cannot be used is not", true, snapshotsPassedOver},
		{"a snapshot that cannot be written loses nothing", false, snapshotsUnwritten},
		{"a load that cannot be is an error", false, loadErrors},
		{"no update is lost", true, updateCounter},
		{"updates of one store are in turn", false, updateInTurn},
		{"an update ends with its decision", true, updateDecides},
	}
}

// sums is a state that shows which events were applied, and in which order.
type sums struct {
	Count int
	Hash  uint64
	Last  string
}

// tally folds a stream into sums.
func tally() eventstore.Fold[sums] {
	return eventstore.Fold[sums]{
		Name: "tally", Version: 1,
		Initial: func() sums { return sums{Hash: 5381} },
		Apply: func(s sums, r eventstore.Recorded) (sums, error) {
			hash := s.Hash
			for _, b := range []byte(r.ID) {
				hash = hash*33 + uint64(b)
			}
			return sums{s.Count + 1, hash, r.Type}, nil
		},
	}
}

// load loads from B, and fails the check where that fails.
func (c *C) load(stream string, options ...eventstore.LoadOption) eventstore.State[sums] {
	c.Helper()
	state, err := eventstore.Load(c.Ctx, c.B, stream, tally(), options...)
	c.no(err)
	return state
}

// folded is a stream's state at each version, made beside the store.
func folded(all []eventstore.Recorded) []eventstore.State[sums] {
	fold := tally()
	states := []eventstore.State[sums]{{Value: fold.Initial()}}
	for i, r := range all {
		value, _ := fold.Apply(states[i].Value, r)
		states = append(states, eventstore.State[sums]{Value: value, Version: r.Version, Position: r.Position, RecordedAt: r.RecordedAt})
	}
	return states
}

// same fails the check unless both are the same state, however they were made.
func (c *C) same(what string, got, want eventstore.State[sums]) {
	c.Helper()
	c.equal(what+": replayed from the snapshot", got.Snapshot+int64(got.Replayed), want.Version)
	got.Snapshot, got.Replayed = 0, 0
	c.equal(what, got, want)
}

// grow appends to two streams by turns, with times between.
func (c *C) grow(n int) {
	c.Helper()
	for i := range n {
		c.append(to("a", events(1+i%3)...), to("b", events(i%2)...))
		rest(c.Ctx, time.Duration(i%2)*time.Millisecond)
	}
}

func statesOfThePast(c *C) {
	c.same("no events", c.load("a"), folded(nil)[0])
	c.grow(16)
	all := c.read(eventstore.Query{Stream: "a"})
	states := folded(all)
	c.same("now", c.load("a"), states[len(all)])
	for i, want := range states[1:] {
		c.same(fmt.Sprint("version ", i+1), c.load("a", eventstore.AtVersion(int64(i+1))), want)
		latest := want // of the same time
		for _, later := range states[i+1:] {
			if later.RecordedAt.Equal(want.RecordedAt) {
				latest = later
			}
		}
		c.same("as of then", c.load("a", eventstore.AsOf(want.RecordedAt)), latest)
	}
	c.same("before", c.load("a", eventstore.AsOf(all[0].RecordedAt.Add(-1))), states[0])
	c.load("a", eventstore.SnapshotEvery(1))
	for _, none := range []eventstore.LoadOption{eventstore.AtVersion(0), eventstore.AsOf(time.Time{})} {
		c.same("before the first event", c.load("a", none), states[0])
		c.same("before the first event, without snapshots", c.load("a", none, eventstore.WithoutSnapshots()), states[0])
	}
	c.same("version 0 of no events", c.load("none", eventstore.AtVersion(0)), states[0])
}

func snapshotsDoNotShow(c *C) {
	c.grow(20)
	rapid.Check(c.TB, func(t *rapid.T) {
		c := c.in(t)
		if rapid.IntRange(0, 3).Draw(t, "grow?") == 0 {
			c.grow(rapid.IntRange(1, 4).Draw(t, "by"))
		}
		states := folded(c.read(eventstore.Query{Stream: "a"}))
		i := rapid.IntRange(1, len(states)-1).Draw(t, "version")
		var options []eventstore.LoadOption
		want := states[len(states)-1]
		switch rapid.SampledFrom([]string{"now", "version", "time"}).Draw(t, "when") {
		case "version":
			options, want = append(options, eventstore.AtVersion(int64(i))), states[i]
		case "time":
			moment := states[i].RecordedAt.Add(time.Duration(rapid.IntRange(-1, 1).Draw(t, "about")) * time.Microsecond)
			want = states[0]
			for _, state := range states[1:] {
				if !state.RecordedAt.After(moment) {
					want = state
				}
			}
			options = append(options, eventstore.AsOf(moment))
		}
		if every := rapid.IntRange(0, 10).Draw(t, "snapshot every"); every > 0 {
			options = append(options, eventstore.SnapshotEvery(every))
		}
		c.same("state", c.load("a", options...), want)
		c.same("state without snapshots", c.load("a", append(options, eventstore.WithoutSnapshots())...), want)
	})
	c.holds(c.number(c.raw(), `SELECT count(*) FROM evdemo_store_snapshots`) > 3, "there were hardly any snapshots")
}

// begins fails the check unless a load began with a snapshot and applied so many events.
func (c *C) begins(what string, state eventstore.State[sums], snapshot int64, replayed int) {
	c.Helper()
	c.equal(what+": snapshot, replayed", []int64{state.Snapshot, int64(state.Replayed)}, []int64{snapshot, int64(replayed)})
}

func snapshotsUsed(c *C) {
	c.fill("a", 10)
	c.begins("none is written unless told", c.load("a"), 0, 10)
	c.begins("none is there", c.load("a", eventstore.SnapshotEvery(11)), 0, 10)
	c.begins("none is there", c.load("a", eventstore.SnapshotEvery(10)), 0, 10)
	c.begins("it is written", c.load("a"), 10, 0)
	c.fill("a", 5)
	c.begins("it is used", c.load("a", eventstore.SnapshotEvery(6)), 10, 5)
	c.begins("it is used", c.load("a", eventstore.SnapshotEvery(5)), 10, 5)
	c.begins("the newest", c.load("a"), 15, 0)
	c.begins("an older one for an older version", c.load("a", eventstore.AtVersion(14)), 10, 4)
	c.begins("none that is newer", c.load("a", eventstore.AtVersion(9)), 0, 9)
	first := c.read(eventstore.Query{Stream: "a", Limit: 1})[0]
	c.begins("none of later", c.load("a", eventstore.AsOf(first.RecordedAt.Add(-1))), 0, 0)
	c.begins("none at all", c.load("a", eventstore.WithoutSnapshots(), eventstore.SnapshotEvery(1)), 0, 15)
	c.fill("b", 3)
	c.begins("another stream's", c.load("b"), 0, 3)

	for _, other := range []func(f *eventstore.Fold[sums]){
		func(f *eventstore.Fold[sums]) { f.Version = 2 },
		func(f *eventstore.Fold[sums]) { f.Version = 0 },
		func(f *eventstore.Fold[sums]) { f.Name = "other" },
	} {
		fold := tally()
		other(&fold)
		state, err := eventstore.Load(c.Ctx, c.B, "a", fold, eventstore.SnapshotEvery(1))
		c.no(err)
		c.begins("another fold's", state, 0, 15)
	}
	dropped, err := c.B.DropSnapshots(c.Ctx, "tally", 2)
	c.no(err)
	c.equal("snapshots dropped", dropped, int64(3))
	c.begins("they were dropped", c.load("a"), 0, 15)
}

func snapshotsPassedOver(c *C) {
	c.fill("a", 4)
	c.load("a", eventstore.SnapshotEvery(1))
	c.fill("a", 4)
	c.load("a", eventstore.SnapshotEvery(1))
	c.begins("it is whole", c.load("a"), 8, 0)
	want := c.load("a", eventstore.WithoutSnapshots())
	for _, damage := range []string{
		`state = (SELECT state FROM evdemo_store_snapshots WHERE version = 4)`,
		`checksum = checksum + 1`,
		`position = position + 1`,
		`recorded_at = recorded_at - 1`,
		`stream = 'b'`,
	} {
		_, err := eventstore.Load(c.Ctx, c.A, "a", tally(), eventstore.AtVersion(8), eventstore.SnapshotEvery(1))
		c.no(err)
		c.tamper(`UPDATE evdemo_store_snapshots SET ` + damage + ` WHERE version = 8`)
		got := c.load("a")
		c.begins(damage, got, 4, 4)
		c.equal(damage, got.Value, want.Value)
		c.tamper(`DELETE FROM evdemo_store_snapshots WHERE version = 8`)
	}
	c.load("a", eventstore.SnapshotEvery(1))
	fold := tally()
	fold.Decode = func([]byte) (sums, error) { return sums{Count: 99}, errOnPurpose }
	state, err := eventstore.Load(c.Ctx, c.B, "a", fold)
	c.no(err)
	c.begins("none can be decoded", state, 0, 8)
	c.equal("the state", state.Value, want.Value)
	c.begins("it is still there", c.load("a"), 8, 0)
}

func snapshotsUnwritten(c *C) {
	c.fill("a", 5)
	fold := tally()
	fold.Encode = func(sums) ([]byte, error) { return nil, errOnPurpose }
	state, err := eventstore.Load(c.Ctx, c.A, "a", fold, eventstore.SnapshotEvery(1))
	c.no(err)
	c.equal("events applied", state.Value.Count, 5)
	c.tamper(`ALTER TABLE evdemo_store_snapshots RENAME COLUMN checksum TO gone`, `ALTER TABLE evdemo_store_snapshots RENAME COLUMN gone TO checksum`)
	if c.onPostgres() {
		c.tamper(`ALTER TABLE evdemo_store_snapshots ADD CHECK (version < 0)`)
	} else {
		c.tamper(`CREATE TRIGGER no_more BEFORE INSERT ON evdemo_store_snapshots BEGIN SELECT RAISE(ABORT, 'no more'); END`)
	}
	c.begins("it cannot be written", c.load("a", eventstore.SnapshotEvery(1)), 0, 5)
	c.begins("it cannot be written", c.load("a", eventstore.SnapshotEvery(1)), 0, 5)
}

func loadErrors(c *C) {
	c.fill("a", 5)
	for what, test := range map[string]struct {
		stream  string
		options []eventstore.LoadOption
		target  error
	}{
		"a version that is not there yet": {"a", []eventstore.LoadOption{eventstore.AtVersion(6)}, eventstore.ErrNoVersion},
		"a version of no stream":          {"b", []eventstore.LoadOption{eventstore.AtVersion(1)}, eventstore.ErrNoVersion},
		"no stream":                       {"", nil, eventstore.ErrStreamName},
		"a negative version":              {"a", []eventstore.LoadOption{eventstore.AtVersion(-1)}, nil},
		"a version and a time":            {"a", []eventstore.LoadOption{eventstore.AtVersion(1), eventstore.AsOf(time.Now())}, nil},
	} {
		state, err := eventstore.Load(c.Ctx, c.A, test.stream, tally(), test.options...)
		c.holds(err != nil, "%s: no error", what)
		c.equal(what, state, eventstore.State[sums]{})
		if test.target != nil {
			c.is(what, err, test.target)
		}
	}
	fold := tally()
	fold.Name = ""
	_, err := eventstore.Load(c.Ctx, c.A, "a", fold)
	c.holds(err != nil, "a fold without a name has snapshots")
	_, err = eventstore.Load(c.Ctx, c.A, "a", fold, eventstore.WithoutSnapshots())
	c.no(err)
	fold = tally()
	fold.Apply = func(s sums, r eventstore.Recorded) (sums, error) {
		if r.Version == 3 {
			return s, errOnPurpose
		}
		return s, nil
	}
	_, err = eventstore.Load(c.Ctx, c.A, "a", fold)
	c.is("an event that cannot be applied", err, errOnPurpose)
	c.tamper(`DELETE FROM evdemo_store_events WHERE version = 3`)
	_, err = eventstore.Load(c.Ctx, c.A, "a", tally())
	has[*eventstore.DamagedError](c, "a version that is missing", err)
}

// counter folds a stream whose events each have the value that they have made.
func counter() eventstore.Fold[int] {
	return eventstore.Fold[int]{Name: "counter", Apply: func(_ int, r eventstore.Recorded) (int, error) {
		return strconv.Atoi(string(r.Data))
	}}
}

func updateCounter(c *C) {
	const counters, each = 6, 12
	increment := func(s eventstore.State[int]) ([]event.Event, error) {
		return []event.Event{newEvent("counted", s.Value+1)}, nil
	}
	var crowd errgroup.Group
	for w := range counters {
		crowd.Go(func() error {
			for done := 0; done < each; {
				got, err := eventstore.Update(c.Ctx, c.store(w), "a", counter(), increment, eventstore.SnapshotEvery(10))
				if _, conflict := errors.AsType[*eventstore.ConflictError](err); conflict {
					continue // twenty times: that is promised, too
				}
				if err != nil || got.Added != 1 {
					return fmt.Errorf("update: %+v: %w", got, err)
				}
				done++
			}
			return nil
		})
	}
	c.no(crowd.Wait())
	state, err := eventstore.Load(c.Ctx, c.B, "a", counter())
	c.no(err)
	c.equal("count", state.Value, counters*each)
	for _, r := range c.log() {
		var n int64
		c.no(json.Unmarshal(r.Data, &n))
		c.equal("an event's count", n, r.Version)
	}
}

// updateInTurn has more callers than there are attempts: none of them may hear of a conflict with another.
func updateInTurn(c *C) {
	const callers = 64
	var crowd errgroup.Group
	for range callers {
		crowd.Go(func() error {
			_, err := eventstore.Update(c.Ctx, c.A, "a", counter(), func(s eventstore.State[int]) ([]event.Event, error) {
				return []event.Event{newEvent("counted", s.Value+1)}, nil
			})
			return err
		})
	}
	c.no(crowd.Wait())
	c.equal("version", c.version("a"), int64(callers))
}

func updateDecides(c *C) {
	c.fill("a", 3)
	_, err := eventstore.Update(c.Ctx, c.A, "a", tally(), func(eventstore.State[sums]) ([]event.Event, error) { return events(1), errOnPurpose })
	c.is("a decision that is an error", err, errOnPurpose)
	got, err := eventstore.Update(c.Ctx, c.A, "a", tally(), func(eventstore.State[sums]) ([]event.Event, error) { return nil, nil })
	c.no(err)
	c.equal("added by nothing", got.Added, 0)
	c.equal("head", c.head(), int64(3))

	calls := 0
	interrupted := func(times int) (eventstore.Appended, error) {
		calls = 0
		return eventstore.Update(c.Ctx, c.A, "a", tally(), func(s eventstore.State[sums]) ([]event.Event, error) {
			if calls++; calls <= times {
				_, err := c.B.Append(c.Ctx, at("a", s.Version, events(1)...))
				c.no(err)
			}
			c.equal("the state's version", s.Version, c.version("a")-btoi(calls <= times))
			return []event.Event{newEvent("decided", s.Version)}, nil
		})
	}
	got, err = interrupted(7)
	c.no(err)
	c.equal("calls", calls, 8)
	c.equal("version", got.Versions, []int64{11})
	_, err = interrupted(1000)
	has[*eventstore.ConflictError](c, "a stream that changes each time", err)
	c.equal("calls", calls, 20)
	got, err = eventstore.Update(c.Ctx, c.A, "new", tally(), func(s eventstore.State[sums]) ([]event.Event, error) {
		c.equal("the state of no events", s.Value, tally().Initial())
		return events(2), nil
	})
	c.no(err)
	c.equal("version", got.Versions, []int64{2})
}

func btoi(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
