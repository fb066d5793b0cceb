//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package chaos

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/shop/system"
)

func TestKilledProcessIsStartedAgain(t *testing.T) {
	t.Parallel()
	c, p := newTestCrew(t, "works")
	ctx := within(t)
	require.NoError(t, c.awaitOpen(ctx))
	for i := range 3 {
		require.NoError(t, p.suffer(ctx, fault{kind: kill}))
		require.Eventually(t, func() bool { return lives(t, c, p) == i+2 }, patience, look)
	}
	require.NoError(t, c.end(ctx))
	require.Equal(t, 3, c.tally.of(kill))
	require.Empty(t, c.tally.crashes())
	require.Equal(t, system.Count{Handled: 7, Again: 2, Failed: 1}, c.tally.done, "only the last one lived to tell")
}

// lives counts how often a process has come to work.
func lives(t *testing.T, c *crew, p *process) int {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(c.logs, p.name+".jsonl"))
	require.NoError(t, err)
	return strings.Count(string(content), `"consuming"`)
}

func TestProcessIsEndedAndStartedAgain(t *testing.T) {
	t.Parallel()
	c, p := newTestCrew(t, "works")
	ctx := within(t)
	require.NoError(t, c.awaitOpen(ctx))
	require.NoError(t, p.suffer(ctx, fault{kind: stop, lasts: time.Millisecond}))
	require.Eventually(t, func() bool { return lives(t, c, p) == 2 }, patience, look)
	require.NoError(t, c.end(ctx))
	require.Equal(t, 1, c.tally.of(stop))
	require.Zero(t, c.tally.of(kill))
	require.Empty(t, c.tally.crashes())
	require.Equal(t, system.Count{Handled: 14, Again: 4, Failed: 2}, c.tally.done)
}

func TestFrozenProcessGoesOn(t *testing.T) {
	t.Parallel()
	c, p := newTestCrew(t, "works")
	ctx := within(t)
	require.NoError(t, c.awaitOpen(ctx))
	frozen := make(chan error, 1)
	go func() { frozen <- p.suffer(ctx, fault{kind: freeze, lasts: 300 * time.Millisecond}) }()
	require.NoError(t, <-frozen)
	require.NoError(t, c.end(ctx))
	require.Equal(t, 1, c.tally.of(freeze))
	require.Equal(t, 1, lives(t, c, p))
	require.Empty(t, c.tally.crashes())
}

func TestProcessThatEndsByItself(t *testing.T) {
	t.Parallel()
	c, p := newTestCrew(t, "ends at once")
	require.NoError(t, c.awaitOpen(within(t)))
	require.Eventually(t, func() bool { return len(c.tally.crashes()) >= 2 }, patience, look)
	require.Contains(t, c.tally.crashes()[0], "lake-1 has ended by itself: exit status 3: ")
	require.Contains(t, c.tally.crashes()[0], "out of paper")
	require.GreaterOrEqual(t, lives(t, c, p), 2)
	require.NoError(t, c.end(within(t)), "also while it is away")
}

func TestProcessThatDoesNotStart(t *testing.T) {
	t.Parallel()
	c, p := newTestCrew(t, "does not start")
	err := c.awaitOpen(within(t))
	require.ErrorIs(t, err, ErrStart)
	require.ErrorContains(t, err, "lake-1: exit status 4: ")
	require.ErrorContains(t, err, "no ink")
	require.ErrorIs(t, p.suffer(within(t), fault{kind: kill}), ErrStart)

	c, _ = newTestCrew(t, "starts once") // which is a crash, later
	require.NoError(t, c.awaitOpen(within(t)))
	require.Eventually(t, func() bool { return len(c.tally.crashes()) >= 2 }, patience, look)
	require.NoError(t, c.end(within(t)))
}

func TestProcessThatFailsWhenItEnds(t *testing.T) {
	t.Parallel()
	c, _ := newTestCrew(t, "fails at the end")
	require.NoError(t, c.awaitOpen(within(t)))
	require.NoError(t, c.end(within(t)))
	require.Len(t, c.tally.crashes(), 1)
	require.Contains(t, c.tally.crashes()[0], "lake-1 has failed after SIGTERM: exit status 1: ")
}

func TestProcessThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	c, _ := newTestCrew(t, "does not end")
	c.grace = 100 * time.Millisecond
	require.NoError(t, c.awaitOpen(within(t)))
	require.NoError(t, c.end(within(t)))
	require.Equal(t, []string{"lake-1 had not ended 100ms after SIGTERM"}, c.tally.crashes())
}

// A process of a part dies with this one, also one that is frozen.
func TestProcessesDieWithTheProof(t *testing.T) {
	t.Parallel()
	for _, frozen := range []bool{false, true} {
		t.Run(fmt.Sprint("frozen ", frozen), func(t *testing.T) {
			t.Parallel()
			proof := exec.CommandContext(t.Context(), os.Args[0])
			proof.Env = append(os.Environ(), behaviour+"=is a proof", "TMPDIR="+t.TempDir())
			out, err := proof.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, proof.Start())
			line, err := bufio.NewReader(out).ReadString('\n')
			require.NoError(t, err)
			group, err := strconv.Atoi(strings.TrimSpace(line))
			require.NoError(t, err)
			require.NoError(t, syscall.Kill(-group, 0), "the group is there")
			if frozen {
				for _, pid := range members(t, group) {
					require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
				}
			}
			require.NoError(t, proof.Process.Kill())
			_ = proof.Wait()
			require.Eventually(t, func() bool { return syscall.Kill(-group, 0) != nil }, patience, look)
		})
	}
}

// members are the processes of a group but for its first.
func members(t *testing.T, group int) (pids []int) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ps", "-A", "-o", "pid=,pgid=").Output()
	require.NoError(t, err)
	for line := range strings.Lines(string(out)) {
		var pid, pgid int
		if _, err := fmt.Sscan(line, &pid, &pgid); err == nil && pgid == group && pid != group {
			pids = append(pids, pid)
		}
	}
	require.NotEmpty(t, pids)
	return pids
}
