package localbroker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// startIn makes the test binary a program that starts a node in the directory that it names, as
// another process than the test.
const (
	startIn       = "LOCALBROKER_TEST_START_IN"
	startDetached = "LOCALBROKER_TEST_START_DETACHED"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(startIn); dir != "" {
		os.Exit(starter(dir, os.Getenv(startDetached) != ""))
	}
	goleak.VerifyTestMain(m)
}

// starter starts a node and prints its process id, or "running" and the process id of the one that
// runs already. It ends at once if the node is detached, and else when its input does.
func starter(dir string, detached bool) int {
	node, err := Start(context.Background(), Config{Dir: dir, Detached: detached})
	switch {
	case errors.Is(err, ErrAlreadyRunning):
		fmt.Fprintln(os.Stdout, "running", node.PID())
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 1
	default:
		fmt.Fprintln(os.Stdout, "started", node.PID())
	}
	if !detached {
		_, _ = io.Copy(io.Discard, os.Stdin)
	}
	return 0
}

// start starts a node of the test's own.
func start(t *testing.T, c Config) *Node {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	node, err := Start(testContext(t), c)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			lines, _ := Tail(node.LogFile(), 20)
			t.Log("the node's log ends with:", lines)
		}
		require.NoError(t, node.Remove())
	})
	return node
}

// testContext ends when a test has waited long enough for anything.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits for a condition that comes about without the test's doing.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 30*time.Second, 20*time.Millisecond, what)
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(content)
}
