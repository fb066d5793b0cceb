package postgres

import "sync"

// maxGroup is how many requests are answered together at most.
const maxGroup = 256

// requests is what callers have asked a goroutine for meanwhile.
type requests[T any] struct {
	mu     sync.Mutex
	queue  []T
	closed bool
	wake   chan struct{} // holds one
}

func newRequests[T any]() *requests[T] { return &requests[T]{wake: make(chan struct{}, 1)} }

// add asks for something. False means that it is too late.
func (r *requests[T]) add(request T) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.queue = append(r.queue, request)
	r.poke()
	return true
}

func (r *requests[T]) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// take gives the next group of requests. Last means that none will follow.
func (r *requests[T]) take() (group []T, last bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(len(r.queue), maxGroup)
	group = append(group, r.queue[:n]...)
	clear(r.queue[:n])
	r.queue = r.queue[n:]
	if len(r.queue) > 0 {
		r.poke()
		return group, false
	}
	r.queue = nil
	return group, r.closed
}

// close accepts no more.
func (r *requests[T]) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.poke()
}
