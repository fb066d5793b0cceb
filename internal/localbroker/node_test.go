package localbroker

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNodeLife(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	node := start(t, Config{})
	first := node.PID()
	require.True(t, node.Alive())
	require.Regexp(t, `^\d+\.\d+\.\d+`, node.Version())
	require.NoError(t, login(ctx, address(node.ports.AMQP)))
	declareQueue(t, node, "kept")

	t.Run("answers rabbitmqctl", func(t *testing.T) { //nolint:paralleltest // the parts share the node, in order
		out, err := node.Ctl(ctx, "list_queues", "-q", "name", "durable")
		require.NoError(t, err)
		require.Contains(t, out, "kept\ttrue")
		_, err = node.Ctl(ctx, "no_such_command")
		require.ErrorContains(t, err, "no_such_command")
	})
	t.Run("closes a connection opened just now", func(t *testing.T) { //nolint:paralleltest // see above
		conn, err := dial(ctx, address(node.ports.AMQP))
		require.NoError(t, err)
		defer conn.Close()
		closed, err := node.CloseConnections(ctx, "maintenance")
		require.NoError(t, err)
		require.Equal(t, 1, closed)
		arguments, err := conn.expect(connectionClose)
		require.NoError(t, err)
		require.Contains(t, string(arguments), "CONNECTION_FORCED - maintenance")
		require.NoError(t, conn.send(connectionCloseOk, nil))
	})
	t.Run("raises and clears its memory alarm", func(t *testing.T) { //nolint:paralleltest // see above
		require.NoError(t, node.SetMemoryAlarm(ctx, true))
		require.ErrorIs(t, localAlarms(ctx, node), errUnavailable)
		require.NoError(t, node.SetMemoryAlarm(ctx, false))
		require.NoError(t, localAlarms(ctx, node))
	})
	t.Run("is found by its directory", func(t *testing.T) { //nolint:paralleltest // see above
		found, err := Running(node.Dir())
		require.NoError(t, err)
		require.Equal(t, node.URL(), found.URL())
		require.Equal(t, node.ManagementURL(), found.ManagementURL())
		again, err := Start(ctx, Config{Dir: node.Dir()})
		require.ErrorIs(t, err, ErrAlreadyRunning)
		require.Equal(t, first, again.PID())
	})
	t.Run("is gone when killed, and comes back", func(t *testing.T) { //nolint:paralleltest // see above
		require.NoError(t, node.Kill())
		requireGone(t, node)
		require.NoError(t, node.Kill(), "killing the dead")
		require.NoError(t, node.Stop(ctx), "stopping the dead")
		url := node.URL()
		require.NoError(t, node.Restart(ctx))
		require.Equal(t, url, node.URL())
		require.NotEqual(t, first, node.PID())
		require.True(t, hasQueue(t, node, "kept"))
	})
	t.Run("is removed with its directory", func(t *testing.T) { //nolint:paralleltest // see above
		require.NoError(t, node.Remove())
		requireGone(t, node)
		require.NoDirExists(t, node.Dir())
	})
}

func TestRemoveLeavesWhatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := filepath.Join(dir, "thesis.tex")
	require.NoError(t, os.WriteFile(other, []byte("years of work"), 0o600))
	l := layout{dir: dir, node: DefaultNodeName}
	require.NoError(t, l.write(ports{}, nil))
	require.NoError(t, l.save(record{Dir: dir, NodeName: DefaultNodeName}))
	node, err := Load(dir)
	require.NoError(t, err)
	require.NoError(t, node.Remove())
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.FileExists(t, other)
}

func TestStartTellsWhyTheServerDidNotComeUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := Start(testContext(t), Config{Dir: dir, ConfigExtra: []string{"no_such_key = 1"}})
	var failed *StartError
	require.ErrorAs(t, err, &failed)
	require.Contains(t, failed.Log, "  - Conf file attempted to set unknown variable: no_such_key")
	require.NotContains(t, err.Error(), "crasher", "Erlang's reports")
	require.Contains(t, err.Error(), failed.LogDir)
	requireFree(t, dir)
}

func TestStartGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(testContext(t))
	go func() { // once the server is on its way
		defer cancel()
		for ctx.Err() == nil && !hasContent(layout{dir: dir}.startupLog()) {
			_ = pause(ctx, 10*time.Millisecond)
		}
	}()
	_, err := Start(ctx, Config{Dir: dir})
	require.ErrorIs(t, err, context.Canceled)
	requireFree(t, dir)
	node, err := Load(dir)
	require.NoError(t, err)
	require.False(t, node.Alive())
	require.NoError(t, node.Remove())
	require.NoDirExists(t, dir)
}

func TestStartRefusesAPortThatIsTaken(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	p, err := choosePorts(ctx, ports{}, ports{})
	require.NoError(t, err)
	l, err := listen(ctx, p.AMQP)
	require.NoError(t, err)
	defer l.Close()
	_, err = Start(ctx, Config{Dir: t.TempDir(), Port: p.AMQP})
	require.ErrorIs(t, err, ErrPortInUse)
}

func TestStartReportsAllMistakesInTheConfig(t *testing.T) {
	t.Parallel()
	_, err := Start(t.Context(), Config{Port: -1, ManagementPort: 70000, NodeName: "a b", ConfigExtra: []string{"a\nb"}})
	for _, part := range []string{"Port -1", "ManagementPort 70000", `NodeName "a b"`, `ConfigExtra "a\nb"`} {
		require.ErrorContains(t, err, part)
	}
}

func TestStartErrorAdvises(t *testing.T) {
	t.Parallel()
	for sign, advice := range map[string]string{
		"/usr/lib/rabbitmq/bin/rabbitmq-server: 85: exec: erl: not found": "install it",
		"{error,eaddrinuse}": "has one of the node's ports",
		"Only root or rabbitmq should run rabbitmq-server": "EVDEMO_RABBITMQ_SERVER",
		"{schema_integrity_check_failed,[]}":               "another version of RabbitMQ",
	} {
		err := &StartError{Err: errors.New("exit status 1"), Log: []string{sign}, LogDir: "/logs"}
		require.ErrorContains(t, err, sign)
		require.ErrorContains(t, err, advice)
		require.ErrorContains(t, err, "/logs")
	}
}

// requireGone checks that neither the node nor its port mapper is there any more.
func requireGone(t *testing.T, node *Node) {
	t.Helper()
	require.False(t, node.Alive())
	_, err := Running(node.Dir())
	require.ErrorIs(t, err, ErrNotRunning)
	eventually(t, "its ports are free", func() bool { return node.ports.free(t.Context()) })
}

// requireFree checks that no node keeps the directory.
func requireFree(t *testing.T, dir string) {
	t.Helper()
	// What is killed keeps the lock for a moment longer, as does what another test starts just now, until its exec.
	eventually(t, "the lock is free", func() bool { return !locked(layout{dir: dir}.lock()) })
	_, err := Running(dir)
	require.ErrorIs(t, err, ErrNotRunning)
}

func hasContent(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Size() > 0
}

func localAlarms(ctx context.Context, node *Node) error {
	return management{node.ports.Management}.get(ctx, "health/checks/local-alarms", nil)
}

func declareQueue(t *testing.T, node *Node, name string) {
	t.Helper()
	request, err := http.NewRequestWithContext(testContext(t), http.MethodPut,
		node.ManagementURL()+"/api/queues/%2F/"+name, strings.NewReader(`{"durable": true}`))
	require.NoError(t, err)
	request.SetBasicAuth("guest", "guest")
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusCreated, response.StatusCode)
}

func hasQueue(t *testing.T, node *Node, name string) bool {
	t.Helper()
	return management{node.ports.Management}.get(testContext(t), "queues/%2F/"+name, nil) == nil
}
