// Package requests gathers what many callers ask of one goroutine, which does it together.
package requests

import "sync"

// Queue is what has been asked for meanwhile. Make it with New. Its methods may be called from several goroutines.
type Queue[T any] struct {
	most int

	mu     sync.Mutex
	queue  []T
	closed bool
	wake   chan struct{} // holds one
}

// New makes a queue of which at most so many are taken together.
func New[T any](most int) *Queue[T] { return &Queue[T]{most: most, wake: make(chan struct{}, 1)} }

// Add asks for something. False means that it is too late.
func (q *Queue[T]) Add(request T) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.queue = append(q.queue, request)
	q.poke()
	return true
}

func (q *Queue[T]) poke() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Wake gives something whenever there is something to take, and when the queue has been closed.
func (q *Queue[T]) Wake() <-chan struct{} { return q.wake }

// Take gives the next group of requests. Last means that none will follow.
func (q *Queue[T]) Take() (group []T, last bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.queue), q.most)
	group = append(group, q.queue[:n]...)
	clear(q.queue[:n])
	q.queue = q.queue[n:]
	if len(q.queue) > 0 {
		q.poke()
		return group, false
	}
	q.queue = nil
	return group, q.closed
}

// Close accepts no more.
func (q *Queue[T]) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.poke()
}
