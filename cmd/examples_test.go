package cmd

import (
	"bytes"
	"context"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/postgrestest"
	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/topology"
)

// example says how an example of a help text is run.
type example struct {
	// before is a command to be run before it.
	before string
	// underway is what it says once it is under way, if that matters; then during is run.
	underway, during string
	// endless marks what goes on until it is told to stop, and then exits with 0.
	endless bool
	// answer is what a person at the terminal answers.
	answer string
	// code is the exit code.
	code int
}

// helpExamples has every example of every command's help, but for those of "broker" and "demo".
func helpExamples() map[string]example {
	consumes := example{underway: "consuming", during: "evdemo publish --count 10", endless: true}
	traced := `echo '{"specversion":"1.0","id":"0197a3b4-5c6d-7e8f-9a0b-1c2d3e4f5a6b","source":"shop","type":"order.created"}' | evdemo publish --topic orders`
	reads := example{underway: "reading", endless: true}
	// An event store has two events of the stream order-1, and paid.json something to append.
	stored := `echo '{"status": "paid"}' > paid.json && ` +
		`evdemo store append order-1 --db orders.db --type order.created --data '{"amount": 50, "status": "new"}' && ` +
		`evdemo store append order-1 --db orders.db --type order.paid --data @paid.json`
	keeps := example{before: stored}
	serves := example{underway: "serving", endless: true}
	syncs := example{underway: "the shop is open", endless: true}
	opens := example{before: "evdemo shop place --count 3", underway: "the shop is open", endless: true}
	// A shop that has sinks, and no orders.
	const shop = `(evdemo shop run --bus memory 2> shop.log & pid=$!; until grep -q 'shop is open' shop.log; do sleep 0.1; done; kill $pid; wait $pid)`
	shopped := example{before: shop}
	deadLetters := example{before: "evdemo publish --topic orders --count 2 && evdemo work --queue payments --fail-rate 1 --retry none --idle-timeout 2s"}
	return map[string]example{
		"evdemo doctor": {},
		"evdemo doctor --url amqp://guest:guest@localhost:5672/": {},
		"evdemo version": {},

		"evdemo publish":                                                     {},
		"evdemo publish --count 10":                                          {},
		"evdemo publish --count 1000 --rate 50":                              {underway: "seed", endless: true},
		"evdemo publish --count 3 --seed 1 --dry-run":                        {},
		`evdemo publish --type user.created --data '{"user_id": 123}'`:       {},
		"evdemo publish --queue payments --file examples/orders.jsonl":       {},
		"evdemo publish --topic orders --file examples/orders.jsonl -o json": {},
		"evdemo publish --queue payments --file examples/records.jsonl":      {},

		"evdemo work --queue payments":                                                                consumes,
		"evdemo work --queue payments --latency 50ms --concurrency 4 --name alice":                    consumes,
		"evdemo work --queue payments --fail-rate 0.1 --retry 1s,5s,30s --max-attempts 5 --count 100": {before: "evdemo publish --count 100"},
		"evdemo work --queue payments --exec 'jq .order_id' --concurrency 4 --timeout 10s":            consumes,
		"evdemo work --queue payments --exec 'jq -e .amount > /dev/null || exit 65' --shell":          consumes,
		"evdemo work --queue payments --http http://localhost:8080/payments --timeout 5s":             consumes,
		"evdemo work --queue payments --dedup handled.db --metrics-addr 127.0.0.1:9090":               consumes,

		"evdemo dlq list":                  deadLetters,
		"evdemo dlq list payments -o json": deadLetters,
		"evdemo dlq show payments":         deadLetters,
		`evdemo dlq show payments --filter 'failure.reason == "timeout" && data.amount > 50'`: deadLetters,
		"evdemo dlq show payments --group-by error":                                           deadLetters,
		"evdemo dlq show payments --limit 10 -o jsonl":                                        deadLetters,
		"evdemo dlq redrive payments --all":                                                   deadLetters,
		`evdemo dlq redrive payments --filter 'failure.reason == "timeout"' --rate 50`:        deadLetters,
		"evdemo dlq redrive payments --id 0197a3b4-5c6d-7e8f-9a0b-1c2d3e4f5a6b --dry-run":     {before: deadLetters.before, code: exitIncomplete},
		"evdemo dlq redrive payments --all --to payments-repaired":                            {before: deadLetters.before, code: exitIncomplete},
		"evdemo dlq discard payments --all":                                                   {before: deadLetters.before, answer: "y\n"},
		`evdemo dlq discard payments --filter 'failure.reason == "invalid"' --yes`:            deadLetters,
		"evdemo dlq export payments > letters.jsonl":                                          deadLetters,
		`evdemo dlq export payments --filter 'failure.reason == "invalid"' > invalid.jsonl`:   deadLetters,
		"evdemo work --queue payments --idle-timeout 2s -q -o json":                           {},
		"evdemo listen --topic orders":                                                        consumes,
		"evdemo listen --topic orders --group email":                                          consumes,
		`evdemo listen --topic orders --filter 'type == "order.created" && data.amount > 50'`: consumes,
		"evdemo listen --topic orders --count 10 -o json":                                     {underway: "consuming", during: "evdemo publish --count 10"},

		"evdemo listen --topic orders --from 1h": reads,

		"evdemo record --topic orders > orders.jsonl":                                                           reads,
		"evdemo record --topic orders --from 1h --to now > last-hour.jsonl":                                     {before: "evdemo publish --topic orders --count 3"},
		`evdemo record --topic orders --from first --to now --filter 'type == "order.created"' > created.jsonl`: {},
		"evdemo trace 0197a3b4-5c6d-7e8f-9a0b-1c2d3e4f5a6b":                                                     {before: traced},
		"evdemo trace 0197a3b4-5c6d-7e8f-9a0b-1c2d3e4f5a6b --topic orders --from 1h -o json":                    {before: traced},
		"evdemo trace 0197a3b4-5c6d-7e8f-9a0b-1c2d3e4f5a6b -o mermaid":                                          {before: traced},
		"evdemo replay --topic orders --into-queue payments":                                                    {before: "evdemo publish --topic orders --count 3"},
		"evdemo replay --topic orders --from 1h --filter 'data.amount > 5000' --into-queue payments":            {before: "evdemo publish --topic orders --count 3"},
		"evdemo replay --topic orders --from 2026-01-02T15:04:05Z --to now --exec 'jq .order_id'":               {before: "evdemo publish --topic orders --count 3"},
		"evdemo replay --topic orders --into-queue orders.email --checkpoint email-again":                       {before: "evdemo publish --topic orders --count 3"},
		"evdemo replay --file examples/orders.jsonl --into-queue payments --speed 10x":                          {},

		"evdemo schema list": {},
		"evdemo schema list --schema examples/schemas -o json":                                    {},
		"evdemo schema show order.created":                                                        {},
		"evdemo schema show order.created 1 --schema examples/schemas":                            {},
		"evdemo schema check examples/orders.jsonl":                                               {},
		"evdemo schema check examples/orders.jsonl --schema examples/schemas --strict":            {},
		"evdemo publish --count 100 --dry-run | evdemo schema check -":                            {},
		"evdemo schema diff order.created 1 2":                                                    {},
		"evdemo schema diff order.created 1 2 --require backward":                                 {},
		"evdemo schema diff order.created 2 3 --schema examples/schemas -o json":                  {},
		"evdemo work --queue payments --schema examples/schemas --schema-version order.created=1": consumes,
		"evdemo publish --topic orders --file examples/orders.jsonl --schema examples/schemas":    {},

		"evdemo work --queue payments --ordered-by data.user_id --concurrency 8":             consumes,
		"evdemo work --queue payments --causal shop.db --causal-group shop --causal-wait 1m": consumes,

		`evdemo store append order-1 --db orders.db --type order.created --data '{"amount": 50}' --expect none`:  {},
		"evdemo store append order-1 --db orders.db --type order.paid --data @paid.json --extension authid=anna": keeps,
		"evdemo store append orders --db orders.db --file examples/orders.jsonl":                                 {},
		"evdemo store read --db orders.db -o jsonl | evdemo store append --db copy.db --atomic":                  keeps,
		"evdemo listen --topic orders --count 10 -o json | evdemo store append orders --db orders.db --live": {
			underway: "consuming", during: "evdemo publish --count 10",
		},
		"evdemo store read order-1 --db orders.db":                                                 keeps,
		"evdemo store read --db orders.db --type order.paid --after 100 --limit 10":                keeps,
		"evdemo store read --db orders.db --as-of 1h --backwards --limit 3 -o jsonl":               keeps,
		"evdemo store read --db orders.db -o jsonl > orders.jsonl":                                 keeps,
		"evdemo store streams --db orders.db":                                                      keeps,
		"evdemo store streams --db orders.db --prefix order- --limit 10 -o json":                   keeps,
		"evdemo store state order-1 --db orders.db":                                                keeps,
		"evdemo store state order-1 --db orders.db --at-version 2 -o jsonl":                        keeps,
		"evdemo store state order-1 --db orders.db --as-of 2026-01-02T15:04:05Z":                   {before: stored, code: exitFailed}, // it is younger
		"evdemo store state order-1 --db orders.db --snapshots 100":                                keeps,
		"evdemo store history order-1 --db orders.db":                                              keeps,
		"evdemo store history order-1 --db orders.db --field /status":                              keeps,
		"evdemo store history order-1 --db orders.db --who data.user_id --from-version 2 -o jsonl": keeps,
		"evdemo store verify --db orders.db":                                                       keeps,
		"evdemo store verify --db orders.db -o json":                                               keeps,
		"evdemo store follow --db orders.db":                                                       {before: stored, underway: "following", endless: true},
		"evdemo store follow order-1 --db orders.db --from first --count 3": {
			before: stored, underway: "following", during: "evdemo store append order-1 --db orders.db --type order.shipped --data '{}'",
		},
		"evdemo store follow --db orders.db --after 1 --type order.paid -o jsonl --idle-timeout 1s": keeps,
		"evdemo store relay --db orders.db --topic orders":                                          {before: stored, underway: "active one", endless: true},
		"evdemo store relay --db orders.db --queue payments --type order.created --name payments --from next": {
			before: stored, underway: "active one", endless: true,
		},
		"evdemo store relay --db orders.db --topic orders --catch-up -o json": keeps,
		"evdemo store backup copy.db --db orders.db":                          keeps,
		"evdemo store backup copy.db --db postgres://shop@localhost/shop -o json": {
			before: "evdemo store append order-1 --db postgres://shop@localhost/shop --type order.created --data '{}'",
		},

		"evdemo shop run": opens,
		"evdemo shop run payment shipping --saga orchestration":                                                   opens,
		"evdemo shop run --bus memory --slow payment=2s --fail inventory=0.2 --refuse shipping=0.05 --down email": opens,
		"evdemo shop place": {},
		"evdemo shop place --count 1000 --rate 200 --seed 7 -o json": {},
		"evdemo shop check": shopped,
		"evdemo shop check --db postgres://shop@localhost/shop -o json":            {before: strings.ReplaceAll(shop, "evdemo shop", "EVDEMO_DB=postgres://shop@localhost/shop evdemo shop")},
		`evdemo shop check --sinks "" --wait 1m`:                                   shopped,
		"evdemo shop search":                                                       shopped,
		"evdemo shop search 'status:shipped user:user-7'":                          shopped,
		"evdemo shop search '+status:cancelled +amount:>=5000' --limit 50 -o json": shopped,

		"evdemo shop sync": syncs,
		"evdemo shop sync --slow payment=2s --refuse shipping=0.05":                                syncs,
		"evdemo shop sync --addr 127.0.0.1:8081 --db shop-sync.db --fail payment=0.2 --down email": syncs,

		"evdemo serve --db shop.db": serves,
		"evdemo serve --db postgres://shop@localhost/shop --addr 127.0.0.1:8081":                    serves,
		"EVDEMO_STRIPE_SECRET=whsec_... evdemo serve --db shop.db --rate 5000 --rate-per-client 50": serves,

		"evdemo topology show":                                                           {},
		"evdemo topology show -o yaml > topology.yaml":                                   {},
		"evdemo topology show -f topology.yaml -o json":                                  {},
		"evdemo topology plan":                                                           {},
		"evdemo topology plan -f topology.yaml -o json":                                  {},
		"evdemo topology apply":                                                          {},
		"evdemo topology apply -f topology.yaml":                                         {},
		"evdemo topology delete -f topology.yaml":                                        {before: "evdemo topology apply", answer: "y\n"},
		"evdemo topology delete --if-empty --if-unused --yes":                            {before: "evdemo topology apply"},
		"evdemo topology export > definitions.json":                                      {},
		"evdemo topology export -f topology.yaml --vhost shop":                           {},
		"evdemo topology graph":                                                          {},
		"evdemo topology graph --format mermaid":                                         {},
		"evdemo topology graph -f topology.yaml --format dot | dot -Tsvg > topology.svg": {},
	}
}

