package cmd

import (
	"context"
	"encoding/json"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/internal/shop/chaos"
	"github.com/evdemo/evdemo/internal/shop/service"
	"github.com/evdemo/evdemo/internal/shop/system"
)

// proveExamples are those of the help of "shop prove".
func proveExamples() []string {
	return []string{
		"evdemo shop prove --orders 200 --kills 8 --broker-kills 1",
		"evdemo shop prove --orders 200 --kills 8 --broker-kills 1 --saga orchestration --seed 7 -o json",
		"evdemo shop prove --orders 100 --kills 0 --broker-kills 0 --broken",
	}
}

// provePatience is for a proof on a machine on which many tests run at once.
const provePatience = 5 * time.Minute

// prove runs a line in a directory, and gives its exit code and what it printed.
func prove(t *testing.T, line string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), provePatience)
	defer cancel()
	var out, err lockedBuffer
	cmd := newUserOf(t, "").command(ctx, line, &err)
	cmd.Stdout = &out
	_ = cmd.Run()
	return cmd.ProcessState.ExitCode(), out.String(), err.String()
}

// They are one after the other: each takes a machine for itself.
func TestProve(t *testing.T) {
	t.Parallel()
	t.Run("a shop holds under faults", testShopHolds)                           //nolint:paralleltest // one after the other
	t.Run("an orchestrated shop holds under faults", testOrchestratedShopHolds) //nolint:paralleltest // one after the other
	t.Run("lost events are found", testLostEventsAreFound)                      //nolint:paralleltest // one after the other
	t.Run("another broker", testProofOnAnotherBroker)                           //nolint:paralleltest // one after the other
	t.Run("interrupted", testInterruptedProof)                                  //nolint:paralleltest // one after the other
}

func testShopHolds(t *testing.T) {
	code, out, err := prove(t, proveExamples()[0])
	require.Equal(t, exitOK, code, out+err)
	require.Contains(t, out, "\nIt holds: every order came to its right end, in ")
	require.Regexp(t, `orders placed +│ 200 `, out)
	require.Regexp(t, `shipped, cancelled, open +│ 1\d\d, \d+, 0 `, out)
	require.Regexp(t, `parts killed +│ [1-9]\d times, of \d\d processes; `, out)
	require.Regexp(t, `broker killed +│ 1 times, RabbitMQ \d`, out)
	require.Regexp(t, `given up +│ 0 `, out)
	for _, sink := range system.SinkNames() {
		require.Regexp(t, `(?m)^`+sink+`: [\d,]+ .* compared with the log, 0 wrong$`, out)
	}
	dir := regexp.MustCompile(`all of it is in (\S+)\.\n`).FindStringSubmatch(out)
	require.NotNil(t, dir, out)
	require.NoDirExists(t, dir[1])
	requireNoProcess(t, dir[1])
}

func testOrchestratedShopHolds(t *testing.T) {
	code, out, err := prove(t, proveExamples()[1])
	require.Equal(t, exitOK, code, out+err)
	var report chaos.Report
	require.NoError(t, json.Unmarshal([]byte(out), &report), out)
	require.True(t, report.Holds)
	require.Empty(t, report.Findings)
	require.Equal(t, service.Orchestration, report.Flow)
	require.Equal(t, 200, report.Shipped+report.Cancelled)
	require.Positive(t, report.Cancelled)
	require.GreaterOrEqual(t, report.Kills, 8)
	require.Equal(t, 1, report.BrokerKills)
	require.NotEmpty(t, report.Sinks)
	require.Contains(t, err, "Killing the broker.", "progress is not data")
}

func testLostEventsAreFound(t *testing.T) {
	code, out, err := prove(t, proveExamples()[2])
	require.Equal(t, exitClaim, code, out+err)
	require.Regexp(t, `(?m)^broken \d+ times: customers are told of each end once on every channel$`, out)
	require.Regexp(t, `(?m)^order-1-\d+: customers are told .*: should have been told map\[email about .*, and was told map\[push about `, out)
	require.NotContains(t, out, "It holds")
	require.Contains(t, err, "evdemo shop prove: the proof does not hold\n")
	require.Contains(t, out, "What there is to look into is in ")
}

