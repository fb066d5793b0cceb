package chaos

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// behaviour names the environment variable that makes this test binary a process of a part, or a proof, and says how it behaves.
const behaviour = "CHAOS_TEST_BEHAVIOUR"

func TestMain(m *testing.M) {
	if how, ok := os.LookupEnv(behaviour); ok {
		os.Exit(play(how))
	}
	// The index library of a sink starts its workers when it is loaded.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/blevesearch/bleve_index_api.AnalysisWorker"))
}

// play plays a process.
func play(how string) int {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	switch {
	case how == "does not start":
		fmt.Fprintln(os.Stderr, `{"level":"ERROR","msg":"no ink"}`)
		return 4
	case how == "starts once" && !firstTime():
		return 4
	case how == "is a proof":
		return playProof(told)
	}
	fmt.Fprintln(os.Stderr, "no JSON")
	fmt.Fprint(os.Stderr, `{"level":"INFO",`)
	fmt.Fprintln(os.Stderr, `"msg":"consuming","pid":`+fmt.Sprint(os.Getpid())+`}`)
	switch how {
	case "ends at once", "starts once":
		fmt.Fprintln(os.Stderr, `{"level":"ERROR","msg":"out of paper"}`)
		return 3
	case "does not end":
		for range told {
			continue
		}
	case "fails at the end":
		<-told
		return 1
	}
	<-told
	fmt.Fprintln(os.Stdout, `[{"name":"lake","handled":7,"again":2,"failed":1}]`)
	return 0
}

// firstTime tells whether this is the first process with an environment.
func firstTime() bool {
	file, err := os.OpenFile(os.Getenv("CHAOS_TEST_MARK"), os.O_CREATE|os.O_EXCL, 0o600)
	_ = file.Close()
	return err == nil
}

// playProof plays this whole program, with one part, until it is killed.
func playProof(told <-chan os.Signal) int {
	c := newCrew(slog.New(slog.DiscardHandler), newTally())
	c.logs, c.binary = os.TempDir(), os.Args[0]
	c.environment = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return v == behaviour+"=is a proof" }), behaviour+"=works")
	c.processes = []*process{newProcess(c, fmt.Sprintf("chaos-test-%d", os.Getpid()), nil)}
	if err := c.start(context.Background()); err != nil {
		return 1
	}
	<-c.processes[0].open
	fmt.Fprintln(os.Stdout, c.group.ID())
	<-told
	return 1
}

// newTestCrew starts a process of one part that behaves as is said.
func newTestCrew(t *testing.T, how string) (*crew, *process) {
	t.Helper()
	c := newCrew(slog.New(slog.DiscardHandler), newTally())
	binary, err := os.Executable()
	require.NoError(t, err)
	c.logs, c.binary, c.grace = t.TempDir(), binary, 30*time.Second
	c.environment = append(os.Environ(), behaviour+"="+how, "CHAOS_TEST_MARK="+t.TempDir()+"/mark")
	c.processes = []*process{newProcess(c, "lake-1", nil)}
	require.NoError(t, c.start(t.Context()))
	t.Cleanup(c.abort)
	return c, c.processes[0]
}

const patience = 30 * time.Second

// within gives a context for what must not take long.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}
