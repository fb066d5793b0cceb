// Package turns lets callers in one after the other, by name.
package turns

import (
	"context"
	"slices"
	"sync"
)

// Turns is ready to be used. Its methods may be called from several goroutines.
type Turns struct {
	mu      sync.Mutex
	entries map[string]*turn
}

type turn struct {
	token chan struct{} // holds one, whoever has it is in
	users int
}

// Enter waits for the name's turn, which is over when leave is called.
func (t *Turns) Enter(ctx context.Context, name string) (leave func(), err error) {
	t.mu.Lock()
	if t.entries == nil {
		t.entries = map[string]*turn{}
	}
	e := t.entries[name]
	if e == nil {
		e = &turn{token: make(chan struct{}, 1)}
		t.entries[name] = e
	}
	e.users++
	t.mu.Unlock()
	forget := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if e.users--; e.users == 0 {
			delete(t.entries, name)
		}
	}
	select {
	case e.token <- struct{}{}:
		return func() {
			<-e.token
			forget()
		}, nil
	case <-ctx.Done():
		forget()
		return nil, ctx.Err()
	}
}

// EnterAll waits for the turns of several names, in the order of the names, so that callers never wait for each other in a
// circle.
func (t *Turns) EnterAll(ctx context.Context, names []string) (leave func(), err error) {
	var left []func()
	leave = func() {
		for _, one := range slices.Backward(left) {
			one()
		}
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		one, err := t.Enter(ctx, name)
		if err != nil {
			leave()
			return nil, err
		}
		left = append(left, one)
	}
	return leave, nil
}
