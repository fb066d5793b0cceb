package saga_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/saga"
)

const (
	crashKills = 32
	// crashBegins is how many instances are begun between two kills.
	crashBegins = 3
)

// crashing is a process of five steps, one of which is not always answered in time, and one that cannot be undone.
func crashing() saga.Definition {
	d := saga.Definition{
		Name: "crashing", Starts: []string{"begin"},
		Steps: []saga.Step{step("s0", 0), step("s1", 5*time.Second), step("s2", 0), step("s3", 0), step("s4", 0)},
	}
	d.Steps[3].Undo, d.Steps[3].Undone = nil, nil
	return d
}

// fate is what becomes of a step of an instance: the same each time, and in each process.
func fate(id string, s saga.Step) string {
	h := fnv.New32a()
	_, _ = io.WriteString(h, id+s.Name)
	switch n := h.Sum32() % 100; {
	case n < 8:
		return isFailed
	case n < 16 && s.Timeout > 0:
		return isLost
	default:
		return isDone
	}
}

// bookings is the service that takes all the steps. What it does elsewhere is in the table bank, which does what it is asked
// once for each key, and nothing after it was taken back.
func bookings(store *eventstore.Store, definition saga.Definition) (*saga.Participant, error) {
	bank := func(ctx context.Context, t *saga.Turn[*account], what, step string) error {
		const ask = `INSERT INTO bank SELECT $1, $2, $3, $4
			WHERE NOT EXISTS (SELECT 1 FROM bank WHERE instance = $2 AND step = $3 AND what = 'cancel') ON CONFLICT DO NOTHING`
		_, err := store.DB().ExecContext(ctx, ask, t.Key(), t.Trigger.Subject, step, what)
		return err
	}
	react := map[string]func(context.Context, *saga.Turn[*account]) error{}
	for _, s := range definition.Steps {
		react[s.Name+".book"] = func(ctx context.Context, t *saga.Turn[*account]) error {
			fate := fate(t.Trigger.Subject, s)
			if t.State().has(s.Name+".cancelled") || fate == isLost {
				return nil
			}
			if fate == isFailed {
				t.Emit(s.Name+".full", nil)
				return nil
			}
			t.Emit(s.Name+".booked", nil)
			return bank(ctx, t, "book", s.Name)
		}
		react[s.Name+".cancel"] = func(ctx context.Context, t *saga.Turn[*account]) error {
			t.Emit(s.Name+".cancelled", nil)
			return bank(ctx, t, "cancel", s.Name)
		}
	}
	return saga.NewParticipant(store, saga.Service[*account]{
		Name: "bookings", Fold: accounts(), React: react,
		Streams: func(e event.Event) []string {
			name, _, _ := strings.Cut(e.Type, ".")
			return []string{"bookings-" + name + "-" + e.Subject}
		},
	})
}

// child says what a process of its own is to do.
type child struct{ DB, Name string }

// runChild runs a coordinator and its service, on a bus that delivers again what was not noted down as handled, until it is
// killed.
func runChild(ctx context.Context, spec string) error {
	var c child
	if err := json.Unmarshal([]byte(spec), &c); err != nil {
		return err
	}
	store, err := eventstore.Open(ctx, eventstore.Config{DB: c.DB, BusyTimeout: patience, Poll: 5 * time.Millisecond})
	if err != nil {
		return err
	}
	definition, all := crashing(), handlers{}
	coordinator, err := saga.NewCoordinator(saga.CoordinatorConfig{
		Store: store, Definition: definition, Poll: 20 * time.Millisecond, Lease: 500 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	service, err := bookings(store, definition)
	if err != nil {
		return err
	}
	all.add(coordinator.Types(), coordinator.Handle)
	all.add(service.Types(), service.Handle)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return coordinator.Run(ctx) })
	group.Go(func() error { return all.followFrom(ctx, store, c.Name) })
	return group.Wait()
}

// followFrom is follow, from the place that this name has come to.
func (h handlers) followFrom(ctx context.Context, store *eventstore.Store, name string) error {
	var position int64
	if err := store.DB().QueryRowContext(ctx, `SELECT position FROM places WHERE name = $1`, name).Scan(&position); err != nil {
		return err
	}
	var group errgroup.Group
	group.SetLimit(16)
	handled := 0
	for r, err := range store.Follow(ctx, eventstore.Query{After: position}) {
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		for _, handle := range h[r.Type] {
			group.Go(func() error { return deliver(ctx, handle, r.Event) })
		}
		if handled++; handled%32 > 0 {
			continue
		}
		if err := group.Wait(); err != nil {
			return err
		}
		if _, err := store.DB().ExecContext(ctx, `UPDATE places SET position = $1 WHERE name = $2`, r.Position, name); err != nil {
			return err
		}
	}
	return group.Wait()
}

