package cmd

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http/httptest"
	neturl "net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/scenario"
	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/internal/shop/service"
	"github.com/evdemo/evdemo/internal/shop/system"
	"github.com/evdemo/evdemo/internal/stage"
	"github.com/evdemo/evdemo/topology"
)

// demoExamples are those of the help of "demo".
func demoExamples() []string {
	return []string{
		"evdemo demo", "evdemo demo --broken", "evdemo demo --broker memory", "evdemo demo list", "evdemo demo blocking --seed 7",
		"evdemo demo event-sourcing --broker memory -o json",
	}
}

func TestDemoHolds(t *testing.T) {
	t.Parallel()
	output := newUserOf(t, brokertest.URL(t)).run(t, demoExamples()[0], exitOK)
	assertShopWorked(t, output)
	assert.Regexp(t, `payment +│ 300 +│ +0 │ +0 │ payment-1 [1-9]\d*, payment-2 [1-9]\d* \(killed\), payment-3 [1-9]\d* `, output)
	assert.Regexp(t, `broadcast │ 300 +│ +0 │`, output)
	assert.Equal(t, 11, strings.Count(output, "\nholds  "), output)
	assertNothingLeft(t, output)
}

// assertShopWorked looks at what a demo that holds has printed.
func assertShopWorked(t *testing.T, output string) {
	t.Helper()
	for _, part := range []string{"fraud", "inventory", "shipping", "loyalty", "email", "sms", "push"} {
		assert.Regexp(t, part+` +│ 300 +│ +0 │ +0 │ `+part+" 300 ", output)
	}
	assert.Regexp(t, `placed 300  shipped 300  cancelled 0  events stored [\d,]+  in [\d.]+ s, seed \d+`, output)
	assert.Contains(t, output, "(300 orders, 300 shipped, 0 things wrong)")
	assert.NotContains(t, output, "FAILS")
	assert.Contains(t, output, "\nThe ledger holds: nothing was lost, and nothing was done twice.\n")
}

func TestDemoFindsALoss(t *testing.T) {
	t.Parallel()
	output := newUserOf(t, brokertest.URL(t)).run(t, demoExamples()[1], exitClaim)
	assert.Regexp(t, `\nFAILS  the payment processes shared the orders, and the killed one lost none and charged none twice \(\d+ done, [1-9]\d* missing, 0 extra\)`, output)
	assert.Contains(t, output, "\nholds  fraud had every order, once (300 done, 0 missing, 0 extra)\n")
	assert.Regexp(t, `\nFAILS  a program that reads only what the shop has stored .* \(300 orders, \d+ shipped, [1-9]\d* things wrong\)`, output)
	assert.NotContains(t, output, "nothing was lost")
	assert.Contains(t, output, "evdemo demo: the ledger does not hold\n")
	assertNothingLeft(t, output)
}

func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	for moment, command := range map[string]string{
		"What is made there": "evdemo demo -o json", "Customers place 300 orders": "evdemo demo -o json", "Killed payment-2": "evdemo demo",
		"FIXED: ": "evdemo demo blocking -o markdown",
	} {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), provePatience)
			defer cancel()
			var output lockedBuffer
			cmd := newUserOf(t, url).command(ctx, command, &output)
			require.NoError(t, cmd.Start())
			ended := make(chan struct{})
			go func() { defer close(ended); _ = cmd.Wait() }()
			require.Eventually(t, func() bool { return strings.Contains(output.String(), moment) }, provePatience, tick)
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
	output := newUserOf(t, "").run(t, "AMQP_URL=amqp://127.0.0.1:1/ "+demoExamples()[2], exitOK)
	assertShopWorked(t, output)
	assert.Regexp(t, `payment +│ 300 +│ +0 │ +0 │ payment-2 [1-9]\d* \(killed\), its successor [1-9]\d* `, output)
	assert.Equal(t, 10, strings.Count(output, "\nholds  "), output)
	assert.NotContains(t, output, "demo-", "names that nobody sees")
}

// Scenarios are played in the tests of package scenario; here is what the command makes of them.
func TestDemoScenario(t *testing.T) {
	t.Parallel()
	output := newUserOf(t, brokertest.URL(t)).run(t, demoExamples()[4], exitOK)
	assert.Contains(t, output, "\nBROKEN: ")
	assert.Contains(t, output, "\nholds  Broken: ")
	assert.Regexp(t, `\nblocking: all 3 claims hold. [\d.]+ s, seed 7.\n`, output)
	assertNothingLeft(t, output)
}

