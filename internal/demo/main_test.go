package demo_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// behaviour names the environment variable that makes this test binary one of the demo's processes,
// and says how it behaves.
const behaviour = "DEMO_TEST_BEHAVIOUR"

func TestMain(m *testing.M) {
	if how, ok := os.LookupEnv(behaviour); ok {
		os.Exit(play(how, os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// play plays a process of the demo without a broker: consumers print the events that they would have
// got, and the publisher writes outcomes.
func play(how string, args []string) int {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	option := func(name string) string {
		i := slices.Index(args, name)
		if i < 0 {
			return ""
		}
		return args[i+1]
	}
	name := option("--name")
	switch {
	case args[0] == "publish":
		return playPublisher(how, option("--file"), option("--outcomes"), stop)
	case how == "email does not start" && name == "email":
		fmt.Fprintln(os.Stderr, "out of order")
		return 1
	}
	fmt.Fprintln(os.Stderr, `{"level":"INFO","msg":"consuming"}`)
	out := bufio.NewWriter(os.Stdout)
	for i := range events {
		if consumes(how, name, i) {
			fmt.Fprintf(out, `{"id":"event-%d"}`+"\n", i)
		}
	}
	if how == "broadcast gets one twice" && name == "broadcast" {
		fmt.Fprintln(out, `{"id":"event-0"}`)
	}
	fmt.Fprintln(out, "no JSON")
	fmt.Fprintln(out, `{"no":"id"}`)
	fmt.Fprint(out, `{"id":"event-1"}`) // a line that is not complete is no effect
	_ = out.Flush()
	for range stop {
		if how == "email does not stop" && name == "email" {
			continue
		}
		fmt.Fprintln(os.Stderr, `{"level":"WARN","msg":"something of note"}`)
		fmt.Fprintln(os.Stderr, `{"name":"x","handled":1,"redelivered":2}`)
		return 0
	}
	return 1
}

// events is how many there are.
const events = 30

// consumes tells whether a consumer gets an event: listeners get all of them, and each worker a third.
func consumes(how, name string, i int) bool {
	switch name {
	case "email":
		return how != "email misses one" || i != 17
	case "analytics", "broadcast":
		return true
	case "worker-3":
		return how != "worker-3 is idle" && i%3 == 2
	case "worker-1":
		return i%3 == 0 || how == "worker-3 is idle" && i%3 == 2
	default: // worker-2
		return i%3 == 1
	}
}

func playPublisher(how, file, outcomes string, stop <-chan os.Signal) int {
	content, err := os.ReadFile(file)
	if err != nil || bytes.Count(content, []byte("\n")) != events {
		return 1
	}
	switch how {
	case "publisher never ends":
		<-stop
		return 0
	case "publisher fails":
		fmt.Fprintln(os.Stderr, `{"level":"ERROR","msg":"no ink"}`)
		_ = os.WriteFile(outcomes, nil, 0o600)
		return 4
	case "publisher writes nothing":
		return 0
	case "publisher writes nonsense":
		_ = os.WriteFile(outcomes, []byte("nonsense\n"), 0o600)
		return 0
	}
	var lines bytes.Buffer
	code := 0
	for i := range events {
		outcome := "confirmed"
		switch {
		case how == "one is forgotten" && i == 3:
			continue
		case how == "one is returned" && i == 3:
			outcome, code = "returned", 3
		}
		lines.WriteString(`{"id":"event-` + strconv.Itoa(i) + `","outcome":"` + outcome + "\"}\n")
	}
	if os.WriteFile(outcomes, lines.Bytes(), 0o600) != nil {
		return 1
	}
	return code
}
