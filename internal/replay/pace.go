package replay

import (
	"context"
	"time"
)

// pace gives events the distances in time that they had, divided by a speed.
type pace struct {
	speed   float64
	began   time.Time // when the first event was sent
	firstAt time.Time // when that had come
}

func newPace(speed float64) *pace { return &pace{speed: speed} }

// wait waits until an event is due that came at a time; false means that ctx has ended, or halt was closed.
// One that came before the first, or whose time is not known, is due at once.
func (p *pace) wait(ctx context.Context, halt <-chan struct{}, at time.Time) bool {
	if p.speed <= 0 || at.IsZero() {
		return ctx.Err() == nil
	}
	if p.began.IsZero() {
		p.began, p.firstAt = time.Now(), at
		return ctx.Err() == nil
	}
	left := time.Duration(float64(at.Sub(p.firstAt))/p.speed) - time.Since(p.began)
	if left <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-halt:
		return false
	case <-ctx.Done():
		return false
	}
}
