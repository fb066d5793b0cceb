package cmd

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/brokertest"
)

// Every command in a block of shell in the README and in docs/ is run, in the order of the pages, as a
// person would: with a broker from "evdemo broker start". What works or listens without an end runs
// until its block is done, and must then drain and exit with 0. Of make only that the target is there
// is checked: the tests are run by it.
func TestDocumentedCommandsWork(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../docs/*.md")
	require.NoError(t, err)
	reader := newReader(t)
	defer reader.run(t, "evdemo broker stop")
	reader.run(t, "evdemo broker start")
	for _, page := range append([]string{"../README.md"}, pages...) { //nolint:paralleltest // one after the other, as they stand on the pages
		for _, block := range shellBlocks(t, page) {
			t.Run(filepath.Base(page)+" "+block[0], func(t *testing.T) { reader.follow(t, block) })
		}
	}
}

// shellBlocks gives the commands of each block of shell on a page.
func shellBlocks(t *testing.T, page string) (blocks [][]string) {
	t.Helper()
	content, err := os.ReadFile(page)
	require.NoError(t, err)
	var block []string
	inside := false
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "```sh":
			inside, block = true, nil
		case inside && line == "```":
			inside = false
			require.NotEmpty(t, block, "an empty block in %s", page)
			blocks = append(blocks, block)
		case inside && line != "" && !strings.HasPrefix(line, "#"):
			block = append(block, line)
		}
	}
	return blocks
}

// reader is a person who reads the pages and types the commands.
type reader struct {
	dir string
	env []string
}

func newReader(t *testing.T) *reader {
	t.Helper()
	r := &reader{dir: t.TempDir()}
	require.NoError(t, os.CopyFS(filepath.Join(r.dir, "examples"), os.DirFS("../examples")))
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "AMQP_URL=") && !strings.HasPrefix(entry, "EVDEMO_") {
			r.env = append(r.env, entry)
		}
	}
	r.env = append(r.env, "XDG_STATE_HOME="+r.dir, "XDG_CONFIG_HOME="+r.dir)
	return r
}

func (r *reader) command(ctx context.Context, line string) *exec.Cmd {
	c := exec.CommandContext(ctx, "sh", "-c", "exec "+line)
	c.Dir, c.Env = r.dir, r.env
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = time.Minute
	return c
}

func (r *reader) run(t *testing.T, line string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), provePatience)
	defer cancel()
	if arguments, is := strings.CutPrefix(line, "evdemo demo"); is { // as in newUserOf
		line = brokertest.Evdemo(t) + " demo" + arguments
	}
	out, err := r.command(ctx, line).CombinedOutput()
	assert.NoError(t, err, "%s\n%s", line, out)
}

// follow runs the commands of a block.
func (r *reader) follow(t *testing.T, block []string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var endless sync.WaitGroup
	defer endless.Wait()
	defer stop()
	for _, line := range block {
		switch target, isMake := strings.CutPrefix(line, "make "); {
		case isMake:
			makefile, err := os.ReadFile("../Makefile")
			require.NoError(t, err)
			assert.Contains(t, string(makefile), "\n"+target+":", "no target for %q", line)
		case runsOn(line):
			r.background(ctx, t, line, &endless)
		default:
			r.run(t, line)
		}
	}
}

// runsOn tells whether a command ends only when it is told to.
func runsOn(line string) bool {
	ends := strings.Contains(line, "--count") || strings.Contains(line, "--idle-timeout") || strings.Contains(line, "--catch-up")
	for _, command := range []string{"work", "listen", "store follow", "store relay", "shop run", "serve"} {
		if strings.HasPrefix(line+" ", "evdemo "+command+" ") {
			return !ends
		}
	}
	return false
}

// background starts a command, waits until it consumes, and checks at its end that it drained.
func (r *reader) background(ctx context.Context, t *testing.T, line string, running *sync.WaitGroup) {
	t.Helper()
	c := r.command(ctx, line)
	stderr, err := c.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	consuming := make(chan struct{})
	underway := regexp.MustCompile("consuming|following|relay is the active one|the shop is open|serving")
	running.Go(func() {
		var once sync.Once
		var said bytes.Buffer
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			said.WriteString(lines.Text() + "\n")
			if underway.MatchString(lines.Text()) {
				once.Do(func() { close(consuming) })
			}
		}
		_ = c.Wait() // the end of ctx is its error
		assert.Equal(t, 0, c.ProcessState.ExitCode(), "%s\n%s", line, said.String())
	})
	select {
	case <-consuming:
	case <-time.After(time.Minute):
		assert.Fail(t, "does not consume", line)
	}
}
