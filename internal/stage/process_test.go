//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package stage

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/child"
)

// playWithProcesses plays the fixed mode of a scenario whose child processes are this binary.
func playWithProcesses(t *testing.T, play func(s *Stage) error) error {
	t.Helper()
	binary, err := os.Executable()
	require.NoError(t, err)
	_, err = Run(t.Context(), memory(func(s *Stage) error {
		if s.Fixed() {
			return play(s)
		}
		for _, f := range example().Figures {
			s.Count(f.Key, 0)
		}
		return nil
	}), Config{Executable: binary, URLs: []string{"amqp://one", "amqp://two"}, Environment: func(url string) []string {
		return append(os.Environ(), asEvdemo+"=yes", "STAGE_TEST_URL="+url)
	}})
	return err
}

func TestDo(t *testing.T) {
	t.Parallel()
	require.NoError(t, playWithProcesses(t, func(s *Stage) error {
		out, err := s.Do(t.Context(), "list", "--all")
		require.NoError(t, err)
		require.Equal(t, "amqp://one,amqp://two [list --all --log-format json]\n", string(out))
		_, err = s.Do(t.Context(), "refuse")
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
		require.Equal(t, 2, exit.ExitCode())
		require.ErrorContains(t, err, "not with me")
		return s.StopAll() // what was refused is no fault of a process that has to end
	}))
}

func TestStart(t *testing.T) {
	t.Parallel()
	require.NoError(t, playWithProcesses(t, func(s *Stage) error {
		var lines []string // read when all output is read
		one, err := s.Start(t.Context(), "one", func(line []byte) { lines = append(lines, string(line)) }, "serve")
		require.NoError(t, err)
		require.Equal(t, "http://here", one.URL())
		two, err := s.Start(t.Context(), "two", nil, "serve")
		require.NoError(t, err)
		require.NoError(t, two.Kill())
		require.NoError(t, s.StopAll(), "that it was killed belongs to the play")
		require.Equal(t, []string{"amqp://one,amqp://two [serve --log-format json]"}, lines)
		return nil
	}))
}

func TestStartOfWhatEndsAtOnce(t *testing.T) {
	t.Parallel()
	err := playWithProcesses(t, func(s *Stage) error {
		_, err := s.Start(t.Context(), "clerk", nil, "refuse")
		return err
	})
	require.ErrorIs(t, err, child.ErrEnded)
	require.ErrorContains(t, err, "clerk has ended before it was ready: exit status 2: ")
	require.ErrorContains(t, err, "not with me")
}

func TestProcessThatFailsAtItsEnd(t *testing.T) {
	t.Parallel()
	err := playWithProcesses(t, func(s *Stage) error {
		_, err := s.Start(t.Context(), "clerk", nil, "fail")
		require.NoError(t, err)
		return s.StopAll()
	})
	require.ErrorContains(t, err, "clerk: exit status 1: ")
	require.ErrorContains(t, err, "too late")
}

// What a scenario has not ended is killed with its stage: it leaves no goroutine, of which TestMain knows.
func TestProcessesEndWithTheStage(t *testing.T) {
	t.Parallel()
	var left *Process
	require.NoError(t, playWithProcesses(t, func(s *Stage) (err error) {
		left, err = s.Start(t.Context(), "clerk", nil, "serve")
		return err
	}))
	require.False(t, left.Signal(os.Interrupt))
}
