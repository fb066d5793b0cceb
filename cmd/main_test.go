package cmd

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/evdemo/evdemo/internal/postgrestest"
)

// TestMain makes evdemo a command that tests can start: it is this test binary under another name.
func TestMain(m *testing.M) {
	if os.Getenv("GORACE") == "" { // else the race detector makes every process a second longer
		_ = os.Setenv("GORACE", "atexit_sleep_ms=0")
	}
	testscript.Main(leakChecked{postgrestest.Main(m)}, map[string]func(){
		"evdemo": func() { os.Exit(Main(os.Args[1:])) },
	})
}

// leakChecked runs the tests and looks for goroutines that they left behind.
type leakChecked struct{ tests postgrestest.Runner }

func (l leakChecked) Run() int {
	flag.Parse()
	parallel := flag.Lookup("test.parallel")
	if parallel.Value.String() == parallel.DefValue {
		_ = flag.Set("test.parallel", "8") // most of them wait for a broker or for processes
	}
	code := l.tests.Run()
	if code != 0 {
		return code
	}
	if err := goleak.Find(goleak.IgnoreTopFunction("github.com/blevesearch/bleve_index_api.AnalysisWorker")); err != nil {
		fmt.Fprintln(os.Stderr, "goroutines were left behind:", err)
		return 1
	}
	return 0
}
