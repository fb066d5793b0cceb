//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package command_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/command"
)

// amqp-consume is killed by SIGPIPE when its command does not read its input.
func TestACommandThatDoesNotReadItsInput(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 4096, 64 << 10, 64<<10 + 1, 10 << 20} {
		data := bytes.Repeat([]byte("x"), size)
		for text, code := range map[string]int{
			"exit 0":                            0,
			"exec <&-; exit 0":                  0,
			"head -c " + strconv.Itoa(size/2):   0,
			"cat; exit 0":                       0,
			"exit 3":                            3,
			"head -c 1; exit 3":                 3,
			"exec <&-; echo no input >&2; exit": 0,
		} {
			err := handle(t, script(t, text), data)
			if code == 0 {
				require.NoError(t, err, "%s with %d bytes", text, size)
				continue
			}
			require.Equal(t, code, commandError(t, err).ExitCode, "%s with %d bytes", text, size)
		}
	}
}

func TestInputOfAnySizeArrives(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 4096, 64<<10 - 1, 64 << 10, 64<<10 + 1, 10 << 20} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(i * 7)
		}
		var out bytes.Buffer
		require.NoError(t, handle(t, newRunner(t, command.Config{Command: "cat", Stdout: &out}), data))
		require.True(t, bytes.Equal(data, out.Bytes()), "%d bytes", size)
	}
}

// counting counts what is written to it.
type counting struct{ n int64 }

func (c *counting) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return len(b), nil
}

func TestOutputOfAnySize(t *testing.T) {
	t.Parallel()
	const size = 50 << 20
	for name, code := range map[string]int{"success": 0, "failure": 7} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr counting
			r := newRunner(t, command.Config{
				Command: fmt.Sprintf("yes out | head -c %d & yes err | head -c %d >&2; wait; echo the end >&2; exit %d", size, size, code),
				Shell:   true, Stdout: &stdout, Stderr: &stderr,
			})
			err := handle(t, r, []byte("x"))
			assert.EqualValues(t, size, stdout.n)
			assert.EqualValues(t, size+len("the end\n"), stderr.n)
			if code == 0 {
				assert.NoError(t, err)
				return
			}
			tail := string(commandError(t, err).Stderr)
			assert.Len(t, tail, 4<<10)
			assert.True(t, strings.HasSuffix(tail, "err\nerr\nthe end\n"), "%q", tail[len(tail)-40:])
		})
	}
	require.NoError(t, handle(t, script(t, fmt.Sprintf("yes | head -c %d; yes | head -c %d >&2", size, size)), nil), "discarded")
}

// gone tells whether a process has ended. One that has and is not yet waited for counts.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err == nil {
		_, state, _ := strings.Cut(string(stat), ") ")
		return strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X")
	}
	return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// begun waits until a script has written process ids to a file, and gives them.
func begun(t *testing.T, path string, n int) (pids []int) {
	t.Helper()
	require.Eventually(t, func() bool {
		content, _ := os.ReadFile(path)
		pids = nil
		for field := range strings.FieldsSeq(string(content)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return false
			}
			pids = append(pids, pid)
		}
		return len(pids) == n && bytes.HasSuffix(content, []byte("\n"))
	}, patience, time.Millisecond)
	return pids
}

// stopping runs a script under a time limit that is over when the script has written n process ids to
// "$EVDEMO_SUBJECT", and gives them with the result.
func stopping(t *testing.T, config command.Config, n int) (pids []int, took time.Duration, err error) {
	t.Helper()
	d := delivery(t, bytes.Repeat([]byte("x"), 200<<10))
	d.Event.Subject = filepath.Join(t.TempDir(), "pids")
	config.Shell = true
	r := newRunner(t, config)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	result := make(chan error, 1)
	go func() { result <- r.Handle(ctx, d) }()
	pids = begun(t, d.Event.Subject, n)
	for _, pid := range pids {
		require.False(t, gone(pid))
	}
	begin := time.Now()
	cancel(worker.ErrTimeout)
	select {
	case err = <-result:
	case <-time.After(patience):
		require.Fail(t, "the command was not ended")
	}
	return pids, time.Since(begin), err
}

func requireGone(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		require.Eventually(t, func() bool { return gone(pid) }, patience, time.Millisecond)
	}
}

func TestATimeoutEndsTheWholeProcessGroup(t *testing.T) {
	t.Parallel()
	pids, took, err := stopping(t, command.Config{
		Command: `sleep 600 & echo working >&2; echo $$ $! >"$EVDEMO_SUBJECT"; wait`, Grace: patience,
	}, 2)
	requireGone(t, pids)
	require.ErrorIs(t, err, worker.ErrTimeout)
	require.EqualError(t, err, "run sh: handler exceeded its time limit (signal: terminated): working")
	assert.False(t, permanent(err))
	assert.Equal(t, -1, commandError(t, err).ExitCode)
	assert.Less(t, took, patience/2, "nobody waits out the grace period when all is over")
}

func TestACommandThatIgnoresSIGTERM(t *testing.T) {
	t.Parallel()
	const grace = 300 * time.Millisecond
	pids, took, err := stopping(t, command.Config{
		Command: `trap '' TERM; sleep 600 & echo $$ $! >"$EVDEMO_SUBJECT"; while :; do wait; done`, Grace: grace,
	}, 2)
	requireGone(t, pids)
	require.ErrorIs(t, err, worker.ErrTimeout)
	require.ErrorContains(t, err, "signal: killed")
	assert.GreaterOrEqual(t, took, grace)
}

