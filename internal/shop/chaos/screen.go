package chaos

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
)

// screen shows how a proof goes: lines as they come, and below them, on a terminal, figures that are drawn again and again.
type screen struct {
	out  io.Writer
	live bool

	mu    sync.Mutex
	drawn int // lines of the figures on the terminal now
}

// say prints a line, above the figures.
func (s *screen) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	fmt.Fprintf(s.out, format+"\n", args...)
}

func (s *screen) clear() {
	if s.drawn > 0 {
		fmt.Fprintf(s.out, "\x1b[%dA\x1b[J", s.drawn)
		s.drawn = 0
	}
}

func (s *screen) draw(rows []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	fmt.Fprintln(s.out, strings.Join(rows, "\n"))
	s.drawn = len(rows)
}

// drawUntil draws the figures until ctx ends.
func (r *run) drawUntil(ctx context.Context) error {
	for r.screen.live {
		r.screen.draw(r.rows())
		if !pause(ctx, nil, 10*look) {
			break
		}
	}
	return nil
}

func (r *run) rows() []string {
	p, t := r.progress, r.tally
	return []string{
		"",
		fmt.Sprintf("  placed  %s %6d of %d", bar(p.placed.Load(), r.Orders), p.placed.Load(), r.Orders),
		fmt.Sprintf("  ended   %s %6d of %d", bar(p.ended.Load(), r.Orders), p.ended.Load(), r.Orders),
		fmt.Sprintf("  %d events; killed %d parts and %d times the broker; froze %d; ended %d; ended by themselves %d",
			p.head.Load(), t.of(kill), t.of(killBroker), t.of(freeze), t.of(stop), len(t.crashes())),
	}
}

func bar(n int64, total int) string {
	const width = 30
	filled := min(int(n)*width/max(total, 1), width)
	return strings.Repeat("█", filled) + strings.Repeat("·", width-filled)
}
