package postgres

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/evdemo/evdemo/internal/requests"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox/internal/attempt"
)

// maxGroup is how many requests are answered together at most.
const maxGroup = 256

// recorder records the events of handlers that have not called Transact. What comes meanwhile is recorded in one
// transaction, so that callers share the wait for the disk.
type recorder struct {
	store *Store
	asked *requests.Queue[*recording]
	group sync.WaitGroup
}

// recorders is how many goroutines record: the next group is on its way while the disk writes one.
const recorders = 2

type recording struct {
	key  worker.Key
	done chan error // holds one
}

func startRecorder(ctx context.Context, s *Store) *recorder {
	w := &recorder{store: s, asked: requests.New[*recording](maxGroup)}
	for range recorders {
		w.group.Go(func() { w.run(ctx) })
	}
	return w
}

// record remembers that an event was handled. That is true whenever it is written, so it is written again where it
// is not known whether it was.
func (w *recorder) record(ctx context.Context, key worker.Key) error {
	return w.store.insist(ctx, w.store.config.Timeout, "the record of event "+key.ID, func(context.Context) error {
		r := &recording{key: key, done: make(chan error, 1)}
		if !w.asked.Add(r) {
			return attempt.ErrClosed
		}
		return <-r.done
	})
}

// close ends the goroutines, when nobody wants anything of it any more.
func (w *recorder) close() {
	w.asked.Close()
	w.group.Wait()
}

func (w *recorder) run(ctx context.Context) {
	for {
		<-w.asked.Wake()
		group, last := w.asked.Take()
		if len(group) > 0 {
			err := w.store.bounded(ctx, func(ctx context.Context) error { return w.write(ctx, group) })
			for _, r := range group {
				r.done <- err
			}
		}
		if last {
			w.asked.Close() // wakes the other one
			return
		}
	}
}

// write records a group. Where another process has recorded an event meanwhile, that stands. They are in order, so
// that processes that record the same events wait for each other in turn.
func (w *recorder) write(ctx context.Context, group []*recording) error {
	slices.SortFunc(group, func(a, b *recording) int {
		return cmp.Or(strings.Compare(a.key.Consumer, b.key.Consumer), strings.Compare(a.key.Source, b.key.Source), strings.Compare(a.key.ID, b.key.ID))
	})
	var consumers, sources, ids []string
	for _, r := range group {
		consumers, sources, ids = append(consumers, r.key.Consumer), append(sources, r.key.Source), append(ids, r.key.ID)
	}
	_, err := w.store.own.Exec(ctx, `INSERT INTO evdemo_inbox_handled (consumer, source, id, attempt)
		SELECT consumer, source, id, 0 FROM unnest($1::text[], $2::text[], $3::text[]) AS t(consumer, source, id)
		ON CONFLICT DO NOTHING`, consumers, sources, ids)
	return err
}

const (
	// pruneEvery is how often old records are looked for.
	pruneEvery = time.Minute
	// pruneBatch is how many old records one transaction removes.
	pruneBatch = 500
)

// prune removes what is older than the retention until the store is closed.
func (s *Store) prune(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.pruner.Go(func() {
		select {
		case <-s.closing:
			cancel()
		case <-ctx.Done():
		}
	})
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		for _, statement := range []string{
			`DELETE FROM evdemo_inbox_handled WHERE (consumer, source, id) IN (
				SELECT consumer, source, id FROM evdemo_inbox_handled WHERE handled_at < now() - $1::bigint * interval '1 microsecond'
				ORDER BY handled_at LIMIT $2 FOR UPDATE SKIP LOCKED)`,
			`DELETE FROM evdemo_inbox_marks WHERE (consumers, id) IN (
				SELECT consumers, id FROM evdemo_inbox_marks WHERE marked_at < now() - $1::bigint * interval '1 microsecond'
				ORDER BY marked_at LIMIT $2 FOR UPDATE SKIP LOCKED)`,
		} {
			if err := s.pruneAll(ctx, statement); err != nil && ctx.Err() == nil {
				s.config.Logger.Warn("inbox: old records cannot be removed", slog.String("database", s.place), slog.Any("error", err))
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// pruneAll removes the old records of a table, few at a time.
func (s *Store) pruneAll(ctx context.Context, statement string) error {
	for {
		ctx, cancel := context.WithTimeout(ctx, s.config.Timeout)
		tag, err := s.own.Exec(ctx, statement, s.config.Retention.Microseconds(), pruneBatch)
		cancel()
		if err != nil || tag.RowsAffected() < pruneBatch {
			return explain(err)
		}
	}
}