// The child that stays behind is not spared because its parent has gone.
func TestAChildThatIgnoresSIGTERM(t *testing.T) {
	t.Parallel()
	const grace = 300 * time.Millisecond
	pids, took, err := stopping(t, command.Config{
		Command: `(trap '' TERM; exec sleep 600) & echo $$ $! >"$EVDEMO_SUBJECT"; wait`, Grace: grace,
	}, 2)
	requireGone(t, pids)
	require.ErrorContains(t, err, "signal: terminated")
	assert.GreaterOrEqual(t, took, grace)
}

// There are programs that end with 0 when they get SIGTERM, whatever they were about to do. Their
// event would be lost.
func TestACommandThatEndsWithZeroOnSIGTERM(t *testing.T) {
	t.Parallel()
	for _, code := range []int{0, 65} {
		_, _, err := stopping(t, command.Config{
			Command: fmt.Sprintf(`trap 'exit %d' TERM; echo $$ >"$EVDEMO_SUBJECT"; while :; do sleep 0.01; done`, code),
		}, 1)
		require.ErrorIs(t, err, worker.ErrTimeout)
		assert.False(t, permanent(err))
		assert.Equal(t, code, commandError(t, err).ExitCode)
	}
}

// A program that quits at the second signal must get the time to clean up after the first.
func TestSIGTERMIsSentOnce(t *testing.T) {
	t.Parallel()
	_, _, err := stopping(t, command.Config{
		Command: `trap 'n=$((n+1))' TERM; n=0; echo $$ >"$EVDEMO_SUBJECT"
			while [ $n = 0 ]; do sleep 0.01; done; sleep 0.2; sleep 0.1; exit $((40+n))`,
		Grace: patience,
	}, 1)
	assert.Equal(t, 41, commandError(t, err).ExitCode)
}

func TestTimeoutMiddleware(t *testing.T) {
	t.Parallel()
	handler := worker.Wrap(newRunner(t, command.Config{Command: "sleep 600"}).Handle, worker.Timeout(50*time.Millisecond))
	err := handler(t.Context(), delivery(t, nil))
	require.ErrorIs(t, err, worker.ErrTimeout)
	require.ErrorContains(t, err, "run sleep: handler exceeded its time limit")
	require.ErrorContains(t, err, "(signal: terminated)")
	assert.Equal(t, 1, strings.Count(err.Error(), "time limit"), "it is said once")
}

func TestAContextThatHasEnded(t *testing.T) {
	t.Parallel()
	mark := filepath.Join(t.TempDir(), "mark")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(worker.ErrTimeout)
	require.ErrorIs(t, script(t, "touch '"+mark+"'").Handle(ctx, delivery(t, nil)), worker.ErrTimeout)
	assert.NoFileExists(t, mark)
}

// background gives the id of a process that a command has left behind, and ends it with the test.
func background(t *testing.T, path string) {
	t.Helper()
	pid := begun(t, path, 1)[0]
	require.False(t, gone(pid), "a command may leave something running")
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	requireGone(t, []int{pid})
}

// A process that stays behind with the command's pipes must not hold up the worker, nor change what
// the exit code says.
func TestABackgroundProcessThatKeepsThePipesOpen(t *testing.T) {
	t.Parallel()
	for _, code := range []int{0, 65, 9} {
		for name, keeps := range map[string]string{
			"standard error": ">/dev/null </dev/null", "standard input": ">/dev/null 2>&1 <&3", "all": "<&3",
		} {
			t.Run(fmt.Sprintf("%s, exit code %d", name, code), func(t *testing.T) {
				t.Parallel()
				var stdout, stderr bytes.Buffer
				r := newRunner(t, command.Config{
					Command: fmt.Sprintf(`exec 3<&0; sleep 600 %s & echo $! >"$EVDEMO_SUBJECT"; echo out; echo err >&2; exit %d`, keeps, code),
					Shell:   true, Stdout: &stdout, Stderr: &stderr,
				})
				d := delivery(t, bytes.Repeat([]byte("x"), 1<<20))
				d.Event.Subject = filepath.Join(t.TempDir(), "pids")
				err := within(t, 10*time.Second, func(ctx context.Context) error { return r.Handle(ctx, d) })
				background(t, d.Event.Subject)
				assert.Equal(t, "out\n", stdout.String())
				assert.Equal(t, "err\n", stderr.String())
				assert.Equal(t, code == 65, permanent(err))
				if code == 0 {
					assert.NoError(t, err)
					return
				}
				assert.Equal(t, code, commandError(t, err).ExitCode)
			})
		}
	}
}

// Standard error is passed on as it comes, not at the command's end.
func TestOutputIsPassedOnAtOnce(t *testing.T) {
	t.Parallel()
	read, write := io.Pipe()
	r := newRunner(t, command.Config{Command: `echo ready >&2; until [ -e "$EVDEMO_SUBJECT" ]; do sleep 0.01; done`, Shell: true, Stderr: write})
	d := delivery(t, nil)
	d.Event.Subject = filepath.Join(t.TempDir(), "go")
	result := make(chan error, 1)
	go func() { result <- r.Handle(t.Context(), d) }()
	line := make([]byte, len("ready\n"))
	_, err := io.ReadFull(read, line)
	require.NoError(t, err)
	assert.Equal(t, "ready\n", string(line))
	require.NoError(t, os.WriteFile(d.Event.Subject, nil, 0o600))
	require.NoError(t, <-result)
}