// brokerExamples are those of "broker", in an order in which one node is enough for all of them.
func brokerExamples() []string {
	return []string{
		"evdemo broker start --port 5680 --management-port 15680",
		"evdemo broker start",
		"AMQP_URL=$(evdemo broker start) go test ./...",
		"AMQP_URL=$(evdemo broker url) ./my-service",
		"evdemo broker status",
		"evdemo broker status -o json",
		"evdemo broker logs -n 100",
		"evdemo broker logs -f",
		"evdemo broker stop",
		"evdemo broker stop --remove",
	}
}

func TestExamplesAreKnown(t *testing.T) {
	t.Parallel()
	var shown []string
	for cmd := range commands(newRootCommand(&App{})) {
		for line := range strings.Lines(cmd.Example) {
			shown = append(shown, strings.TrimSpace(line))
		}
	}
	run := slices.Concat(slices.Collect(maps.Keys(helpExamples())), brokerExamples(), demoExamples(), proveExamples())
	for _, line := range shown {
		assert.Contains(t, run, line, "an example of a help text that no test runs")
	}
	for _, line := range run {
		assert.Contains(t, shown, line, "an example that no help text has any more")
	}
}

// commands gives every command of ours in the tree.
func commands(root *cobra.Command) func(yield func(*cobra.Command) bool) {
	return func(yield func(*cobra.Command) bool) {
		if !yield(root) {
			return
		}
		for _, child := range root.Commands() {
			if child.Name() == "help" || child.Name() == "completion" { // cobra's own
				continue
			}
			for cmd := range commands(child) {
				if !yield(cmd) {
					return
				}
			}
		}
	}
}

