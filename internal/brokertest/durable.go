package brokertest

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/evdemo/evdemo/internal/localbroker"
)

// AwaitDurable waits until a node can be killed without losing a quorum queue that was declared a
// moment ago. RabbitMQ registers such a queue in a table on disk that is written half a second
// behind: after a SIGKILL before that, the queue is there again, empty, and confirms nothing.
func AwaitDurable(tb testing.TB, node *localbroker.Node, queue string) {
	tb.Helper()
	const patience = 30 * time.Second
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) { //nolint:forbidigo // between two looks
		if registered(node, queue) {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("queue %s is not registered on disk after %v", queue, patience)
		}
	}
}

func registered(node *localbroker.Node, queue string) bool {
	found := false
	_ = filepath.WalkDir(node.Dir(), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && entry.Name() == "names.dets" {
			content, err := os.ReadFile(path)
			found = found || (err == nil && bytes.Contains(content, []byte(queue)))
		}
		return nil
	})
	return found
}
