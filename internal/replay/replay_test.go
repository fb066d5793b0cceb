package replay_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/feed"
	"github.com/evdemo/evdemo/internal/filter"
	"github.com/evdemo/evdemo/internal/replay"
	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
)

// lines is a source of n events, an hour apart, with the ids 0 to n-1.
func lines(n int) replay.Source {
	var text strings.Builder
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range n {
		fmt.Fprintf(&text, `{"id":"%d","type":"t","time":%q,"data":{"n":%d}}`+"\n", i, at.Add(time.Duration(i)*time.Hour).Format(time.RFC3339), i)
	}
	return replay.Lines(feed.NewLines("in", strings.NewReader(text.String()), event.Defaults{}))
}

// collect is a target that notes ids, and fails those that fail tells.
func collect(ids *[]string, fail func(id string) error) replay.Target {
	return func(_ context.Context, item *replay.Item, done func(error)) error {
		err := fail(item.Event.ID)
		if err == nil {
			*ids = append(*ids, item.Event.ID)
		}
		done(err)
		return nil
	}
}

func never(string) error { return nil }

func config(source replay.Source, target replay.Target) replay.Config {
	return replay.Config{Source: source, Target: target, DrainTimeout: time.Minute, Logger: slog.New(slog.DiscardHandler)}
}

func TestRunSendsEverything(t *testing.T) {
	t.Parallel()
	var ids []string
	report, err := config(lines(3), collect(&ids, never)).Run(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"0", "1", "2"}, ids)
	assert.Equal(t, replay.Report{Read: 3, Sent: 3, Ended: true, From: -1, Next: 3}, report)
}

func TestRunFilters(t *testing.T) {
	t.Parallel()
	var ids []string
	c := config(lines(5), collect(&ids, never))
	var err error
	c.Filter, err = filter.Compile("data.n > 2")
	require.NoError(t, err)
	report, err := c.Run(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"3", "4"}, ids)
	assert.Equal(t, replay.Report{Read: 5, Filtered: 3, Sent: 2, Ended: true, From: -1, Next: 5}, report)
}

func TestAFailureEndsAReplay(t *testing.T) {
	t.Parallel()
	fail := func(id string) error {
		if id == "2" {
			return assert.AnError
		}
		return nil
	}
	var ids, failed []string
	c := config(lines(5), collect(&ids, fail))
	c.Failed = func(item *replay.Item, err error) { failed = append(failed, item.Event.ID+" "+err.Error()) }
	report, err := c.Run(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"0", "1"}, ids)
	assert.Equal(t, []string{"2 " + assert.AnError.Error()}, failed)
	assert.Equal(t, replay.Report{Read: 3, Sent: 2, Failed: 1, From: -1, Next: 2}, report)

	ids = nil
	c = config(lines(5), collect(&ids, fail))
	c.SkipFailed = true
	report, err = c.Run(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"0", "1", "3", "4"}, ids)
	assert.Equal(t, replay.Report{Read: 5, Sent: 4, Failed: 1, Ended: true, From: -1, Next: 5}, report)
}

func TestRunKeepsThePace(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		speed float64
		want  time.Duration
	}{{0, 0}, {1, 4 * time.Hour}, {10, 24 * time.Minute}, {0.5, 8 * time.Hour}} {
		t.Run(fmt.Sprint(test.speed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var ids []string
				c := config(lines(5), collect(&ids, never))
				c.Speed = test.speed
				_, err := c.Run(t.Context())
				require.NoError(t, err)
				assert.Len(t, ids, 5)
				assert.Equal(t, test.want, time.Since(began))
			})
		})
	}
}

// A replay that is told to stop while it waits for the next event has not read that.
func TestStoppedInAPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Minute)
		defer cancel()
		var ids []string
		c := config(lines(5), collect(&ids, never))
		c.Speed = 1
		report, err := c.Run(ctx)
		require.NoError(t, err)
		assert.Equal(t, replay.Report{Read: 2, Sent: 2, From: -1, Next: 2}, report)
	})
}

func TestWhatHasNoOutcomeIsUnknown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		taken := 0
		c := config(lines(5), func(ctx context.Context, _ *replay.Item, done func(error)) error {
			if taken++; taken == 3 {
				cancel()
				return ctx.Err()
			}
			if taken == 1 {
				time.AfterFunc(time.Second, func() { done(nil) })
			}
			return nil
		})
		report, err := c.Run(ctx)
		require.NoError(t, err)
		assert.Equal(t, replay.Report{Read: 2, Sent: 1, Unknown: 1, From: -1, Next: 1}, report)
	})
}