// The processes of a scenario find the way to the broker by themselves: evdemo's own, its parts, and the bare client's.
func TestDemoOverTLS(t *testing.T) {
	t.Parallel()
	url, ca := behindTLS(t, brokertest.URL(t))
	for _, name := range []string{"poison", "schema", "thundering-herd"} {
		output := newUserOf(t, brokertest.URL(t)).run(t, "evdemo demo "+name+" --url "+url+" --tls-ca "+ca, exitOK)
		assert.Contains(t, output, " at amqps://guest@127.0.0.1:")
		assert.Contains(t, output, "claims hold")
	}
}

// behindTLS puts TLS before a broker that may have none.
func behindTLS(t *testing.T, url string) (secured, ca string) {
	t.Helper()
	target, err := neturl.Parse(url)
	require.NoError(t, err)
	plain := target.Host
	web := httptest.NewTLSServer(nil) // has a certificate for 127.0.0.1
	web.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12})
	require.NoError(t, err)
	var relays sync.WaitGroup
	relays.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			relays.Go(func() { passOn(client, plain) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); relays.Wait() })
	ca = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}), 0o600))
	target.Scheme, target.Host = "amqps", l.Addr().String()
	return target.String(), ca
}

func passOn(client net.Conn, address string) {
	defer client.Close()
	broker, err := net.DialTimeout("tcp", address, patience) //nolint:noctx // it ends with the listener's clients
	if err != nil {
		return
	}
	defer broker.Close()
	go func() { _, _ = io.Copy(broker, client); _ = broker.Close() }()
	_, _ = io.Copy(client, broker)
}

func TestDemoOutputs(t *testing.T) {
	t.Parallel()
	c := newUserOf(t, "")
	list := c.run(t, demoExamples()[3], exitOK)
	for _, s := range scenario.All() {
		assert.Contains(t, list, "│ "+s.Name+" ")
		assert.Contains(t, list, s.Title)
	}
	var report stage.Report
	require.NoError(t, json.Unmarshal([]byte(c.run(t, demoExamples()[5]+" -q", exitOK)), &report))
	assert.Equal(t, "event-sourcing", report.Scenario)
	assert.True(t, report.Holds)
	var all []stage.Report
	require.NoError(t, json.Unmarshal([]byte(c.run(t, "evdemo demo all --broker memory -o json -q", exitOK)), &all))
	assert.NotEmpty(t, all)
	document := c.run(t, "evdemo demo all --broker memory -o markdown -q", exitOK)
	assert.Contains(t, document, "## event-sourcing\n")
	assert.Contains(t, document, "| --- |")
	assert.Contains(t, c.run(t, "evdemo demo list -o markdown", exitOK), "| [lost-events](#lost-events) |")
}

func TestDemoMistakes(t *testing.T) {
	t.Parallel()
	for mistake, args := range map[string][]string{
		`--broker "kafka": want rabbitmq or memory`:                     {"--broker", "kafka"},
		`no scenario "lost": want list or all, or one of `:              {"lost"},
		"--broken is for evdemo demo without a scenario":                {"blocking", "--broken"},
		"scenario blocking needs a RabbitMQ: leave --broker memory out": {"blocking", "--broker", "memory"},
		"--broken takes events off a queue of RabbitMQ":                 {"--broken", "--broker", "memory"},
		"-o markdown is for scenarios":                                  {"-o", "markdown"},
		`scenario blocking has no part "x"`:                             {"blocking", "--part", "x"},
		"accepts at most 1 arg(s), received 2":                          {"blocking", "lost-events"},
	} {
		c := newCommandLine(nil)
		requireMistake(t, c, c.run(t, append([]string{"demo"}, args...)...), mistake)
	}
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
	var resources topology.Resources
	for _, mode := range []stage.Mode{stage.Broken, stage.Fixed} {
		name := prefix[1] + string(mode) + "."
		shop := system.Resources(service.Choreography, name)
		resources.Queues = append(append(resources.Queues, shop.Queues...), topology.Spec{}.QueueResources(name+"jobs").Queues...)
		resources.Exchanges = append(resources.Exchanges, shop.Exchanges...)
	}
	states, err := resources.Inspect(t.Context(), s)
	require.NoError(t, err)
	assert.NotEmpty(t, states)
	for _, state := range states {
		assert.False(t, state.Exists, "%s %s was left", state.Kind, state.Name)
	}
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
	require.NoError(t, parse("--broken", "-o", "json"))
	assert.True(t, got.broken)
	assert.True(t, got.output.json())
	require.NoError(t, parse("all", "--broker", "memory", "--seed", "7"))
	assert.Equal(t, "memory", got.broker)
	assert.Equal(t, "all", got.name)
	assert.EqualValues(t, 7, got.seed)
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
