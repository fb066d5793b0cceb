package cmd

import (
	"context"
	"io"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/topology"
)

// demoExamples are those of the help of "demo".
func demoExamples() []string {
	return []string{"evdemo demo", "evdemo demo --broken", "evdemo demo --broker memory"}
}

func TestDemoHolds(t *testing.T) {
	t.Parallel()
	output := newCopyist(t, brokertest.URL(t)).run(t, demoExamples()[0], exitOK)
	for _, name := range []string{"email", "analytics", "broadcast"} {
		assert.Regexp(t, name+` +│ 2,000  │ +0 │ +0 │ `+name+" 2,000 ", output)
	}
	assert.Regexp(t, `payments +│ 2,000  │ +0 │ +\d+ │ worker-1 [\d,]+, worker-2 [\d,]+ \(killed\), worker-3 [\d,]+ `, output)
	assert.Regexp(t, `published 2,000  confirmed 2,000  redelivered \d+  in `, output)
	assert.Equal(t, 5, strings.Count(output, "\nholds  "), output)
	assert.Contains(t, output, "\nThe ledger holds: nothing was lost.\n")
	assertNothingLeft(t, output)
}

func TestDemoFindsALoss(t *testing.T) {
	t.Parallel()
	output := newCopyist(t, brokertest.URL(t)).run(t, demoExamples()[1], exitClaim)
	assert.Contains(t, output, "\nFAILS  the workers shared payments, and the killed one lost nothing (1995 effects, 5 missing, ")
	assert.Equal(t, 4, strings.Count(output, "\nholds  "), output)
	assert.NotContains(t, output, "nothing was lost.")
	assert.Contains(t, output, "evdemo demo: the ledger does not hold\n")
	assertNothingLeft(t, output)
}

func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	for _, moment := range []string{"Everything made here", "Publishing 2000 orders", "Killed worker-2"} {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			var output lockedBuffer
			cmd := newCopyist(t, url).command(ctx, "evdemo demo -o json", &output)
			require.NoError(t, cmd.Start())
			ended := make(chan struct{})
			go func() { defer close(ended); _ = cmd.Wait() }()
			require.Eventually(t, func() bool { return strings.Contains(output.String(), moment) }, patience, tick)
			require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
			<-ended
			assert.Equal(t, exitFailed, cmd.ProcessState.ExitCode(), &output)
			assert.Contains(t, output.String(), "evdemo demo: interrupted; everything the demo made was removed\n")
			assertNothingLeft(t, output.String())
		})
	}
}

// It needs no broker, and none is asked for.
func TestDemoInMemory(t *testing.T) {
	t.Parallel()
	output := newCopyist(t, "").run(t, "AMQP_URL=amqp://127.0.0.1:1/ "+demoExamples()[2], exitOK)
	for _, name := range []string{"email", "analytics", "broadcast"} {
		assert.Regexp(t, name+` +│ 2,000  │ +0 │ +0 │ `+name+" 2,000 ", output)
	}
	assert.Regexp(t, `payments +│ 2,000  │ +0 │ +\d+ │ worker-1 [\d,]+, worker-2 [\d,]+ \(killed\), worker-3 [\d,]+ `, output)
	assert.Regexp(t, `published 2,000  confirmed 2,000  redelivered [1-9]\d*  in `, output)
	assert.Equal(t, 5, strings.Count(output, "\nholds  "), output)
	assert.Contains(t, output, "\nThe ledger holds: nothing was lost.\n")
	assert.Equal(t, 1, strings.Count(output, "nothing is durable"), output)
	assert.NotContains(t, output, "demo-", "names that nobody sees")
}

// assertNothingLeft looks for what a demo that said this may have left on the broker.
func assertNothingLeft(t *testing.T, output string) {
	t.Helper()
	prefix := regexp.MustCompile(`begins with "(demo-\w+\.)"`).FindStringSubmatch(output)
	require.NotNil(t, prefix, output)
	config := session.Config{URLs: session.SplitURLs(brokertest.URL(t)), Name: "evdemo test"}
	s, err := session.DialWithin(t.Context(), config, patience)
	require.NoError(t, err)
	defer s.Close()
	states, err := topology.Default().WithPrefix(prefix[1]).Resources().Inspect(t.Context(), s)
	require.NoError(t, err)
	assert.NotEmpty(t, states)
	for _, state := range states {
		assert.False(t, state.Exists, "%s %s was left", state.Kind, state.Name)
	}
}

func TestDemoBrokers(t *testing.T) {
	t.Parallel()
	c := newCommandLine(nil)
	requireMistake(t, c, c.run(t, "demo", "--broker", "kafka"), `evdemo demo: --broker "kafka": want rabbitmq or memory`)
}

func TestDemoFlags(t *testing.T) {
	t.Parallel()
	var got demoOptions
	parse := func(args ...string) error {
		cmd := newDemoCommand(&App{}, func(_ context.Context, _ *App, o *demoOptions) error { got = *o; return nil })
		cmd.SetArgs(args)
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		return cmd.ExecuteContext(t.Context())
	}
	require.NoError(t, parse())
	assert.Equal(t, "rabbitmq", got.broker)
	assert.False(t, got.broken)
	assert.False(t, got.output.json())
	require.NoError(t, parse("--broker", "memory", "--broken", "-o", "json"))
	assert.Equal(t, "memory", got.broker)
	assert.True(t, got.broken)
	assert.True(t, got.output.json())
	require.Error(t, parse("now"))
}

// What the environment tells the demo is not for its processes, but for the way to the broker.
func TestDemoChildEnvironment(t *testing.T) { //nolint:paralleltest // it sets the environment
	for name, value := range map[string]string{
		"EVDEMO_COUNT": "3", "EVDEMO_GROUP": "g", "EVDEMO_QUIET": "true", "EVDEMO_URL": "amqp://other", "EVDEMO_PROFILE": "p", "KEPT": "yes",
	} {
		t.Setenv(name, value)
	}
	app := &App{global: globalOptions{connectTimeout: 7 * time.Second, tlsCA: "ca.pem", tlsInsecure: true}}
	env := map[string]string{}
	for _, variable := range app.childEnvironment(brokerSettings{URLs: []string{"amqp://a", "amqp://b"}}) {
		name, value, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, "EVDEMO_") || name == "KEPT" {
			env[name] = value
		}
	}
	assert.Equal(t, map[string]string{
		"EVDEMO_URL": "amqp://a,amqp://b", "EVDEMO_CONNECT_TIMEOUT": "7s", "EVDEMO_CONFIG": "/dev/null", "KEPT": "yes",
		"EVDEMO_TLS_CA": "ca.pem", "EVDEMO_TLS_CERT": "", "EVDEMO_TLS_KEY": "", "EVDEMO_TLS_INSECURE": "true",
	}, env)
}