// TestExamples runs every example as somebody would who copies it from the help, but for the names of
// topics and queues: each has some of its own.
func TestExamples(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	for line, how := range helpExamples() {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			copyist := newCopyist(t, url)
			if strings.Contains(line, databaseExample) {
				copyist.database = postgrestest.URL(t)
			}
			if how.before != "" {
				copyist.run(t, how.before, 0)
			}
			switch {
			case how.answer != "":
				copyist.answer(t, line, how.answer)
			case how.underway != "":
				copyist.follow(t, line, how)
			default:
				copyist.run(t, line, how.code)
			}
		})
	}
}

func TestBrokerExamples(t *testing.T) {
	t.Parallel()
	copyist := newCopyist(t, "")
	ports := strings.NewReplacer("15680", strconv.Itoa(freePort(t)), "5680", strconv.Itoa(freePort(t)))
	t.Cleanup(func() { copyist.run(t, "evdemo broker stop --remove", 0) })
	for _, line := range brokerExamples() {
		if line == "evdemo broker logs -f" {
			copyist.follow(t, line, example{underway: ".", endless: true})
			continue
		}
		copyist.run(t, ports.Replace(line), 0)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, listener.Close()) }()
	address, ok := listener.Addr().(*net.TCPAddr)
	require.True(t, ok)
	return address.Port
}

