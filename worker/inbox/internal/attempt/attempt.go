// Package attempt is what the stores of package inbox have in common: one call of a handler by Once, and what
// inbox.Transact finds of it in the handler's context.
package attempt

import (
	"context"
	"database/sql"
	"sync"

	"github.com/evdemo/evdemo/worker"
)

// Store is a store's part of an attempt.
type Store interface {
	// Transact calls fn in a transaction and commits it together with the record that the event was handled.
	Transact(ctx context.Context, key worker.Key, fn func(ctx context.Context, tx *sql.Tx) error) error
	// Record remembers that the event was handled, by a handler that has not called Transact.
	Record(ctx context.Context, key worker.Key) error
}

// Attempt is one call of a handler. Make it with New, and run it once.
type Attempt struct {
	store Store
	key   worker.Key

	mu      sync.Mutex
	state   state
	handled bool          // that is committed
	settled chan struct{} // closed when Transact has ended; nil before it is called
}

type state uint8

const (
	handling state = iota
	transacting
	transacted
	over
)

type contextKey struct{}

// New makes an attempt at an event, which is the caller's alone while it runs.
func New(store Store, key worker.Key) *Attempt { return &Attempt{store: store, key: key} }

// Run calls handle, and has it recorded that it succeeded, unless its Transact has done that.
func (a *Attempt) Run(ctx context.Context, handle func(context.Context) error) error {
	defer a.Handled() // after a panic too: Transact on its context is over
	if err := handle(context.WithValue(ctx, contextKey{}, a)); err != nil || a.Handled() {
		return err
	}
	err := a.store.Record(ctx, a.key)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.handled = err == nil
	return err
}

// Handled ends the attempt, and tells whether it is remembered that the event was handled. A handler that
// returns while its Transact is under way, on another goroutine, has that waited for.
func (a *Attempt) Handled() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.state == transacting {
		settled := a.settled
		a.mu.Unlock()
		<-settled
		a.mu.Lock()
	}
	a.state = over
	return a.handled
}

// InTransact tells whether ctx is that of an attempt of this store in Transact.
func InTransact(ctx context.Context, store Store) bool {
	a, ok := ctx.Value(contextKey{}).(*Attempt)
	if !ok || a.store != store {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state == transacting
}

// Transact is inbox.Transact.
func Transact(ctx context.Context, fn func(ctx context.Context, tx *sql.Tx) error) error {
	a, ok := ctx.Value(contextKey{}).(*Attempt)
	if !ok {
		return ErrNotInOnce
	}
	if err := a.beginTransact(); err != nil {
		return err
	}
	committed := false
	defer func() { a.endTransact(committed) }() // after a panic too
	err := a.store.Transact(ctx, a.key, fn)
	committed = err == nil
	return err
}

// beginTransact admits the first call of Transact.
func (a *Attempt) beginTransact() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch a.state {
	case handling:
		a.state = transacting
		a.settled = make(chan struct{})
		return nil
	case over:
		return ErrNotInOnce
	default:
		return ErrTransacted
	}
}

func (a *Attempt) endTransact(committed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state = transacted
	a.handled = committed
	close(a.settled)
}
