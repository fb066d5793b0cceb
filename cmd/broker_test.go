package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/localbroker"
)

// brokerTest runs "broker" commands with a state directory of its own.
type brokerTest struct {
	app      *App
	out, err bytes.Buffer
}

func newBrokerTest(t *testing.T) *brokerTest {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	bt := &brokerTest{}
	bt.app = &App{
		In: strings.NewReader(""), Out: &bt.out, Err: &bt.err,
		LookupEnv: func(name string) (string, bool) { return dir, name == "EVDEMO_STATE_DIR" },
	}
	t.Cleanup(func() {
		if node, err := localbroker.Load(filepath.Join(dir, "broker")); err == nil {
			require.NoError(t, node.Remove())
		}
	})
	return bt
}

// run runs a command line and returns what it printed on standard output.
func (bt *brokerTest) run(ctx context.Context, args ...string) (string, error) {
	bt.out.Reset()
	bt.err.Reset()
	err := execute(ctx, newBrokerCommand(bt.app), args)
	return bt.out.String(), err
}

func execute(ctx context.Context, cmd *cobra.Command, args []string) error {
	cmd.SetArgs(args)
	cmd.SetOut(io.Discard)
	cmd.SetErr(io.Discard)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	return cmd.ExecuteContext(ctx)
}

func (bt *brokerTest) status(t *testing.T) (brokerStatus, error) {
	t.Helper()
	out, failed := bt.run(t.Context(), "status", "-o", "json")
	var status brokerStatus
	require.NoError(t, json.Unmarshal([]byte(out), &status))
	return status, failed
}

func TestBrokerLife(t *testing.T) {
	t.Parallel()
	bt := newBrokerTest(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	url, err := bt.run(ctx, "start")
	require.NoError(t, err)
	require.Regexp(t, `^amqp://guest:guest@127\.0\.0\.1:\d+/\n$`, url)
	require.Contains(t, bt.err.String(), "web page")

	again, err := bt.run(ctx, "start")
	require.NoError(t, err)
	require.Equal(t, url, again)
	require.Contains(t, bt.err.String(), "runs already")
	_, err = bt.run(ctx, "start", "--port", "1")
	require.ErrorContains(t, err, "stop it first")

	out, err := bt.run(ctx, "url")
	require.NoError(t, err)
	require.Equal(t, url, out)
	require.Equal(t, strings.TrimSpace(url), bt.app.brokerURL(), "other commands find it")

	status, err := bt.status(t)
	require.NoError(t, err)
	require.True(t, status.Running)
	require.Equal(t, strings.TrimSpace(url), status.URL)
	out, err = bt.run(ctx, "status")
	require.NoError(t, err)
	for _, part := range []string{"RabbitMQ " + status.Version, status.URL, fmt.Sprint(status.PID), status.Dir, status.Log, status.Server} {
		require.Contains(t, out, part)
	}

	out, err = bt.run(ctx, "logs", "-n", "3")
	require.NoError(t, err)
	require.Equal(t, 3, strings.Count(out, "\n"))
	interrupted, stop := context.WithCancel(ctx)
	stop()
	out, err = bt.run(interrupted, "logs", "-f", "-n", "2")
	require.NoError(t, err, "Ctrl-C ends it in good order")
	require.GreaterOrEqual(t, strings.Count(out, "\n"), 2)

	_, err = bt.run(ctx, "stop", "--remove")
	require.NoError(t, err)
	require.Contains(t, bt.err.String(), "stopped")
	require.NoDirExists(t, status.Dir)
}

func TestBrokerThatDoesNotRun(t *testing.T) {
	t.Parallel()
	bt := newBrokerTest(t)
	status, err := bt.status(t)
	require.Equal(t, exitFailed, exitCode(err))
	require.False(t, status.Running)
	require.NotEmpty(t, status.Server, "scripts/with-broker reads it")
	out, err := bt.run(t.Context(), "status")
	require.Equal(t, exitFailed, exitCode(err))
	require.Contains(t, out, "evdemo broker start")

	_, err = bt.run(t.Context(), "url")
	require.Equal(t, exitFailed, exitCode(err))
	require.ErrorContains(t, err, "evdemo broker start")
	for _, args := range [][]string{{"logs"}, {"logs", "-f"}} {
		_, err = bt.run(t.Context(), args...)
		require.Equal(t, exitFailed, exitCode(err))
		require.ErrorContains(t, err, "evdemo broker start")
	}
	_, err = bt.run(t.Context(), "stop")
	require.NoError(t, err)
	require.Contains(t, bt.err.String(), "no node was running")
	require.Equal(t, defaultURL, bt.app.brokerURL())
}

func TestBrokerStartWithoutRabbitMQ(t *testing.T) {
	t.Parallel()
	bt := newBrokerTest(t)
	_, err := bt.run(t.Context(), "start", "--rabbitmq-server", filepath.Join(t.TempDir(), "missing"))
	require.Equal(t, exitFailed, exitCode(err))
	require.ErrorContains(t, err, "missing")
}

func TestBrokerUsage(t *testing.T) {
	t.Parallel()
	bt := newBrokerTest(t)
	_, err := bt.run(t.Context(), "logs", "-n", "-1")
	require.Equal(t, exitUsage, exitCode(err))
	for _, args := range [][]string{{"start", "extra"}, {"status", "-o", "yaml"}, {"start", "--port", "x"}} {
		_, err := bt.run(t.Context(), args...)
		require.Error(t, err)
	}
}

func TestBrokerFlags(t *testing.T) {
	t.Parallel()
	app := &App{Out: io.Discard, Err: io.Discard}
	var start brokerStartOptions
	require.NoError(t, execute(t.Context(), newBrokerStartCommand(app, func(_ context.Context, _ *App, o brokerStartOptions) error {
		start = o
		return nil
	}), []string{"--port", "5680", "--management-port", "15680", "--rabbitmq-server", "/opt/sbin/rabbitmq-server"}))
	require.Equal(t, brokerStartOptions{5680, 15680, "/opt/sbin/rabbitmq-server"}, start)

	removed := false
	require.NoError(t, execute(t.Context(), newBrokerStopCommand(app, func(_ context.Context, _ *App, remove bool) error {
		removed = remove
		return nil
	}), []string{"--remove"}))
	require.True(t, removed)

	var logs brokerLogsOptions
	require.NoError(t, execute(t.Context(), newBrokerLogsCommand(app, func(_ context.Context, _ *App, o brokerLogsOptions) error {
		logs = o
		return nil
	}), []string{"-f", "-n", "7"}))
	require.Equal(t, brokerLogsOptions{7, true}, logs)
}
