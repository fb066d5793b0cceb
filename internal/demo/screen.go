package demo

import (
	"fmt"
	"strings"
	"sync"
)

// screen shows how the demo goes: lines as they come, and below them, on a terminal, a table that
// is drawn again and again.
type screen struct {
	run   *run
	mu    sync.Mutex
	drawn int // lines of the table on the terminal now
}

func newScreen(r *run) *screen { return &screen{run: r} }

// say prints a line, above the table.
func (s *screen) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	fmt.Fprintf(s.run.Screen, format+"\n", args...)
}

func (s *screen) clear() {
	if s.drawn > 0 {
		fmt.Fprintf(s.run.Screen, "\x1b[%dA\x1b[J", s.drawn)
		s.drawn = 0
	}
}

// draw shows who has got what.
func (s *screen) draw() {
	if !s.run.Live {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rows := s.rows()
	s.clear()
	fmt.Fprintln(s.run.Screen, strings.Join(rows, "\n"))
	s.drawn = len(rows)
}

func (s *screen) rows() []string {
	total := len(s.run.ids)
	rows := []string{""}
	for _, name := range []string{"email", "analytics", "broadcast", queue} {
		n, members := s.run.ledger.Done(name)
		rows = append(rows, fmt.Sprintf("  %-10s %s %5d of %d", name, bar(n, total), n, total))
		if len(members) < 2 {
			continue
		}
		for _, m := range members {
			note := ""
			if m.Name == victim && s.run.killed {
				note = "  killed"
			}
			rows = append(rows, fmt.Sprintf("    %-8s %s %5d%s", m.Name, bar(m.Effects, total), m.Effects, note))
		}
	}
	return rows
}

func bar(n, total int) string {
	const width = 30
	filled := min(n*width/max(total, 1), width)
	return strings.Repeat("█", filled) + strings.Repeat("·", width-filled)
}
