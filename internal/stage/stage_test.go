package stage

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAwait(t *testing.T) {
	t.Parallel()
	s := new(Stage)
	looks := 0
	require.NoError(t, s.Await(t.Context(), "three looks", time.Minute, func() bool { looks++; return looks == 3 }))
	require.NoError(t, s.Await(t.Context(), "nothing", 0, func() bool { return true }), "what holds needs no time")
	err := s.Await(t.Context(), "snow", 20*time.Millisecond, func() bool { return false })
	require.EqualError(t, err, "waited 20ms for this: snow")
	interrupted := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(interrupted)
	require.ErrorIs(t, s.Await(ctx, "snow", time.Minute, func() bool { return false }), interrupted)
	require.ErrorIs(t, s.Pause(ctx, time.Minute), interrupted)
	require.NoError(t, s.Pause(t.Context(), time.Millisecond))
}

func TestSettle(t *testing.T) {
	t.Parallel()
	s := new(Stage)
	n := 0
	require.NoError(t, s.Settle(t.Context(), time.Minute, 5, func() int { n++; return n }))
	require.Equal(t, 5, n, "it ends with the last one that was wanted")
	// What stops coming has come to its end, but not before it has been quiet for so long.
	const quiet = 100 * time.Millisecond
	n = 0
	var last time.Time
	require.NoError(t, s.Settle(t.Context(), quiet, 100, func() int {
		if n < 3 {
			n, last = n+1, time.Now()
		}
		return n
	}))
	require.Equal(t, 3, n)
	require.GreaterOrEqual(t, time.Since(last), quiet)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.Settle(ctx, time.Minute, 1, func() int { return 0 }), context.Canceled)
}

// memory is a scenario that needs no broker, and does what the test wants in each mode.
func memory(play func(s *Stage) error) Scenario {
	s := example()
	s.Needs = Nothing
	s.Play = func(_ context.Context, stage *Stage) error { return play(stage) }
	return s
}

func TestRun(t *testing.T) {
	t.Parallel()
	var dirs, ended []string
	var prefixes []string
	var random []uint64
	play := func(s *Stage) error {
		dirs, prefixes, random = append(dirs, s.Dir), append(prefixes, s.Name("")), append(random, s.Rand.Uint64())
		s.OnClose(func(context.Context) error { ended = append(ended, string(s.Mode)+" made first"); return nil })
		s.OnClose(func(ctx context.Context) error { ended = append(ended, string(s.Mode)+" made last"); return ctx.Err() })
		book := s.Ledger("jobs")
		book.Expect("one", "one")
		require.Same(t, book, s.Ledger("jobs"))
		book.Attempt("a")
		s.Say("Number %d.", 3)
		if s.Fixed() {
			s.Count("lost", 0)
			s.Measure("wait", 0.5)
			s.Count("held", 3)
			book.Effect("one", "one", "a")
			return nil
		}
		s.Count("lost", 1)
		return os.WriteFile(s.Dir+"/file", nil, 0o600)
	}
	var screen strings.Builder
	report, err := Run(t.Context(), memory(play), Config{Seed: 7, Screen: &screen})
	require.NoError(t, err)
	require.True(t, report.Holds)
	require.Equal(t, "no broker", report.Broker)
	require.EqualValues(t, 7, report.Seed)
	require.Len(t, report.Ledger, 2)
	require.Equal(t, 1, report.Ledger[0].Consumers[0].Missing)
	require.Equal(t, 0, report.Ledger[1].Consumers[0].Missing)
	require.Equal(t, random[0], random[1], "both modes have the same")
	require.NotEqual(t, prefixes[0], prefixes[1])
	require.Equal(t, []string{"broken made last", "broken made first", "fixed made last", "fixed made first"}, ended)
	for _, dir := range dirs {
		require.NoDirExists(t, dir)
	}
	require.Equal(t, `example: What it is about

One. Two. Three.

BROKEN: as it should not be.
  Number 3.

FIXED: as it should be.
  Number 3.
`, screen.String())
}

func TestRunThatFails(t *testing.T) {
	t.Parallel()
	var plays, ended atomic.Int32
	broken := errors.New("no paper")
	_, err := Run(t.Context(), memory(func(s *Stage) error {
		plays.Add(1)
		s.OnClose(func(context.Context) error { ended.Add(1); return ErrLeftBehind })
		return broken
	}), Config{})
	require.ErrorIs(t, err, broken)
	require.ErrorIs(t, err, ErrLeftBehind)
	require.ErrorContains(t, err, "example, broken: no paper")
	require.EqualValues(t, 1, plays.Load())
	require.EqualValues(t, 1, ended.Load())
}

// An interrupt ends a play, and what was made is removed nonetheless.
func TestRunThatIsInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	scenario := example()
	scenario.Needs = Nothing
	removed := false
	scenario.Play = func(ctx context.Context, s *Stage) error {
		s.OnClose(func(ctx context.Context) error { removed = ctx.Err() == nil; return nil })
		cancel()
		return s.Pause(ctx, time.Minute)
	}
	_, err := Run(ctx, scenario, Config{})
	require.ErrorIs(t, err, context.Canceled)
	require.True(t, removed)
}

func TestRunThatMeasuresTooLittle(t *testing.T) {
	t.Parallel()
	_, err := Run(t.Context(), memory(func(s *Stage) error { s.Count("lost", 1); return nil }), Config{})
	require.EqualError(t, err, `scenario example has not measured "wait"`)
}
