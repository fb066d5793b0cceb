package localbroker

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// otherProcess runs starter in a process of its own. The line that it prints is in answer.
type otherProcess struct {
	cmd    *exec.Cmd
	in     io.Closer
	answer string
}

func startElsewhere(t *testing.T, dir string, detached bool) *otherProcess {
	t.Helper()
	cmd := exec.CommandContext(testContext(t), os.Args[0])
	cmd.Env = append(os.Environ(), startIn+"="+dir)
	if detached {
		cmd.Env = append(cmd.Env, startDetached+"=1")
	}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	answer, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	return &otherProcess{cmd: cmd, in: in, answer: strings.TrimSpace(answer)}
}

func TestDetachedNodeIsSharedByProcesses(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "with spaces")
	var answers [2]string
	var both sync.WaitGroup
	for i := range answers {
		both.Go(func() {
			other := startElsewhere(t, dir, true)
			_ = other.in.Close()
			answers[i] = other.answer
			require.NoError(t, other.cmd.Wait())
		})
	}
	both.Wait()
	node, err := Running(dir) // its starter has ended
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, node.Remove()) })
	require.ElementsMatch(t, answers[:], []string{
		fmt.Sprint("started ", node.PID()), fmt.Sprint("running ", node.PID()),
	})
	ctx := testContext(t)
	require.NoError(t, login(ctx, address(node.ports.AMQP)))
	require.NoError(t, node.Restart(ctx))
	require.NoError(t, node.Stop(ctx))
	requireGone(t, node)
	require.Contains(t, readFile(t, node.LogFile()), "SIGTERM received - shutting down", "ended in good order")

	stopped, err := Load(dir)
	require.NoError(t, err)
	require.Equal(t, node.URL(), stopped.URL())
	require.False(t, stopped.Alive())
}

func TestNodeDiesWithItsParent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	parent := startElsewhere(t, dir, false)
	node, err := Running(dir)
	require.NoError(t, err)
	require.NoError(t, parent.cmd.Process.Kill())
	_ = parent.cmd.Wait()
	_ = parent.in.Close()
	eventually(t, "the node dies", func() bool { return !node.Alive() })
	eventually(t, "its port mapper too", func() bool { return node.ports.free(t.Context()) })
}

func TestStateOfADeadNodeIsNotTakenForALivingOne(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := Running(dir)
	require.ErrorIs(t, err, ErrNotRunning)
	_, err = Load(dir)
	require.ErrorIs(t, err, ErrNotRunning)

	// As after a reboot: the files are there, and another process has the process id.
	l := layout{dir: dir, node: DefaultNodeName}
	require.NoError(t, l.save(record{PID: os.Getpid(), Dir: dir, NodeName: DefaultNodeName}))
	require.NoError(t, os.WriteFile(l.lock(), nil, 0o600))
	_, err = Running(dir)
	require.ErrorIs(t, err, ErrNotRunning)
	dead, err := Load(dir)
	require.NoError(t, err)
	require.NoError(t, dead.Stop(testContext(t)), "would have ended this process")
	require.NoError(t, dead.Kill())
}

func TestStartWaitsForTheOneThatIsStarting(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lock, err := tryLock(layout{dir: dir}.lock())
	require.NoError(t, err)
	require.NotNil(t, lock)
	waiting := &Node{layout: layout{dir: dir}}
	result := make(chan error, 1)
	go func() {
		got, _, err := waiting.acquire(testContext(t))
		if err == nil {
			err = got.Close()
		}
		result <- err
	}()
	select {
	case err := <-result:
		t.Fatal("took a lock that another has:", err)
	case <-time.After(150 * time.Millisecond):
	}
	require.NoError(t, lock.Close())
	require.NoError(t, <-result)
}

func TestStateDir(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		env  map[string]string
		want string
	}{
		"own":      {map[string]string{"EVDEMO_STATE_DIR": "/s", "XDG_STATE_HOME": "/x", "HOME": "/h"}, "/s/broker"},
		"xdg":      {map[string]string{"XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/evdemo/broker"},
		"relative": {map[string]string{"XDG_STATE_HOME": "x", "HOME": "/h"}, "/h/.local/state/evdemo/broker"},
		"home":     {map[string]string{"HOME": "/h"}, "/h/.local/state/evdemo/broker"},
		"nothing":  {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := StateDir(func(name string) (string, bool) { v, ok := test.env[name]; return v, ok })
			require.Equal(t, test.want, got)
			require.Equal(t, test.want == "", err != nil)
		})
	}
}
