package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/topology"
)

const (
	// patience bounds what a test waits for; tick is how often it looks.
	patience = 30 * time.Second
	tick     = 10 * time.Millisecond
)

// TestScript runs testdata/script, whose files read like sessions at a terminal, on a real broker.
//
// Each script has a topology of its own in the file that EVDEMO_TOPOLOGY names: the topic $TOPIC feeds
// the queue $QUEUE and has the group email, and the topic $EMPTY feeds nothing. Nothing is there
// before a command declares it, and all of it is removed at the end. $MADE is a name that is only
// removed. Beside the usual commands of testscript there are those of scriptCommands.
func TestScript(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	testscript.Run(t, testscript.Params{
		Dir:                filepath.Join("testdata", "script"),
		RequireUniqueNames: true,
		Setup:              func(env *testscript.Env) error { return setUpScript(env, url) },
		Cmds:               scriptCommands(),
	})
}

// scriptTopology declares one retry tier: each costs time.
const scriptTopology = `prefix: %s.
topics:
  orders: {log: true, groups: [email], queues: [payments]}
  lonely: {}
queues:
  orders.email: {retry: []}
  payments: {retry: [50ms]}
`

func setUpScript(env *testscript.Env, url string) error {
	tb, ok := env.T().(testing.TB)
	if !ok {
		return errors.New("the scripts are not run by package testing")
	}
	name := brokertest.Name(tb, "script")
	file := filepath.Join(env.WorkDir, "topology.yaml")
	content := fmt.Appendf(nil, scriptTopology, name)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return err
	}
	spec, err := topology.Parse(file, content)
	if err != nil {
		return err
	}
	s, err := session.DialWithin(tb.Context(), session.Config{URLs: session.SplitURLs(url), Name: "evdemo test"}, patience)
	if err != nil {
		return err
	}
	env.Values[scriptBroker] = s
	env.Values[scriptProcesses] = map[string]*process{}
	env.Defer(func() { removeAll(tb, s, spec.Resources(), name+".made") })
	env.Setenv("GORACE", os.Getenv("GORACE"))
	env.Setenv("AMQP_URL", url)
	env.Setenv("BROKER", url)
	env.Setenv("EVDEMO_TOPOLOGY", file)
	env.Setenv("TOPIC", name+".orders")
	env.Setenv("QUEUE", name+".payments")
	env.Setenv("EMPTY", name+".lonely")
	env.Setenv("MADE", name+".made")
	var variables []string
	for _, variable := range env.Vars {
		name, _, _ := strings.Cut(variable, "=")
		variables = append(variables, name)
	}
	env.Values[scriptVariables] = variables
	return nil
}

// removeAll removes resources, and what else may have been made under a name, and closes the session.
func removeAll(tb testing.TB, s *session.Session, resources topology.Resources, names ...string) {
	tb.Helper()
	defer s.Close()
	for _, name := range names {
		made := topology.Default().QueueResources(name)
		made.Exchanges = []topology.Exchange{{Name: name}}
		resources.Queues = append(resources.Queues, made.Queues...)
		resources.Exchanges = append(resources.Exchanges, made.Exchanges...)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), patience)
	defer cancel()
	if err := resources.Delete(ctx, s); err != nil {
		tb.Error(err)
	}
}

// scriptValue names what belongs to one run of a script.
type scriptValue int

const (
	scriptBroker    scriptValue = iota // a session on the broker
	scriptProcesses                    // programs in the background, by name
	scriptVariables                    // names of its environment variables
)

// scriptCommands are the commands that scripts have beside those of testscript.
func scriptCommands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"exits":    exits,
		"spawn":    spawn,
		"waitfor":  waitFor,
		"signal":   sendSignal,
		"ended":    ended,
		"messages": messages,
		"classic":  declareClassic,
		"postgres": newPostgres,
		"damage":   damage,
	}
}

// exits runs a program, which must end with the exit code: exits CODE PROGRAM [ARGS...]
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARGS...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	checkExit(ts, args[0], err)
}

func checkExit(ts *testscript.TestScript, want string, err error) {
	got := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(got) != want {
		ts.Fatalf("exit code %d, want %s", got, want)
	}
}

// process is a program in the background.
type process struct {
	command *exec.Cmd
	exited  chan struct{}
	err     error // valid once exited is closed
}

// spawn starts a program in the background. Its output goes to the files NAME.out and NAME.err, and its
// standard input is empty: spawn NAME PROGRAM [ARGS...]
func spawn(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: spawn NAME PROGRAM [ARGS...]")
	}
	name := args[0]
	path, err := exec.LookPath(args[1]) // evdemo is on the path of the test itself
	ts.Check(err)
	command := exec.CommandContext(context.Background(), path, args[2:]...)
	command.Dir = ts.MkAbs(".")
	command.Env = environment(ts)
	stdout, err := os.Create(ts.MkAbs(name + ".out"))
	ts.Check(err)
	stderr, err := os.Create(ts.MkAbs(name + ".err"))
	ts.Check(err)
	command.Stdout, command.Stderr = stdout, stderr
	ts.Check(command.Start())
	p := &process{command: command, exited: make(chan struct{})}
	go func() { // ends with the process, which the script's end kills
		defer close(p.exited)
		p.err = errors.Join(command.Wait(), stdout.Close(), stderr.Close())
	}()
	processes(ts)[name] = p
	ts.Defer(func() {
		_ = command.Process.Kill()
		<-p.exited
	})
}

