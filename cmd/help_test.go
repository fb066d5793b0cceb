package cmd

import (
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
)

// lockedBuffer is a buffer that one goroutine reads while another writes.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Every command says what it does, its exit codes, and shows how it is used.
func TestHelp(t *testing.T) {
	t.Parallel()
	for cmd := range commands(newRootCommand(&App{})) {
		name := cmd.CommandPath()
		assert.NotEmpty(t, cmd.Short, name)
		assert.NotContains(t, strings.TrimSuffix(cmd.Short, "."), ".", name)
		assert.Greater(t, len(cmd.Long), len(cmd.Short), name)
		for line := range strings.Lines(cmd.Long + "\n" + cmd.Example) {
			assert.LessOrEqual(t, len([]rune(strings.TrimRight(line, "\n"))), 110, "%s: a line for a terminal: %s", name, line)
		}
		if cmd.HasParent() && cmd.HasSubCommands() { // it only gathers others
			continue
		}
		assert.Contains(t, cmd.Long, "Exit codes: 0 ", name)
		assert.NotEmpty(t, cmd.Example, name)
		for line := range strings.Lines(cmd.Example) {
			assert.True(t, strings.HasPrefix(line, "  "), "%s: an example that is not indented: %s", name, line)
			assert.Contains(t, line, strings.Fields(name)[0], name)
		}
		if cmd.HasParent() {
			assert.Contains(t, cmd.Example, name)
		}
	}
}
