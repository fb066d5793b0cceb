package localpostgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// layout says where a server keeps what.
type layout struct {
	dir       string
	temporary bool
}

func (l layout) data() string { return filepath.Join(l.dir, "data") }
func (l layout) log() string  { return filepath.Join(l.dir, "postgres.log") }

// layOut makes the directory and gives it to the account that the server runs as.
func layOut(dir string, owner *account) (layout, error) {
	l := layout{dir: dir, temporary: dir == ""}
	var err error
	if l.temporary {
		l.dir, err = os.MkdirTemp("", "evdemo-postgres-")
	} else if l.dir, err = filepath.Abs(dir); err == nil {
		err = os.MkdirAll(l.dir, 0o700)
	}
	if err == nil && owner != nil {
		err = os.Chown(l.dir, owner.uid, owner.gid)
	}
	return l, err
}

// lastWords are the last lines of the log. One that does not exist has none.
func (l layout) lastWords() []string {
	content, err := os.ReadFile(l.log())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return []string{err.Error()}
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	return lines[max(0, len(lines)-20):]
}

// lockFile is what PostgreSQL, and initdb, keep in a data directory while they run, and a crash leaves
// behind. Its lines are described in PostgreSQL's src/include/utils/pidfile.h.
func lockFile(data string) [][]byte {
	content, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return nil
	}
	return bytes.Split(content, []byte("\n"))
}

// postmaster returns the process that has the data directory, and its status: "starting", "ready" and so on.
func postmaster(data string) (pid int, status string) {
	const statusLine = 8
	lines := lockFile(data)
	if len(lines) < statusLine {
		return 0, ""
	}
	pid, _ = strconv.Atoi(string(bytes.TrimSpace(lines[0])))
	return pid, string(bytes.TrimSpace(lines[statusLine-1]))
}

// sharedMemory is the id of the System V segment that marks the data directory as in use.
func sharedMemory(data string) (id int, ok bool) {
	const sharedMemoryLine = 7
	lines := lockFile(data)
	if len(lines) < sharedMemoryLine {
		return 0, false
	}
	var key int
	n, _ := fmt.Sscan(string(lines[sharedMemoryLine-1]), &key, &id)
	return id, n == 2
}

// removeSharedMemory removes the segment that a killed process has left. The next server in the directory
// would do so; there may be none, and systems have few segments.
func removeSharedMemory(ctx context.Context, data string) {
	if id, ok := sharedMemory(data); ok {
		_ = exec.CommandContext(ctx, "ipcrm", "-m", strconv.Itoa(id)).Run()
	}
}
