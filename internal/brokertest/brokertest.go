// Package brokertest is what tests with a real RabbitMQ need: its address, names of their own, a
// private node to kill and restart, and a link that can be cut.
package brokertest

import (
	"context"
	"crypto/rand"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/evdemo/evdemo/internal/localbroker"
)

// URL is the broker that tests share: AMQP_URL, else the node of "evdemo broker start". Where there
// is neither, the test fails and names the commands that start one. Tests use names of their own
// there, see [Name], and remove what they declare.
func URL(tb testing.TB) string {
	tb.Helper()
	if url := os.Getenv("AMQP_URL"); url != "" {
		return url
	}
	dir, err := localbroker.StateDir(nil)
	if err != nil {
		tb.Fatal(err)
	}
	node, err := localbroker.Running(dir)
	if err != nil {
		tb.Fatalf(`this test needs RabbitMQ (%v): run the tests with "make test", or start a node with "go run . broker start", or set AMQP_URL`, err)
	}
	return node.URL()
}

// Name is a name for a queue, exchange or topic that no other test and no other run uses: the
// prefix, the test's name and something random, at most 100 bytes long.
func Name(tb testing.TB, prefix string) string {
	tb.Helper()
	safe := func(r rune) rune {
		if r < 0x80 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9') {
			return r
		}
		return '-'
	}
	name := strings.Map(safe, tb.Name())
	return prefix + "-" + name[:min(len(name), 80-min(len(prefix), 80))] + "-" + strings.ToLower(rand.Text()[:10])
}

// startPatience allows for a machine on which many tests run at once.
const startPatience = 3 * time.Minute

// Node starts a private node for a test that kills it, restarts it or raises its alarms, and
// removes it with the test. It takes 5 to 15 s of a processor or two, so tests that can do with one
// node are subtests of one test. Options change its configuration before it is started. Where the
// test fails, the end of the node's log is printed.
//
// EVDEMO_RABBITMQ_SERVER names another rabbitmq-server to run.
func Node(tb testing.TB, options ...func(*localbroker.Config)) *localbroker.Node {
	tb.Helper()
	config := localbroker.Config{Dir: tb.TempDir()}
	for _, option := range options {
		option(&config)
	}
	ctx, cancel := context.WithTimeout(tb.Context(), startPatience)
	defer cancel()
	node, err := localbroker.Start(ctx, config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			lines, _ := localbroker.Tail(node.LogFile(), 30)
			tb.Logf("the log of RabbitMQ at %s ends with:\n%s", node.URL(), strings.Join(lines, "\n"))
		}
		if err := node.Remove(); err != nil {
			tb.Error(err)
		}
	})
	return node
}
