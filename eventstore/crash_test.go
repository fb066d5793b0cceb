package eventstore_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/postgrestest"
)

// part is the data of an event that a child appends: which append it is of, and how many events that has.
type part struct {
	Append string
	Of     int
}

// someEvents are n events of one append.
func someEvents(n int) []event.Event {
	id := event.NewID()
	all := make([]event.Event, n)
	for i := range all {
		e, err := event.New("part", "child", part{id, n})
		if err != nil {
			panic(err) // the arguments are this function's
		}
		all[i] = e
	}
	return all
}

// appendUntilKilled appends with several goroutines, and says so in one line for each append that has succeeded.
func appendUntilKilled(ctx context.Context, db string) error {
	s, err := eventstore.Open(ctx, eventstore.Config{DB: db, BusyTimeout: time.Minute, MaxConns: 2})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var crowd errgroup.Group
	for w := range 6 {
		crowd.Go(func() error {
			for i := w; ; i++ {
				all, writes := anAppend(i)
				if _, err := s.Append(ctx, writes...); err != nil {
					return err
				}
				line := strings.Join(all, " ") + "\n"
				mu.Lock()
				_, err := io.WriteString(os.Stdout, line)
				mu.Unlock()
				if err != nil {
					return err
				}
			}
		})
	}
	return crowd.Wait()
}

// anAppend is one event, or several for several streams.
func anAppend(i int) (ids []string, writes []eventstore.StreamWrite) {
	all := someEvents([]int{1, 1, 2, 7, 20}[i%5])
	for _, e := range all {
		ids = append(ids, e.ID)
	}
	for j := 0; j < len(all); j += 3 {
		stream := fmt.Sprintf("stream-%d", (i+j)%9)
		writes = append(writes, eventstore.StreamWrite{Stream: stream, Events: all[j:min(j+3, len(all))]})
	}
	return ids, writes
}

// killed runs a child, ends it with SIGKILL, and gives the ids that it has acknowledged. The child is killed so long after
// its first append, or after its start: while it opens the store, or mends what another has left.
func killed(t *testing.T, db string, afterFirst bool, wait time.Duration) ([]string, error) {
	t.Helper()
	cmd := childOf(t, "append", db)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var ids []string
	kill := func() { _ = cmd.Process.Kill() }
	var timer *time.Timer
	if !afterFirst {
		timer = time.AfterFunc(wait, kill)
	}
	for in := bufio.NewReader(out); ; {
		line, err := in.ReadString('\n')
		if err != nil { // what has no end was not said
			break
		}
		if timer == nil {
			timer = time.AfterFunc(wait, kill)
		}
		ids = append(ids, strings.Fields(line)...)
	}
	err = cmd.Wait()
	if timer != nil {
		timer.Stop()
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		return ids, fmt.Errorf("the child ended by itself: %w: %s", err, complaints.String())
	}
	return ids, nil
}

// crash kills children on one database, several at a time, and fails the test unless every acknowledged event is there
// and no append is there in part.
func crash(t *testing.T, db string, rounds, together int) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var acknowledged []string
	for range rounds {
		var mu sync.Mutex
		var crowd errgroup.Group
		for range together {
			wait := time.Duration(random.IntN(40_000)) * time.Microsecond
			afterFirst := random.IntN(4) > 0
			if !afterFirst {
				wait *= 2
			}
			crowd.Go(func() error {
				ids, err := killed(t, db, afterFirst, wait)
				mu.Lock()
				defer mu.Unlock()
				acknowledged = append(acknowledged, ids...)
				return err
			})
		}
		require.NoError(t, crowd.Wait())
	}
	if strings.HasPrefix(db, "postgres") { // whose server may be at work for a client that is dead
		conn := connect(t, db)
		require.Eventually(t, func() bool {
			return number(t, conn, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`) == 0
		}, time.Minute, 5*time.Millisecond)
	}
	there := parts(t, db)
	for _, id := range acknowledged {
		require.True(t, there[id], "event %s was acknowledged, and is not there", id)
	}
	t.Logf("%d events were acknowledged, %d are there", len(acknowledged), len(there))
	require.Greater(t, len(acknowledged), rounds*together, "hardly anything was appended")
	s := open(t, eventstore.Config{DB: db, Existing: true})
	require.Equal(t, int64(len(there)), sound(t, s).Events)
	fill(t, s, "after", 1)
}

// parts gives the ids of all events by a connection that knows nothing of stores. It fails the test where an append is
// there in part, or apart.
func parts(t *testing.T, db string) map[string]bool {
	t.Helper()
	rows, err := connect(t, db).QueryContext(t.Context(), `SELECT id, data FROM evdemo_store_events ORDER BY position`)
	require.NoError(t, err)
	defer rows.Close()
	there := map[string]bool{}
	var current part
	n := 0
	for rows.Next() {
		var id string
		var data []byte
		var p part
		require.NoError(t, rows.Scan(&id, &data))
		require.NoError(t, json.Unmarshal(data, &p))
		if p != current {
			require.Equal(t, current.Of, n, "append %s is there in part", current.Append)
			current, n = p, 0
		}
		n++
		there[id] = true
	}
	require.NoError(t, rows.Err())
	require.Equal(t, current.Of, n, "append %s is there in part", current.Append)
	return there
}

// Processes that append are killed 200 times, two at a time: what is left over after each is mended by the next.
func TestCrashSQLite(t *testing.T) {
	t.Parallel()
	crash(t, file(t), 100, 2)
}

func TestCrashPostgreSQL(t *testing.T) {
	t.Parallel()
	crash(t, postgrestest.URL(t), 10, 3)
}
