//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package child

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	patience = 30 * time.Second
	look     = 2 * time.Millisecond
)

// start starts this binary as a child that behaves as is said, and ends it with the test.
func start(t *testing.T, how string, config Config) *Process {
	t.Helper()
	group, err := NewGroup(t.Context())
	require.NoError(t, err)
	t.Cleanup(group.Close)
	config.Binary, err = os.Executable()
	require.NoError(t, err)
	config.Environment = append(os.Environ(), behaviour+"="+how)
	config.Ready = []string{"serving", "consuming"}
	p, err := group.Start(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { p.Kill() })
	return p
}

// await waits until a channel is closed.
func await(t *testing.T, what <-chan struct{}) {
	t.Helper()
	select {
	case <-what:
	case <-time.After(patience):
		require.FailNow(t, "it took too long")
	}
}

// collected are lines that one goroutine collects and another one looks at.
type collected struct {
	mu    sync.Mutex
	lines []string
}

func (c *collected) add(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lines = append(c.lines, line)
}

func (c *collected) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.lines...)
}

func TestOutputIsWholeLines(t *testing.T) {
	t.Parallel()
	var lines []string // read when all output is read
	var log bytes.Buffer
	p := start(t, "prints", Config{Output: func(line []byte) { lines = append(lines, string(line)) }, Log: &log})
	await(t, p.Exited())
	require.NoError(t, p.Err())
	require.Equal(t, []string{"one", "", strings.Repeat("x", longLine), "two"}, lines, "three has no end")
	require.Equal(t, "said without an end", log.String(), "the log is passed on as it comes")
	require.Empty(t, p.Said())
	require.Zero(t, p.EndedBy())
	require.False(t, p.Kill(), "it has ended by itself")
	require.False(t, p.Signal(syscall.SIGTERM))
	require.False(t, p.Freeze())
}

func TestLineThatAKillCutsOffIsNone(t *testing.T) {
	t.Parallel()
	var lines collected
	p := start(t, "is cut off", Config{Output: func(line []byte) { lines.add(string(line)) }})
	await(t, p.Ready())
	require.True(t, p.Kill())
	require.Equal(t, []string{"whole"}, lines.all())
}

func TestReadyOnceAndWhatWasSaid(t *testing.T) {
	t.Parallel()
	var opened, said collected
	p := start(t, "works", Config{Opened: func(line []byte) { opened.add(string(line)) }, Said: said.add})
	await(t, p.Ready())
	const warning = `{"level":"WARN","msg":"paper is low"}`
	require.Eventually(t, func() bool { return p.Said() == warning }, patience, look)
	require.True(t, p.Signal(syscall.SIGTERM))
	require.NoError(t, p.Err())
	require.Equal(t, []string{`{"level":"INFO","msg":"serving","url":"first"}`}, opened.all())
	require.Equal(t, []string{"no JSON", warning}, said.all())
	require.Zero(t, p.EndedBy())
}

func TestFrozenProcessDoesNothingAndGoesOn(t *testing.T) {
	t.Parallel()
	var ticks atomic.Int64
	p := start(t, "ticks", Config{Output: func([]byte) { ticks.Add(1) }})
	await(t, p.Ready())
	require.Eventually(t, func() bool { return ticks.Load() > 0 }, patience, look)
	require.True(t, p.Freeze())
	require.Eventually(t, func() bool { return state(t, p) == "T" }, patience, look)
	// What it has printed may still be on its way.
	before := ticks.Load()
	require.Eventually(t, func() bool { last := before; before = ticks.Load(); return before == last }, patience, 50*time.Millisecond)
	require.Never(t, func() bool { return ticks.Load() != before }, 200*time.Millisecond, look)
	require.True(t, p.Thaw())
	require.Eventually(t, func() bool { return ticks.Load() > before }, patience, look)
	require.True(t, p.Kill())
}

// state is the letter that the system has for what a process is doing; T is stopped.
func state(t *testing.T, p *Process) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ps", "-o", "state=", "-p", fmt.Sprint(p.command.Process.Pid)).Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(out))[:1]
}

func TestFrozenProcessIsKilled(t *testing.T) {
	t.Parallel()
	p := start(t, "works", Config{})
	await(t, p.Ready())
	require.True(t, p.Freeze())
	require.True(t, p.Kill())
	require.Equal(t, syscall.SIGKILL, p.EndedBy())
	var exit *exec.ExitError
	require.ErrorAs(t, p.Err(), &exit)
	require.True(t, p.Kill(), "it was its end, whoever asks again")
}

func TestProcessThatEndsBeforeItIsReady(t *testing.T) {
	t.Parallel()
	p := start(t, "ends before", Config{})
	await(t, p.Exited())
	select {
	case <-p.Ready():
		require.Fail(t, "it was never ready")
	default:
	}
	var exit *exec.ExitError
	require.ErrorAs(t, p.Err(), &exit)
	require.Equal(t, 3, exit.ExitCode())
	require.Zero(t, p.EndedBy())
	require.Contains(t, p.Said(), "no ink")
}

func TestBinaryThatIsNotThere(t *testing.T) {
	t.Parallel()
	group, err := NewGroup(t.Context())
	require.NoError(t, err)
	defer group.Close()
	_, err = group.Start(t.Context(), Config{Binary: t.TempDir() + "/nothing"})
	require.ErrorIs(t, err, os.ErrNotExist)
}

// The end of the context in which a process was started is not its own.
func TestProcessOutlivesItsContext(t *testing.T) {
	t.Parallel()
	group, err := NewGroup(t.Context())
	require.NoError(t, err)
	defer group.Close()
	ctx, cancel := context.WithCancel(t.Context())
	binary, err := os.Executable()
	require.NoError(t, err)
	p, err := group.Start(ctx, Config{Binary: binary, Environment: append(os.Environ(), behaviour+"=works"), Ready: []string{"serving"}})
	require.NoError(t, err)
	cancel()
	await(t, p.Ready())
	require.True(t, p.Signal(syscall.SIGTERM))
	require.NoError(t, p.Err(), "it ended as it was told to")
}

// A program that is killed takes its children with it, also those that cannot do anything about it.
func TestChildrenDieWithTheirParent(t *testing.T) {
	t.Parallel()
	for _, frozen := range []bool{false, true} {
		t.Run(fmt.Sprintf("frozen %t", frozen), func(t *testing.T) {
			t.Parallel()
			parent := exec.CommandContext(t.Context(), os.Args[0])
			parent.Env = append(os.Environ(), behaviour+"=has children")
			out, err := parent.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, parent.Start())
			line, err := bufio.NewReader(out).ReadString('\n')
			require.NoError(t, err)
			var group, pid int
			_, err = fmt.Sscan(line, &group, &pid)
			require.NoError(t, err)
			if frozen {
				require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
			}
			require.NoError(t, syscall.Kill(-group, 0), "the group is there")
			require.NoError(t, parent.Process.Kill())
			_ = parent.Wait()
			require.Eventually(t, func() bool { return syscall.Kill(-group, 0) != nil }, patience, look)
		})
	}
}
