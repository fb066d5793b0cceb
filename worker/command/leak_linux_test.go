package command_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/worker/command"
)

const countLeaks = "EVDEMO_TEST_COUNT_LEAKS"

// No command leaves an open file, a zombie or a goroutine, however it ends. The counts are those of a
// process in which nothing else runs.
func TestNothingIsLeftOver(t *testing.T) {
	t.Parallel()
	if os.Getenv(countLeaks) == "" {
		program, err := os.Executable()
		require.NoError(t, err)
		alone := exec.CommandContext(t.Context(), program, "-test.run=^TestNothingIsLeftOver$")
		alone.Env = append(os.Environ(), countLeaks+"=1")
		output, err := alone.CombinedOutput()
		require.NoError(t, err, "%s", output)
		return
	}
	debug.SetGCPercent(-1) // it closes files that nobody holds any more
	everyEnd(t)            // what the runtime opens for good
	files, children := openFiles(t), zombies(t)
	for range 3 {
		everyEnd(t)
	}
	require.Equal(t, files, openFiles(t))
	require.Equal(t, children, zombies(t))
}

// everyEnd runs commands that end in every way there is.
func everyEnd(t *testing.T) {
	t.Helper()
	var out bytes.Buffer
	for _, text := range []string{
		"exit 0", "exit 65", "exit 1", "kill -9 $$", "cat", "exec <&-; exit 0", "yes | head -c 1000000; yes | head -c 1000000 >&2",
	} {
		for _, size := range []int{0, 1, 1 << 20} {
			out.Reset()
			r := newRunner(t, command.Config{Command: text, Shell: true, Stdout: &out, Stderr: &out})
			_ = handle(t, r, bytes.Repeat([]byte("x"), size))
		}
	}
	background := newRunner(t, command.Config{Command: "exec 3<&0; sleep 3 <&3 & exit 0", Shell: true, Stdout: &out})
	require.NoError(t, handle(t, background, bytes.Repeat([]byte("x"), 1<<20)))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r := newRunner(t, command.Config{Command: "trap '' TERM; while :; do sleep 0.01; done", Shell: true, Grace: 50 * time.Millisecond, Stdout: &out})
	require.ErrorIs(t, r.Handle(ctx, delivery(t, bytes.Repeat([]byte("x"), 1<<20))), context.DeadlineExceeded)
	vanishing := newRunner(t, command.Config{Command: vanishingProgram(t)})
	for _, size := range []int{0, 1, 1 << 20} {
		require.Error(t, handle(t, vanishing, bytes.Repeat([]byte("x"), size)))
	}
}

// vanishingProgram is a program whose interpreter does not exist: it cannot be started.
func vanishingProgram(t *testing.T) string {
	t.Helper()
	path := t.TempDir() + "/program"
	require.NoError(t, os.WriteFile(path, []byte("#!/no/such/interpreter\n"), 0o700))
	return path
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}

// zombies counts the children of this process.
func zombies(t *testing.T) (n int) {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	for _, task := range tasks {
		children, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%s/children", task.Name()))
		if err != nil {
			continue // the thread has ended
		}
		for child := range strings.FieldsSeq(string(children)) {
			if _, err := strconv.Atoi(child); err == nil {
				n++
			}
		}
	}
	return n
}

// The command must find a standard input that waits, as everybody's does.
func TestStandardInputIsBlocking(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := newRunner(t, command.Config{Command: `grep flags: /proc/self/fdinfo/0`, Stdout: &out})
	require.NoError(t, handle(t, r, []byte("x")))
	flags, err := strconv.ParseInt(strings.TrimSpace(strings.TrimPrefix(out.String(), "flags:")), 8, 64)
	require.NoError(t, err)
	assert.Zero(t, flags&syscall.O_NONBLOCK)
}
