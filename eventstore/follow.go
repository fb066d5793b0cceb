package eventstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"
)

// Follow reads like [Store.Read], and goes on with what is appended from then on, until ctx ends or Query.Limit is
// reached. Positions are in the order of the commits: what it has passed, nobody fills in later.
//
// A log that no longer has what was read of it ends it with [ErrRewound]; so does a position that the log has not come
// to. It is woken by appends of the same Store, on PostgreSQL by those of every program, and looks by itself every
// Config.Poll. As with Read an error is the last thing that it gives; the end of ctx is one.
func (s *Store) Follow(ctx context.Context, q Query) iter.Seq2[Recorded, error] {
	return func(yield func(Recorded, error) bool) {
		err := q.validate()
		if err == nil && (q.Backwards || q.Through > 0 || q.ToVersion > 0 || !q.AsOf.IsZero()) {
			err = errors.New("a query to follow has no end: leave out Backwards, Through, ToVersion and AsOf")
		}
		if err == nil {
			err = s.follow(ctx, q, yield)
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(Recorded{}, err)
		}
	}
}

func (s *Store) follow(ctx context.Context, q Query, yield func(Recorded, error) bool) error {
	r := reading{store: s, query: q, low: q.After, size: firstPage, left: q.Limit}
	passed := mark{position: q.After}
	for {
		changed := s.signal.next()
		end, err := s.advance(ctx, passed)
		if err != nil {
			return err
		}
		if r.high = end.position; end.position > passed.position {
			if err := r.run(ctx, yield); err != nil {
				return err
			}
			if q.Limit > 0 && r.left == 0 {
				return nil
			}
			if r.dense() && r.low < end.position {
				return fmt.Errorf("it ends at position %d, before %d: %w", r.low, end.position, ErrRewound)
			}
		}
		passed, r.low = end, end.position
		if err := s.await(ctx, changed); err != nil {
			return err
		}
	}
}

// mark is a place in the log, by the event there.
type mark struct {
	position int64
	id       string // empty where it is not known, and at the beginning
}

// advance gives the end of the log, which must have the mark in it.
func (s *Store) advance(ctx context.Context, from mark) (end mark, err error) {
	const query = `SELECT position, id, coalesce((SELECT id FROM evdemo_store_events WHERE position = $1), '')
		FROM evdemo_store_events ORDER BY position DESC LIMIT 1`
	var there string
	err = retry(ctx, s.database, s.config.RetryFor, func() error {
		err := s.database.reads().QueryRowContext(ctx, query, from.position).Scan(&end.position, &end.id, &there)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	switch {
	case err != nil:
		return mark{}, err
	case end.position < from.position:
		return mark{}, fmt.Errorf("it ends at position %d, before %d: %w", end.position, from.position, ErrRewound)
	case from.id != "" && there != from.id:
		return mark{}, fmt.Errorf("position %d has another event: %w", from.position, ErrRewound)
	default:
		return end, nil
	}
}

// await waits until something may have been appended.
func (s *Store) await(ctx context.Context, changed <-chan struct{}) error {
	select {
	case <-changed:
	case <-time.After(s.config.Poll):
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.signal.closed() {
		return ErrClosed
	}
	return nil
}

// signal wakes followers.
type signal struct {
	database database
	ctx      context.Context //nolint:containedctx // the listener's, which outlives every caller
	stop     context.CancelFunc
	listener sync.WaitGroup

	mu        sync.Mutex
	channel   chan struct{} // closed at the next change
	listening bool
}

func newSignal(ctx context.Context, d database) *signal {
	s := &signal{database: d, channel: make(chan struct{})}
	s.ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	return s
}

// next gives a channel that is closed at the next change. The first call begins to listen.
func (s *signal) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.listening && s.ctx.Err() == nil {
		s.listening = true
		s.listener.Go(func() { s.database.listen(s.ctx, s.changed) })
	}
	return s.channel
}

func (s *signal) changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.channel)
	s.channel = make(chan struct{})
}

func (s *signal) closed() bool { return s.ctx.Err() != nil }

func (s *signal) close() {
	s.mu.Lock()
	s.stop()
	s.mu.Unlock()
	s.listener.Wait()
	s.changed()
}