// databaseExample is the database on PostgreSQL that examples speak of.
const databaseExample = "postgres://shop@localhost/shop"

// copyist types examples in a directory of their own.
type copyist struct {
	dir, url string
	database string // a database on PostgreSQL, where an example has one
	env      map[string]string
	names    *strings.Replacer
	patience time.Duration // with a command, where it is more than usual
}

// newCopyist prepares a directory with what the examples speak of. Without a URL they look for a broker
// of their own.
func newCopyist(t *testing.T, url string) *copyist {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(filepath.Join(dir, "examples"), os.DirFS("../examples")))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "bin"), 0o700))
	programs := map[string]string{"bin/dot": "exec cat", "bin/jq": "exec cat", "bin/go": `test -n "$AMQP_URL"`, "my-service": `test -n "$AMQP_URL"`}
	for name, does := range programs {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+does+"\n"), 0o700))
	}
	prefix := brokertest.Name(t, "example") + "."
	file := filepath.Join(dir, "topology.yaml")
	content := append([]byte("prefix: "+prefix+"\n"), topology.Default().YAML()...)
	require.NoError(t, os.WriteFile(file, content, 0o600))
	c := &copyist{
		dir: dir, url: url,
		env: map[string]string{
			"PATH": filepath.Join(dir, "bin") + ":" + os.Getenv("PATH"), "HOME": dir, "GORACE": os.Getenv("GORACE"),
			"EVDEMO_STATE_DIR": filepath.Join(dir, "state"), "EVDEMO_ADDR": "127.0.0.1:0",
		},
		names: strings.NewReplacer(
			"--topic orders", "--topic "+prefix+"orders", "--queue payments", "--queue "+prefix+"payments",
			"--into-queue payments", "--into-queue "+prefix+"payments", "orders.email", prefix+"orders.email",
			"dlq show payments", "dlq show "+prefix+"payments", "dlq redrive payments", "dlq redrive "+prefix+"payments",
			"dlq discard payments", "dlq discard "+prefix+"payments", "dlq export payments", "dlq export "+prefix+"payments",
			"dlq list payments", "dlq list "+prefix+"payments", "payments-repaired", prefix+"repaired", "127.0.0.1:9090", "127.0.0.1:0", "--addr 127.0.0.1:8081", "--addr 127.0.0.1:0",
			"whsec_...", "whsec_DaLRHCRs35vEXqOE8uTEAXGLGUOnyaFf",
			"amqp://guest:guest@localhost:5672/", url,
		),
	}
	if url != "" {
		c.env["AMQP_URL"], c.env["EVDEMO_TOPOLOGY"] = url, filepath.Join(t.TempDir(), "topology.yaml")
		c.env["EVDEMO_TOPIC_PREFIX"] = prefix
		require.NoError(t, os.WriteFile(c.env["EVDEMO_TOPOLOGY"], content, 0o600))
		removeTopology(t, url, content)
	}
	return c
}

