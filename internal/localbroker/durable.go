package localbroker

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// AwaitDurable waits until the node can be killed without losing quorum queues that were declared a moment ago. RabbitMQ
// registers such a queue in a table on disk that is written half a second behind: after a SIGKILL before that, the queue is
// there again, empty, and confirms nothing.
func (n *Node) AwaitDurable(ctx context.Context, queues ...string) error {
	for _, queue := range queues {
		for !n.registered(queue) {
			if err := pause(ctx, 20*time.Millisecond); err != nil {
				return fmt.Errorf("wait for queue %s to be on disk: %w", queue, err)
			}
		}
	}
	return nil
}

func (n *Node) registered(queue string) bool {
	found := false
	_ = filepath.WalkDir(n.Dir(), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && entry.Name() == "names.dets" {
			content, err := os.ReadFile(path)
			found = found || (err == nil && bytes.Contains(content, []byte(queue)))
		}
		return nil // files come and go meanwhile
	})
	return found
}
