package brokertest

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// Evdemo builds evdemo as people have it, without the race detector, and gives its path. It is gone after the test.
func Evdemo(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "evdemo")
	out, err := exec.CommandContext(tb.Context(), "go", "build", "-o", path, "github.com/evdemo/evdemo").CombinedOutput()
	if err != nil {
		tb.Fatalf("build evdemo: %v\n%s", err, out)
	}
	return path
}
