package worker

import (
	"context"
)

// Key names an event for one consumer. Two deliveries with the same key are one event that was
// delivered twice: CloudEvents makes source and id together unique.
type Key struct{ Consumer, Source, ID string }

// DedupStore remembers which events have been handled. [NewMemoryStore] makes one that forgets with
// the process; package inbox has one on SQLite, inbox/postgres on PostgreSQL.
type DedupStore interface {
	// Once calls handle unless the event of key has been handled before, and tells whether it
	// did. While another attempt at the same event is under way, Once waits for its end. An event
	// counts as handled from the moment that handle has returned nil and that is remembered; an
	// attempt that fails is forgotten. The error is handle's, ctx's, or the store's own: then the
	// event may be handled again.
	//
	// The context that handle gets leads to the store's transaction where the store has one.
	Once(ctx context.Context, key Key, handle func(context.Context) error) (called bool, err error)
}

// Dedup hands each event to the handler until it has been handled once, and no further. A
// duplicate is acknowledged, counted in Stats.Duplicates, and not handled. The consumer of the key
// is the queue, so that workers on one queue share what they know where they share a store. A message
// that is no event is handled each time: nothing says that its id is its own.
//
// A store that fails before the handler is called, as on a full disk, is no event's fault: the worker asks it
// again for as long as it takes, and counts no attempt.
//
// What is promised depends on the store and the handler. Where the handler's effect is part of the
// store's transaction, the effect and the record of it commit together, and each event has its
// effect exactly once. Otherwise one attempt is under way at a time and what is done is remembered;
// a crash between the effect and the record of it makes the effect happen again.
func Dedup(store DedupStore) Middleware {
	return func(next Handler) Handler {
		return func(ctx context.Context, d *Delivery) error {
			if d.Foreign != nil {
				return next(ctx, d)
			}
			key := Key{Consumer: d.Queue, Source: d.Event.Source, ID: d.Event.ID}
			begun := false
			called, err := store.Once(ctx, key, func(ctx context.Context) error {
				begun = true
				return next(ctx, d)
			})
			switch {
			case err == nil && !called:
				return ErrDuplicate
			case err != nil && !begun && ctx.Err() == nil:
				return &storeError{err}
			default:
				return err
			}
		}
	}
}

// storeError is the fault of a store, before a handler was called.
type storeError struct{ err error }

func (e *storeError) Error() string { return e.err.Error() }
func (e *storeError) Unwrap() error { return e.err }
