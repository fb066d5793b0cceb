package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/evdemo/evdemo/worker"
)

const (
	// lockParent makes Hold and Mark of one event follow each other, so that what is held is never overlooked.
	lockParent = `SELECT pg_advisory_xact_lock($1)`
	// giveClaim gives an event to somebody.
	giveClaim = `claim = nextval('evdemo_inbox_claims'), claimed = clock_timestamp()`
	// isFree says that nobody has an event to send it on; the parameter is the lease in microseconds.
	isFree = `(claimed IS NULL OR claimed <= clock_timestamp() - $2::bigint * interval '1 microsecond')`
	// given is what heldBy reads.
	given = `place, queue, source, id, parent, until, claim, message, names`
)

// Hold implements worker.GateStore.
func (s *Store) Hold(ctx context.Context, group string, h worker.Held) (held bool, err error) {
	names, err := namesOf(h)
	if err != nil {
		return false, err
	}
	group = column(group)
	batch := &pgx.Batch{}
	batch.Queue(lockParent, lockOfParent(group, h.Parent))
	batch.Queue(`SELECT NOT EXISTS (SELECT 1 FROM evdemo_inbox_marks WHERE consumers = $1 AND id = $2)`, group, column(h.Parent)).
		QueryRow(func(row pgx.Row) error { return row.Scan(&held) })
	batch.Queue(`INSERT INTO evdemo_inbox_held AS h (consumers, queue, source, id, parent, until, message, names)
		SELECT $1, $2, $3, $4, $5, $6::timestamptz, $7::bytea, $8::jsonb WHERE NOT EXISTS (SELECT 1 FROM evdemo_inbox_marks WHERE consumers = $1 AND id = $5)
		ON CONFLICT (consumers, queue, source, id) DO UPDATE SET claim = 0, claimed = NULL, until = excluded.until WHERE h.claimed IS NOT NULL`,
		group, column(h.Queue), column(h.Source), column(h.ID), column(h.Parent), h.Until, append([]byte{}, h.Message...), names)
	err = s.gate(ctx, batch)
	return held && err == nil, err
}

// Mark implements worker.GateStore. What is marked is remembered for Config.Retention. It is marked even if ctx has
// ended.
func (s *Store) Mark(ctx context.Context, group, id string) (ready []worker.Held, err error) {
	group = column(group)
	batch := &pgx.Batch{}
	batch.Queue(lockParent, lockOfParent(group, id))
	batch.Queue(`INSERT INTO evdemo_inbox_marks (consumers, id) VALUES ($1, $2)
		ON CONFLICT (consumers, id) DO UPDATE SET marked_at = excluded.marked_at`, group, column(id))
	batch.Queue(`UPDATE evdemo_inbox_held SET `+giveClaim+` WHERE place IN (
			SELECT place FROM evdemo_inbox_held WHERE consumers = $1 AND `+isFree+` AND parent = $3 FOR UPDATE SKIP LOCKED)
		RETURNING `+given+`, true`, group, worker.GateLease.Microseconds(), column(id)).
		Query(func(rows pgx.Rows) (err error) { ready, err = heldBy(rows); return err })
	if err := s.gate(context.WithoutCancel(ctx), batch); err != nil {
		return nil, err
	}
	return ready, nil
}

// Claim implements worker.GateStore. What waits for an event that has been marked is left behind by a crash
// only, so that is looked for once in a lease.
func (s *Store) Claim(ctx context.Context, group string, moment time.Time, lease time.Duration) ([]worker.Held, error) {
	now := time.Now()
	due, err := s.give(ctx, group, lease, `until <= $3`, `until`, moment, worker.GateBatch)
	if err != nil || len(due) == worker.GateBatch || !s.lookAgain(group, now, lease) {
		return due, err
	}
	stranded, err := s.give(ctx, group, lease, `until > $3 AND `+isReady, `place`, moment, worker.GateBatch-len(due))
	if err != nil { // what is due has been given, and is given again after the lease if it is not sent on
		return due, nil //nolint:nilerr // the next look comes soon
	}
	s.noteLook(group, now)
	return append(due, stranded...), nil
}

// isReady says that the group has handled the parent.
const isReady = `EXISTS (SELECT 1 FROM evdemo_inbox_marks m WHERE m.consumers = h.consumers AND m.id = h.parent)`