func processes(ts *testscript.TestScript) map[string]*process {
	all, ok := ts.Value(scriptProcesses).(map[string]*process)
	if !ok {
		ts.Fatalf("this script was not set up")
	}
	return all
}

// environment is the script's environment, as far as it was there at the beginning, for what it
// starts in the background.
func environment(ts *testscript.TestScript) []string {
	names, _ := ts.Value(scriptVariables).([]string)
	env := make([]string, 0, len(names))
	for _, name := range names {
		env = append(env, name+"="+ts.Getenv(name))
	}
	return env
}

// waitFor waits until a file has a match for a regular expression. The file's name may have a * for what
// is not known of it: waitfor FILE PATTERN
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: waitfor FILE PATTERN")
	}
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	var content []byte
	eventually(ts, func() bool {
		files, err := filepath.Glob(ts.MkAbs(args[0]))
		if err == nil && len(files) > 0 {
			content, err = os.ReadFile(files[0])
		}
		return err == nil && len(files) > 0 && pattern.Match(content)
	}, func() string { return fmt.Sprintf("no match for %q in %s, which has:\n%s", args[1], args[0], content) })
}

// eventually waits until a condition holds, and ends the script where it never does.
func eventually(ts *testscript.TestScript, holds func() bool, otherwise func() string) {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			ts.Fatalf("%s", otherwise())
		}
	}
}

// sendSignal sends a signal to a program in the background: signal TERM|INT|KILL NAME
func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL}
	if neg || len(args) != 2 || signals[args[0]] == 0 || processes(ts)[args[1]] == nil {
		ts.Fatalf("usage: signal TERM|INT|KILL NAME")
	}
	ts.Check(processes(ts)[args[1]].command.Process.Signal(signals[args[0]]))
}

// ended waits for the end of a program in the background, and its exit code. Its output is then what
// the commands stdout and stderr look at: ended NAME CODE
func ended(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 || processes(ts)[args[0]] == nil {
		ts.Fatalf("usage: ended NAME CODE")
	}
	name, p := args[0], processes(ts)[args[0]]
	timeout := time.After(patience)
	select {
	case <-p.exited:
	case <-timeout:
		ts.Fatalf("%s has not ended; it says:\n%s", name, ts.ReadFile(name+".err"))
	}
	_, err := io.WriteString(ts.Stdout(), ts.ReadFile(name+".out"))
	ts.Check(err)
	_, err = io.WriteString(ts.Stderr(), ts.ReadFile(name+".err"))
	ts.Check(err)
	checkExit(ts, args[1], p.err)
}

// messages waits until a queue holds so many messages that no worker has, or at least so many:
// messages QUEUE N, messages QUEUE N+. With ! there must be no such queue: ! messages QUEUE
func messages(ts *testscript.TestScript, neg bool, args []string) {
	switch {
	case neg && len(args) == 1:
		if inspectQueue(ts, args[0]).Exists {
			ts.Fatalf("queue %s is there", args[0])
		}
		return
	case neg || len(args) != 2:
		ts.Fatalf("usage: messages QUEUE N, messages QUEUE N+, or ! messages QUEUE")
	}
	number, more := strings.CutSuffix(args[1], "+")
	want, err := strconv.Atoi(number)
	ts.Check(err)
	var state topology.State
	eventually(ts, func() bool {
		state = inspectQueue(ts, args[0])
		return state.Exists && (state.Messages == want || more && state.Messages > want)
	}, func() string { return fmt.Sprintf("%+v", state) })
}

func inspectQueue(ts *testscript.TestScript, name string) topology.State {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	queue := topology.Resources{Queues: []topology.QueueDef{{Name: name}}}
	states, err := queue.Inspect(ctx, broker(ts))
	ts.Check(err)
	return states[0]
}

func broker(ts *testscript.TestScript) *session.Session {
	s, ok := ts.Value(scriptBroker).(*session.Session)
	if !ok {
		ts.Fatalf("this script was not set up")
	}
	return s
}

// declareClassic declares a durable classic queue, which evdemo never does: classic QUEUE
func declareClassic(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 || !strings.HasPrefix(args[0], "script-") {
		ts.Fatalf("usage: classic QUEUE")
	}
	ch, err := broker(ts).Channel()
	ts.Check(err)
	_, err = ch.QueueDeclare(args[0], true, false, false, false, nil)
	ts.Check(err)
	ts.Check(ch.Close())
}
