package stage

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// asEvdemo names the environment variable that makes this test binary stand for evdemo.
const asEvdemo = "STAGE_TEST_EVDEMO"

func TestMain(m *testing.M) {
	if os.Getenv(asEvdemo) != "" {
		os.Exit(play(os.Args[1]))
	}
	goleak.VerifyTestMain(m)
}

// play plays a command of evdemo.
func play(command string) int {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	fmt.Fprintln(os.Stdout, os.Getenv("STAGE_TEST_URL"), os.Args[1:])
	switch command {
	case "list":
		return 0
	case "refuse":
		fmt.Fprintln(os.Stderr, `{"level":"ERROR","msg":"not with me"}`)
		return 2
	}
	fmt.Fprintln(os.Stderr, `{"level":"INFO","msg":"serving","url":"http://here"}`)
	<-told
	if command == "fail" {
		fmt.Fprintln(os.Stderr, `{"level":"ERROR","msg":"too late"}`)
		return 1
	}
	return 0
}