// give claims held events of which a condition holds.
func (s *Store) give(ctx context.Context, group string, lease time.Duration, condition, order string, moment time.Time, limit int) (due []worker.Held, err error) {
	batch := &pgx.Batch{}
	batch.Queue(`UPDATE evdemo_inbox_held h SET `+giveClaim+` WHERE place IN (
			SELECT place FROM evdemo_inbox_held h WHERE consumers = $1 AND `+isFree+` AND `+condition+`
			ORDER BY `+order+` LIMIT $4 FOR UPDATE SKIP LOCKED)
		RETURNING `+given+`, `+isReady, column(group), lease.Microseconds(), moment, limit).
		Query(func(rows pgx.Rows) (err error) { due, err = heldBy(rows); return err })
	if err := s.gate(ctx, batch); err != nil {
		return nil, err
	}
	return due, nil
}

// lookAgain tells whether it is time to look for what was left behind.
func (s *Store) lookAgain(group string, now time.Time, lease time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Sub(s.looked[group]) >= lease
}

func (s *Store) noteLook(group string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looked[group] = now
}

// Forget implements worker.GateStore.
func (s *Store) Forget(ctx context.Context, group string, sent []worker.Held) error {
	if len(sent) == 0 {
		return nil
	}
	claims := make([]int64, len(sent)) // each names an event, too
	for i, h := range sent {
		claims[i] = h.Claim
	}
	var queues, sources, ids []string
	for _, h := range sent {
		queues, sources, ids = append(queues, column(h.Queue)), append(sources, column(h.Source)), append(ids, column(h.ID))
	}
	batch := &pgx.Batch{}
	batch.Queue(`DELETE FROM evdemo_inbox_held h USING unnest($2::text[], $3::text[], $4::text[], $5::bigint[]) AS t(queue, source, id, claim)
		WHERE h.consumers = $1 AND h.queue = t.queue AND h.source = t.source AND h.id = t.id AND h.claim = t.claim`,
		column(group), queues, sources, ids, claims)
	return s.gate(ctx, batch)
}

// Holding implements worker.GateStore.
func (s *Store) Holding(ctx context.Context, group string) (n int, err error) {
	batch := &pgx.Batch{}
	batch.Queue(`SELECT count(*) FROM evdemo_inbox_held WHERE consumers = $1`, column(group)).
		QueryRow(func(row pgx.Row) error { return row.Scan(&n) })
	return n, s.gate(ctx, batch)
}

// Durable implements worker.GateStore: it is.
func (s *Store) Durable() bool { return true }

// gate has statements done in one transaction, and in one go. Each sees what was committed before it began.
func (s *Store) gate(ctx context.Context, batch *pgx.Batch) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	return explain(s.own.SendBatch(ctx, batch).Close())
}

// names are those of a held event, where a column cannot hold them. JSON has them as base64: they may be no text.
type names struct{ Queue, Source, ID, Parent []byte }

func namesOf(h worker.Held) ([]byte, error) {
	if column(h.Queue) == h.Queue && column(h.Source) == h.Source && column(h.ID) == h.ID && column(h.Parent) == h.Parent {
		return nil, nil
	}
	return json.Marshal(names{[]byte(h.Queue), []byte(h.Source), []byte(h.ID), []byte(h.Parent)})
}

// heldBy reads held events, and puts them in the order in which they were held.
func heldBy(rows pgx.Rows) ([]worker.Held, error) {
	type placed struct {
		worker.Held

		place int64
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (h placed, err error) {
		var original []byte
		if err = row.Scan(&h.place, &h.Queue, &h.Source, &h.ID, &h.Parent, &h.Until, &h.Claim, &h.Message, &original, &h.Ready); err != nil || original == nil {
			return h, err
		}
		var n names
		if err = json.Unmarshal(original, &n); err != nil {
			return h, fmt.Errorf("names of a held event: %w", err)
		}
		h.Queue, h.Source, h.ID, h.Parent = string(n.Queue), string(n.Source), string(n.ID), string(n.Parent)
		return h, nil
	})
	slices.SortFunc(all, func(a, b placed) int { return cmp.Compare(a.place, b.place) })
	held := make([]worker.Held, len(all))
	for i, h := range all {
		held[i] = h.Held
	}
	return held, err
}