// On somebody's broker everything has a name of its own, and is removed.
func testProofOnAnotherBroker(t *testing.T) {
	url := brokertest.URL(t)
	dir := t.TempDir()
	code, out, err := prove(t, "evdemo shop prove --url "+url+" --orders 50 --kills 5 --dir "+dir)
	require.Equal(t, exitOK, code, out+err)
	require.Regexp(t, `broker killed +│ 0 times, RabbitMQ \d`, out)
	prefix := regexp.MustCompile(`begins with "(prove-\w+\.)"`).FindStringSubmatch(out)
	require.NotNil(t, prefix, out)
	s, dialErr := session.DialWithin(t.Context(), session.Config{URLs: session.SplitURLs(url), Name: "evdemo test"}, patience)
	require.NoError(t, dialErr)
	defer s.Close()
	states, inspectErr := system.Resources(service.Choreography, prefix[1]).Inspect(t.Context(), s)
	require.NoError(t, inspectErr)
	for _, state := range states {
		assert.False(t, state.Exists, "%s %s was left", state.Kind, state.Name)
	}
	store, openErr := eventstore.Open(t.Context(), eventstore.Config{DB: filepath.Join(dir, "shop.db"), Existing: true})
	require.NoError(t, openErr, "what is in --dir stays")
	require.NoError(t, store.Close())

	code, out, err = prove(t, "evdemo shop prove --url "+url+" --dir "+dir)
	require.Equal(t, exitUsage, code, out+err)
	require.Contains(t, err, "a proof begins with nothing: ")
}

func testInterruptedProof(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), provePatience)
	defer cancel()
	var output lockedBuffer
	cmd := newUserOf(t, "").command(ctx, "evdemo shop prove --orders 2000 --kills 200 --broker-kills 20 --dir "+dir, &output)
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	require.Eventually(t, func() bool { return strings.Contains(output.String(), "Killing the broker.") }, provePatience, tick)
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	<-ended
	require.Equal(t, exitFailed, cmd.ProcessState.ExitCode(), &output)
	require.Contains(t, output.String(), "evdemo shop prove: interrupted; every process that was started has ended\n")
	requireNoProcess(t, dir)
}

// requireNoProcess looks for a process that has a directory in its arguments.
func requireNoProcess(t *testing.T, dir string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ps", "-A", "-ww", "-o", "args=").Output()
	require.NoError(t, err)
	require.NotContains(t, string(out), dir)
}

func TestProveFlags(t *testing.T) {
	t.Parallel()
	var got shopProveOptions
	parse := func(app *App, args ...string) error {
		cmd := newShopProveCommand(app, func(_ context.Context, _ *App, o *shopProveOptions) error { got = *o; return nil })
		cmd.SetArgs(append([]string{}, args...))
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		return cmd.ExecuteContext(t.Context())
	}
	require.NoError(t, parse(&App{}))
	assert.Equal(t, proveBrokerKills, got.brokerKills)
	require.NoError(t, parse(&App{}, "--orders", "10000", "--seed", "7", "--saga", "orchestration", "--kills", "40", "--broker-kills", "3", "--dir", "d"))
	assert.Equal(t, 3, got.brokerKills)
	elsewhere := &App{global: globalOptions{url: "amqp://there"}}
	require.NoError(t, parse(elsewhere))
	assert.Zero(t, got.brokerKills, "not ours")
	for _, mistake := range [][]string{
		{"--orders", "0"},
		{"--orders", "1000001"},
		{"--kills", "-1"},
		{"--broker-kills", "-1"},
		{"--saga", "ballet"},
		{"--step-timeout", "0s"},
		{"--db", "host=localhost"},
		{"now"},
	} {
		require.Error(t, parse(&App{}, mistake...), mistake)
	}
	require.ErrorContains(t, parse(elsewhere, "--broker-kills", "1"), "not ours to kill")
}
