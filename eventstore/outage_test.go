package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/localpostgres"
	"github.com/evdemo/evdemo/internal/postgrestest"
)

// outcomes is what callers were told of their events.
type outcomes struct {
	mu                      sync.Mutex
	added, unknown, refused map[string]bool
}

func newOutcomes() *outcomes {
	return &outcomes{added: map[string]bool{}, unknown: map[string]bool{}, refused: map[string]bool{}}
}

// note notes the outcome of an append. An error that is none of an outage is returned.
func (o *outcomes) note(all []event.Event, err error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	told := o.added
	switch {
	case err == nil:
	case !errors.Is(err, eventstore.ErrUnavailable):
		return fmt.Errorf("the error does not say that the server is away: %w", err)
	case errors.Is(err, eventstore.ErrOutcomeUnknown):
		told = o.unknown
	default:
		told = o.refused
	}
	for _, e := range all {
		told[e.ID] = true
	}
	return nil
}

func (o *outcomes) counts() (added, unknown, refused int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.added), len(o.unknown), len(o.refused)
}

// check fails the test unless the log has what was said to be there, once, and nothing that was said not to be.
func (o *outcomes) check(t *testing.T, log []eventstore.Recorded) {
	t.Helper()
	seen := map[string]bool{}
	for i, r := range log {
		assert.Equal(t, int64(i+1), r.Position)
		assert.False(t, seen[r.ID], "event %s is there twice", r.ID)
		assert.False(t, o.refused[r.ID], "event %s was said not to be there", r.ID)
		seen[r.ID] = true
	}
	for id := range o.added {
		assert.True(t, seen[id], "event %s was said to be there", id)
	}
	t.Logf("%d appended, %d unknown, %d refused", len(o.added), len(o.unknown), len(o.refused))
}