// newUserOf makes a copyist who has evdemo as people have it, without the race detector: for what starts many processes, and
// takes a machine for itself. Their code is run with the detector by the tests of its packages.
func newUserOf(t *testing.T, url string) *copyist {
	t.Helper()
	c := newCopyist(t, url)
	c.env["PATH"] = filepath.Dir(brokertest.Evdemo(t)) + ":" + c.env["PATH"]
	c.patience = provePatience
	return c
}

// removeTopology removes at the end what a topology file names.
func removeTopology(t *testing.T, url string, file []byte) {
	t.Helper()
	spec, err := topology.Parse("topology.yaml", file)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		s, err := session.DialWithin(ctx, session.Config{URLs: session.SplitURLs(url), Name: "evdemo test"}, patience)
		require.NoError(t, err)
		removeAll(t, s, spec.Resources())
	})
}

// rename gives the names in a line the prefix, also those that stand there by default.
func (c *copyist) rename(line string) string {
	if strings.HasPrefix(line, "evdemo publish") && !strings.Contains(line, "--topic") && !strings.Contains(line, "--queue") {
		line = strings.Replace(line, "evdemo publish", "evdemo publish --topic orders", 1)
	}
	return strings.ReplaceAll(c.names.Replace(line), databaseExample, c.database)
}

// command prepares a line for the shell. What ctx's end interrupts is asked to stop first.
func (c *copyist) command(ctx context.Context, line string, output *lockedBuffer) *exec.Cmd {
	if line = c.rename(line); strings.HasPrefix(line, "evdemo") && !strings.Contains(line, " | ") && !strings.Contains(line, " && evdemo") {
		line = "exec " + line // so that signals reach it
	} else if regexp.MustCompile(`^[A-Z_]+=[^ $]+ evdemo`).MatchString(line) {
		line = "exec env " + line
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.dir, output, output
	for name, value := range c.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	return cmd
}

// run runs a line to its end and gives what it said.
func (c *copyist) run(t *testing.T, line string, code int) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), max(3*patience, c.patience))
	defer cancel()
	var output lockedBuffer
	cmd := c.command(ctx, line, &output)
	_ = cmd.Run()
	require.NoError(t, ctx.Err(), "%s has no end:\n%s", line, &output)
	require.Equal(t, code, cmd.ProcessState.ExitCode(), "%s\n%s", line, &output)
	return output.String()
}

// follow runs a line that works on something else meanwhile, and stops it if it has no end.
func (c *copyist) follow(t *testing.T, line string, how example) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 3*patience)
	defer stop()
	var output lockedBuffer
	cmd := c.command(ctx, line, &output)
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	underway := regexp.MustCompile(how.underway)
	require.Eventually(t, func() bool { return underway.MatchString(output.String()) }, patience, tick, "%s\n%s", line, &output)
	if how.during != "" {
		c.run(t, how.during, 0)
	}
	if how.endless {
		stop()
	}
	err := <-ended
	if how.endless && cmd.ProcessState.Success() {
		err = nil // Wait tells of the end of its context also where the process took it well
	}
	require.NoError(t, err, "%s\n%s", line, &output)
}

// answer runs a line in this process, as if at a terminal, since it asks something.
func (c *copyist) answer(t *testing.T, line, answer string) {
	t.Helper()
	t.Log(line)
	var out, err bytes.Buffer
	app := &App{
		In: strings.NewReader(answer), Out: &out, Err: &err, InTerminal: true,
		LookupEnv: func(name string) (string, bool) { value, ok := c.env[name]; return value, ok },
	}
	line = strings.Replace(c.rename(line), "topology.yaml", filepath.Join(c.dir, "topology.yaml"), 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.Equal(t, exitOK, Run(ctx, app, strings.Fields(line)[1:]), "%s\n%s%s", line, &out, &err)
	require.Contains(t, err.String(), "[y/N]")
	require.Regexp(t, "deleted|discarded", out.String())
}
