package cmd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/topology"
)

// A publisher is killed with SIGKILL in the middle, and so are workers, again and again. Every event
// that the publisher has called confirmed is worked on, by what the workers have printed.
func TestKilledProcessesLoseNoConfirmedEvent(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	queue := brokertest.Name(t, "crash")
	s, err := session.DialWithin(t.Context(), session.Config{URLs: []string{url}}, 10*time.Second)
	require.NoError(t, err)
	defer s.Close()
	resources := topology.Default().QueueResources(queue)
	require.NoError(t, resources.Apply(t.Context(), s))
	defer func() { assert.NoError(t, resources.Delete(context.WithoutCancel(t.Context()), s)) }()

	outcomes := filepath.Join(t.TempDir(), "outcomes.jsonl")
	publish := startable(t, url, "publish", "--queue", queue, "--count", "1000000", "--rate", "3000", "--outcomes", outcomes)
	require.NoError(t, publish.Start())
	require.Eventually(t, func() bool { return len(confirmed(t, outcomes)) > 2000 }, time.Minute, 20*time.Millisecond)
	require.NoError(t, publish.Process.Kill())
	_ = publish.Wait()
	want := confirmed(t, outcomes)

	got := map[string]bool{}
	for i := range 5 { // these are killed in mid-work
		for id := range workUntilKilled(t, url, queue, 100+50*i) {
			got[id] = true
		}
	}
	last := startable(t, url, "work", "--queue", queue, "--idle-timeout", "3s", "-o", "json")
	out, err := last.Output()
	require.NoError(t, err)
	for line := range bytes.Lines(out) {
		got[idOf(line)] = true
	}
	for id := range want {
		require.True(t, got[id], "event %s was confirmed, and nobody has worked on it", id)
	}
	t.Logf("%d confirmed, %d worked on", len(want), len(got))
}

func startable(t *testing.T, url string, args ...string) *exec.Cmd {
	t.Helper()
	c := exec.CommandContext(t.Context(), "evdemo", args...)
	c.Env = append(os.Environ(), "EVDEMO_URL="+url)
	return c
}

// workUntilKilled starts a worker and kills it once it has printed so many events; it gives all that
// were printed.
func workUntilKilled(t *testing.T, url, queue string, events int) map[string]bool {
	t.Helper()
	c := startable(t, url, "work", "--queue", queue, "-o", "json", "--prefetch", strconv.Itoa(events/2))
	stdout, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	got := map[string]bool{}
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		got[idOf(lines.Bytes())] = true
		if len(got) == events {
			require.NoError(t, c.Process.Kill())
		}
	}
	_ = c.Wait()
	require.GreaterOrEqual(t, len(got), events)
	return got
}

func idOf(line []byte) string {
	var e struct {
		ID string `json:"id"`
	}
	_ = json.Unmarshal(line, &e) // a line cut off by a kill has no id
	return e.ID
}

// confirmed gives the ids that an outcomes file calls confirmed. Its last line may be cut off.
func confirmed(t *testing.T, path string) map[string]bool {
	t.Helper()
	content, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(t, err)
	ids := map[string]bool{}
	for line := range bytes.Lines(content) {
		var o outcomeLine
		if json.Unmarshal(line, &o) == nil && o.Outcome == "confirmed" {
			ids[o.ID] = true
		}
	}
	return ids
}