// appendFor appends with several goroutines until ctx ends, each append with its own expectation.
func (o *outcomes) appendFor(ctx context.Context, s *eventstore.Store) *errgroup.Group {
	var crowd errgroup.Group
	for range 8 {
		crowd.Go(func() error {
			for n := 0; ctx.Err() == nil; n++ {
				all := someEvents(1 + n%3)
				write := eventstore.StreamWrite{Stream: "s-" + all[0].ID, Expect: eventstore.NoStream, Events: all}
				_, err := s.Append(context.WithoutCancel(ctx), write)
				if err := o.note(all, err); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return &crowd
}

// While a server is killed and restarted every append waits for it, succeeds, and is made once; followers go on.
func TestServerKilledAndRestarted(t *testing.T) {
	t.Parallel()
	server := postgrestest.Server(t)
	db := server.URL("postgres")
	s := open(t, eventstore.Config{DB: db, RetryFor: 2 * time.Minute})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	said := newOutcomes()
	crowd := said.appendFor(ctx, s)
	var followed []eventstore.Recorded
	var follower errgroup.Group
	follower.Go(func() error {
		for r, err := range s.Follow(t.Context(), eventstore.Query{}) {
			if err != nil {
				return err
			}
			if followed = append(followed, r); r.Stream == "last" {
				return nil
			}
		}
		return nil
	})
	for range 4 {
		enough(t, said, 60)
		require.NoError(t, server.Kill())
		require.NoError(t, server.Restart(t.Context()))
	}
	enough(t, said, 60)
	stop()
	require.NoError(t, crowd.Wait())
	_, unknown, refused := said.counts()
	require.Zero(t, unknown+refused, "the server came back in time for everything")
	last := someEvents(1)
	_, err := s.Append(t.Context(), eventstore.StreamWrite{Stream: "last", Events: last})
	require.NoError(t, said.note(last, err))
	require.NoError(t, follower.Wait())
	log := read(t, s)
	require.Equal(t, log, followed)
	require.Len(t, log, len(said.added), "each was made once")
	said.check(t, log)
	sound(t, s)
}

// enough waits until so many more events were appended.
func enough(t *testing.T, said *outcomes, more int) {
	t.Helper()
	before, _, _ := said.counts()
	require.Eventually(t, func() bool {
		added, _, _ := said.counts()
		return added >= before+more
	}, time.Minute, time.Millisecond)
}

// Where nothing is tried again each append has the outcome that it was said to have, whatever it was.
func TestServerKilledUnderAppends(t *testing.T) {
	t.Parallel()
	server := postgrestest.Server(t)
	s := open(t, eventstore.Config{DB: server.URL("postgres"), RetryFor: -1})
	said := newOutcomes()
	for i := range 5 {
		ctx, stop := context.WithCancel(t.Context())
		crowd := said.appendFor(ctx, s)
		enough(t, said, 50)
		end := server.Kill
		if i%2 > 0 {
			end = func() error { return server.Stop(t.Context()) }
		}
		require.NoError(t, end())
		stop()
		require.NoError(t, crowd.Wait())
		require.NoError(t, server.Restart(t.Context()))
	}
	_, unknown, refused := said.counts()
	require.NotZero(t, unknown+refused, "no append met an outage")
	said.check(t, read(t, s))
	sound(t, s)
}

// A server that stays away for longer than it is waited for.
func TestServerAway(t *testing.T) {
	t.Parallel()
	server := postgrestest.Server(t)
	const retryFor = 300 * time.Millisecond
	s := open(t, eventstore.Config{DB: server.URL("postgres"), RetryFor: retryFor})
	fill(t, s, "a", 3)
	require.NoError(t, server.Kill())
	all := events(t, 2)
	write := eventstore.StreamWrite{Stream: "a", Expect: eventstore.Exactly(3), Events: all}
	for _, op := range []func() error{
		func() error { _, err := s.Append(t.Context(), write); return err },
		func() error { _, err := s.Head(t.Context()); return err },
		func() error { _, err := eventstore.Load(t.Context(), s, "a", total()); return err },
		func() error { return firstError(s.Read(t.Context(), eventstore.Query{})) },
		func() error { return firstError(s.Follow(t.Context(), eventstore.Query{})) },
		func() error { _, err := s.Verify(t.Context(), func(eventstore.Finding) {}); return err },
		func() error { return refused(t, eventstore.Config{DB: server.URL("postgres"), RetryFor: retryFor}) },
	} {
		began := time.Now()
		require.ErrorIs(t, op(), eventstore.ErrUnavailable)
		require.Less(t, time.Since(began), 30*time.Second)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, firstError(s.Read(ctx, eventstore.Query{})), context.DeadlineExceeded)
	require.NoError(t, server.Restart(t.Context()))
	_, err := s.Append(t.Context(), write)
	require.NoError(t, err)
	require.Len(t, read(t, s), 5)
}

func firstError(all func(func(eventstore.Recorded, error) bool)) error {
	for _, err := range all {
		if err != nil {
			return err
		}
	}
	return nil
}

func total() eventstore.Fold[int] {
	return eventstore.Fold[int]{Name: "total", Apply: func(n int, _ eventstore.Recorded) (int, error) { return n + 1, nil }}
}

// A server whose connections are all taken has a store wait for one.
func TestServerWithoutConnections(t *testing.T) {
	t.Parallel()
	server := postgrestest.Server(t, func(c *localpostgres.Config) {
		c.Settings = []string{"max_connections=6", "superuser_reserved_connections=0"}
	})
	s := open(t, eventstore.Config{DB: server.URL("postgres"), RetryFor: time.Minute, MaxConns: 2})
	fill(t, s, "a", 1)
	db := connect(t, server.URL("postgres"))
	ctx, release := context.WithCancel(t.Context())
	defer release()
	for range 6 { // takes what is left
		conn, err := db.Conn(ctx)
		if err != nil {
			break
		}
		defer conn.Close()
	}
	other := make(chan error, 1)
	go func() {
		o, err := eventstore.Open(t.Context(), eventstore.Config{DB: server.URL("postgres"), RetryFor: time.Minute, MaxConns: 1})
		if err == nil {
			_, err = o.Append(t.Context(), eventstore.StreamWrite{Stream: "b", Events: someEvents(1)})
			err = errors.Join(err, o.Close())
		}
		other <- err
	}()
	fill(t, s, "a", 1)
	require.NoError(t, s.Close())
	require.NoError(t, <-other)
}