// process is a child that runs.
type process struct {
	*exec.Cmd
	complaints strings.Builder
}

func (c child) start(t *testing.T) *process {
	t.Helper()
	spec, err := json.Marshal(c)
	require.NoError(t, err)
	p := &process{Cmd: exec.CommandContext(t.Context(), os.Args[0])}
	p.Env = append(os.Environ(), childEnv+"="+string(spec))
	p.Stderr = &p.complaints
	require.NoError(t, p.Start())
	return p
}

// kill ends it with SIGKILL. It must not have ended by itself.
func (p *process) kill(t *testing.T) {
	t.Helper()
	_ = p.Process.Kill()
	_ = p.Wait()
	assert.False(t, p.ProcessState.Exited(), "it ended by itself: %s", &p.complaints)
}

// Two processes, each with a coordinator and the services, are killed with SIGKILL again and again at random moments. Every
// instance ends, each command and each answer is in the log once, and what was done elsewhere was done once.
func TestKilled(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db string) {
		t.Helper()
		store := open(t, eventstore.Config{DB: db, BusyTimeout: patience})
		for _, statement := range []string{
			`CREATE TABLE bank (key TEXT PRIMARY KEY, instance TEXT NOT NULL, step TEXT NOT NULL, what TEXT NOT NULL)`,
			`CREATE TABLE places (name TEXT PRIMARY KEY, position BIGINT NOT NULL)`,
			`INSERT INTO places VALUES ('a', 0), ('b', 0)`,
		} {
			_, err := store.DB().ExecContext(t.Context(), statement)
			require.NoError(t, err)
		}
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, seed))
		names := []string{"a", "b"}
		running := []*process{child{db, "a"}.start(t), child{db, "b"}.start(t)}
		var ids []string
		for n := range crashKills {
			for range crashBegins {
				ids = append(ids, fmt.Sprint(len(ids)))
				begin := eventstore.StreamWrite{Stream: "begun", Events: []event.Event{happened(t, "begin", ids[len(ids)-1], nil)}}
				_, err := store.Append(t.Context(), begin)
				require.NoError(t, err)
			}
			<-time.After(time.Duration(random.Int64N(int64(250 * time.Millisecond))))
			running[n%2].kill(t)
			running[n%2] = child{db, names[n%2]}.start(t)
		}
		definition := crashing()
		c := coordinator(t, store, definition)
		for _, id := range ids {
			eventually(t, func() bool { s := statusOf(t, c, id); return s == saga.Completed || s == saga.Compensated }, "the end of instance "+id)
		}
		for _, p := range running {
			p.kill(t)
		}
		checkKilled(t, store, c, ids, definition)
	})
}

func checkKilled(t *testing.T, store *eventstore.Store, c *saga.Coordinator, ids []string, definition saga.Definition) {
	t.Helper()
	asked, ends := bankOf(t, store), map[saga.Status]int{}
	for _, id := range ids {
		sound(t, store, c, id, definition)
		course, status := courseOf(t, store, c.Stream(id)), statusOf(t, c, id)
		ends[status]++
		for _, s := range definition.Steps {
			var answers []string
			for _, r := range read(t, store, eventstore.Query{Stream: "bookings-" + s.Name + "-" + id}) {
				assert.NotContains(t, answers, r.Type, "answered twice: step %s of %s", s.Name, id)
				answers = append(answers, r.Type)
			}
			booked, cancelled := asked[id+" "+s.Name+" book"], asked[id+" "+s.Name+" cancel"]
			assert.LessOrEqual(t, booked, 1)
			if slices.Contains(course.done, s.Name) {
				assert.Equal(t, 1, booked, "step %s of %s", s.Name, id)
			}
			want := 0
			if slices.Contains(course.undo, s.Name) {
				want = 1
			}
			assert.Equal(t, want, cancelled, "step %s of %s is taken back", s.Name, id)
		}
	}
	t.Log(ends) // on a machine that is busy enough, all of them may be too late to complete
	assert.Positive(t, ends[saga.Compensated])
}

// bankOf is how often the bank did what.
func bankOf(t *testing.T, store *eventstore.Store) map[string]int {
	t.Helper()
	rows, err := store.DB().QueryContext(t.Context(), `SELECT instance, step, what FROM bank`)
	require.NoError(t, err)
	defer rows.Close()
	all := map[string]int{}
	for rows.Next() {
		var instance, step, what string
		require.NoError(t, rows.Scan(&instance, &step, &what))
		all[instance+" "+step+" "+what]++
	}
	require.NoError(t, rows.Err())
	return all
}