func TestCheckpoint(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "checkpoints")
	open := func(name, from, to string) (*replay.Checkpoint, error) {
		return replay.OpenCheckpoint(dir, name, from, to)
	}
	c, err := open("again", "topic orders", "into queue q")
	require.NoError(t, err)
	assert.Equal(t, replay.Place{Next: -1}, c.Place())
	_, err = open("again", "topic orders", "into queue q")
	require.ErrorIs(t, err, replay.ErrInUse)
	require.NoError(t, c.Save(replay.Place{Next: 7, Mark: "m"}))
	require.NoError(t, c.Close())

	c, err = open("again", "topic orders", "into queue q")
	require.NoError(t, err)
	assert.Equal(t, replay.Place{Next: 7, Mark: "m"}, c.Place())
	require.NoError(t, c.Close())

	fresh, err := open("typo", "topic orders", "into queue typo")
	require.NoError(t, err)
	require.NoError(t, fresh.Close())
	fresh, err = open("typo", "topic orders", "into queue q")
	require.NoError(t, err, "nothing has gone by it yet")
	require.NoError(t, fresh.Close())

	_, err = open("again", "topic orders", "into queue other")
	require.ErrorIs(t, err, replay.ErrOther)
	require.ErrorContains(t, err, "from topic orders into queue q")
	for _, name := range []string{"", "../x", "a/b", ".hidden", strings.Repeat("x", 101)} {
		_, err = open(name, "a", "b")
		require.ErrorIs(t, err, replay.ErrName, name)
	}
	path := filepath.Join(dir, "again.json")
	for _, content := range []string{"", "{", `{"from":"topic orders","to":"into queue q","next":-4}`} {
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		_, err = open("again", "topic orders", "into queue q")
		require.ErrorContains(t, err, "is damaged")
	}
	left, err := filepath.Glob(filepath.Join(dir, "again.json.*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

// Stopped again and again in the middle, a replay under a checkpoint sends each event once.
func TestGoingOnUnderACheckpoint(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	prefix := brokertest.Name(t, "replay") + "."
	spec := topology.Spec{
		Topics: map[string]topology.Topic{"orders": {Log: &topology.Log{}}},
		Queues: map[string]topology.Queue{"again": {}},
	}.WithPrefix(prefix)
	declare(t, url, spec.Resources())
	ids := publish(t, url, prefix+"orders", 2000)

	dir, runs := t.TempDir(), 0
	for ended := false; !ended; runs++ {
		checkpoint, err := replay.OpenCheckpoint(dir, "c", "a", "b")
		require.NoError(t, err)
		p, err := publisher.Open(t.Context(), publisher.Config{URLs: []string{url}, Window: 50})
		require.NoError(t, err)
		ctx, stop := context.WithCancel(t.Context())
		c := config(replay.Log(worker.LogConfig{URLs: []string{url}, Topic: prefix + "orders"}), replay.Publish(p, publisher.ToQueue(prefix+"again")))
		c.Checkpoint = checkpoint
		sent := 0
		c.Sent = func(*replay.Item) {
			if sent++; sent == 300 {
				stop()
			}
		}
		report, err := c.Run(ctx)
		stop()
		require.NoError(t, err)
		require.True(t, report.Complete())
		require.NoError(t, p.Close(t.Context()))
		require.NoError(t, checkpoint.Close())
		ended = report.Ended
	}
	assert.Greater(t, runs, 3)
	got := map[string]int{}
	w, err := worker.New(worker.Config{URLs: []string{url}, Queue: prefix + "again", IdleTimeout: time.Second}, func(_ context.Context, d *worker.Delivery) error {
		if d.Replayed.IsZero() {
			return worker.Permanent(errors.New("is not marked"))
		}
		got[d.Event.ID]++
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, w.Run(t.Context()))
	require.Len(t, got, len(ids))
	for _, id := range ids {
		require.Equal(t, 1, got[id], id)
	}
}

// What is replayed is what it was, but for the mark.
func TestPublishMarks(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	queue := brokertest.Name(t, "replay")
	declare(t, url, topology.Spec{Queues: map[string]topology.Queue{queue: {}}}.Resources())
	p, err := publisher.Open(t.Context(), publisher.Config{URLs: []string{url}})
	require.NoError(t, err)
	defer p.Close(t.Context())
	records := `{"event":{"specversion":"1.0","id":"1","source":"s","type":"t","data":{"n":1}},"headers":{"tenant":"acme"},"exchange":"x","routing_key":""}
{"raw":{"body":"hello","message_id":"7","expiration":"1ms"},"headers":{"evdemo-attempts":3,"evdemo-reason":"attempts","a":"b"}}`
	c := config(replay.Lines(feed.NewLines("in", strings.NewReader(records), event.Defaults{})), replay.Publish(p, publisher.ToQueue(queue)))
	report, err := c.Run(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(2), report.Sent)
	var got []string
	w, err := worker.New(worker.Config{URLs: []string{url}, Queue: queue, Limit: 2, AcceptRaw: true}, func(_ context.Context, d *worker.Delivery) error {
		got = append(got, fmt.Sprint(d.Event.ID, " ", string(d.Event.Data), " ", d.Headers, " ", d.Attempt, " ", time.Since(d.Replayed) < time.Minute))
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, w.Run(t.Context()))
	assert.Equal(t, []string{`1 {"n":1} map[tenant:acme] 1 true`, `7 hello map[a:b] 1 true`}, got)
}

func declare(t *testing.T, url string, resources topology.Resources) {
	t.Helper()
	apply := func(do func(*session.Session) error) {
		s, err := session.Dial(context.Background(), session.Config{URLs: []string{url}})
		require.NoError(t, err)
		defer s.Close()
		require.NoError(t, do(s))
	}
	apply(func(s *session.Session) error { return resources.Apply(t.Context(), s) })
	t.Cleanup(func() {
		apply(func(s *session.Session) error { return resources.Delete(context.Background(), s) })
	})
}

func publish(t *testing.T, url, topic string, n int) (ids []string) {
	t.Helper()
	p, err := publisher.Open(t.Context(), publisher.Config{URLs: []string{url}})
	require.NoError(t, err)
	for i := range n {
		e, err := event.New("order.created", "test", map[string]int{"n": i})
		require.NoError(t, err)
		ids = append(ids, e.ID)
		require.NoError(t, p.Send(t.Context(), publisher.Message{Event: e, To: publisher.ToTopic(topic)}, nil))
	}
	require.NoError(t, p.Close(t.Context()))
	require.Equal(t, int64(n), p.Stats().Confirmed)
	return ids
}
