package inbox_test

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
)

// Each of 10,000 events is published three times, and the example's worker is killed with SIGKILL again
// and again while it works them off. By what an independent connection finds in its database, no event
// is missing and none has had its effect twice.
func TestEffectsExactlyOnceWithAKilledWorker(t *testing.T) {
	t.Parallel()
	const events, copies = 10_000, 3
	// What a killed worker had in hand has been delivered once more, and the queue dead-letters after 20 deliveries. A slow
	// machine would come to that.
	const maxKilled = 15
	seed := rand.Uint64() //nolint:gosec // a test
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, seed)) //nolint:gosec // a test
	url, queue := brokertest.URL(t), brokertest.Name(t, "inbox")
	s := declare(t, url, queue)
	ids := publishCopies(t, url, queue, events, copies)

	dir := t.TempDir()
	program := filepath.Join(dir, "inbox")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../examples/inbox").CombinedOutput()
	require.NoError(t, err, "%s", out)
	db := filepath.Join(dir, "payments.db")
	killed := 0
	for deadline := time.Now().Add(3 * time.Minute); left(t, s, queue) > 0; {
		require.Less(t, time.Now(), deadline, "the queue is not worked off")
		after := time.Duration(500+random.IntN(1000)) * time.Millisecond
		if killed == maxKilled {
			after = time.Minute
		}
		if workUntilKilled(t, after, program, url, queue, db) {
			killed++
		}
	}
	out, err = command(t.Context(), program, url, queue, db, "-idle-timeout", "1s").CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Logf("killed %d times; at last: %s", killed, out)
	assert.Positive(t, killed)
	requireOneEffectEach(t, db, ids)
	assert.Zero(t, left(t, s, topology.DeadLetterQueue(queue)))
}

func declare(t *testing.T, url, queue string) *session.Session {
	t.Helper()
	s, err := session.DialWithin(t.Context(), session.Config{URLs: session.SplitURLs(url)}, patience)
	require.NoError(t, err)
	resources := topology.Default().QueueResources(queue)
	require.NoError(t, resources.Apply(t.Context(), s))
	t.Cleanup(func() {
		defer s.Close()
		assert.NoError(t, resources.Delete(context.WithoutCancel(t.Context()), s))
	})
	return s
}

// publishCopies publishes every event so many times, each round in the same order.
func publishCopies(t *testing.T, url, queue string, events, copies int) map[string]bool {
	t.Helper()
	p, err := publisher.Open(t.Context(), publisher.Config{URLs: session.SplitURLs(url)})
	require.NoError(t, err)
	ids := make(map[string]bool, events)
	messages := make([]publisher.Message, events)
	for i := range messages {
		e, err := event.New("payment.requested", "test", i)
		require.NoError(t, err)
		ids[e.ID] = true
		messages[i] = publisher.Message{Event: e, To: publisher.ToQueue(queue)}
	}
	for range copies {
		for _, m := range messages {
			require.NoError(t, p.Send(t.Context(), m, nil))
		}
	}
	require.NoError(t, p.Close(t.Context()))
	require.Equal(t, int64(events*copies), p.Stats().Confirmed)
	return ids
}

func left(t *testing.T, s *session.Session, queue string) int {
	t.Helper()
	states, err := topology.Resources{Queues: []topology.QueueDef{{Name: queue}}}.Inspect(t.Context(), s)
	require.NoError(t, err)
	return states[0].Messages
}

func command(ctx context.Context, program, url, queue, db string, more ...string) *exec.Cmd {
	return exec.CommandContext(ctx, program, append([]string{"-url", url, "-queue", queue, "-db", db, "-lease", "1s", "-concurrency", "4"}, more...)...)
}

// workUntilKilled tells whether the worker was killed in the middle: it ends by itself where nothing comes.
func workUntilKilled(t *testing.T, after time.Duration, program, url, queue, db string) bool {
	t.Helper()
	ctx, kill := context.WithTimeout(t.Context(), after)
	defer kill()
	c := command(ctx, program, url, queue, db, "-idle-timeout", "2s") // the end of ctx is a SIGKILL
	c.Stderr = os.Stderr
	return c.Run() != nil
}

func requireOneEffectEach(t *testing.T, path string, ids map[string]bool) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	rows, err := db.QueryContext(t.Context(), `SELECT id, COUNT(*) FROM charges GROUP BY id`)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	missing, extra := len(ids), 0
	for rows.Next() {
		var id string
		var n int
		require.NoError(t, rows.Scan(&id, &n))
		require.True(t, ids[id], "nobody has published %s", id)
		missing--
		extra += n - 1
	}
	require.NoError(t, rows.Err())
	assert.Zero(t, missing, "events without an effect")
	assert.Zero(t, extra, "effects too many")
}
