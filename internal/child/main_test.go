package child

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// behaviour names the environment variable that makes this test binary a child process, or one that has
// children, and says how it behaves.
const behaviour = "CHILD_TEST_BEHAVIOUR"

// longLine is longer than a pipe and any buffer on the way.
const longLine = 300_000

func TestMain(m *testing.M) {
	if how, ok := os.LookupEnv(behaviour); ok {
		os.Exit(play(how))
	}
	goleak.VerifyTestMain(m)
}

// play plays a process.
func play(how string) int {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	switch how {
	case "prints":
		fmt.Fprint(os.Stdout, "one\n\n"+strings.Repeat("x", longLine)+"\ntwo\nthree")
		fmt.Fprint(os.Stderr, "said without an end")
		return 0
	case "is cut off":
		fmt.Fprint(os.Stdout, "whole\nhalf of a li")
	case "ticks":
		fmt.Fprintln(os.Stderr, `{"level":"INFO","msg":"serving"}`)
		return tick(told)
	case "ends before":
		fmt.Fprintln(os.Stderr, `{"level":"ERROR","msg":"no ink"}`)
		return 3
	case "has children":
		return playParent(told)
	}
	fmt.Fprintln(os.Stderr, "no JSON")
	fmt.Fprintln(os.Stderr, `{"level":"INFO","msg":"starting"}`)
	fmt.Fprint(os.Stderr, `{"level":"INFO","msg":"ser`)
	fmt.Fprint(os.Stderr, `ving","url":"first"}`+"\n"+`{"level":"INFO","msg":"consuming","url":"second"}`+"\n")
	fmt.Fprintln(os.Stderr, `{"level":"WARN","msg":"paper is low"}`)
	fmt.Fprintln(os.Stderr, `{"level":"INFO","msg":"printing"}`)
	<-told
	return 0
}

// tick prints until it is told to end.
func tick(told <-chan os.Signal) int {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			fmt.Fprintln(os.Stdout, "tick")
		case <-told:
			return 0
		}
	}
}

// playParent plays a program with a child, until it is killed: its group's number is all that it prints.
func playParent(told <-chan os.Signal) int {
	group, err := NewGroup(context.Background())
	if err != nil {
		return 1
	}
	p, err := group.Start(context.Background(), Config{
		Binary: os.Args[0], Environment: append(os.Environ(), behaviour+"=works"), Ready: []string{"serving"},
	})
	if err != nil {
		return 1
	}
	<-p.Ready()
	fmt.Fprintln(os.Stdout, group.ID(), p.command.Process.Pid)
	<-told
	return 1
}
